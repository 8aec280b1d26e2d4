/** What every bench stands on: a stack of its own, a database, and one way of running a migration from start to a given state. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { readReport } from '../client/commands/report';
import { Temporal } from '../client/temporal';
import { Problem } from '../plan/model/errors';
import type { Report } from '../plan/model/status';
import { startDevStack } from '../worker/dev';
import type { DevStack } from '../worker/dev';
import { postgresFolder } from '../worker/devHome';
import { removeDataFolder } from '../worker/embedded/user';
import { temporalOptions } from '../worker/temporal';

export interface Bench {
  readonly stack: DevStack;
  readonly temporal: Temporal;
  readonly client: Client;
  readonly url: string;
  /** What the worker holds before it has done anything. */
  readonly idleBytes: number;
  readonly note: (line: string) => void;
  readonly close: () => Promise<void>;
}

/** As a server of this size would be set, with fsync on: figures without it would be of no use. */
export const SETTINGS = {
  shared_buffers: '512MB',
  max_wal_size: '8GB',
  checkpoint_timeout: '15min',
  wal_level: 'replica',
} as const;

/** Connections of the part `switch`, and where in the home their URLs lie. */
export const PAIR_FILES = { blue: 'blue.url', green: 'green.url', pool: 'pool.url' } as const;
/** The same of the parts that copy. */
const COPY_FILES = { from: 'from.url', to: 'to.url' } as const;

export async function openBench(note: (line: string) => void): Promise<Bench> {
  const home = mkdtempSync(join(tmpdir(), 'pgshift-bench-'));
  const configFile = join(home, 'pgshift.config.yaml');
  // Files that are written when a part needs them: the worker reads them no sooner.
  const pair = Object.entries({ ...PAIR_FILES, ...COPY_FILES }).map(
    ([name, file]) => `  ${name}:\n    url: file:${file}\n`,
  );
  writeFileSync(configFile, `databases:\n${pair.join('')}`);
  const env: NodeJS.ProcessEnv = { ...process.env, PGSHIFT_LOG_LEVEL: 'warn' };
  for (const name of Object.keys(env))
    if (/^(TEMPORAL_|PGSHIFT_DATABASE_|PGSHIFT_CONFIG$)/.test(name)) delete env[name];
  const stack = await startDevStack({ home, configFile, env, postgres: true, postgresSettings: SETTINGS, log: note });
  const url = stack.databases.app ?? '';
  const client = new Client({ connectionString: url, application_name: 'pgshift bench' });
  await client.connect();
  const location = temporalOptions({ env: stack.env, useDev: false });
  const temporal = await Temporal.connect({ ...location, uiUrl: stack.uiUrl, taskQueue: 'pgshift' });
  const close = async (): Promise<void> => {
    await client.end().catch(() => undefined);
    await temporal.close();
    await stack.stop();
    removeDataFolder(postgresFolder(home));
    rmSync(home, { recursive: true, force: true });
  };
  await sleep(5_000);
  const pid = stack.pid('worker');
  return { stack, temporal, client, url, idleBytes: pid === null ? NaN : residentBytes(pid), note, close };
}

/** Connections `from` and `to` lead there from now on. */
export function wireCopy(bench: Bench, urls: { readonly from: string; readonly to: string }): void {
  for (const name of ['from', 'to'] as const)
    writeFileSync(join(bench.stack.home, COPY_FILES[name]), `${urls[name]}\n`, { mode: 0o600 });
}

export const residentBytes = (pid: number): number =>
  Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)]).toString()) * 1024;

export interface Migration {
  readonly name: string;
  readonly sql: string;
  readonly keys?: Readonly<Record<string, unknown>>;
  /** How often to look, each of which costs the worker a workflow task. Default: 25 for 5 s, then 250. */
  readonly lookMs?: number;
  /** Called while it runs, about four times a second. */
  readonly onLook?: () => void;
}

export interface Migrated {
  readonly id: string;
  readonly report: Report;
  /** From start to the hold (or the end when nothing is kept), seen from here. */
  readonly seconds: number;
}

/** Runs a migration to its hold or end. Throws what it failed with. */
export async function migrate(bench: Bench, { name, sql, keys = {}, lookMs, onLook }: Migration): Promise<Migrated> {
  const { temporal } = bench;
  const id = `migration/app/${name}`;
  const began = performance.now();
  await temporal.start({
    type: 'schemaMigration',
    id,
    argument: { kind: 'schema-migration', name, database: 'app', sql, ...keys },
    by: 'bench',
    attributes: { name, database: 'app', kind: 'schema-migration' },
  });
  for (;;) {
    const seen = await temporal.describe(id);
    const report = await readReport(temporal, id);
    onLook?.();
    if (seen?.execution === 'FAILED') throw (await temporal.failure(id)) ?? new Problem('Bug', `${name} failed`);
    if (report.status === 'holding' || report.status === 'completed')
      return { id, report, seconds: (performance.now() - began) / 1000 };
    await sleep(lookMs ?? (performance.now() - began < 5_000 ? 25 : 250));
  }
}

/** Takes a migration in its hold back, or ends the hold, and waits until the run is closed. */
export async function settle(bench: Bench, id: string, how: 'rollback' | 'cleanup'): Promise<void> {
  const { temporal } = bench;
  const message = how === 'rollback' ? { by: 'bench' } : { by: 'bench', gate: 'cleanup' };
  await temporal.update(id, how === 'rollback' ? 'rollback' : 'approve', message);
  while ((await temporal.describe(id))?.endedAt === null) await sleep(100);
}

/** Seconds that the steps of a phase took by the run's own record, waiting aside. */
export function phaseSeconds(report: Report, phase: string): number {
  return report.steps
    .filter((step) => step.id.startsWith(`${phase}.`) && step.startedAt && step.endedAt)
    .reduce((sum, step) => sum + (Date.parse(step.endedAt ?? '') - Date.parse(step.startedAt ?? '')) / 1000, 0);
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? high : (high + (sorted[middle - 1] ?? NaN)) / 2;
}

/** A look at a database by a connection of its own. @param url a secret. */
export async function on<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
