/** Looks for rows that a unique index would refuse, before or after one refused them. Reads only; lists keys, counts groups. */
import { Problem } from '../plan/model/errors';
import type { DuplicatesRun, RelationName } from '../plan/model/steps';
import { LISTED, writeDifferences } from './differences';
import { literal, relation } from './ident';
import type { Session } from './session';
import type { Work, WorkResult } from './work';
import { NOTHING } from './work';

export interface Uniqueness {
  readonly table: RelationName;
  /** Expressions over `t`. */
  readonly columns: readonly string[];
  readonly where: string | null;
  readonly nullsNotDistinct: boolean;
}

interface Group extends Record<string, unknown> {
  readonly key: Record<string, string | null>;
  readonly rows: number;
}

/** Groups of rows with the same key, up to the number that is listed. */
export async function findDuplicates(session: Session, unique: Uniqueness): Promise<Group[]> {
  const image = unique.columns.map((column) => `${literal(column)}, (${column})::text`).join(', ');
  const nulls = unique.columns.map((column) => `(${column}) IS NOT NULL`).join(' AND ');
  const where = [unique.where, unique.nullsNotDistinct ? null : nulls].filter((part) => part !== null);
  return session.rows<Group>(
    `SELECT jsonb_build_object(${image}) AS key, count(*)::int AS rows FROM ${relation(unique.table)} AS t
      ${where.length > 0 ? `WHERE ${where.map((part) => `(${part})`).join(' AND ')}` : ''}
      GROUP BY ${unique.columns.map((column) => `(${column})`).join(', ')} HAVING count(*) > 1 LIMIT ${LISTED}`,
  );
}

/** Lists the duplicates and makes the Problem that names their number. */
export async function duplicateRows(work: Work, unique: Uniqueness): Promise<Problem> {
  const groups = await findDuplicates(work.session, unique);
  const table = `${unique.table.schema}.${unique.table.name}`;
  await writeDifferences(
    work.session,
    { migration: work.attempt.migration, step: work.attempt.stepId, table, rule: 'duplicate' },
    groups.map(({ key, rows }) => ({ key, column: null, reason: `${rows} rows have this key` })),
  );
  const more = groups.length === LISTED ? 'at least ' : '';
  return new Problem('DuplicateRows', `${table}: ${more}${groups.length} keys occur more than once`, {
    details: { table, keys: groups.length },
  });
}

/** The step that looks before a unique index is built. */
export async function runDuplicates(work: Work, run: DuplicatesRun): Promise<WorkResult> {
  if ((await findDuplicates(work.session, run)).length > 0) throw await duplicateRows(work, run);
  return NOTHING;
}
