/**
 * `up` and `down` as checked expressions over one row. Keeps true: an expression names only columns that exist, reads no other table, and
 * is written for a row (NEW, OLD, t) by replacing its column references alone; whether it can fail, and whether settings of a session can
 * change its result, is known before anything is planned.
 */
import { parseSync, scanSync } from 'libpg-query';
import type { Node } from 'libpg-query';
import { ident } from '../../model/quote';
import { as, contains, parseExpression, rewrite, sameTree, stringNode, strings, walk } from '../ast';
import { castIsStable, keeps, parseTypeName, resolveType } from './types';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';
import type { TypeRef } from './types';

export interface Formula {
  readonly text: string;
  readonly node: Node;
  /** Columns that it reads, by the names of its shape. */
  readonly columns: readonly string[];
  readonly target: TypeRef;
  /** Some values may be refused with an error. */
  readonly fallible: boolean;
  /** Settings decide the result: they have to be pinned. */
  readonly stable: boolean;
  /** Calls functions or operators by bare names: search_path has to be pinned. */
  readonly bareNames: boolean;
}

/** Types whose text forms follow DateStyle, TimeZone and the like. */
const BY_SETTINGS = /^(date|time|timetz|timestamp|timestamptz|interval|money|reg[a-z]+)$/;

interface Shape {
  readonly ctx: PlanContext;
  readonly table: Table;
  /** Type of a column in the shape that the expression is over; null = no such column. */
  readonly typeOf: (column: string) => TypeRef | null;
}

/** Throws InvalidPlan, NoSuchObject. `role` is `up` or `down`, `label` is `table.column`: both for messages. */
export function makeFormula(shape: Shape, text: string, target: TypeRef, role: 'up' | 'down', label: string): Formula {
  const { ctx } = shape;
  const path = `transforms.${label}.${role}`;
  const node = parseExpression(text);
  if (!node)
    throw ctx.problem('InvalidPlan', `${label}: \`${role}\` is not one SQL expression`, {
      value: text,
      hint: `correct ${path}`,
    });
  if (contains(node, 'SubLink', 'ParamRef', 'SetToDefault', 'SQLValueFunction'))
    throw ctx.problem('InvalidPlan', `${label}: \`${role}\` may use columns of its own row and constants only`, {
      value: text,
      hint: 'no sub-queries, parameters or current times: the same row must always give the same value',
    });
  const columns = new Set<string>();
  walk(node, (kind, fields) => {
    if (kind !== 'ColumnRef') return;
    const parts = strings(fields.fields as Node[]);
    const name = parts.length === (fields.fields as Node[]).length ? columnIn(parts, shape.table) : null;
    if (name === null || shape.typeOf(name) === null)
      throw ctx.problem(
        'NoSuchObject',
        `${label}: \`${role}\` names ${parts.join('.') || '*'}, which is no column of ${shape.table.name}`,
        {
          value: text,
          hint: `correct ${path}`,
        },
      );
    columns.add(name);
  });
  return {
    text,
    node,
    columns: [...columns],
    target,
    fallible: !neverFails(shape, node, target),
    stable: dependsOnSettings(shape, node, target),
    bareNames: contains(node, 'FuncCall', 'A_Expr') || hasBareType(shape, node),
  };
}

const columnIn = (parts: readonly string[], table: Table): string | null => {
  const [a, b, c] = parts;
  if (parts.length === 1) return a ?? null;
  if (parts.length === 2) return a === table.name ? (b ?? null) : null;
  return parts.length === 3 && a === table.schema && b === table.name ? (c ?? null) : null;
};

function neverFails(shape: Shape, node: Node, target: TypeRef): boolean {
  const ref = as(node, 'ColumnRef');
  if (ref) {
    const type = shape.typeOf(strings(ref.fields).at(-1) ?? '');
    return type !== null && keeps(shape.ctx.catalog, type, target) === 'always';
  }
  const cast = as(node, 'TypeCast');
  if (cast) {
    const type = cast.typeName ? typeNamed(shape, cast.typeName) : null;
    const inner = cast.arg ? as(cast.arg, 'ColumnRef') : null;
    return (
      type !== null && inner !== null && type.sql === target.sql && neverFails(shape, { ColumnRef: inner }, target)
    );
  }
  return false;
}

function typeNamed(shape: Shape, tree: object): TypeRef | null {
  const names = strings((tree as { names?: Node[] }).names);
  const modifiers = ((tree as { typmods?: Node[] }).typmods ?? []).map((m) => {
    const constant = as(m, 'A_Const');
    return constant && 'ival' in constant ? String(constant.ival?.ival ?? 0) : '';
  });
  const array = ((tree as { arrayBounds?: Node[] }).arrayBounds ?? []).length > 0 ? '[]' : '';
  const mods = modifiers.length > 0 && modifiers.every((m) => m !== '') ? `(${modifiers.join(',')})` : '';
  return resolveType(shape.ctx.catalog, `${names.map(ident).join('.')}${mods}${array}`, shape.ctx.plan.searchPath);
}

