/**
 * Values that a plan writes over without the user's own UPDATE (NULLs that are filled, rows that are mended) are kept in schema pgshift,
 * by key, so that they can go back. A value that somebody wrote since is newer than both and stays.
 */
import { createKept, keptRows } from '../../model/fillSql';
import { ident, relation, shownRelation } from '../../model/quote';
import { describeRun } from '../describe';
import { brief, plannedLock, risk } from '../figures';
import { bareName, batchKey, columnLabel, relationExists, transaction, withoutWayBack } from './shared';
import type { Table } from '../../model/catalog';
import type { BackfillRun, KeptValues } from '../../model/steps';
import type { PlanContext, StepDraft } from '../context';

type Kept = Pick<StepDraft, 'undo' | 'wayBack' | 'because'> & { readonly keep?: KeptValues };

/** The part of a fill step that brings the old values back. null = refused: the rows have no key, and `allow` does not name it. */
export function keptValues(ctx: PlanContext, table: Table, column: string, phase: 'backfill' | 'build'): Kept | null {
  if (!ctx.overlay.wasThere(table, [column]))
    return { undo: [], wayBack: { statement: '-- goes with what the plan adds', lossless: true } };
  const key = batchKey(table);
  const label = columnLabel(table, column);
  if (key === null) return withoutKey(ctx, table, label);
  const name = ctx.names.make('kept', table.schema, table.name, column);
  const keep: KeptValues = { table: { schema: 'pgshift', name }, column };
  if (!ctx.shared.has(name)) {
    ctx.shared.set(name, true);
    ctx.add({
      phase: 'expand',
      action: 'create_kept',
      title: `make a place for the values of ${label} that are written over`,
      run: transaction(createKept(relation(table), keep, key)),
      undo: [transaction([`DROP TABLE IF EXISTS ${relation(keep.table)}`])],
      locks: [plannedLock(table, 'ACCESS SHARE')],
      work: 'metadata',
      estimate: brief(),
      risk: risk(),
      own: true,
    });
  }
  // The later pass runs under the constraint that refuses the old values: they go back when that is gone, with the first pass.
  if (phase === 'build')
    return { keep, undo: [], wayBack: { statement: '-- goes back with the first pass', lossless: true } };
  const { value, pending } = keptRows(keep, key);
  const back: BackfillRun = {
    kind: 'backfill',
    table: bareName(table),
    set: [`${ident(column)} = ${value}`],
    pending,
    key,
    // The user's triggers fired when the values were written over; what they derive follows the old value again.
    quiet: false,
    column: label,
    onlyWhen: relationExists(keep.table),
  };
  return { keep, undo: [back], wayBack: { statement: describeRun(back), lossless: true } };
}

function withoutKey(ctx: PlanContext, table: Table, label: string): Kept | null {
  const because = `${label}: the values that are written over cannot be found again, since ${shownRelation(table)} has no key`;
  const said = `no key ${shownRelation(table)} ${label} ${String(ctx.statement.number)}`;
  if (!ctx.shared.has(said)) {
    const allowed = withoutWayBack(ctx, because, 'give the table a primary key first, or allow no_way_back', table);
    ctx.shared.set(said, allowed);
  }
  return ctx.shared.get(said) === true ? { undo: [], wayBack: null, because } : null;
}
