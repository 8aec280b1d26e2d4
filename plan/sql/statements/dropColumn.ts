/**
 * DROP COLUMN: contract hides it under a name of ours (clients that still use it fail, and can be saved by one rename), drops what would
 * make their inserts fail, and the hold watches; cleanup archives it if asked and drops it. Never CASCADE: what needs it is named.
 */
import { brief, isSmall, plannedLock, risk } from '../figures';
import { ident, literal, shown, shownRelation } from '../../model/quote';
import { archiveTarget } from './archive';
import { dependentsOf } from './dependents';
import { dropIndexStep } from './dropIndex';
import { refuseAsWritten } from './refused';
import { restoreConstraint, restoreNotNull } from './restore';
import {
  alter,
  alterIfExists,
  bareName,
  batchKey,
  both,
  columnExists,
  columnLabel,
  guarded,
  lockTarget,
  locksOf,
  not,
  transaction,
  withRows,
} from './shared';
import type { AlterTableCmd } from 'libpg-query';
import type { Column, Constraint, Table } from '../../model/catalog';
import type { StepRun } from '../../model/steps';
import type { PlanContext } from '../context';

export function planDropColumn(ctx: PlanContext, table: Table, command: AlterTableCmd): void {
  const name = command.name ?? '';
  const column = table.columns.find((c) => c.name === name);
  if (!column) {
    if (!command.missing_ok) ctx.overlay.needColumn(table, name, ctx.where());
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `column ${columnLabel(table, name)} does not exist: nothing to do, as IF EXISTS says`,
      relation: shownRelation(table),
    });
    return;
  }
  if (ctx.overlay.isEmpty(table)) return dropNow(ctx, table, column);
  if (refused(ctx, table, column)) return;
  hide(ctx, table, column);
  ctx.overlay.dropColumn(table, name);
  ctx.asked(`- column ${columnLabel(table, name)}`);
}

function refused(ctx: PlanContext, table: Table, column: Column): boolean {
  const label = columnLabel(table, column.name);
  const on = shownRelation(table);
  if (ctx.retyped(table, column.name)) {
    ctx.refuse({
      rule: 'separate_migration',
      message: `${label} changes its type and is dropped in one plan`,
      alternative: 'leave the change of type out',
      relation: on,
    });
    return true;
  }
  if (!column.isLocal) {
    ctx.refuse({
      rule: 'inherited',
      message: `${label} comes from the table's parent`,
      alternative: 'drop it on the parent',
      relation: on,
    });
    return true;
  }
  const needed = dependentsOf(ctx, table, column.name);
  if (needed.length > 0) {
    for (const d of needed) ctx.dependent({ type: d.type, name: d.name, of: label, handled: 'refused' });
    ctx.refuse({
      rule: 'dependents',
      message: `${label} is used by ${needed.map((d) => `${d.type} ${d.name}`).join(', ')}`,
      alternative: 'change or drop these first, each by its name',
      relation: on,
    });
    return true;
  }
  const key = table.constraints.find((c) => c.type === 'primary' && c.columns.includes(column.name));
  const part = table.partitionKey?.columns.includes(column.name) ?? false;
  if (!key && !part) return false;
  if (part)
    ctx.refuse({
      rule: 'partition_key',
      message: `${label} is in the partition key`,
      alternative: 'make a new table and move the rows',
      relation: on,
    });
  else
    refuseAsWritten(ctx, {
      rule: 'drop_key_column',
      message: `${label} is in the primary key ${shown(key?.name ?? '')}, which would go with it`,
      alternative: 'make another primary key in a migration before this one',
    });
  return true;
}