/** A type written without pg_catalog is looked up along search_path. */
function hasBareType(shape: Shape, node: Node): boolean {
  let found = false;
  walk(node, (kind, fields) => {
    if (kind === 'TypeCast' && strings((fields.typeName as { names?: Node[] } | undefined)?.names).length < 2)
      found = true;
    return !found;
  });
  return found;
}

function dependsOnSettings(shape: Shape, node: Node, target: TypeRef): boolean {
  const { catalog } = shape.ctx;
  const direct = as(node, 'ColumnRef');
  if (direct) {
    const type = shape.typeOf(strings(direct.fields).at(-1) ?? '');
    return type === null || castIsStable(catalog, type, target);
  }
  let found = false;
  const types: string[] = [];
  walk(node, (kind, fields) => {
    if (kind === 'ColumnRef') types.push(shape.typeOf(strings(fields.fields as Node[]).at(-1) ?? '')?.name ?? '');
    if (kind === 'TypeCast') {
      const to = fields.typeName ? typeNamed(shape, fields.typeName as object) : null;
      const ref = as(fields.arg as Node, 'ColumnRef');
      const from = ref ? shape.typeOf(strings(ref.fields).at(-1) ?? '') : null;
      types.push(to?.name ?? '');
      if (
        !to ||
        (from ? castIsStable(catalog, from, to) : BY_SETTINGS.test(to.name) && !as(fields.arg as Node, 'A_Const'))
      )
        found = true;
    }
    if (kind === 'FuncCall') {
      if (!isImmutable(shape, strings(fields.funcname as Node[]), (fields.args as Node[] | undefined) ?? []))
        found = true;
    }
    return !found;
  });
  return found || (contains(node, 'A_Expr') && types.some((name) => BY_SETTINGS.test(name)));
}

/** Every function that the call may mean: those that take just the columns it gives, where there are such. */
function isImmutable(shape: Shape, names: readonly string[], args: readonly Node[]): boolean {
  const takes = args.map((arg) => {
    const ref = as(arg, 'ColumnRef');
    return ref ? (shape.typeOf(strings(ref.fields).at(-1) ?? '')?.text ?? null) : null;
  });
  const known = shape.ctx.catalog.functions
    .map((f) => ({ ...f, types: f.arguments === '' ? [] : f.arguments.split(/, */) }))
    .filter((f) => f.name === names.at(-1) && f.types.length === args.length);
  // An argument may have a name before its type.
  const exact = known.filter((f) => takes.every((type, i) => type === null || ` ${f.types[i]}`.endsWith(` ${type}`)));
  const meant = exact.length > 0 ? exact : known;
  return meant.length > 0 && meant.every((f) => f.volatility === 'immutable');
}

/** The expression over `row`, columns of its shape called by `physical`. Throws Bug when it cannot be written. */
export function over(ctx: PlanContext, formula: Formula, row: string, physical: (column: string) => string): string {
  const sql = `SELECT (${formula.text})`;
  const bytes = Buffer.from(sql, 'utf8');
  const edits: { start: number; end: number; text: string }[] = [];
  const tokens = scanSync(sql).tokens;
  walk(parseSync(sql).stmts, (kind, fields) => {
    if (kind !== 'ColumnRef') return;
    const parts = fields.fields as Node[];
    const at = tokens.findIndex((token) => token.start === fields.location);
    const first = tokens[at];
    const last = tokens[at + 2 * (parts.length - 1)];
    if (!first || !last) return;
    edits.push({ start: first.start, end: last.end, text: `${row}.${ident(physical(strings(parts).at(-1) ?? ''))}` });
  });
  let out = bytes;
  for (const { start, end, text } of edits.sort((a, b) => b.start - a.start))
    out = Buffer.concat([out.subarray(0, start), Buffer.from(text, 'utf8'), out.subarray(end)]);
  const result = out.toString('utf8');
  const alias = row.toLowerCase();
  const expected = rewrite(parseSync(sql).stmts, (kind, fields) =>
    kind === 'ColumnRef'
      ? { ...fields, fields: [stringNode(alias), stringNode(physical(strings(fields.fields as Node[]).at(-1) ?? ''))] }
      : undefined,
  );
  if (!sameTree(parseSync(result).stmts, expected))
    throw ctx.problem('Bug', 'an expression could not be written over another row', { value: formula.text });
  return result.replace(/^SELECT /, '');
}

/** The same, as a value of the target type that can be compared with a stored one. */
export const valueOver = (
  ctx: PlanContext,
  formula: Formula,
  row: string,
  physical: (column: string) => string,
): string => {
  const type = formula.target.loose;
  const simple = as(formula.node, 'ColumnRef') !== null;
  const inner = over(ctx, formula, row, physical);
  return `${simple ? inner.replace(/^\((.*)\)$/s, '$1') : inner}::${type}`;
};

export { parseTypeName };
