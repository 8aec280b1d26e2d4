/**
 * What it costs that a copy survives everything: a whole run of `dataMigration` by the worker (workflow, held snapshot, checkpoints, fencing) beside
 * the same streams by the same driver without any of it, in turn; and the worker's memory over its own idle for a small and a large table.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { formatBytes, formatCount } from '../plan/model/values';
import { SMALL_HEAP, SMALL_HEAP_ENV } from '../worker/devWorker';
import { STREAMS, fill, runCopy, settled } from './engine';
import type { Urls } from './engine';
import type { Line } from './line';
import { openServer } from './server';
import { median, wireCopy } from './stack';
import type { Bench } from './stack';

export interface DurableSize {
  readonly small: number;
  readonly rows: number;
  readonly rounds: number;
}

const MB = 1024 ** 2;
const run = promisify(execFile);

/** In a process of its own with the worker's flags: what a process of this kind costs is no price of durability. */
async function plain(urls: Urls, rows: number): Promise<number> {
  const env = { ...process.env, ...SMALL_HEAP_ENV, PGSHIFT_BENCH_FROM: urls.from, PGSHIFT_BENCH_TO: urls.to };
  const { stdout } = await run(process.execPath, [...SMALL_HEAP, join(__dirname, 'plainProcess.js')], {
    env: { ...env, PGSHIFT_BENCH_ROWS: String(rows) },
  });
  return Number(stdout);
}

export async function durable(bench: Bench, size: DurableSize): Promise<Line[]> {
  const server = await openServer(bench.stack.postgresBin?.path ?? '', { wal_level: 'replica' });
  const { urls } = server;
  const parallel = { tables: 1, rangesPerTable: STREAMS };
  try {
    wireCopy(bench, urls);
    await fill(urls.from, size.small);
    const small = await runCopy(bench, 'bench_durable_small', { parallel });
    bench.note(
      `${formatCount(size.small)} rows: ${small.seconds.toFixed(1)} s, worker ${formatBytes(small.residentBytes)}`,
    );
    await fill(urls.from, size.rows);
    const plains: number[] = [];
    const whole: number[] = [];
    let most = 0;
    // The first round makes the files of the log that the others write over; it is not counted.
    for (let round = 0; round <= size.rounds; round += 1) {
      await server.emptyTarget();
      await settled(urls.from);
      const without = await plain(urls, size.rows);
      await server.emptyTarget();
      await settled(urls.from);
      const ran = await runCopy(bench, `bench_durable_${round}`, { parallel });
      most = Math.max(most, ran.residentBytes);
      bench.note(
        `round ${round}: plain ${without.toFixed(1)} s, whole run ${ran.seconds.toFixed(1)} s, worker ${formatBytes(ran.residentBytes)}`,
      );
      if (round === 0) continue;
      plains.push(without);
      whole.push(ran.seconds);
    }
    const [with_, without] = [median(whole), median(plains)];
    const held = Math.max(most, small.residentBytes);
    const each = whole.map((seconds, n) => (seconds / (plains[n] ?? seconds)).toFixed(2)).join(' ');
    return [
      {
        what: `a whole run that copies ${formatCount(size.rows)} rows, median of ${size.rounds} (pairs: ${each})`,
        measured: `${with_.toFixed(1)} s`,
        against: `the same streams without workflow, checkpoints and fencing: ${without.toFixed(1)} s`,
        ratio: with_ / without,
        asked: 'at most 1.05',
        met: with_ / without <= 1.05,
      },
      {
        what: `worker's memory while it copies ${formatCount(size.small)} and ${formatCount(size.rows)} rows`,
        measured: `${formatBytes(small.residentBytes)} and ${formatBytes(most)}`,
        against: `its own idle ${formatBytes(bench.idleBytes)}`,
        ratio: held / bench.idleBytes,
        asked: 'at most 60 MB over idle',
        met: held - bench.idleBytes <= 60 * MB,
      },
    ];
  } finally {
    await server.close();
  }
}
