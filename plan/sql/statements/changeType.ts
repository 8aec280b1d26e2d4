/**
 * ALTER COLUMN TYPE. Two ways: Postgres relabels the column without reading it (then as it is), or it would rewrite (then a shadow, made
 * in plan/sql/shadow). Keeps true: "without reading it" is decided by exact rules; what is not certain gets the shadow.
 */
import { as, columnNames, expressionSql, typeText } from '../ast';
import { brief, isSmall, risk } from '../figures';
import { Overlay } from '../overlay';
import { ident, literal, shownRelation } from '../../model/quote';
import { planTypeChange } from '../shadow';
import {
  alter,
  bareName,
  batchKey,
  columnLabel,
  commandSql,
  lockTarget,
  locksOf,
  transaction,
  withRows,
} from './shared';
import type { AlterTableCmd, AlterTableStmt, ColumnDef } from 'libpg-query';
import type { Catalog, Column, Table } from '../../model/catalog';
import type { StepRun } from '../../model/steps';
import type { PlanContext, Retype } from '../context';
import type { Statement } from '../parse';
import type { TypeText } from '../ast';

interface Change {
  readonly newType: string;
  readonly type: TypeText;
  readonly using: string | null;
  readonly collation: string | null;
}

function changeOf(def: ColumnDef): Change | null {
  if (!def.typeName) return null;
  const type = typeText(def.typeName);
  const collation = def.collClause
    ? (def.collClause.collname ?? []).map((n) => ident(as(n, 'String')?.sval ?? '')).join('.')
    : null;
  return { newType: type.text, type, using: def.raw_default ? expressionSql(def.raw_default) : null, collation };
}

/** Types whose modifier only limits: more is never less. [max modifier that still means no limit] */
const TEMPORAL = ['timestamp', 'timestamptz', 'time', 'timetz'];

const modifiersOf = (type: string): number[] => {
  const match = /\(([\d, ]+)\)/.exec(type);
  return match ? (match[1] ?? '').split(',').map(Number) : [];
};

/** Does Postgres change the type without reading the rows? (ATColumnChangeRequiresRewrite and the support functions of the types) */
export function relabels(
  catalog: Catalog,
  column: Column,
  change: { readonly type: TypeText; readonly newType: string },
): boolean {
  const from = column.typeName.name;
  const to = change.type.name;
  const old = modifiersOf(column.type);
  const next = change.type.modifiers;
  if (column.type.endsWith('[]') || change.type.array) return column.type === change.newType;
  if (column.type === change.newType) return true;
  const limit = (): boolean => next.length === 0 || (old.length > 0 && (next[0] ?? 0) >= (old[0] ?? 0));
  if (from === 'varchar' && to === 'varchar') return limit();
  if (from === 'varbit' && to === 'varbit') return limit();
  if ((from === 'varchar' && to === 'text') || (from === 'text' && to === 'varchar')) return next.length === 0;
  if (from === 'numeric' && to === 'numeric')
    return next.length === 0 || (old.length > 0 && (next[0] ?? 0) >= (old[0] ?? 0) && (next[1] ?? 0) === (old[1] ?? 0));
  if (from === to && TEMPORAL.includes(from)) return next.length === 0 || (next[0] ?? 0) >= (old[0] ?? 6);
  if (from === 'interval' && to === 'interval')
    return (
      !/ to |year|month|day|hour|minute|second/.test(change.newType) &&
      (modifiersOf(change.newType)[0] ?? 6) >= (old[0] ?? 6)
    );
  if (from === 'cidr' && to === 'inet') return true;
  const domain = catalog.types.find(
    (t) => t.kind === 'domain' && t.name === to && (change.type.schema === null || t.schema === change.type.schema),
  );
  if (domain) return domain.base === column.type && !domain.hasConstraints && !domain.notNull;
  const was = catalog.types.find((t) => t.kind === 'domain' && t.name === from && t.schema === column.typeName.schema);
  if (was) return was.base === change.newType;
  return false;
}

