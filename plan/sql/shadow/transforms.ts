/**
 * Which `up` and `down` a type change has. Keeps true: data is never changed on a guess (TransformMissing), never changed in meaning under
 * the same name (MeaningChanged), and a result that follows the session's settings is taken only with those settings pinned.
 */
import { as, expressionSql, parseExpression, walk } from '../ast';
import { ident, shown, shownRelation } from '../../model/quote';
import { transformOf } from '../statements/setNotNull';
import { withoutWayBack } from '../statements/shared';
import { makeFormula } from './formula';
import { keepsMeaning, zoneOf } from './meaning';
import { assignable, keeps } from './types';
import { typeOfColumn } from './change';
import type { Column, Table } from '../../model/catalog';
import type { Node } from 'libpg-query';
import type { PlanContext } from '../context';
import type { Formula } from './formula';
import type { Transforms } from './change';
import type { TypeRef } from './types';

export interface Settled extends Transforms {
  readonly pinned: Readonly<Record<string, string>>;
}

/** null = a finding refused it. Throws TransformMissing, MeaningChanged, InvalidPlan, NoSuchObject. */
export function settleTransforms(
  ctx: PlanContext,
  table: Table,
  column: Column,
  types: { readonly from: TypeRef; readonly to: TypeRef },
  using: string | null,
): Settled | null {
  const { from, to } = types;
  const label = `${shown(table.name)}.${shown(column.name)}`;
  const given = transformOf(ctx, table, column.name);
  const typeOf =
    (shape: 'old' | 'new') =>
    (name: string): TypeRef | null => {
      if (name === column.name) return shape === 'old' ? from : to;
      const other = table.columns.find((c) => c.name === name);
      return other ? typeOfColumn(ctx, other) : null;
    };
  const own = ident(column.name);
  const upText = given?.up ?? using ?? (keeps(ctx.catalog, from, to) === 'no' ? null : own);
  if (upText === null) throw missing(ctx, label, column, types);
  const up = makeFormula({ ctx, table, typeOf: typeOf('old') }, upText, to, 'up', label);
  const textual = isText(from) && !isText(to);
  if (!keepsMeaning(up.node, column.name, textual))
    throw ctx.problem('MeaningChanged', `${label}: \`up\` changes what the column means under the same name`, {
      where: ctx.where(typeLocation(ctx, column.name)),
      value: upText,
      hint: 'a client that still runs the old code would write the old meaning into it: use a new column name, or `versions`',
    });
  askRetyped(ctx, table, column, up, label);
  const downText = given?.down ?? derived(ctx, up, types, own);
  const down =
    downText === null ? null : makeFormula({ ctx, table, typeOf: typeOf('new') }, downText, from, 'down', label);
  if (down) askRetyped(ctx, table, column, down, label);
  const usable = ctx.plan.strategy === 'forward-only' ? null : down;
  const steady = pin(ctx, label, [up, ...(usable ? [usable] : [])], table);
  if (steady === null) return null;
  if (!usable) {
    const draft = `${label}: nothing says how ${to.text} becomes ${from.text} again, so nothing is kept in step after the swap`;
    if (!withoutWayBack(ctx, draft, `add transforms: { ${label}: { down: "..." } }`, table)) return null;
  }
  return { up, down: usable, pinned: steady };
}

const isText = (type: TypeRef): boolean => type.info?.category === 'S' && !type.array;

function missing(ctx: PlanContext, label: string, column: Column, { from, to }: { from: TypeRef; to: TypeRef }): Error {
  const why = assignable(ctx.catalog, from, to) ? 'may change values' : 'is no assignment cast';
  return ctx.problem('TransformMissing', `${label}: ${from.text} to ${to.text} ${why}; rows need an expression`, {
    where: ctx.where(typeLocation(ctx, column.name)),
    hint: `add  transforms: { ${label}: { up: "...", down: "..." } }`,
  });
}

/** Byte position of the type in the statement that changes this column. */
function typeLocation(ctx: PlanContext, column: string): number | undefined {
  let found: number | undefined;
  walk([ctx.statement.ast], (kind, fields) => {
    if (kind !== 'AlterTableCmd' || fields.name !== column || fields.subtype !== 'AT_AlterColumnType') return;
    const def = as(fields.def as Node, 'ColumnDef');
    found ??= def?.typeName?.location;
  });
  return found;
}

/** The assignment cast back, or the same zone the other way round. */
function derived(
  ctx: PlanContext,
  up: Formula,
  { from, to }: { from: TypeRef; to: TypeRef },
  own: string,
): string | null {
  const zone = zoneOf(up.node);
  if (zone) return `${own} AT TIME ZONE ${expressionSql(zone)}`;
  const column = parseExpression(own);
  return column && assignable(ctx.catalog, to, from) ? own : null;
}

/** An expression over a column whose type changes too would mean two things: before that column's swap and after it. */
function askRetyped(ctx: PlanContext, table: Table, column: Column, formula: Formula, label: string): void {
  const other = formula.columns.find((name) => name !== column.name && ctx.retyped(table, name));
  if (other === undefined) return;
  throw ctx.problem(
    'InvalidPlan',
    `${label}: its expression names ${shown(other)}, whose type changes in the same plan`,
    {
      value: formula.text,
      hint: 'do it in two plans, one after the other',
    },
  );
}

/** Settings for functions and batches; null = refused. */
function pin(
  ctx: PlanContext,
  label: string,
  formulas: readonly Formula[],
  table: Table,
): Readonly<Record<string, string>> | null {
  if (!formulas.some((f) => f.stable)) return {};
  const { TimeZone, DateStyle, IntervalStyle } = ctx.catalog.settings;
  const pinned = { TimeZone, DateStyle, IntervalStyle, extra_float_digits: '1' };
  const allowed = ctx.refuse({
    rule: 'stable_cast',
    message: `${label}: the result depends on settings of the session (TimeZone, DateStyle and the like)`,
    alternative: `say it in the expression, as in USING ${shown(formulas[0]?.columns[0] ?? 'column')} AT TIME ZONE 'UTC', or allow it: then TimeZone = '${TimeZone}' and DateStyle = '${DateStyle}' are pinned`,
    relation: shownRelation(table),
  });
  return allowed ? pinned : null;
}
