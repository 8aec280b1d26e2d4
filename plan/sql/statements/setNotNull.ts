/**
 * NOT NULL without a scan under a strong lock. From 18 on by a NOT NULL constraint NOT VALID and VALIDATE; before that by a CHECK, its
 * VALIDATE, and SET NOT NULL, which believes a valid CHECK and does not scan. Either way the catalogue ends as plain SET NOT NULL leaves it.
 */
import { parseExpression, expressionSql, qualified } from '../ast';
import { batchesOf, brief, plannedLock, risk, rowsOf, scanOf } from '../figures';
import { postgresName } from '../names';
import { keptValues } from './kept';
import { ident, relation, shown, shownRelation } from '../../model/quote';
import {
  alter,
  alterIfExists,
  bareName,
  batchKey,
  columnExists,
  columnLabel,
  constraintTaken,
  guarded,
  lockTarget,
  locksOf,
  newConstraint,
  notNullCheck,
  sized,
  transaction,
  withRows,
} from './shared';
import type { Column, Table } from '../../model/catalog';
import type { RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

export interface NotNullOptions {
  /** 'build' when the column is filled by this plan first: until then an update of an old row must not fail. */
  readonly phase: 'expand' | 'build';
  /** Name of the constraint (18 on) where the user gave one. */
  readonly name?: string | null;
  /** The column is made by this plan: no question about NULLs that are there. */
  readonly fresh?: boolean;
}

/** `transforms['table.column'].up`, by either name of the table. */
export function transformOf(
  ctx: PlanContext,
  table: Table,
  column: string,
): { up?: string | undefined; down?: string | undefined } | null {
  for (const name of transformNames(table, column)) {
    const found = ctx.plan.transforms[name];
    if (!found) continue;
    ctx.usedTransform(name);
    return found;
  }
  return null;
}

/** Every way in which a plan may write the column. */
export const transformNames = (table: RelationName, column: string): string[] => [
  `${table.schema}.${table.name}.${column}`,
  `${table.name}.${column}`,
  `${shownRelation(table)}.${shown(column)}`,
  `${shown(table.name)}.${shown(column)}`,
];

/** `up` as an expression over alias t. Throws SqlSyntax. */
export function upExpression(ctx: PlanContext, table: Table, up: string): string {
  const parsed = parseExpression(up);
  if (!parsed) throw ctx.problem('SqlSyntax', `transforms: up is not an expression`, { value: up });
  return expressionSql(
    qualified(
      parsed,
      't',
      table.columns.map((c) => c.name),
      [table.name],
    ),
  );
}

export function planSetNotNull(ctx: PlanContext, table: Table, column: Column): void {
  if (column.notNull) {
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `${columnLabel(table, column.name)} is NOT NULL already`,
      relation: shownRelation(table),
    });
    return;
  }
  // The type change puts it on the shadow, with the values that `up` makes; the visible column may hold NULLs until the swap.
  if (ctx.retyped(table, column.name)) ctx.overlay.changeColumn(table, column.name, { notNull: true });
  else planNotNull(ctx, table, column, { phase: 'expand' });
  ctx.asked(`~ column ${columnLabel(table, column.name)}: set_not_null`);
}

/** Fill (when `up` says how), constraint, VALIDATE, and before 18 SET NOT NULL. */
export function planNotNull(ctx: PlanContext, table: Table, column: Column, options: NotNullOptions): void {
  const up = options.fresh ? undefined : transformOf(ctx, table, column.name)?.up;
  const existing = notNullCheck(table, column);
  if (up !== undefined) fill(ctx, table, column, up, 'backfill');
  else if (!options.fresh && !existing && !ctx.overlay.rowsChange(table) && !ctx.overlay.isNew(table))
    askForNulls(ctx, table, column);
  const phase = up === undefined && !ctx.overlay.rowsChange(table) ? options.phase : 'build';
  const fillAgain = up === undefined ? null : () => fill(ctx, table, column, up, 'build');
  if (ctx.catalog.serverVersion >= 180000) byConstraint(ctx, table, column, options, phase, fillAgain);
  else byCheck(ctx, table, column, phase, existing !== null, fillAgain);
  ctx.overlay.changeColumn(table, column.name, { notNull: true });
}

export function askForNulls(ctx: PlanContext, table: Table, column: Column): void {
  const label = columnLabel(table, column.name);
  // A column that this plan adds without a value is NULL in every row.
  const where = ctx.overlay.wasThere(table, [column.name]) ? ` WHERE ${ident(column.name)} IS NULL` : '';
  if (where === '' && column.default !== null) return;
  ctx.preCheck({
    count: `SELECT count(*) FROM ${relation(table)}${where}`,
    code: 'TransformMissing',
    message: `$COUNT rows of ${label} are NULL and nothing says what they become`,
    hint: `add transforms: { ${table.name}.${column.name}: { up: <expression> } }, which fills them in batches`,
    column: label,
  });
}

