/**
 * From what a person types to one run: a workflow id, `<database>/<name>`, or `<name>` alone while one match exists. Several matches are listed
 * and refused: a message never goes to a guess.
 */
import { Problem } from '../plan/model/errors';
import { CONNECTION_NAME, MIGRATION_NAME } from '../plan/model/values';
import type { Seen, Temporal } from './temporal';

/** What a filter of Temporal's may hold between quotes. */
export const quoted = (text: string): string => `'${text.replace(/\\/g, '\\\\').replace(/'/g, "\\'")}'`;

export const noSuchRun = (id: string): Problem => new Problem('NoSuchRun', `no run of that id or name: ${id}`, {});

const isOpen = (run: Seen): boolean => run.execution === 'RUNNING' || run.execution === 'PAUSED';

const databaseOf = (run: Seen): string => String(run.attributes['MigrationDatabase'] ?? '');

/** One run for each workflow id: the newest. Within one database the open run is the one that is meant (a rollback beside its migration). */
function choose(found: readonly Seen[], typed: string): Seen {
  const newest = [...new Map([...found].reverse().map((run) => [run.id, run])).values()].reverse();
  const [only] = newest;
  if (only === undefined) throw noSuchRun(typed);
  if (new Set(newest.map(databaseOf)).size === 1) return newest.find(isOpen) ?? only;
  throw new Problem('InvalidUsage', `${typed} is the name of ${newest.length} runs`, {
    hint: `say which: ${newest.map((run) => run.id).join(', ')}`,
    details: { matches: newest.map((run) => run.id) },
  });
}

/** @throws Problem NoSuchRun, InvalidUsage (several), Unreachable. */
export async function resolveRun(temporal: Temporal, typed: string): Promise<Seen> {
  if (typed.length > 1_000 || /[\s:]/.test(typed))
    throw new Problem('NoSuchRun', 'that is no workflow id and no name of a migration');
  if (!typed.includes('/') && MIGRATION_NAME.test(typed)) {
    const { items } = await temporal.list(`MigrationName = ${quoted(typed)}`, 100);
    if (items.length > 0) return choose(items, typed);
  }
  const literal = await temporal.describe(typed);
  if (literal !== null) return literal;
  const [database = '', name = '', ...more] = typed.split('/');
  if (more.length > 0 || !CONNECTION_NAME.test(database) || !MIGRATION_NAME.test(name)) throw noSuchRun(typed);
  const own = await temporal.describe(`migration/${database}/${name}`);
  if (own !== null) return own;
  const { items } = await temporal.list(
    `MigrationDatabase = ${quoted(database)} AND MigrationName = ${quoted(name)}`,
    100,
  );
  return choose(items, typed);
}
