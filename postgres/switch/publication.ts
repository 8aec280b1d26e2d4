/**
 * The publication: an explicit list of tables, never pgshift's own, never ALL TABLES. Leaf partitions are listed one by one, under their own names: a
 * partition that is added later is then seen as what it is (a change of the schema) and not as rows that arrive for a table nobody has.
 */
import type { RelationName } from '../../plan/model/steps';
import { ident, relation } from '../ident';
import type { Session } from '../session';
import type { Patience } from './patience';
import { patiently } from './patience';

export interface Published extends RelationName {
  /** Those that the other side has too, where it lacks some (from 15 on). */
  readonly columns?: readonly string[];
}

const listOf = (tables: readonly Published[]): string =>
  tables
    .map((table) => `ONLY ${relation(table)}${table.columns ? ` (${table.columns.map(ident).join(', ')})` : ''}`)
    .join(', ');

/** Makes it, or gives it this list. Idempotent. Throws LockBudgetSpent, PrivilegeMissing. */
export async function ensurePublication(
  session: Session,
  name: string,
  tables: readonly Published[],
  patience: Patience,
): Promise<void> {
  const wanted = new Set(tables.map(relation));
  const there = await publishedTables(session, name);
  const same = there !== null && there.length === wanted.size && there.every((table) => wanted.has(relation(table)));
  if (same) return;
  const list = listOf(tables);
  const forTables = tables.length === 0 ? '' : ` FOR TABLE ${list}`;
  await patiently(session, 'publication', patience, async () => {
    if (there === null) await session.run(`CREATE PUBLICATION ${ident(name)}${forTables}`);
    else if (tables.length > 0) await session.run(`ALTER PUBLICATION ${ident(name)} SET TABLE ${list}`);
    else {
      await session.run(`DROP PUBLICATION ${ident(name)}`);
      await session.run(`CREATE PUBLICATION ${ident(name)}`);
    }
  });
}

/** null = there is no such publication. */
export async function publishedTables(session: Session, name: string): Promise<RelationName[] | null> {
  const there = await session.one(`SELECT 1 AS one FROM pg_catalog.pg_publication AS p WHERE p.pubname = $1`, [name]);
  if (!there) return null;
  return session.rows<RelationName & Record<string, unknown>>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name
       FROM pg_catalog.pg_publication AS p JOIN pg_catalog.pg_publication_rel AS r ON r.prpubid = p.oid
       JOIN pg_catalog.pg_class AS c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE p.pubname = $1 ORDER BY 1, 2`,
    [name],
  );
}

/** Idempotent. After the slot: decoding stops for ever at a change for which its publication is gone. */
export const dropPublication = (session: Session, name: string, patience: Patience): Promise<number> =>
  patiently(session, 'publication', patience, () => session.run(`DROP PUBLICATION IF EXISTS ${ident(name)}`));
