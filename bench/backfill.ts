/**
 * Backfill: rows/s of a type change without brakes, beside one plain UPDATE of the same rows and, when its binary is given, pgroll's
 * backfill. Pairs in turn on tables made afresh, medians: a noisy neighbour hits both.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { formatCount } from '../plan/model/values';
import type { Line } from './line';
import { median, migrate, phaseSeconds, settle, timed } from './stack';
import type { Bench } from './stack';

const run = promisify(execFile);

/** Narrow rows, as in the field's figures. `filled` is a second column for the plain UPDATE to write. */
async function makeTable(bench: Bench, name: string, rows: number): Promise<void> {
  await bench.client.query(`DROP TABLE IF EXISTS ${name}`);
  await bench.client.query(`CREATE TABLE ${name} (id bigint PRIMARY KEY, amount integer NOT NULL, filled bigint)`);
  await bench.client.query(`INSERT INTO ${name} SELECT n, n % 1000 FROM generate_series(1, ${rows}) n`);
  await bench.client.query(`VACUUM ANALYZE ${name}`);
  await bench.client.query('CHECKPOINT');
}

async function plainUpdate(bench: Bench, rows: number): Promise<number> {
  await makeTable(bench, 'bench_plain', rows);
  return rows / (await timed(() => bench.client.query('UPDATE bench_plain SET filled = amount')));
}

async function ours(bench: Bench, rows: number, round: number): Promise<number> {
  await makeTable(bench, 'bench_ours', rows);
  const { id, report } = await migrate(bench, {
    name: `bench_backfill_${round}`,
    sql: 'ALTER TABLE bench_ours ALTER COLUMN amount TYPE bigint',
    keys: { throttle: 'none', hold: '1h' },
  });
  await settle(bench, id, 'rollback');
  return rows / phaseSeconds(report, 'backfill');
}

/** `pgroll start` of the same change, init and table aside; its own default batch. */
async function pgroll(bench: Bench, binary: string, rows: number): Promise<number> {
  await makeTable(bench, 'bench_pgroll', rows);
  const folder = mkdtempSync(join(tmpdir(), 'pgshift-pgroll-'));
  const file = join(folder, '01_bench.json');
  const change = { table: 'bench_pgroll', column: 'amount', type: 'bigint', up: 'amount', down: 'amount' };
  writeFileSync(file, JSON.stringify({ operations: [{ alter_column: change }] }));
  const url = new URL(bench.url);
  if (!url.searchParams.has('sslmode')) url.searchParams.set('sslmode', 'disable'); // our own server, on loopback
  const env = { ...process.env, PGROLL_PG_URL: url.toString() };
  try {
    await run(binary, ['init'], { env });
    // It takes a schema that it has not made only from a baseline on; without one `start` does nothing, and says so with exit code 0.
    await run(binary, ['baseline', '00_base', folder, '--yes'], { env });
    const seconds = await timed(() => run(binary, ['start', file], { env, maxBuffer: 64 * 1024 * 1024 }));
    await run(binary, ['rollback'], { env });
    return rows / seconds;
  } finally {
    rmSync(folder, { recursive: true });
    await bench.client.query('DROP SCHEMA IF EXISTS pgroll CASCADE');
    await bench.client.query('DROP TABLE IF EXISTS bench_pgroll CASCADE');
  }
}

export async function backfill(
  bench: Bench,
  size: { readonly rows: number; readonly rounds: number },
): Promise<Line[]> {
  const binary = process.env.PGSHIFT_BENCH_PGROLL;
  const rates = { plain: [] as number[], ours: [] as number[], pgroll: [] as number[] };
  for (let round = 1; round <= size.rounds; round += 1) {
    rates.plain.push(await plainUpdate(bench, size.rows));
    rates.ours.push(await ours(bench, size.rows, round));
    if (binary) rates.pgroll.push(await pgroll(bench, binary, size.rows));
    const shown = Object.entries(rates).flatMap(([who, all]) =>
      all.length ? [`${who} ${formatCount(all.at(-1) ?? 0)}`] : [],
    );
    bench.note(`backfill round ${round}: ${shown.join(', ')} rows/s`);
  }
  await bench.client.query('DROP TABLE IF EXISTS bench_plain, bench_ours');
  const rate = median(rates.ours);
  const plain = median(rates.plain);
  const other = median(rates.pgroll);
  const perSecond = (value: number): string => `${formatCount(value)} rows/s`;
  const what = `backfill of ${formatCount(size.rows)} rows, no brakes, median of ${size.rounds}`;
  return [
    {
      what,
      measured: perSecond(rate),
      against: `one plain UPDATE: ${perSecond(plain)}`,
      ratio: rate / plain,
      asked: 'at least 0.85',
      met: rate / plain >= 0.85,
    },
    binary
      ? {
          what,
          measured: perSecond(rate),
          against: `pgroll: ${perSecond(other)}`,
          ratio: rate / other,
          asked: 'at least 2',
          met: rate / other >= 2,
        }
      : {
          what,
          measured: perSecond(rate),
          against: 'pgroll: its binary was not given (PGSHIFT_BENCH_PGROLL)',
          ratio: null,
          asked: 'at least 2',
          met: null,
        },
  ];
}
