/**
 * Old rows of UPDATE, DELETE and INSERT ... SELECT: where they are kept while and after rows change, and how they come back.
 */
import { sameName } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { ident, identList, relation, shownRelation } from '../../model/quote';
import { batchKey, guarded, relationExists, transaction } from './shared';
import type { Column, Constraint, Table } from '../../model/catalog';
import type { RelationName, StepRun } from '../../model/steps';
import type { PlanContext } from '../context';

/** The columns that a row has while batches run: what earlier statements drop is there until contract, what they add is there already. */
export function rowColumns(ctx: PlanContext, table: Table): Column[] {
  const before = ctx.catalog.tables.find((t) => sameName(t, table))?.columns ?? [];
  return [...before, ...table.columns.filter((c) => !before.some((b) => b.name === c.name))];
}

/** Same columns, no constraints: the rows as they were. */
export function makeArchive(ctx: PlanContext, table: Table, archive: RelationName): void {
  ctx.add({
    phase: 'expand',
    action: 'create_archive',
    title: `create ${shownRelation(archive)} for the old rows of ${shownRelation(table)}`,
    run: transaction([`CREATE TABLE ${relation(archive)} (LIKE ${relation(table)})`]),
    undo: [transaction([`DROP TABLE IF EXISTS ${relation(archive)}`])],
    locks: [plannedLock(table, 'ACCESS SHARE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
    own: true,
  });
  ctx.asked(`+ table ${shownRelation(archive)}`);
}

/** What the UPDATE wrote, of our own: tells what was written since. */
export function makeWritten(ctx: PlanContext, table: Table): RelationName {
  const name = ctx.names.make('written', table.schema, String(ctx.statement.number), table.name);
  const written = { schema: 'pgshift', name };
  ctx.add({
    phase: 'expand',
    action: 'create_kept',
    title: `make a place for what is written to ${shownRelation(table)}, so that later writes can be told from it`,
    run: transaction([`CREATE TABLE ${relation(written)} (LIKE ${relation(table)})`]),
    undo: [transaction([`DROP TABLE IF EXISTS ${relation(written)}`])],
    locks: [plannedLock(table, 'ACCESS SHARE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
    own: true,
  });
  return written;
}

/** Keys from the table to others, as they are before and in this plan. */
function outgoing(ctx: PlanContext, table: Table): Constraint[] {
  const before = ctx.catalog.tables.find((t) => sameName(t, table))?.constraints ?? [];
  const all = [...before, ...table.constraints.filter((c) => !before.some((b) => b.name === c.name))];
  return all.filter((c) => c.type === 'foreign' && c.enforced && c.references !== null);
}

const equal = (x: string, ours: readonly string[], y: string, theirs: readonly string[]): string =>
  ours.map((c, i) => `${x}.${ident(c)} = ${y}.${ident(theirs[i] ?? c)}`).join(' AND ');

/** SQL: the row `x` may have that key. `among`: rows that come back with it, for a key to its own table; `hold`: what it points to stays. */
function mayPoint(key: Constraint, x: string, table: Table, among: RelationName | null, hold = false): string {
  const { references } = key;
  if (!references) return 'true';
  const where = equal('r', references.columns, x, key.columns);
  const empty = key.columns.map((c) => `${x}.${ident(c)} IS NULL`);
  const own = among && sameName(references.table, table);
  return `(${[
    ...empty,
    `EXISTS (SELECT FROM ${relation(references.table)} AS r WHERE ${where}${hold ? ' FOR KEY SHARE' : ''})`,
    ...(own ? [`EXISTS (SELECT FROM ${relation(among)} AS r WHERE ${where})`] : []),
  ].join(' OR ')})`;
}

/** SQL: nothing points to what the row `x` has in these columns. */
const notPointedAt = (key: Constraint, x: string): string =>
  `NOT EXISTS (SELECT FROM ${relation(key.table)} AS r WHERE ${equal('r', key.columns, x, key.references?.columns ?? [])})`;

interface Way {
  readonly statement: string;
  /** Over t, a row of the archive: it cannot go back. */
  readonly lost: string;
}

/** Deleted rows, where their key is still free and what they point to is there. */
function insertBack(ctx: PlanContext, table: Table, archive: RelationName, quiet: boolean): Way {
  const there = rowColumns(ctx, table);
  const columns = there.filter((c) => c.generated === null).map((c) => c.name);
  const key = batchKey(table)?.map((k) => k.name) ?? [];
  const overriding = there.some((c) => c.identity !== null) ? ' OVERRIDING SYSTEM VALUE' : '';
  const keys = outgoing(ctx, table);
  const may = (x: string, hold: boolean): string =>
    ['true', ...keys.map((k) => mayPoint(k, x, table, archive, hold))].join(' AND ');
  const taken =
    key.length === 0 ? 'false' : `EXISTS (SELECT FROM ${relation(table)} AS r WHERE ${equal('r', key, 't', key)})`;
  return {
    statement: `INSERT INTO ${relation(table)} (${identList(columns)})${overriding} SELECT ${identList(columns)} FROM ${relation(archive)} AS a WHERE ${may('a', quiet)}${key.length > 0 ? ' ON CONFLICT DO NOTHING' : ''}`,
    lost: `${taken} OR NOT (${may('t', false)})`,
  };
}

/** Each column that still has what the UPDATE wrote, and the columns of a key together. */
function updateBack(ctx: PlanContext, table: Table, archive: RelationName, written: RelationName, quiet: boolean): Way {
  const there = rowColumns(ctx, table);
  const key = batchKey(table)?.map((k) => k.name) ?? [];
  const settable = there
    .filter((c) => c.generated === null && !key.includes(c.name) && c.identity !== 'always')
    .map((c) => c.name);
  const still = (c: string): string => `pg_catalog.record_image_eq(ROW(t.${ident(c)}), ROW(n.${ident(c)}))`;
  const goes = (c: string): string => `pg_catalog.record_image_ne(ROW(a.${ident(c)}), ROW(n.${ident(c)}))`;
  const out = outgoing(ctx, table);
  const into = table.incoming.filter((k) => k.enforced && !(k.references?.columns ?? []).every((c) => key.includes(c)));
  const of = (c: string): string[] => [
    ...out
      .filter((k) => k.columns.includes(c))
      .flatMap((k) => [
        ...k.columns.filter((o) => settable.includes(o)).map(still),
        mayPoint(k, 'a', table, null, quiet),
      ]),
    ...into.filter((k) => k.references?.columns.includes(c)).map((k) => `(NOT ${goes(c)} OR ${notPointedAt(k, 't')})`),
  ];
  const set = settable.map(
    (c) =>
      `${ident(c)} = CASE WHEN ${[...new Set([still(c), ...of(c)])].join(' AND ')} THEN a.${ident(c)} ELSE t.${ident(c)} END`,
  );
  const by = (x: string, y: string): string => equal(x, key, y, key);
  // What the application wrote since is its own; what nobody wrote and cannot go back is told.
  const lost = [
    ...out.flatMap((k) =>
      k.columns.some((c) => settable.includes(c))
        ? [`((${k.columns.map(goes).join(' OR ')}) AND NOT ${mayPoint(k, 'a', table, null)})`]
        : [],
    ),
    ...into.map((k) => `((${(k.references?.columns ?? []).map(goes).join(' OR ')}) AND NOT ${notPointedAt(k, 'n')})`),
  ];
  return {
    statement: `UPDATE ${relation(table)} AS t SET ${set.join(', ')} FROM ${relation(archive)} AS a JOIN ${relation(written)} AS n ON ${by('a', 'n')} WHERE ${by('t', 'a')} AND (${settable.map(still).join(' OR ')})`,
    lost:
      lost.length === 0
        ? 'false'
        : `EXISTS (SELECT FROM ${relation(archive)} AS a JOIN ${relation(written)} AS n ON ${by('a', 'n')} WHERE ${by('a', 't')} AND (${lost.join(' OR ')}))`,
  };
}

/**
 * Old rows come back by key; a row that is gone stays gone, and a key that is taken again stays taken. After an UPDATE each column goes back
 * only while it still has what the UPDATE (and the triggers that it fired) wrote: what the application wrote since stays. Keys to and from
 * other tables are looked at here, since Postgres' own triggers sleep with the user's; rows that cannot go back are listed first.
 */
export function restore(
  ctx: PlanContext,
  table: Table,
  archive: RelationName,
  written: RelationName | null,
): { readonly runs: readonly StepRun[]; readonly statement: string } {
  const key = batchKey(table);
  const quiet =
    ctx.catalog.canSetReplicationRole &&
    table.triggers.some((t) => t.row && t.enabled !== 'D' && t.events.includes(written ? 'update' : 'insert'));
  const { statement, lost } = written
    ? updateBack(ctx, table, archive, written, quiet)
    : insertBack(ctx, table, archive, quiet);
  // Emptied with the restoring, so that a second pass changes nothing.
  const empty = [archive, ...(written ? [written] : [])].map((name) => `DELETE FROM ${relation(name)}`);
  const index = (name: RelationName): string =>
    `CREATE INDEX IF NOT EXISTS ${ident(ctx.names.make('keyidx', name.schema, name.name))} ON ${relation(name)} (${identList((key ?? []).map((k) => k.name))})`;
  const indexed = key === null ? [] : [archive, ...(written ? [written] : [])];
  const image = key === null ? 'ROW(1)' : `ROW(${key.map((k) => `t.${ident(k.name)}`).join(', ')})`;
  return {
    statement,
    runs: [
      ...(indexed.length > 0
        ? [transaction([guarded(relationExists(archive), ...indexed.map(index))], { long: true })]
        : []),
      {
        kind: 'proof',
        table: archive,
        key,
        checks: [
          {
            column: `${shownRelation(table)}.*`,
            remaining: lost,
            differing: 'false',
            oldImage: image,
            newImage: image,
          },
        ],
        onDiffer: 'report',
        message: 'old rows cannot go back: their key is taken again, or what they point to is gone',
        onlyWhen: relationExists(archive),
      },
      transaction([guarded(relationExists(archive), statement, ...empty)], {
        long: true,
        // The user's triggers fired when the rows were changed; firing again would write over what is restored.
        ...(quiet ? { settings: { session_replication_role: 'replica' } } : {}),
      }),
    ],
  };
}
