/**
 * Old rows of UPDATE, DELETE and INSERT ... SELECT: where they are kept while and after rows change, and how they come back.
 */
import { sameName } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { ident, identList, relation, shownRelation } from '../../model/quote';
import { batchKey, guarded, relationExists, transaction } from './shared';
import type { Column, Table } from '../../model/catalog';
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

/**
 * Old rows come back by key; a row that is gone stays gone. After an UPDATE each column goes back only while it still has what the UPDATE
 * (and the triggers that it fired) wrote: what the application wrote since stays.
 */
export function restore(
  ctx: PlanContext,
  table: Table,
  archive: RelationName,
  written: RelationName | null,
  verb: 'update' | 'delete',
): Extract<StepRun, { kind: 'transaction' }> {
  const there = rowColumns(ctx, table);
  const columns = there.filter((c) => c.generated === null).map((c) => c.name);
  const key = batchKey(table)?.map((k) => k.name) ?? [];
  const overriding = there.some((c) => c.identity !== null) ? ' OVERRIDING SYSTEM VALUE' : '';
  const insert = `INSERT INTO ${relation(table)} (${identList(columns)})${overriding} SELECT ${identList(columns)} FROM ${relation(archive)}${key.length > 0 ? ' ON CONFLICT DO NOTHING' : ''}`;
  const settable = columns.filter((c) => !key.includes(c) && there.find((k) => k.name === c)?.identity !== 'always');
  const still = (c: string): string => `pg_catalog.record_image_eq(ROW(t.${ident(c)}), ROW(n.${ident(c)}))`;
  const by = (x: string, y: string): string => key.map((c) => `${x}.${ident(c)} = ${y}.${ident(c)}`).join(' AND ');
  const set = settable.map((c) => `${ident(c)} = CASE WHEN ${still(c)} THEN a.${ident(c)} ELSE t.${ident(c)} END`);
  const update = `UPDATE ${relation(table)} AS t SET ${set.join(', ')} FROM ${relation(archive)} AS a JOIN ${relation(written ?? archive)} AS n ON ${by('a', 'n')} WHERE ${by('t', 'a')} AND (${settable.map(still).join(' OR ')})`;
  const statement = verb === 'delete' ? insert : update;
  const quiet =
    ctx.catalog.canSetReplicationRole &&
    table.triggers.some(
      (t) => t.row && t.enabled !== 'D' && t.events.includes(verb === 'delete' ? 'insert' : 'update'),
    );
  // Emptied with the restoring, so that a second pass changes nothing.
  const empty = [archive, ...(written ? [written] : [])].map((name) => `DELETE FROM ${relation(name)}`);
  return transaction([guarded(relationExists(archive), statement, ...empty)], {
    long: true,
    // The user's triggers fired when the rows were changed; firing again would write over what is restored.
    ...(quiet ? { settings: { session_replication_role: 'replica' } } : {}),
  });
}
