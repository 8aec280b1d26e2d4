/**
 * Copy of one table between two databases of the same server, with key and ANALYZE, beside hand-written psql pipes of binary COPY with as many
 * streams: pairs in turn, medians. Then verification beside one sequential count(*) and one sequential pass that hashes every row. The copy is the
 * engine without Temporal (part `durable` has what that costs); verification is `pgshift verify --local`.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Problem } from '../plan/model/errors';
import { validateValidation } from '../plan/model/validate';
import { formatCount } from '../plan/model/values';
import { target } from '../postgres/types';
import { verifyLocally } from '../postgres/verify';
import { SHAPE, STREAMS, TABLE, engineCopy, fill, settled } from './engine';
import type { Urls } from './engine';
import type { Line } from './line';
import { openServer } from './server';
import { median, on, timed } from './stack';
import type { Bench } from './stack';

export interface CopySize {
  readonly rows: number;
  readonly rounds: number;
}

/** `psql -c "COPY ... TO STDOUT" | psql -c "COPY ... FROM STDIN"` of one stretch of keys. */
function pipe(psql: string, urls: Urls, low: number, high: number): Promise<void> {
  const args = (url: string, sql: string): string[] => ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-c', sql, url];
  const out = spawn(
    psql,
    args(urls.from, `COPY (SELECT * FROM ${TABLE} WHERE aid > ${low} AND aid <= ${high}) TO STDOUT (FORMAT binary)`),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const into = spawn(psql, args(urls.to, `COPY ${TABLE} FROM STDIN (FORMAT binary)`), {
    stdio: [out.stdout, 'ignore', 'inherit'],
  });
  const ended = (child: typeof out | typeof into): Promise<void> =>
    new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => (code === 0 ? resolve() : reject(new Problem('Bug', `psql ended with ${code}`))));
    });
  return Promise.all([ended(out), ended(into)]).then(() => undefined);
}

/** @param bin folder with psql. @returns seconds. */
export async function psqlPipes(bin: string, urls: Urls, rows: number): Promise<number> {
  const psql = join(bin, 'psql');
  return timed(async () => {
    await on(urls.to, (client) => client.query(SHAPE));
    const stretch = Math.ceil(rows / STREAMS);
    await Promise.all(Array.from({ length: STREAMS }, (_, n) => pipe(psql, urls, n * stretch, (n + 1) * stretch)));
    await on(urls.to, async (client) => {
      await client.query(`ALTER TABLE ${TABLE} ADD PRIMARY KEY (aid)`);
      await client.query(`ANALYZE ${TABLE}`);
    });
  });
}

async function verified(urls: Urls, round: number): Promise<number> {
  const plan = validateValidation({
    name: `bench_verify_${round}`,
    source: 'from',
    target: 'to',
    live: 'static',
    checks: ['rows'],
    parallel: STREAMS,
  });
  const context = {
    plan,
    source: target('from', urls.from),
    target: target('to', urls.to),
    signal: new AbortController().signal,
    progress: () => undefined,
    log: () => undefined,
  };
  const result = await verifyLocally(context);
  if (!result.passed) throw new Problem('Bug', 'the copy is not equal');
  return result.statistics.rowsPerSecond;
}

const scanOf = (url: string, expression: string): Promise<number> =>
  on(url, async (client) => {
    await client.query('SET max_parallel_workers_per_gather = 0');
    return timed(() => client.query(`SELECT ${expression} FROM ${TABLE} AS t`));
  });

export async function copy(bench: Bench, { rows, rounds }: CopySize): Promise<Line[]> {
  const bin = bench.stack.postgresBin?.path ?? '';
  const server = await openServer(bin, { wal_level: 'replica' });
  const { urls } = server;
  try {
    await fill(urls.from, rows);
    const pipes: number[] = [];
    const copies: number[] = [];
    // The first round of each makes the files of the log that the others write over; it is not counted.
    for (let round = 0; round <= rounds; round += 1) {
      await server.emptyTarget();
      await settled(urls.from);
      const hand = await psqlPipes(bin, urls, rows);
      await server.emptyTarget();
      await settled(urls.from);
      const own = await engineCopy(urls, `bench_copy_${round}`);
      bench.note(`copy round ${round}: pipes ${hand.toFixed(1)} s, pgshift ${own.toFixed(1)} s`);
      if (round === 0) continue;
      pipes.push(hand);
      copies.push(own);
    }
    const rates: number[] = [];
    const counts: number[] = [];
    const hashes: number[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      counts.push(rows / (await scanOf(urls.from, 'count(*)')));
      rates.push(await verified(urls, round));
      hashes.push(rows / (await scanOf(urls.from, 'sum(hash_record_extended(ROW(record_send(t)), 0))')));
    }
    const [hand, own, rate] = [median(pipes), median(copies), median(rates)];
    const each = copies.map((seconds, n) => (seconds / (pipes[n] ?? seconds)).toFixed(2)).join(' ');
    const perSecond = (value: number): string => `${formatCount(value)} rows/s`;
    return [
      {
        what: `copy of ${formatCount(rows)} rows with key and ANALYZE, ${STREAMS} streams, median of ${rounds} (pairs: ${each})`,
        measured: `${own.toFixed(1)} s`,
        against: `psql pipes of binary COPY: ${hand.toFixed(1)} s`,
        ratio: own / hand,
        asked: 'at most 1.15',
        met: own / hand <= 1.15,
      },
      {
        what: `verification of the copy, both sides on this machine`,
        measured: perSecond(rate),
        against: `one sequential pass that hashes every row: ${perSecond(median(hashes))}; count(*): ${perSecond(median(counts))}`,
        ratio: rate / median(hashes),
        asked: 'at least 1,000,000 rows/s',
        met: rate >= 1_000_000,
      },
      {
        what: 'verification against copy with key',
        measured: `${(rows / rate).toFixed(1)} s`,
        against: `copy: ${own.toFixed(1)} s`,
        ratio: rows / rate / own,
        asked: 'at most 0.60',
        met: rows / rate / own <= 0.6,
      },
    ];
  } finally {
    await server.close();
  }
}
