/**
 * ADD COLUMN. What Postgres does without reading the table is sent as it is; the rest is taken apart: the bare column first (with its
 * default for new rows), old rows filled in batches, then NOT NULL, UNIQUE, CHECK and REFERENCES each in its own safe way.
 */
import { as, expressionSql, sqlOf, typeText } from '../ast';
import { isNull, isVolatile } from '../volatility';
import { batchesOf, brief, plannedLock, risk } from '../figures';
import { ident, shownRelation } from '../../model/quote';
import { chooseConstraintName } from '../indexNames';
import { newColumn } from '../overlay';
import {
  alterIfExists,
  bareName,
  batchKey,
  columnLabel,
  commandSql,
  lockTarget,
  locksOf,
  transaction,
  withRows,
} from './shared';
import { domainWithRules, planDomain, planGenerated } from './addRewriting';
import { columnParts } from './columnParts';
import { planConstraint } from './constraints';
import { planNotNull } from './setNotNull';
import { isSerial, planIdentity, planSerial } from './serial';
import type { AlterTableCmd, AlterTableStmt, ColumnDef, Constraint as ConstraintNode, Node } from 'libpg-query';
import type { Column, Table } from '../../model/catalog';
import type { PlanContext } from '../context';
import type { ColumnParts } from './columnParts';

export function planAddColumn(ctx: PlanContext, table: Table, statement: AlterTableStmt, command: AlterTableCmd): void {
  const def = as(command.def, 'ColumnDef');
  if (!def?.typeName) return;
  const name = def.colname ?? '';
  if (exists(ctx, table, def, command.missing_ok ?? false)) return;
  const parts = columnParts(def);
  const column = columnOf(ctx, table, parts);
  const sql = commandSql(ctx, statement, command);
  ctx.asked(`+ column ${columnLabel(table, name)}`);
  if (ctx.overlay.isNew(table)) return addAsIs(ctx, table, column, sql);
  if (parts.generated) return planGenerated(ctx, table, column, parts, sql);
  if (domainWithRules(ctx, def)) return planDomain(ctx, table, column, sql);
  if (isSerial(def)) return planSerial(ctx, table, column, parts);
  if (parts.identity) return planIdentity(ctx, table, column, parts);
  const volatile = isVolatile(parts.default, ctx.catalog);
  // NOT NULL with a default that is evaluated once, and a nullable REFERENCES without default, cost Postgres nothing.
  const bareDefault = parts.default === null || isNull(parts.default);
  const notNullAsIs = parts.notNull !== null && !volatile && !bareDefault;
  const onlyReference =
    parts.constraints.length === 1 &&
    parts.constraints[0]?.contype === 'CONSTR_FOREIGN' &&
    bareDefault &&
    !parts.notNull;
  if (!volatile && (parts.notNull === null || notNullAsIs) && (parts.constraints.length === 0 || onlyReference)) {
    const key = parts.constraints[0];
    if (key)
      ctx.asked(
        `+ constraint ${key.conname ?? chooseConstraintName(ctx, table, [name], 'fkey')} on ${shownRelation(table)}`,
      );
    return addAsIs(ctx, table, column, sql, key);
  }
  addBare(ctx, table, column, parts, {
    withDefault: !volatile,
    notNull: notNullAsIs,
    thenDefault: volatile ? parts.default : null,
  });
  if (volatile && parts.default) addFill(ctx, table, name, parts.default);
  finishColumn(ctx, table, parts, { filled: volatile, notNullDone: notNullAsIs });
}

/** What comes after the values are there. */
export function finishColumn(
  ctx: PlanContext,
  table: Table,
  parts: ColumnParts,
  how: { filled: boolean; notNullDone: boolean },
): void {
  const name = parts.def.colname ?? '';
  const phase = how.filled ? 'build' : 'expand';
  const primary = parts.constraints.some((c) => c.contype === 'CONSTR_PRIMARY');
  if ((parts.notNull || primary) && !how.notNullDone) {
    const current = ctx.overlay.at(table) ?? table;
    const column = ctx.overlay.needColumn(current, name);
    if (!how.filled) requiredWithoutValue(ctx, current, column);
    planNotNull(ctx, current, column, { phase, name: parts.notNull?.conname ?? null, fresh: how.filled });
  }
  for (const constraint of parts.constraints) {
    const current = ctx.overlay.at(table) ?? table;
    planConstraint(ctx, current, constraint, { phase, fresh: how.filled || constraint.contype === 'CONSTR_FOREIGN' });
  }
}

/** NOT NULL and no default: the old application's inserts will fail, and old rows need a transform (asked by preflight). */
function requiredWithoutValue(ctx: PlanContext, table: Table, column: Column): void {
  ctx.finding({
    rule: 'required_column',
    level: 'warning',
    message: `${columnLabel(table, column.name)} is NOT NULL without a default: inserts of clients that do not know it fail once the constraint stands`,
    alternative: 'give it a default, or add it nullable and set NOT NULL in a later migration',
    relation: shownRelation(table),
  });
}

function exists(ctx: PlanContext, table: Table, def: ColumnDef, ifNotExists: boolean): boolean {
  const there = table.columns.find((c) => c.name === def.colname);
  if (!there && !ctx.overlay.isNew(table) && ctx.overlay.wasThere(table, [def.colname ?? ''])) {
    ctx.refuse({
      rule: 'separate_migration',
      message: `${columnLabel(table, def.colname ?? '')} is dropped by an earlier statement, which is done in contract`,
      alternative: 'add it in a migration that depends on this one, or under another name',
      relation: shownRelation(table),
    });
    return true;
  }
  if (!there || !def.typeName) return false;
  const same = there.type === typeText(def.typeName).text;
  const label = columnLabel(table, there.name);
  if (ifNotExists && same)
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `column ${label} exists already with type ${there.type}`,
      relation: shownRelation(table),
    });
  else
    ctx.refuse({
      rule: 'name_in_use',
      message: `column ${label} exists already with type ${there.type}`,
      alternative: same
        ? 'leave the statement out, or write IF NOT EXISTS'
        : 'choose another name, or change its type with ALTER COLUMN TYPE',
      relation: shownRelation(table),
    });
  return true;
}

