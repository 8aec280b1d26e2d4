/**
 * The name that Postgres would choose for an unnamed index or constraint (ChooseIndexName and what it calls), so that the catalogue ends
 * as plain SQL would leave it, and so that a retried build knows its own leftover by name.
 */
import { as, contains, kindOf, strings } from './ast';
import { clip, postgresName } from './names';
import type { IndexElem, Node } from 'libpg-query';
import type { PlanContext } from './context';
import type { RelationName } from '../model/steps';
import { constraintTaken } from './statements/shared';

/** FigureColname for an index expression; null = "expr". */
function expressionName(node: Node | undefined): string | null {
  if (!node) return null;
  const call = as(node, 'FuncCall');
  if (call) return strings(call.funcname).at(-1) ?? null;
  const column = as(node, 'ColumnRef');
  if (column) return strings(column.fields).at(-1) ?? null;
  const cast = as(node, 'TypeCast');
  if (cast) return expressionName(cast.arg) ?? strings(cast.typeName?.names).at(-1) ?? null;
  const collate = as(node, 'CollateClause');
  if (collate) return expressionName(collate.arg);
  const indirection = as(node, 'A_Indirection');
  if (indirection) return strings(indirection.indirection).at(-1) ?? expressionName(indirection.arg);
  const least = as(node, 'MinMaxExpr');
  if (least) return least.op === 'IS_LEAST' ? 'least' : 'greatest';
  const operator = as(node, 'A_Expr');
  if (operator) return operator.kind === 'AEXPR_NULLIF' ? 'nullif' : null;
  const cases = as(node, 'CaseExpr');
  if (cases) return expressionName(cases.defresult) ?? 'case';
  const fixed: Readonly<Record<string, string>> = {
    CoalesceExpr: 'coalesce',
    A_ArrayExpr: 'array',
    RowExpr: 'row',
    XmlSerialize: 'xmlserialize',
  };
  return fixed[kindOf(node)] ?? null;
}

function columnNames(elements: readonly IndexElem[]): string[] {
  const names: string[] = [];
  for (const element of elements) {
    const origin = element.name ?? expressionName(element.expr) ?? 'expr';
    let name = origin;
    for (let n = 1; names.includes(name); n += 1) name = `${clip(origin, 63 - String(n).length)}${n}`;
    names.push(name);
  }
  return names;
}

/** Columns joined by `_`, which Postgres stops doing at 64 bytes. */
export function joined(names: readonly string[]): string {
  let text = '';
  for (const name of names) {
    text = text === '' ? name : `${text}_${name}`;
    if (Buffer.byteLength(text, 'utf8') >= 64) break;
  }
  return clip(text, 127);
}

const elementsOf = (nodes: readonly Node[] | undefined): IndexElem[] =>
  (nodes ?? []).flatMap((node) => as(node, 'IndexElem') ?? []);

/** For CREATE INDEX (`idx`), UNIQUE (`key`), PRIMARY KEY (`pkey`) and EXCLUDE (`excl`). */
export function chooseIndexName(
  ctx: PlanContext,
  table: RelationName,
  params: readonly Node[] | undefined,
  including: readonly Node[] | undefined,
  label: 'idx' | 'key' | 'pkey' | 'excl',
): string {
  const names = columnNames([...elementsOf(params), ...elementsOf(including)]);
  return postgresName(
    table.name,
    label === 'pkey' ? null : joined(names),
    label,
    (name) =>
      ctx.overlay.taken({ schema: table.schema, name }) ||
      (label !== 'idx' && constraintTaken(ctx, table.schema, name)),
  );
}

/** For CHECK (`check`, named after its column when it has exactly one) and FOREIGN KEY (`fkey`). */
export const chooseConstraintName = (
  ctx: PlanContext,
  table: RelationName,
  columns: readonly string[],
  label: 'check' | 'fkey' | 'not_null',
): string =>
  postgresName(
    table.name,
    columns.length === 0 || (label === 'check' && columns.length > 1) ? null : joined(columns),
    label,
    (name) => constraintTaken(ctx, table.schema, name),
  );

/** Does an index expression call for statistics of its own? */
export const hasExpression = (params: readonly Node[] | undefined): boolean =>
  elementsOf(params).some((element) => element.expr !== undefined && !contains(element.expr, 'SubLink'));
