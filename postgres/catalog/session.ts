/**
 * How every reader of the catalogue looks at it: one READ ONLY snapshot, settings pinned so that the same catalogue always prints the same
 * text (names schema qualified, dates in ISO), and never more than a short wait for a lock: pg_get_viewdef and pg_relation_size take ACCESS
 * SHARE on the relation, which stands behind an ACCESS EXCLUSIVE that somebody holds.
 */
import type { ClientBase } from 'pg';
import { Problem } from '../../plan/model/errors';

/** Ours; never part of what a plan sees or may touch. */
export const OWN_SCHEMA = 'pgshift';

/** Over pg_namespace n: schemas that hold the user's things. pg_ names are reserved, so they are toast, temporary or built in. */
export const USER_SCHEMA = `(n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '${OWN_SCHEMA}'))`;

const PINNED = [
  'SET LOCAL search_path = pg_catalog',
  `SET LOCAL DateStyle = 'ISO, YMD'`,
  'SET LOCAL IntervalStyle = postgres',
  `SET LOCAL TimeZone = 'UTC'`,
  'SET LOCAL extra_float_digits = 1',
  'SET LOCAL bytea_output = hex',
  'SET LOCAL standard_conforming_strings = on',
  'SET LOCAL quote_all_identifiers = off',
  // Compiling costs more than it saves here; a wide json_agg looks expensive to the planner.
  'SET LOCAL jit = off',
  `SET LOCAL lock_timeout = '5s'`,
].join('; ');

export type ReadRows = <Row>(sql: string) => Promise<Row[]>;

/**
 * Runs `work` in one REPEATABLE READ READ ONLY transaction on `client` (which must not be in one). `unpinned` runs first, before any setting is pinned.
 * Throws Problem LockTimeout when a relation stays locked ACCESS EXCLUSIVE for 5 s; other errors are Postgres' own.
 */
export async function withSnapshot<Result>(
  client: ClientBase,
  work: (read: ReadRows) => Promise<Result>,
  unpinned: (read: ReadRows) => Promise<void> = () => Promise.resolve(),
): Promise<Result> {
  // One text value of JSON for each query: parsing it is several times faster than 100,000 rows, and no type parser can change it.
  const read: ReadRows = async <Row>(sql: string) => {
    const answer = await client.query<{ json: string }>(
      `SELECT coalesce(pg_catalog.json_agg(r), '[]')::pg_catalog.text AS json FROM (${sql}) AS r`,
    );
    return JSON.parse(answer.rows[0]?.json ?? '[]') as Row[];
  };
  await client.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
  try {
    await unpinned(read);
    await client.query(PINNED);
    const result = await work(read);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    if ((error as { code?: unknown }).code === '55P03') {
      throw new Problem(
        'LockTimeout',
        'a relation is locked ACCESS EXCLUSIVE by somebody: the catalogue cannot be read',
      );
    }
    throw error;
  }
}
