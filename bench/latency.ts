/**
 * What applications feel: pgbench at a fixed rate (30 % of the most it can do here), alone (A) and during a whole change at default
 * settings (B), in turn. Latency counts from the moment at which a transaction was due, so a stall counts for all that waited behind it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { percentile } from '../client/demo/latency';
import { Problem } from '../plan/model/errors';
import type { Line } from './line';
import { median, migrate, settle } from './stack';
import type { Bench } from './stack';

const CLIENTS = 10;
/** Of the most that this machine can do. */
const LOAD = 0.3;
const MOST_SECONDS = 15;

interface Taken {
  readonly p99Ms: number;
  readonly longestMs: number;
  /** Of those that ended at moments that are wanted, epoch ms. */
  where(wanted: (endMs: number) => boolean): {
    readonly p99Ms: number;
    readonly longestMs: number;
    readonly count: number;
  };
}

function pgbench(bench: Bench, args: readonly string[]): ChildProcess {
  const at = new URL(bench.url);
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

async function output(child: ChildProcess): Promise<string> {
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
async function maximum(bench: Bench, seconds: number): Promise<number> {
  const text = await output(pgbench(bench, ['-n', '-c', `${CLIENTS}`, '-j', '2', '-T', `${seconds}`]));
  return Number(/tps = ([\d.]+)/.exec(text)?.[1] ?? NaN);
}

/** Runs pgbench at the rate while `work` goes on, and takes every transaction of that time from its log. */
async function during(bench: Bench, rate: number, work: () => Promise<unknown>): Promise<Taken> {
  const folder = mkdtempSync(join(tmpdir(), 'pgshift-pgbench-'));
  const child = pgbench(bench, [
    '-n',
    '-c',
    `${CLIENTS}`,
    '-j',
    '2',
    '-R',
    rate.toFixed(0),
    '-T',
    '3600',
    '-l',
    `--log-prefix=${folder}/log`,
  ]);
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  try {
    await sleep(2_000); // connections and caches
    const from = Date.now() * 1000;
    await work();
    const to = Date.now() * 1000;
    await sleep(300);
    child.kill('SIGINT');
    await ended;
    const taken: (readonly [endMs: number, ms: number])[] = [];
    for (const file of readdirSync(folder))
      for (const line of readFileSync(join(folder, file), 'utf8').split('\n')) {
        const [, , latency, , seconds, micros] = line.split(' ').map(Number);
        if (latency === undefined || seconds === undefined || micros === undefined) continue;
        const end = seconds * 1e6 + micros;
        if (end >= from && end - latency <= to) taken.push([end / 1000, latency / 1000]);
      }
    const of = (some: typeof taken) => {
      const sorted = Float64Array.from(some, ([, ms]) => ms).sort();
      return { p99Ms: percentile(sorted, 0.99), longestMs: sorted.at(-1) ?? NaN, count: sorted.length };
    };
    return { ...of(taken), where: (wanted) => of(taken.filter(([end]) => wanted(end))) };
  } finally {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * A server that has run for a while writes into WAL files that it has used before; a new one makes each of them, with 16 MB of zeros and an fsync that
 * every commit waits for. It is the former that the figures are about.
 */
async function warmWal({ client }: Bench): Promise<void> {
  await client.query(`ALTER SYSTEM SET min_wal_size = '3GB'`);
  await client.query(`ALTER SYSTEM SET max_wal_size = '6GB'`);
  await client.query('SELECT pg_reload_conf()');
  await client.query('CREATE TABLE bench_wal (filler text)');
  await client.query('ALTER TABLE bench_wal ALTER COLUMN filler SET STORAGE PLAIN');
  const from = await client.query<{ lsn: string }>('SELECT pg_current_wal_lsn()::text AS lsn');
  for (let written = 0; written < 3.2 * 1024 ** 3;) {
    await client.query(`INSERT INTO bench_wal SELECT repeat('x', 7000) FROM generate_series(1, 20000)`);
    await client.query('TRUNCATE bench_wal');
    const now = await client.query<{ bytes: number }>(
      'SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1)::float8 AS bytes',
      [from.rows[0]?.lsn],
    );
    written = now.rows[0]?.bytes ?? Infinity;
  }
  await client.query('DROP TABLE bench_wal');
  // What lies before the last checkpoint but one is used again.
  for (let n = 0; n < 2; n += 1) await client.query('CHECKPOINT');
}

export async function latency(
  bench: Bench,
  size: { readonly scale: number; readonly pairs: number; readonly baselineSeconds: number },
): Promise<Line[]> {
  await output(pgbench(bench, ['-i', '-q', '-s', `${size.scale}`]));
  await warmWal(bench);
  const most = await maximum(bench, Math.min(MOST_SECONDS, size.baselineSeconds));
  const rate = most * LOAD;
  bench.note(`pgbench: at most ${most.toFixed(0)} transactions/s here; held at ${rate.toFixed(0)}`);
  const alone: Taken[] = [];
  const changed: Taken[] = [];
  for (let pair = 1; pair <= size.pairs; pair += 1) {
    // Both begin alike: what the round before has left to write is none of theirs.
    await bench.client.query('CHECKPOINT');
    const a = await during(bench, rate, () => sleep(size.baselineSeconds * 1000));
    await bench.client.query('CHECKPOINT');
    let made: Awaited<ReturnType<typeof migrate>> | undefined;
    const b = await during(bench, rate, async () => {
      made = await migrate(bench, {
        name: `bench_latency_${pair}`,
        sql: `ALTER TABLE pgbench_accounts ALTER COLUMN abalance TYPE bigint;
              CREATE INDEX bench_latency_idx ON pgbench_accounts (abalance) WHERE abalance > 1000000;`,
        lookMs: 2_000,
      });
    });
    if (made) await settle(bench, made.id, 'rollback');
    await bench.client.query('VACUUM pgbench_accounts');
    alone.push(a);
    changed.push(b);
    const steps = (made?.report.steps ?? []).map(({ id, startedAt, endedAt }) => ({
      id,
      from: Date.parse(startedAt ?? ''),
      to: Date.parse(endedAt ?? ''),
    }));
    const inside = (end: number): boolean => steps.some(({ from, to }) => end >= from && end < to);
    for (const [name, some] of [
      ...steps.map(({ id, from, to }) => [id, b.where((end) => end >= from && end < to)] as const),
      ['between steps', b.where((end) => !inside(end))] as const,
    ])
      if (some.count > 100)
        bench.note(
          `  ${name}: p99 ${some.p99Ms.toFixed(1)} ms, longest ${some.longestMs.toFixed(0)} ms of ${some.count}`,
        );
    bench.note(
      `latency pair ${pair}: p99 alone ${a.p99Ms.toFixed(1)} ms, during ${b.p99Ms.toFixed(1)} ms; longest ${a.longestMs.toFixed(0)} and ${b.longestMs.toFixed(0)} ms`,
    );
  }
  await bench.client.query('DROP TABLE IF EXISTS pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers');
  const base = alone.map((t) => t.p99Ms);
  const p99 = median(changed.map((t) => t.p99Ms));
  const spread = Math.max(...base) / Math.min(...base);
  const stall = Math.max(...changed.map((t) => t.longestMs));
  const stallAlone = Math.max(...alone.map((t) => t.longestMs));
  const what = `pgbench at 30 % of its most (${rate.toFixed(0)}/s), ${size.pairs} pairs`;
  return [
    {
      what: `${what}: p99 during the whole change, default settings`,
      measured: `${p99.toFixed(1)} ms`,
      against: `alone ${median(base).toFixed(1)} ms (A/A spread ${spread.toFixed(2)}x)`,
      ratio: p99 / median(base),
      asked: 'at most 2',
      met: p99 / median(base) <= 2,
    },
    {
      what: 'longest stall of a client in all of them',
      measured: `${stall.toFixed(0)} ms`,
      against: `alone ${stallAlone.toFixed(0)} ms`,
      ratio: stall / stallAlone,
      asked: 'at most 300 ms (lock_timeout + 100 ms)',
      met: stall <= 300,
    },
  ];
}