function columnOf(ctx: PlanContext, table: Table, parts: ColumnParts): Column {
  const { def } = parts;
  const type = def.typeName ? typeText(def.typeName) : { text: 'unknown', schema: null, name: 'unknown' };
  const number = Math.max(0, ...table.columns.map((c) => c.number)) + 1;
  return {
    ...newColumn(def.colname ?? '', type.text, { schema: type.schema ?? 'pg_catalog', name: type.name }, number),
    notNull: parts.notNull !== null && parts.default !== null && !isVolatile(parts.default, ctx.catalog),
    default: parts.default ? expressionSql(parts.default) : null,
  };
}

export function addAsIs(
  ctx: PlanContext,
  table: Table,
  column: Column,
  sql: string,
  reference: ConstraintNode | undefined = undefined,
): void {
  const target = reference ? ctx.overlay.need(reference.pktable ?? {}, ctx.where(reference.pktable?.location)) : null;
  const other = target && !(target.schema === table.schema && target.name === table.name) ? target : null;
  ctx.add({
    phase: 'expand',
    action: 'add_column',
    title: `add column ${columnLabel(table, column.name)} (${column.type})`,
    run: transaction([sql], {
      lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE'), ...(other ? [lockTarget(other, 'SHARE ROW EXCLUSIVE')] : [])],
    }),
    undo: [transaction([dropColumnSql(table, column.name)])],
    locks: [...locksOf(ctx, table, 'ACCESS EXCLUSIVE'), ...(other ? [plannedLock(other, 'SHARE ROW EXCLUSIVE')] : [])],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.overlay.addColumn(table, column);
}

export const dropColumnSql = (table: Table, column: string): string =>
  alterIfExists(table, `DROP COLUMN IF EXISTS ${ident(column)}`);

/** The column with type, collation, storage and compression; `thenDefault` is set in the same transaction, so that no row slips between. */
export function addBare(
  ctx: PlanContext,
  table: Table,
  column: Column,
  parts: ColumnParts,
  how: {
    withDefault: boolean;
    notNull: boolean;
    thenDefault: Node | null;
    before?: readonly string[];
    after?: readonly string[];
    undo?: readonly string[];
  },
): void {
  const keep: Node[] = (parts.def.constraints ?? []).filter((n) => {
    const type = as(n, 'Constraint')?.contype;
    return (type === 'CONSTR_DEFAULT' && how.withDefault) || (type === 'CONSTR_NOTNULL' && how.notNull);
  });
  const { constraints: _constraints, ...rest } = parts.def;
  const add = columnCommand(table, {
    subtype: 'AT_AddColumn',
    def: { ColumnDef: { ...rest, ...(keep.length > 0 ? { constraints: keep } : {}) } },
  });
  const setDefault = how.thenDefault
    ? [columnCommand(table, { subtype: 'AT_ColumnDefault', name: column.name, def: how.thenDefault })]
    : [];
  ctx.add({
    phase: 'expand',
    action: 'add_column',
    title: `add column ${columnLabel(table, column.name)} (${column.type})${how.thenDefault ? ', empty in old rows' : ''}`,
    run: transaction([...(how.before ?? []), add, ...setDefault, ...(how.after ?? [])], {
      lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')],
    }),
    undo: [transaction([dropColumnSql(table, column.name), ...(how.undo ?? [])])],
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.overlay.addColumn(table, { ...column, notNull: how.notNull });
}

/** ALTER TABLE with one command on this table, names written out. */
export const columnCommand = (table: Table, command: AlterTableCmd): string =>
  sqlOf({
    AlterTableStmt: {
      relation: { schemaname: table.schema, relname: table.name, inh: true, relpersistence: 'p' },
      cmds: [{ AlterTableCmd: { behavior: 'DROP_RESTRICT', ...command } }],
      objtype: 'OBJECT_TABLE',
    },
  });

/** Each old row gets its own value: the default is evaluated once for each, as plain SQL would. */
export function addFill(ctx: PlanContext, table: Table, name: string, _value: Node): void {
  const quiet = ctx.catalog.canSetReplicationRole;
  const fires = table.triggers.some((t) => t.events.includes('update') && t.enabled !== 'D');
  if (!quiet && fires)
    ctx.finding({
      rule: 'triggers_fire',
      level: 'warning',
      message: `filling ${columnLabel(table, name)} fires the UPDATE triggers of ${shownRelation(table)}: the role may not set session_replication_role`,
      alternative: 'GRANT SET ON PARAMETER session_replication_role TO the role (Postgres 15 on)',
      relation: shownRelation(table),
    });
  for (const part of withRows(ctx, table))
    ctx.add({
      phase: 'backfill',
      action: 'fill_column',
      title: `fill ${columnLabel(part, name)} in old rows`,
      run: {
        kind: 'backfill',
        table: bareName(part),
        set: [`${ident(name)} = DEFAULT`],
        pending: `t.${ident(name)} IS NULL`,
        key: batchKey(part),
        quiet,
        column: columnLabel(part, name),
      },
      // The column goes with the step that added it.
      undo: [],
      locks: [plannedLock(part, 'ROW EXCLUSIVE', 'batch')],
      work: 'batches',
      estimate: batchesOf(part),
      risk: risk({ performance: 'medium' }),
      own: true,
    });
}
