/**
 * Columns whose adding rewrites the table: stored generated ones and domains with constraints. Under a small table nobody notices; else
 * they are refused. A virtual generated column (18) is computed when read and costs nothing.
 */
import { as, typeText } from '../ast';
import { batchesOf, isSmall, risk } from '../figures';
import { shownRelation } from '../../model/quote';
import { addAsIs, columnCommand, dropColumnSql, finishColumn } from './addColumn';
import { columnLabel, lockTarget, locksOf, transaction } from './shared';
import type { ColumnDef } from 'libpg-query';
import type { Column, Table } from '../../model/catalog';
import type { PlanContext } from '../context';
import type { ColumnParts } from './columnParts';

/** A stored generated column cannot be attached later; a virtual one (18) is computed when read. */
export function planGenerated(ctx: PlanContext, table: Table, column: Column, parts: ColumnParts, sql: string): void {
  const stored = parts.generated?.generated_kind !== 'v';
  const bare = parts.constraints.length === 0 && parts.notNull === null;
  const added: Column = { ...column, generated: stored ? 'stored' : 'virtual' };
  if (!stored && bare) return addAsIs(ctx, table, added, sql);
  if (!stored || isSmall(table))
    return stored ? rewriteAsIs(ctx, table, added, sql) : virtualTakenApart(ctx, table, added, parts);
  const go = ctx.refuse({
    rule: 'generated_stored',
    message: `a STORED generated column rewrites ${shownRelation(table)} while nobody can read or write it`,
    alternative:
      ctx.catalog.serverVersion >= 180000
        ? 'make it VIRTUAL (Postgres 18), or add a plain column, keep it by a trigger and fill it with UPDATE'
        : 'add a plain column, keep it by a trigger and fill it with UPDATE, or index the expression',
    relation: shownRelation(table),
  });
  if (go) rewriteAsIs(ctx, table, added, sql);
}

function virtualTakenApart(ctx: PlanContext, table: Table, column: Column, parts: ColumnParts): void {
  const { constraints, ...rest } = parts.def;
  const keep = (constraints ?? []).filter((n) => as(n, 'Constraint')?.contype === 'CONSTR_GENERATED');
  addAsIs(
    ctx,
    table,
    column,
    columnCommand(table, { subtype: 'AT_AddColumn', def: { ColumnDef: { ...rest, constraints: keep } } }),
  );
  finishColumn(ctx, table, parts, { filled: false, notNullDone: false });
}

export function domainWithRules(ctx: PlanContext, def: ColumnDef): boolean {
  const type = def.typeName ? typeText(def.typeName) : null;
  if (!type || type.array) return false;
  return ctx.catalog.types.some(
    (t) =>
      t.kind === 'domain' &&
      t.name === type.name &&
      (type.schema === null || t.schema === type.schema) &&
      (t.hasConstraints || t.notNull),
  );
}

export function planDomain(ctx: PlanContext, table: Table, column: Column, sql: string): void {
  const go =
    isSmall(table) ||
    ctx.refuse({
      rule: 'domain_constraint',
      message: `${column.type} is a domain with constraints: adding ${columnLabel(table, column.name)} rewrites the table while nobody can read or write it`,
      alternative: "use the domain's base type and add its constraint as a CHECK",
      relation: shownRelation(table),
    });
  if (go) rewriteAsIs(ctx, table, column, sql);
}

/** Small, or allowed by name. */
function rewriteAsIs(ctx: PlanContext, table: Table, column: Column, sql: string): void {
  ctx.add({
    phase: 'expand',
    action: 'add_column',
    title: `add column ${columnLabel(table, column.name)} (${column.type}), rewriting the ${isSmall(table) ? 'small ' : ''}table`,
    run: transaction([sql], { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')] }),
    undo: [transaction([dropColumnSql(table, column.name)])],
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE', 'rewrite'),
    work: 'rewrite',
    estimate: batchesOf(table),
    risk: risk({ downtime: isSmall(table) ? 'low' : 'high' }),
  });
  ctx.overlay.addColumn(table, column);
}
