/**
 * ALTER COLUMN ... TYPE that would rewrite the table, as a shadow column: filled, proven, swapped in under the same name, and kept in step
 * the other way round during the hold. Pure: catalogue and statement in, steps out.
 */
import { ident, relation, shown, shownRelation } from '../../model/quote';
import { as } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { batchKey, lockTarget, transaction } from '../statements/shared';
import { askForNulls } from '../statements/setNotNull';
import { backRuns } from './back';
import { collectParts, columnName, quotedTable, typeOfColumn } from './change';
import { tellDependents, viewsOn } from './dependents';
import {
  addForeignKeys,
  addRules,
  addShadow,
  addSync,
  analyzeShadow,
  buildIndexes,
  fillShadow,
  proveShadow,
  validateRules,
} from './expand';
import { mayChange } from './refuse';
import { swapLocks, swapStatements } from './swap';
import { reverseSync } from './sync';
import { settleTransforms } from './transforms';
import { resolveType } from './types';
import type { Column, Table } from '../../model/catalog';
import type { KeyColumn } from '../../model/steps';
import type { PlanContext } from '../context';
import type { Change } from './change';

export interface TypeChangeOptions {
  /** As written or as format_type() prints it. */
  readonly newType: string;
  /** The expression after USING, as SQL. */
  readonly using: string | null;
  /** After COLLATE, as SQL. */
  readonly collation: string | null;
}

/** Other statements' contract steps speak of the visible column as it was when they were planned: they come before the swap. */
const SWAP_ORDER = 10;

/**
 * Adds every step of the change to the plan, or a finding that refuses it. Throws NoSuchObject, TransformMissing, MeaningChanged,
 * InvalidPlan, PrivilegeMissing, Refused.
 */
export function planTypeChange(ctx: PlanContext, table: Table, column: Column, options: TypeChangeOptions): void {
  const label = `${shownRelation(table)}.${shown(column.name)}`;
  const from = typeOfColumn(ctx, column);
  const to = resolveType(ctx.catalog, options.newType, ctx.plan.searchPath);
  if (!from || !to)
    throw ctx.problem('NoSuchObject', `type ${from ? options.newType : column.type} does not exist`, {
      value: options.newType,
    });
  const settled = settleTransforms(ctx, table, column, { from, to }, options.using);
  if (!mayChange(ctx, table, column, to) || !settled) return;
  const { pinned, ...transforms } = settled;
  const change: Change = {
    ctx,
    table,
    column,
    from,
    to,
    collation: options.collation,
    transforms,
    shadow: columnName(ctx, table, 'new', column.name),
    old: columnName(ctx, table, 'old', column.name),
    label,
    ...collectParts(ctx, table, column),
    pinned,
  };
  // An index that this plan only asks for is not there to walk.
  const key = batchKey({ ...table, indexes: table.indexes.filter((index) => !ctx.isWanted(index)) });
  tell(change);
  addShadow(change);
  addSync(change);
  fillShadow(change, key);
  buildIndexes(change);
  addRules(change);
  addForeignKeys(change);
  analyzeShadow(change);
  validateRules(change);
  proveShadow(change, key);
  addSwap(change, key);
  addCleanup(change);
}

function tell(change: Change): void {
  const { node } = change.transforms.up;
  if (change.notNull?.wanted && (as(node, 'ColumnRef') || as(as(node, 'TypeCast')?.arg, 'ColumnRef')))
    askForNulls(change.ctx, change.table, change.column);
  const { column, ctx, from, sequence, to } = change;
  tellDependents(change);
  ctx.asked(`~ column ${change.label}: ${from.text} -> ${to.text}`);
  // Postgres changes an identity's sequence along with its column.
  if (sequence && column.identity !== null) ctx.asked(`~ sequence ${shownRelation(sequence)}`);
  if (change.transforms.down) ctx.keepsOld();
  if (sequence && column.identity === null && sequence.type !== to.base && /^(smallint|integer)$/.test(sequence.type))
    ctx.finding({
      rule: 'sequence_stays',
      level: 'info',
      message: `sequence ${shownRelation(sequence)} stays ${sequence.type}, as ALTER COLUMN TYPE leaves it: it ends at ${sequence.max}`,
      alternative: `ALTER SEQUENCE ${relation(sequence)} AS ${to.text}`,
      relation: shownRelation(change.table),
    });
}

/** After the swap the key may hold the new column. */
const afterSwap = (change: Change, key: readonly KeyColumn[] | null): readonly KeyColumn[] | null =>
  key?.map((k) => (k.name === change.column.name ? { ...k, type: change.to.sql } : k)) ?? null;

function addSwap(change: Change, key: readonly KeyColumn[] | null): void {
  const { ctx, transforms } = change;
  const { down } = transforms;
  ctx.add({
    phase: 'contract',
    action: 'swap_column',
    title: `swap ${change.label} to ${change.to.text}${down ? ', turn the trigger round' : ''}`,
    order: SWAP_ORDER,
    run: transaction(swapStatements(change), { lockFirst: swapLocks(change) }),
    undo: down ? backRuns(change, down, afterSwap(change, key)) : [],
    wayBack: down
      ? { statement: `-- swap back: build what the old column lost, prove, exchange the names`, lossless: true }
      : null,
    because: down ? null : 'no `down` says what the new value was before',
    locks: [
      ...swapLocks(change).map((target) => plannedLock(target.relation, target.mode)),
      ...viewsOn(change).map((view) => plannedLock(view, 'ACCESS EXCLUSIVE')),
      ...(change.sequence ? [plannedLock(change.sequence, 'ACCESS EXCLUSIVE')] : []),
    ],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ downtime: 'medium', rollback: down ? 'low' : 'high', dataLoss: down ? 'low' : 'medium' }),
  });
}

function addCleanup(change: Change): void {
  const { ctx, old, table, transforms } = change;
  const on = quotedTable(change);
  ctx.add({
    phase: 'cleanup',
    action: 'drop_column',
    title: `drop what ${change.label} was (${change.from.text})`,
    run: transaction(
      [
        ...(transforms.down ? reverseSync(change, transforms.down).drop : []),
        `ALTER TABLE ${on} DROP COLUMN IF EXISTS ${ident(old)}`,
      ],
      { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')] },
    ),
    undo: [],
    wayBack: null,
    because: 'the old values are gone: the way back ends here, a backup goes on',
    locks: [plannedLock(table, 'ACCESS EXCLUSIVE')],
    work: 'metadata',
    estimate: brief(),
    // The new values hold what the old ones said: going back is then a change of its own, not a loss.
    risk: risk({ rollback: transforms.down ? 'medium' : 'high' }),
    own: true,
  });
}
