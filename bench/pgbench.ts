/** pgbench as the clients of a bench: at full speed, or at a rate while something else goes on. A latency counts from the moment at which a transaction was due. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Problem } from '../plan/model/errors';
import type { Bench } from './stack';

/** @param url where the clients come in; a secret, which goes by environment. */
function spawned(bench: Bench, url: string, args: readonly string[]): ChildProcess {
  const at = new URL(url);
  return spawn(join(bench.stack.postgresBin?.path ?? '', 'pgbench'), [...args], {
    env: {
      ...process.env,
      PGHOST: at.hostname,
      PGPORT: at.port,
      PGUSER: decodeURIComponent(at.username),
      PGPASSWORD: decodeURIComponent(at.password),
      PGDATABASE: at.pathname.slice(1),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Runs it to its end. @returns what it printed. */
export async function pgbench(bench: Bench, url: string, args: readonly string[]): Promise<string> {
  const child = spawned(bench, url, args);
  let text = '';
  child.stdout?.on('data', (data: Buffer) => (text += data.toString()));
  let errors = '';
  child.stderr?.on('data', (data: Buffer) => (errors += data.toString()));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  if (code !== 0)
    throw new Problem(
      'Bug',
      `pgbench ended with ${code}: ${errors.split('\n').find((l) => /error|fatal/i.test(l)) ?? ''}`,
    );
  return text;
}

/** Transactions a second at full speed. */
export async function maximum(bench: Bench, url: string, clients: number, seconds: number): Promise<number> {
  const text = await pgbench(bench, url, ['-n', '-c', `${clients}`, '-j', '2', '-T', `${seconds}`]);
  return Number(/tps = ([\d.]+)/.exec(text)?.[1] ?? NaN);
}

/** One transaction: when it ended, epoch ms, and how many ms after it was due. */
export type Done = readonly [endMs: number, ms: number];

export interface Crowd {
  /** Ends them; what each of them did, in the order of its ends, and what pgbench complained of. */
  stop(): Promise<{ readonly done: readonly Done[]; readonly complaints: readonly string[] }>;
  /** For failures: just gone. */
  abandon(): void;
}

/** Clients at a rate (transactions a second, of all of them) until they are told to stop. */
export function crowd(bench: Bench, url: string, clients: number, rate: number, more: readonly string[] = []): Crowd {
  const folder = mkdtempSync(join(tmpdir(), 'pgshift-pgbench-'));
  const paced = ['-n', '-c', `${clients}`, '-j', '2', '-R', rate.toFixed(0), '-T', '36000', ...more];
  const child = spawned(bench, url, [...paced, '-l', `--log-prefix=${folder}/log`]);
  let said = '';
  child.stderr?.on('data', (data: Buffer) => (said += data.toString()));
  child.stdout?.resume();
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const abandon = (): void => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  return {
    abandon,
    async stop() {
      child.kill('SIGINT');
      await ended;
      const done: Done[] = [];
      for (const file of readdirSync(folder))
        for (const line of readFileSync(join(folder, file), 'utf8').split('\n')) {
          const [, , latency, , seconds, micros] = line.split(' ').map(Number);
          if (latency === undefined || seconds === undefined || micros === undefined) continue;
          done.push([seconds * 1000 + micros / 1000, latency / 1000]);
        }
      abandon();
      const complaints = said.split('\n').filter((line) => /error|fatal|aborted/i.test(line));
      return { done: done.sort(([a], [b]) => a - b), complaints };
    },
  };
}
