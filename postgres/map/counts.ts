/** How the rows of a run's mapped and merged tables add up: read = loaded + bad + everything that was left out by name. */
import type { Session } from '../session';
import type { Counts } from './load';

export const COUNTED = [
  'read',
  'filtered',
  'sampledOut',
  'deduplicated',
  'superseded',
  'ignored',
  'loaded',
  'bad',
] as const satisfies readonly (keyof Counts)[];

/** Null: no table of the run was mapped or merged. */
export async function runCounts(session: Session, migration: string): Promise<Counts | null> {
  const row = await session.one<Counts & { tables: number } & Record<string, unknown>>(
    `SELECT count(*)::float8 AS tables, ${COUNTED.map((name) => `coalesce(sum((t.counts->>'${name}')::float8), 0) AS "${name}"`).join(', ')}
       FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND t.counts IS NOT NULL`,
    [migration],
  );
  if (!row || row.tables === 0) return null;
  const { tables: _, ...counts } = row;
  return counts;
}
