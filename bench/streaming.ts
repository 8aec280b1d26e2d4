/**
 * Streaming of a live source: how many row changes a second are applied, in commit order, when there is a backlog; and how far behind it is while
 * pgbench writes. The engine without Temporal, both sides on one server.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../plan/model/errors';
import { formatCount } from '../plan/model/values';
import type { CopyContext } from '../postgres/copy/context';
import { buildRest, closeSnapshot, copyBatch, makeSchema, openSnapshot } from '../postgres/copy/run';
import { drainCopy, endCopyStream, followCopy } from '../postgres/stream/run';
import { claimed, contextOf } from './engine';
import type { Line } from './line';
import { crowd, maximum, pgbench } from './pgbench';
import { openServer } from './server';
import { median, on, timed } from './stack';
import type { Bench } from './stack';

export interface StreamingSize {
  /** Of pgbench. */
  readonly scale: number;
  /** Changes of the backlog. */
  readonly changes: number;
  readonly rounds: number;
  /** That pgbench writes at 30 % of its most. */
  readonly seconds: number;
}

const CLIENTS = 10;
const LOAD = 0.3;
/** Until it follows and has what was written before. */
const START_MS = 3_000;
/** Rows of one transaction of the backlog. */
const PER_TRANSACTION = 50;

async function copied(context: CopyContext): Promise<void> {
  await claimed(context);
  const { pieces } = await openSnapshot(context);
  await makeSchema(context);
  for (const { from, to } of pieces) await copyBatch(context, from, to);
  await buildRest(context);
  await closeSnapshot(context, 'bench');
}

/** Updates of rows all over the table, in transactions of a few rows each, as applications write. */
async function backlog(url: string, changes: number, rows: number): Promise<void> {
  await on(url, (client) =>
    client.query(
      `DO $$ BEGIN FOR n IN 1..${Math.ceil(changes / PER_TRANSACTION)} LOOP
         UPDATE pgbench_accounts SET abalance = abalance + 1
          WHERE aid IN (SELECT 1 + (n * 7919 + g * 104729) % ${rows} FROM generate_series(1, ${PER_TRANSACTION}) g);
         COMMIT; END LOOP; END $$`,
    ),
  );
}

const SUM = `SELECT (SELECT sum(hash_record_extended(ROW(record_send(t)), 0)) FROM pgbench_accounts AS t)::text || ' '
  || (SELECT count(*) || ' ' || coalesce(sum(hash_record_extended(ROW(record_send(t)), 0)), 0) FROM pgbench_history AS t) AS sum`;

async function refuseUnequal(urls: { from: string; to: string }): Promise<void> {
  const read = (url: string): Promise<string> =>
    on(url, async (client) => (await client.query<{ sum: string }>(SUM)).rows[0]?.sum ?? '');
  if ((await read(urls.from)) !== (await read(urls.to))) throw new Problem('Bug', 'the streamed copy is not equal');
}

/** Ages, ms, of the newest beat that the target has; both databases are on one server, so it is one clock. */
async function beats(urls: { from: string; to: string }, seconds: number): Promise<number[]> {
  const ages: number[] = [];
  await on(urls.from, (source) =>
    on(urls.to, async (target) => {
      const began = performance.now();
      for (const until = began + seconds * 1_000; performance.now() < until;) {
        await source.query('UPDATE bench_beat SET at = clock_timestamp()');
        const { rows } = await target.query<{ ms: number }>(
          'SELECT extract(epoch FROM clock_timestamp() - at)::float8 * 1000 AS ms FROM bench_beat',
        );
        if (performance.now() - began > START_MS) ages.push(rows[0]?.ms ?? NaN);
        await sleep(100);
      }
    }),
  );
  return ages;
}

export async function streaming(bench: Bench, size: StreamingSize): Promise<Line[]> {
  const server = await openServer(bench.stack.postgresBin?.path ?? '', { wal_level: 'logical' });
  const { urls } = server;
  try {
    await pgbench(bench, urls.from, ['-i', '-q', '-s', `${size.scale}`]);
    await on(urls.from, (client) =>
      client.query(
        `ALTER TABLE pgbench_history ADD COLUMN hid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
         CREATE TABLE bench_beat (id int PRIMARY KEY, at timestamptz); INSERT INTO bench_beat VALUES (1, now())`,
      ),
    );
    const context = contextOf(urls, { name: 'bench_streaming', transfer: 'streaming' });
    await copied(context);
    const rates: number[] = [];
    for (let round = 1; round <= size.rounds; round += 1) {
      await backlog(urls.from, size.changes, size.scale * 100_000);
      const seconds = await timed(() => drainCopy(context, () => 'go on'));
      rates.push(size.changes / seconds);
      bench.note(`backlog ${round}: ${formatCount(size.changes)} changes in ${seconds.toFixed(1)} s`);
    }
    const most = await maximum(bench, urls.from, CLIENTS, 10);
    await drainCopy(context, () => 'go on');
    const people = crowd(bench, urls.from, CLIENTS, most * LOAD);
    let over = false;
    const following = followCopy(context, () => (over ? 'stop' : 'go on'));
    const lags = await beats(urls, size.seconds);
    over = true;
    await following;
    await people.stop();
    await drainCopy(context, () => 'go on');
    await endCopyStream(context);
    await refuseUnequal(urls);
    const rate = median(rates);
    // Bounded: it is no further behind at the end than at the beginning.
    const half = Math.floor(lags.length / 2);
    const late = Math.max(...lags.slice(half));
    return [
      {
        what: `streaming: a backlog of ${formatCount(size.changes)} updates in transactions of ${PER_TRANSACTION}, applied in commit order, median of ${size.rounds}`,
        measured: `${formatCount(rate)} changes/s`,
        against: '-',
        ratio: null,
        asked: 'at least 20,000 changes/s',
        met: rate >= 20_000,
      },
      {
        what: `streaming while pgbench writes ${(most * LOAD).toFixed(0)} transactions/s (30 % of its most) for ${size.seconds} s: how old the newest row there is, written every 100 ms`,
        measured: `median ${median(lags).toFixed(0)} ms, at most ${Math.max(...lags).toFixed(0)} ms`,
        against: `at most ${late.toFixed(0)} ms in the second half`,
        ratio: null,
        asked: 'bounded: at most 5 s',
        met: Math.max(...lags) <= 5_000,
      },
    ];
  } finally {
    await server.close();
  }
}
