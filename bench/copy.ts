/**
 * Copy of one table between two databases of the same server, with key and ANALYZE, beside hand-written psql pipes of binary COPY with as many
 * streams: pairs in turn, medians. Then verification beside one sequential count(*) and one sequential pass that hashes every row. The copy is the
 * engine without Temporal; verification is `pgshift verify --local`.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { DataMigrationPlan } from '../plan/model/dataMigration';
import { copyControlOf } from '../plan/model/dataMigration';
import { Problem } from '../plan/model/errors';
import { validateDataMigration, validateValidation } from '../plan/model/validate';
import { formatCount } from '../plan/model/values';
import type { CopyContext } from '../postgres/copy/context';
import { buildRest, closeSnapshot, copyBatch, makeSchema, openSnapshot } from '../postgres/copy/run';
import { withSession } from '../postgres/session';
import { install } from '../postgres/state/install';
import { claimName } from '../postgres/state/migrations';
import { target } from '../postgres/types';
import { verifyLocally } from '../postgres/verify';
import type { Line } from './line';
import { median, on, timed } from './stack';
import type { Bench } from './stack';

export interface CopySize {
  /** Rows that are copied to find out how many make a run of `seconds`. */
  readonly probe: number;
  readonly seconds: number;
  readonly most: number;
  readonly rounds: number;
}

const STREAMS = 2;
const TABLE = 'bench_accounts';
const FROM = 'bench_copy_from';
const TO = 'bench_copy_to';
/** As pgbench_accounts: 97 bytes of data a row. */
const SHAPE = `CREATE TABLE ${TABLE} (aid int NOT NULL, bid int, abalance int, filler character(84))`;

const of = (url: string, database: string): string => {
  const address = new URL(url);
  address.pathname = `/${database}`;
  return address.toString();
};

async function makeDatabases(bench: Bench): Promise<void> {
  for (const name of [FROM, TO]) {
    await bench.client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    await bench.client.query(`CREATE DATABASE ${name}`);
  }
}

async function fill(url: string, rows: number): Promise<void> {
  await on(url, async (client) => {
    await client.query(`DROP TABLE IF EXISTS ${TABLE}`);
    await client.query(SHAPE);
    await client.query(`INSERT INTO ${TABLE} SELECT g, g % 50, g % 1000, '' FROM generate_series(1, ${rows}) g`);
    await client.query(`ALTER TABLE ${TABLE} ADD PRIMARY KEY (aid)`);
    await client.query(`VACUUM ANALYZE ${TABLE}`);
    await client.query('CHECKPOINT');
  });
}

/** `psql -c "COPY ... TO STDOUT" | psql -c "COPY ... FROM STDIN"` of one stretch of keys. */
function pipe(psql: string, urls: { from: string; to: string }, low: number, high: number): Promise<void> {
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

async function byHand(bench: Bench, rows: number): Promise<number> {
  const urls = { from: of(bench.url, FROM), to: of(bench.url, TO) };
  const psql = join(bench.stack.postgresBin?.path ?? '', 'psql');
  await on(urls.to, (client) => client.query(`DROP TABLE IF EXISTS ${TABLE}`));
  await bench.client.query('CHECKPOINT');
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

function contextOf(bench: Bench, plan: DataMigrationPlan): CopyContext {
  return {
    source: target('old', of(bench.url, FROM)),
    target: target('new', of(bench.url, TO)),
    migration: plan.name,
    control: copyControlOf(plan),
    lockTimeoutMs: 200,
    lockBudgetMs: 60_000,
    signal: new AbortController().signal,
    admit: async () => undefined,
    log: () => undefined,
  };
}

async function ours(bench: Bench, round: number): Promise<number> {
  const plan = validateDataMigration({
    name: `bench_copy_${round}`,
    source: 'old',
    target: 'new',
    parallel: { tables: 1, rangesPerTable: STREAMS },
    verify: 'none',
  });
  const context = contextOf(bench, plan);
  await on(context.target.url, (client) => client.query(`DROP TABLE IF EXISTS ${TABLE}`));
  await withSession(context.target, { purpose: 'bench' }, async (session) => {
    await install(session);
    await claimName(session, {
      name: plan.name,
      kind: 'data-migration',
      checksum: plan.name,
      dependencies: [],
      workflowId: plan.name,
      runId: plan.name,
      appliedBy: null,
    });
  });
  await bench.client.query('CHECKPOINT');
  const seconds = await timed(async () => {
    const { pieces } = await openSnapshot(context);
    await makeSchema(context);
    for (const { from, to } of pieces) await copyBatch(context, from, to);
    await buildRest(context);
    await closeSnapshot(context, 'bench');
  });
  return seconds;
}

/** As many rows as pipes move in the wanted time. */
async function rowsFor(bench: Bench, size: CopySize): Promise<number> {
  await fill(of(bench.url, FROM), size.probe);
  const seconds = await byHand(bench, size.probe);
  return Math.min(size.most, Math.max(size.probe, Math.round((size.probe / seconds) * size.seconds)));
}

async function verified(bench: Bench, round: number): Promise<number> {
  const plan = validateValidation({
    name: `bench_verify_${round}`,
    source: 'old',
    target: 'new',
    live: 'static',
    checks: ['rows'],
    parallel: STREAMS,
  });
  const context = {
    plan,
    source: target('old', of(bench.url, FROM)),
    target: target('new', of(bench.url, TO)),
    signal: new AbortController().signal,
    progress: () => undefined,
    log: () => undefined,
  };
  const result = await verifyLocally(context);
  if (!result.passed) throw new Problem('Bug', 'the copy is not equal');
  return result.statistics.rowsPerSecond;
}

const scanOf = (bench: Bench, expression: string): Promise<number> =>
  on(of(bench.url, FROM), async (client) => {
    await client.query('SET max_parallel_workers_per_gather = 0');
    return timed(() => client.query(`SELECT ${expression} FROM ${TABLE} AS t`));
  });

export async function copy(bench: Bench, size: CopySize): Promise<Line[]> {
  process.env.PGSHIFT_POSTGRES_BIN ??= bench.stack.postgresBin?.path;
  await makeDatabases(bench);
  const rows = await rowsFor(bench, size);
  await fill(of(bench.url, FROM), rows);
  const pipes: number[] = [];
  const copies: number[] = [];
  for (let round = 1; round <= size.rounds; round += 1) {
    pipes.push(await byHand(bench, rows));
    copies.push(await ours(bench, round));
    bench.note(`copy round ${round}: pipes ${pipes.at(-1)?.toFixed(1)} s, pgshift ${copies.at(-1)?.toFixed(1)} s`);
  }
  const rates: number[] = [];
  const counts: number[] = [];
  const hashes: number[] = [];
  for (let round = 1; round <= size.rounds; round += 1) {
    counts.push(rows / (await scanOf(bench, 'count(*)')));
    rates.push(await verified(bench, round));
    hashes.push(rows / (await scanOf(bench, 'sum(hash_record_extended(ROW(record_send(t)), 0))')));
  }
  for (const name of [FROM, TO]) await bench.client.query(`DROP DATABASE ${name} WITH (FORCE)`);
  const [hand, own, rate] = [median(pipes), median(copies), median(rates)];
  const each = copies.map((seconds, n) => (seconds / (pipes[n] ?? seconds)).toFixed(2)).join(' ');
  const perSecond = (value: number): string => `${formatCount(value)} rows/s`;
  return [
    {
      what: `copy of ${formatCount(rows)} rows with key and ANALYZE, ${STREAMS} streams, median of ${size.rounds} (pairs: ${each})`,
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
}
