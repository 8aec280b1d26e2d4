/**
 * The sample database: a rental shop of our own. It keeps true: the same number of payments gives the same rows, on every server and
 * every run (arithmetic on row numbers, no random(), no now()); all rows are made inside Postgres; and it holds one of each thing that a
 * schema change must not lose: indexes of several kinds, checks, keys, a view, triggers, a policy, statistics, comments, table and
 * column grants.
 */
import type { ClientBase } from 'pg';
import { SAMPLE_FINISH, SAMPLE_ROLE, SAMPLE_SCHEMA, sampleData } from './sampleSql';

export const SAMPLE_PAYMENTS = 500_000;

export interface SampleOptions {
  /** Rows in payment; the other tables follow from it. At least 1,000. Default 500,000. */
  readonly payments?: number;
  /** Called before each part, for a progress line. */
  readonly progress?: (part: string) => void;
}

export interface SampleResult {
  /** Rows by table. */
  readonly rows: Readonly<Record<string, number>>;
  readonly seconds: number;
}

/**
 * Makes the shop in schema public of an empty database; one transaction, so that it is there whole or not at all. ANALYZE at the end.
 * Throws Postgres' own error when a table of that name exists already.
 */
export async function makeSample(client: ClientBase, options: SampleOptions = {}): Promise<SampleResult> {
  const payments = Math.max(1_000, Math.trunc(options.payments ?? SAMPLE_PAYMENTS));
  const began = process.hrtime.bigint();
  const rows: Record<string, number> = {};
  await client.query(SAMPLE_ROLE);
  await client.query('BEGIN');
  try {
    await client.query('SET LOCAL search_path = public');
    await client.query("SET LOCAL TimeZone = 'UTC'");
    await client.query("SET LOCAL maintenance_work_mem = '128MB'");
    await client.query(SAMPLE_SCHEMA);
    for (const { table, sql } of sampleData(payments)) {
      options.progress?.(table);
      rows[table] = (await client.query(sql)).rowCount ?? 0;
    }
    options.progress?.('keys, indexes and triggers');
    await client.query(SAMPLE_FINISH);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
  await client.query('ANALYZE');
  return { rows, seconds: Number(process.hrtime.bigint() - began) / 1e9 };
}