/** Why a relabel still reads the table or is refused by Postgres: null = it is free. */
export function hindrance(table: Table, column: Column, change: { readonly collation: string | null }): string | null {
  const uses = (columns: readonly string[]): boolean => columns.includes(column.name);
  if (column.generated) return 'it is a generated column';
  if (change.collation !== null || column.collation !== null) {
    if (table.indexes.some((i) => uses(i.columns))) return 'its collation changes and an index holds it';
  }
  const check = table.constraints.find((c) => c.type === 'check' && uses(c.columns));
  if (check) return `check ${check.name} would be checked again`;
  const index = table.indexes.find((i) => uses(i.columns) && (i.predicate !== null || i.keys.includes(null)));
  if (index) return `index ${index.name} has an expression or a predicate and would be built again`;
  const exclusion = table.constraints.find((c) => c.type === 'exclude' && uses(c.columns));
  if (exclusion) return `constraint ${exclusion.name} would be built again`;
  if (table.columns.some((c) => c.generated !== null && c.default !== null && columnIn(c.default, column.name)))
    return 'a generated column is made of it';
  if (table.partitionKey?.columns.includes(column.name)) return 'it is in the partition key';
  const dependent = table.dependents.find(
    (d) =>
      ['view', 'matview', 'rule', 'policy', 'trigger'].includes(d.type) && (d.columns.length === 0 || uses(d.columns)),
  );
  if (dependent) return `${dependent.type} ${dependent.name} uses it`;
  const trigger = table.triggers.find((t) => uses(t.columns));
  if (trigger) return `trigger ${trigger.name} names it`;
  const policy = table.policies.find((p) => uses(p.columns));
  return policy ? `policy ${policy.name} uses it` : null;
}

const columnIn = (expression: string, column: string): boolean => expression.includes(column);

/** USING that says no more than the cast that Postgres makes by itself. */
function plainUsing(def: ColumnDef, column: Column, type: TypeText): boolean {
  if (!def.raw_default) return true;
  const cast = as(def.raw_default, 'TypeCast');
  const inner = cast ? cast.arg : def.raw_default;
  const names = columnNames(inner);
  if (!inner || as(inner, 'ColumnRef') === null || names[0] !== column.name) return false;
  return !cast?.typeName || typeText(cast.typeName).text === type.text;
}

function isFree(catalog: Catalog, table: Table, column: Column, def: ColumnDef, change: Change): boolean {
  return (
    relabels(catalog, column, change) &&
    plainUsing(def, column, change.type) &&
    hindrance(table, column, change) === null
  );
}

/** Before the first statement is planned: which columns get a shadow. Names that do not exist are left to the statement itself. */
export function findRetypes(
  statements: readonly Statement[],
  catalog: Catalog,
  searchPath: readonly string[],
): Retype[] {
  const overlay = new Overlay(catalog, searchPath);
  return statements.flatMap((statement) => {
    const alterTable = as(statement.ast, 'AlterTableStmt');
    const table = alterTable ? overlay.find(alterTable.relation ?? {}) : null;
    if (!alterTable || !table) return [];
    return (alterTable.cmds ?? []).flatMap((node): Retype[] => {
      const command = as(node, 'AlterTableCmd');
      const def = command?.subtype === 'AT_AlterColumnType' ? as(command.def, 'ColumnDef') : null;
      const column = table.columns.find((c) => c.name === command?.name);
      const change = def ? changeOf(def) : null;
      if (!def || !column || !change || isFree(catalog, table, column, def, change)) return [];
      return [{ table: bareName(table), column: column.name, newType: change.newType }];
    });
  });
}