function dropNow(ctx: PlanContext, table: Table, column: Column): void {
  ctx.add({
    phase: 'expand',
    action: 'drop_column',
    title: `drop column ${columnLabel(table, column.name)} of the new table`,
    run: transaction([alter(table, `DROP COLUMN ${ident(column.name)}`)]),
    undo: [],
    wayBack: { statement: '-- goes with the table', lossless: true },
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.overlay.dropColumn(table, column.name);
}

/** Constraints that go in the hiding already: they would refuse or restrict what clients write in the new shape. */
function inTheWay(table: Table, column: Column): Constraint[] {
  return table.constraints.filter(
    (c) => c.columns.includes(column.name) && (c.type === 'check' || c.type === 'foreign'),
  );
}

function hide(ctx: PlanContext, table: Table, column: Column): void {
  const hidden = ctx.names.make('del', table.schema, table.name, column.name);
  const label = columnLabel(table, column.name);
  const dropped = inTheWay(table, column);
  const unique = table.indexes.filter((i) => i.unique && i.columns.includes(column.name));
  const relax = column.notNull && column.identity === null && column.generated === null;
  // A unique column with a default would take the same value in each new row.
  const noDefault =
    unique.length > 0 && column.default !== null && column.generated === null && column.identity === null;
  for (const c of table.constraints.filter((k) => k.columns.includes(column.name) && k.type !== 'not-null'))
    ctx.dependent({ type: 'constraint', name: c.name, of: label, handled: 'kept' });
  for (const i of table.indexes.filter((k) => k.columns.includes(column.name) && k.constraint === null))
    ctx.dependent({ type: 'index', name: i.name, of: label, handled: 'kept' });
  const others = dropped
    .flatMap((c) => (c.references ? [ctx.overlay.at(c.references.table)] : []))
    .filter((t): t is Table => t !== null && !(t.schema === table.schema && t.name === table.name));
  ctx.add({
    phase: 'contract',
    action: 'hide_column',
    title: `hide column ${label}: it is kept as ${hidden} during the hold`,
    run: transaction(
      [
        ...dropped.map((c) => alter(table, `DROP CONSTRAINT ${ident(c.name)}`)),
        ...(relax ? [alter(table, `ALTER COLUMN ${ident(column.name)} DROP NOT NULL`)] : []),
        ...(noDefault ? [alter(table, `ALTER COLUMN ${ident(column.name)} DROP DEFAULT`)] : []),
        alter(table, `RENAME COLUMN ${ident(column.name)} TO ${ident(hidden)}`),
      ],
      { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE'), ...others.map((t) => lockTarget(t, 'ACCESS EXCLUSIVE'))] },
    ),
    undo: showAgain(ctx, table, column, hidden, dropped, relax, noDefault),
    wayBack: {
      statement: `${alter(table, `RENAME COLUMN ${ident(hidden)} TO ${ident(column.name)}`)}${relax ? ' -- then NOT NULL, by a check' : ''}`,
      lossless: !relax || column.default !== null,
    },
    locks: [...locksOf(ctx, table, 'ACCESS EXCLUSIVE'), ...others.map((t) => plannedLock(t, 'ACCESS EXCLUSIVE'))],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: relax && column.default === null ? 'medium' : 'low' }),
  });
  ctx.keepsOld();
  archiveColumn(ctx, table, column, hidden);
  cleanup(ctx, table, column, hidden);
}

function showAgain(
  ctx: PlanContext,
  table: Table,
  column: Column,
  hidden: string,
  dropped: readonly Constraint[],
  relax: boolean,
  noDefault: boolean,
): StepRun[] {
  // Read from the row as JSON: right before the rename (where the hidden name exists) and after it (then nothing is found).
  const isNull = `pg_catalog.jsonb_typeof(pg_catalog.to_jsonb(t) -> ${literal(hidden)}) = 'null'`;
  const proofs = relax
    ? withRows(ctx, table).map((part): StepRun => ({
        kind: 'proof',
        table: bareName(part),
        key: batchKey(part),
        checks: [
          {
            column: columnLabel(part, column.name),
            remaining: isNull,
            differing: 'false',
            oldImage: 'ROW(1)',
            newImage: 'ROW(1)',
          },
        ],
        onDiffer: 'report',
        message: 'rows were written without the column, which was NOT NULL: they have no value',
      }))
    : [];
  const back = [
    alter(table, `RENAME COLUMN ${ident(hidden)} TO ${ident(column.name)}`),
    ...(noDefault ? [alter(table, `ALTER COLUMN ${ident(column.name)} SET DEFAULT ${column.default ?? 'NULL'}`)] : []),
  ];
  const notNull = relax ? restoreNotNull(ctx, table, column).filter((run) => run.kind !== 'proof') : [];
  return [
    ...proofs,
    transaction([guarded(both(columnExists(table, hidden), not(columnExists(table, column.name))), ...back)]),
    ...dropped.flatMap((c) => restoreConstraint(table, c)),
    ...notNull,
  ];
}

function archiveColumn(ctx: PlanContext, table: Table, column: Column, hidden: string): void {
  const to = archiveTarget(ctx, table, column.name);
  if (!to) return;
  const key = batchKey(table);
  ctx.add({
    phase: 'cleanup',
    action: 'archive_column',
    title: `archive ${columnLabel(table, column.name)}`,
    run: { kind: 'archive', table: bareName(table), column: hidden, as: column.name, key, to },
    undo: [],
    locks: [plannedLock(table, 'ACCESS SHARE', 'scan')],
    work: 'scan',
    estimate: { seconds: [0, 0], bytes: [0, table.heapBytes], rows: table.rows },
    risk: risk(),
    own: true,
  });
}

function cleanup(ctx: PlanContext, table: Table, column: Column, hidden: string): void {
  const archived = archiveTarget(ctx, table, column.name) !== null;
  // Postgres drops the indexes with the column, under the same lock: the ones that are not constraints go concurrently before.
  for (const index of table.indexes.filter(
    (i) => i.columns.includes(column.name) && i.constraint === null && i.parent === null && table.kind === 'table',
  ))
    dropIndexStep(ctx, table, index, { phase: 'cleanup', back: false });
  ctx.add({
    phase: 'cleanup',
    action: 'drop_column',
    title: `drop column ${columnLabel(table, column.name)} (hidden as ${hidden})`,
    run: transaction([alterIfExists(table, `DROP COLUMN IF EXISTS ${ident(hidden)}`)], { lockFirst: [] }),
    undo: [],
    wayBack: null,
    because: archived
      ? 'its values are kept in the archive only'
      : 'the column is gone after the hold; a backup has it',
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk({ dataLoss: archived ? 'low' : isSmall(table) ? 'medium' : 'high', rollback: 'high' }),
  });
}