/** Only rows that are NULL are written, so that every valid value stays as it is. */
function fill(ctx: PlanContext, table: Table, column: Column, up: string, phase: 'backfill' | 'build'): void {
  const expression = upExpression(ctx, table, up);
  for (const part of withRows(ctx, table)) {
    const kept = keptValues(ctx, part, column.name, phase);
    if (!kept) continue;
    const { keep, ...back } = kept;
    ctx.add({
      phase,
      action: 'fill_nulls',
      title:
        phase === 'backfill'
          ? `fill NULLs of ${columnLabel(part, column.name)}`
          : `fill NULLs of ${columnLabel(part, column.name)} written meanwhile`,
      run: {
        kind: 'backfill',
        table: bareName(part),
        set: [`${ident(column.name)} = ${expression}`],
        pending: `t.${ident(column.name)} IS NULL`,
        key: batchKey(part),
        quiet: false,
        column: columnLabel(part, column.name),
        ...(keep ? { keep } : {}),
      },
      ...back,
      locks: [plannedLock(part, 'ROW EXCLUSIVE', 'batch')],
      work: 'batches',
      estimate: batchesOf({ ...part, rows: Math.ceil(rowsOf(part) * (column.nullFraction ?? 1)) }),
      risk: risk({ performance: 'medium' }),
    });
  }
}

function byConstraint(
  ctx: PlanContext,
  table: Table,
  column: Column,
  options: NotNullOptions,
  phase: 'expand' | 'build',
  fillAgain: (() => void) | null,
): void {
  const name =
    options.name ?? postgresName(table.name, column.name, 'not_null', (n) => constraintTaken(ctx, table.schema, n));
  ctx.add({
    phase,
    action: 'add_not_null',
    title: `add NOT NULL of ${columnLabel(table, column.name)}, not valid yet`,
    run: transaction([alter(table, `ADD CONSTRAINT ${ident(name)} NOT NULL ${ident(column.name)} NOT VALID`)], {
      lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')],
    }),
    undo: [transaction([alterIfExists(table, `DROP CONSTRAINT IF EXISTS ${ident(name)}`)], { lockFirst: [] })],
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  fillAgain?.();
  addValidate(ctx, table, name, `NOT NULL of ${columnLabel(table, column.name)}`);
  ctx.overlay.addConstraint(
    table,
    newConstraint(table, name, 'not-null', { columns: [column.name], definition: `NOT NULL ${ident(column.name)}` }),
  );
}

function byCheck(
  ctx: PlanContext,
  table: Table,
  column: Column,
  phase: 'expand' | 'build',
  checked: boolean,
  fillAgain: (() => void) | null,
): void {
  const name = ctx.names.make('nn', table.schema, table.name, column.name);
  const drop = alterIfExists(table, `DROP CONSTRAINT IF EXISTS ${ident(name)}`);
  if (!checked) {
    ctx.add({
      phase,
      action: 'add_check',
      title: `add a check that ${columnLabel(table, column.name)} is not null, not valid yet`,
      run: transaction(
        [alter(table, `ADD CONSTRAINT ${ident(name)} CHECK (${ident(column.name)} IS NOT NULL) NOT VALID`)],
        {
          lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')],
        },
      ),
      undo: [transaction([drop])],
      locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
      work: 'metadata',
      estimate: brief(),
      risk: risk(),
      own: true,
    });
    fillAgain?.();
    addValidate(ctx, table, name, `the check that ${columnLabel(table, column.name)} is not null`);
  }
  ctx.add({
    phase: 'contract',
    action: 'set_not_null',
    title: `set ${columnLabel(table, column.name)} NOT NULL (the valid check saves the scan)`,
    // Two statements: as one, Postgres would drop the check first and then scan.
    run: transaction([alter(table, `ALTER COLUMN ${ident(column.name)} SET NOT NULL`), ...(checked ? [] : [drop])], {
      lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')],
    }),
    undo: [
      transaction([
        guarded(columnExists(table, column.name), alter(table, `ALTER COLUMN ${ident(column.name)} DROP NOT NULL`)),
      ]),
    ],
    wayBack: { statement: alter(table, `ALTER COLUMN ${ident(column.name)} DROP NOT NULL`), lossless: true },
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
}

/** VALIDATE in its own transaction: it reads the whole table under a lock that lets reads and writes through. */
export function addValidate(
  ctx: PlanContext,
  table: Table,
  constraint: string,
  what: string,
  referenced: Table | null = null,
): void {
  ctx.add({
    phase: 'validate',
    action: 'validate_constraint',
    title: `validate ${what}`,
    run: transaction([alter(table, `VALIDATE CONSTRAINT ${ident(constraint)}`)], {
      lockFirst: [lockTarget(table, 'SHARE UPDATE EXCLUSIVE')],
      long: true,
    }),
    undo: [],
    locks: [
      ...locksOf(ctx, table, 'SHARE UPDATE EXCLUSIVE', 'scan'),
      ...(referenced ? [plannedLock(referenced, 'ROW SHARE', 'scan')] : []),
    ],
    work: 'scan',
    estimate: scanOf(sized(ctx, table)),
    risk: risk({ performance: table.heapBytes > 1024 ** 3 ? 'medium' : 'low' }),
  });
}