export function planChangeType(
  ctx: PlanContext,
  table: Table,
  statement: AlterTableStmt,
  command: AlterTableCmd,
): void {
  const column = ctx.overlay.needColumn(table, command.name ?? '', ctx.where());
  const def = as(command.def, 'ColumnDef');
  const change = def ? changeOf(def) : null;
  if (!def || !change) return;
  const sql = commandSql(ctx, statement, command);
  if (ctx.overlay.isNew(table)) return relabel(ctx, table, column, change, sql, []);
  if (
    column.type === change.newType &&
    change.using === null &&
    change.collation === null &&
    column.collation === null
  ) {
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `${columnLabel(table, column.name)} has type ${column.type} already`,
      relation: shownRelation(table),
    });
    return;
  }
  if (isFree(ctx.catalog, table, column, def, change))
    return relabel(ctx, table, column, change, sql, narrow(ctx, table, column, change));
  const { newType, using, collation } = change;
  // Later statements may ask for indexes and constraints on the column: they must be known before the shadow is planned.
  ctx.defer(() => {
    const current = ctx.overlay.at(table);
    const now = current?.columns.find((c) => c.name === column.name);
    if (current && now) planTypeChange(ctx, current, now, { newType, using, collation });
  });
}

function relabel(
  ctx: PlanContext,
  table: Table,
  column: Column,
  change: Change,
  sql: string,
  undo: readonly StepRun[],
): void {
  ctx.add({
    phase: 'expand',
    action: 'widen_column',
    title: `change ${columnLabel(table, column.name)} from ${column.type} to ${change.newType} without a rewrite`,
    run: transaction([sql], { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')] }),
    undo,
    wayBack: {
      statement: `${alter(table, `ALTER COLUMN ${ident(column.name)} TYPE ${column.type}`)} -- reads or rewrites the table; values that do not fit are listed first`,
      lossless: true,
    },
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: isSmall(table) ? 'low' : 'medium' }),
  });
  ctx.overlay.changeColumn(table, column.name, {
    type: change.newType,
    typeName: { schema: change.type.schema ?? 'pg_catalog', name: change.type.name },
  });
  ctx.asked(`~ column ${columnLabel(table, column.name)}: ${column.type} -> ${change.newType}`);
}

/** The way back is a narrowing: first the rows that do not fit are listed (a person decides), then the type. Right when never widened. */
function narrow(ctx: PlanContext, table: Table, column: Column, change: Change): StepRun[] {
  const value = `t.${ident(column.name)}`;
  const back = `(${value}::${column.type})::${change.newType}`;
  const now = `${value}::${change.newType}`;
  const [precision, scale] = modifiersOf(column.type);
  const tooBig =
    column.typeName.name === 'numeric' && precision !== undefined
      ? `pg_catalog.abs(${value}) >= pg_catalog.power(10::numeric, ${precision - (scale ?? 0)}) - 5 * pg_catalog.power(10::numeric, ${-(scale ?? 0) - 1})`
      : null;
  const image = `pg_catalog.record_image_ne(ROW(${now}), ROW(${back}))`;
  const differing = tooBig === null ? image : `CASE WHEN ${tooBig} THEN true ELSE ${image} END`;
  const proofs = withRows(ctx, table).map((part): StepRun => ({
    kind: 'proof',
    table: bareName(part),
    key: batchKey(part),
    checks: [
      {
        column: columnLabel(part, column.name),
        remaining: 'false',
        differing,
        oldImage: `ROW(${now})`,
        newImage: tooBig === null ? `ROW(${back})` : `ROW(CASE WHEN ${tooBig} THEN NULL ELSE ${back} END)`,
      },
    ],
    onDiffer: 'report',
    message: `values do not fit in ${column.type} any more`,
  }));
  const collate = column.collation === null ? '' : ` COLLATE ${column.collation}`;
  const narrowed = alter(
    table,
    `ALTER COLUMN ${ident(column.name)} TYPE ${column.type}${collate} USING ${ident(column.name)}::${column.type}`,
  );
  const condition = `(SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass(${literal(`${ident(table.schema)}.${ident(table.name)}`)}) AND a.attname = ${literal(column.name)}) <> ${literal(column.type)}`;
  return [
    ...proofs,
    transaction([`DO ${literal(`BEGIN IF ${condition} THEN EXECUTE ${literal(narrowed)}; END IF; END`).trimStart()}`], {
      long: true,
    }),
  ];
}
