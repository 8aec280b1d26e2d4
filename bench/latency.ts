/**
 * What applications feel: pgbench at a fixed rate (30 % of the most it can do here), alone (A) and during a whole change at default
 * settings (B), in turn. Latency counts from the moment at which a transaction was due, so a stall counts for all that waited behind it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { percentile } from '../client/demo/latency';
import type { Line } from './line';
import { crowd, maximum, pgbench } from './pgbench';
import type { Done } from './pgbench';
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

/** Runs pgbench at the rate while `work` goes on, and takes every transaction of that time from its log. */
async function during(bench: Bench, rate: number, work: () => Promise<unknown>): Promise<Taken> {
  const people = crowd(bench, bench.url, CLIENTS, rate);
  try {
    await sleep(2_000); // connections and caches
    const from = Date.now();
    await work();
    const to = Date.now();
    await sleep(300);
    const { done } = await people.stop();
    const taken = done.filter(([end, ms]) => end >= from && end - ms <= to);
    const of = (some: readonly Done[]) => {
      const sorted = Float64Array.from(some, ([, ms]) => ms).sort();
      return { p99Ms: percentile(sorted, 0.99), longestMs: sorted.at(-1) ?? NaN, count: sorted.length };
    };
    return { ...of(taken), where: (wanted) => of(taken.filter(([end]) => wanted(end))) };
  } finally {
    people.abandon();
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
  await pgbench(bench, bench.url, ['-i', '-q', '-s', `${size.scale}`]);
  await warmWal(bench);
  const most = await maximum(bench, bench.url, CLIENTS, Math.min(MOST_SECONDS, size.baselineSeconds));
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
