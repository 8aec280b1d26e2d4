/**
 * DROP TABLE: contract hides the table under a name of ours and drops its foreign keys (a hidden row must not hold back a delete
 * elsewhere), the hold watches, cleanup archives it if asked and drops it. What needs the table is named and refuses the plan.
 */
import { brief, isSmall, plannedLock, risk } from '../figures';
import { ident, relation, shown, shownRelation } from '../../model/quote';
import { archiveTarget } from './archive';
import { dependentsOf } from './dependents';
import { restoreConstraint } from './restore';
import {
  alter,
  bareName,
  batchKey,
  both,
  guarded,
  lockTarget,
  locksOf,
  not,
  relationExists,
  transaction,
} from './shared';
import type { Table } from '../../model/catalog';
import type { RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

/** `together` are the tables that the same statement drops: what they need of each other is no obstacle. */
export function planDropTable(ctx: PlanContext, table: Table, together: readonly Table[]): void {
  if (ctx.overlay.isNew(table)) return dropNew(ctx, table);
  if (refused(ctx, table, together)) return;
  const hidden: RelationName = { schema: table.schema, name: ctx.names.make('del', table.schema, table.name) };
  const archived = archiveTarget(ctx, table, '') !== null;
  hide(ctx, table, hidden);
  archive(ctx, table, hidden);
  ctx.add({
    phase: 'cleanup',
    action: 'drop_table',
    title: `drop table ${shownRelation(table)} (hidden as ${hidden.name})`,
    run: transaction([`DROP TABLE IF EXISTS ${relation(hidden)}`]),
    undo: [],
    wayBack: null,
    because: archived ? 'its rows are kept in the archive only' : 'the table is gone after the hold; a backup has it',
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk({ dataLoss: archived ? 'low' : isSmall(table) ? 'medium' : 'high', rollback: 'high' }),
  });
  ctx.overlay.drop(table, `dropped by statement ${ctx.statement.number}`);
  for (const index of table.indexes) ctx.overlay.release({ schema: index.schema, name: index.name });
  ctx.asked(`- table ${shownRelation(table)}`);
}

function dropNew(ctx: PlanContext, table: Table): void {
  ctx.add({
    phase: 'expand',
    action: 'drop_table',
    title: `drop table ${shownRelation(table)}, made by this plan`,
    run: transaction([`DROP TABLE IF EXISTS ${relation(table)}`]),
    undo: [],
    wayBack: { statement: '-- the table was made by this plan', lossless: true },
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.overlay.drop(table, `dropped by statement ${ctx.statement.number}`);
}

function refused(ctx: PlanContext, table: Table, together: readonly Table[]): boolean {
  const at = shownRelation(table);
  if (table.parent !== null || table.inherits.length > 0) {
    ctx.refuse({
      rule: 'partition',
      message: `${at} is a part of ${shownRelation(table.parent ?? table.inherits[0] ?? table)}`,
      alternative: 'ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY in a migration before this one',
      relation: at,
    });
    return true;
  }
  if (table.extension !== null) {
    ctx.refuse({
      rule: 'dependents',
      message: `${at} belongs to extension ${table.extension}`,
      alternative: 'drop the extension',
      relation: at,
    });
    return true;
  }
  const names = together.map(shownRelation);
  const children = table.kind === 'partitioned' ? [] : table.children.filter((c) => !names.includes(shownRelation(c)));
  const needed = [
    ...dependentsOf(ctx, table, null).filter((n) => !names.some((name) => n.name.endsWith(` of ${name}`))),
    ...children.map((c) => ({ type: 'table', name: shownRelation(c) })),
  ];
  if (needed.length === 0) return false;
  for (const n of needed) ctx.dependent({ type: n.type, name: n.name, of: at, handled: 'refused' });
  ctx.refuse({
    rule: 'dependents',
    message: `${at} is used by ${needed.map((n) => `${n.type} ${n.name}`).join(', ')}`,
    alternative: 'change or drop these first, each by its name',
    relation: at,
  });
  return true;
}

function hide(ctx: PlanContext, table: Table, hidden: RelationName): void {
  const keys = table.constraints.filter((c) => c.type === 'foreign' && !c.hasParent && !c.inherited);
  const targets = keys
    .flatMap((c) => (c.references ? [ctx.overlay.at(c.references.table)] : []))
    .filter((t): t is Table => t !== null && !(t.schema === table.schema && t.name === table.name));
  const others = targets.filter((t, i) => targets.findIndex((o) => o.schema === t.schema && o.name === t.name) === i);
  const rename = (from: RelationName, to: RelationName): string =>
    `ALTER TABLE ${relation(from)} RENAME TO ${ident(to.name)}`;
  ctx.add({
    phase: 'contract',
    action: 'hide_table',
    title: `hide table ${shownRelation(table)}: it is kept as ${hidden.name} during the hold`,
    run: transaction([...keys.map((c) => alter(table, `DROP CONSTRAINT ${ident(c.name)}`)), rename(table, hidden)], {
      lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE'), ...others.map((t) => lockTarget(t, 'ACCESS EXCLUSIVE'))],
    }),
    undo: [
      transaction([guarded(both(relationExists(hidden), not(relationExists(table))), rename(hidden, table))]),
      ...keys.flatMap((c) => restoreConstraint(table, c)),
    ],
    wayBack: { statement: rename(hidden, table), lossless: true },
    locks: [...locksOf(ctx, table, 'ACCESS EXCLUSIVE'), ...others.map((t) => plannedLock(t, 'ACCESS EXCLUSIVE'))],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  for (const key of keys)
    ctx.dependent({ type: 'foreign key', name: shown(key.name), of: shownRelation(table), handled: 'moved' });
  ctx.keepsOld();
}

function archive(ctx: PlanContext, table: Table, hidden: RelationName): void {
  const to = archiveTarget(ctx, table, '');
  if (!to) return;
  ctx.add({
    phase: 'cleanup',
    action: 'archive_table',
    title: `archive ${shownRelation(table)}`,
    run: { kind: 'archive', table: bareName(hidden), column: null, key: batchKey(table), to },
    undo: [],
    locks: [plannedLock(table, 'ACCESS SHARE', 'scan')],
    work: 'scan',
    estimate: { seconds: [0, table.heapBytes / 50_000_000], bytes: [0, table.heapBytes], rows: table.rows },
    risk: risk(),
    own: true,
  });
}
