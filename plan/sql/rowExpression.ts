/**
 * Expressions of a plan's `map`: SQL over one row of the source. Keeps true: only one expression is taken, never a statement or a piece of one; what
 * is sent is written from its tree; a name that no column has is told before anything runs, with its place in the plan.
 */
import type { Node } from 'libpg-query';
import { Problem } from '../model/errors';
import { shownRelation } from '../model/quote';
import type { RelationName } from '../model/steps';
import { contains, expressionSql, parseExpression, stringNode, strings, walk } from './ast';

export { loadParser } from './parse';

export interface RowOf {
  readonly table: RelationName;
  readonly columns: readonly string[];
  /** What the row is called in the SQL that is made. */
  readonly alias: string;
}

export interface RowExpression {
  readonly sql: string;
  /** Columns of the row that it reads outside of sub-queries, and by the table's name within them. */
  readonly reads: readonly string[];
  readonly functions: readonly RelationName[];
  /** It asks for other rows. */
  readonly nested: boolean;
}

/** Another time, another value: a range that is copied again and the proof would not see the same. */
const CLOCKS = new Set('now statement_timestamp transaction_timestamp clock_timestamp timeofday'.split(' '));

type Fields = Record<string, unknown>;
const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `path` is the expression's place in the plan. @throws Problem InvalidPlan, NoSuchObject. */
export function rowExpression(text: string, of: RowOf, path: string): RowExpression {
  const bad = (what: string, hint: string): Problem =>
    new Problem('InvalidPlan', `${path}: ${what}`, { where: { path }, value: text, hint });
  const node = parseExpression(text);
  if (node === null) throw bad('not one SQL expression', 'one expression, as it could stand behind SELECT');
  if (contains(node, 'ParamRef', 'SetToDefault', 'MultiAssignRef'))
    throw bad('parameters and DEFAULT have no meaning here', 'columns, constants, functions and sub-queries');
  const functions = functionsOf(node);
  const clock = functions.find(({ name }) => CLOCKS.has(name));
  if (contains(node, 'SQLValueFunction') || clock)
    throw bad(
      'depends on when or by whom it is run',
      'the same row must always give the same value: a range may be copied again, and the proof repeats it',
    );
  const reads = new Set<string>();
  const noColumn = (name: string): Problem =>
    new Problem('NoSuchObject', `${path}: ${shownRelation(of.table)} has no column ${name}`, {
      where: { path },
      value: text,
      hint: `columns: ${of.columns.slice(0, 30).join(', ')}`,
    });
  const onRow = (name: string): Fields => {
    if (!of.columns.includes(name)) throw noColumn(name);
    reads.add(name);
    return { fields: [stringNode(of.alias), stringNode(name)] };
  };
  const own = (parts: readonly string[]): boolean =>
    (parts.length === 2 && parts[0] === of.table.name) ||
    (parts.length === 3 && parts[0] === of.table.schema && parts[1] === of.table.name);
  /** `inner` = names of the tables that the sub-queries around it read; null = outside of any. */
  const copy = (value: unknown, inner: readonly string[] | null): unknown => {
    if (Array.isArray(value)) return value.map((item) => copy(item, inner));
    if (!isObject(value)) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, fields]) => {
        if (key === 'ColumnRef' && isObject(fields)) return [key, reference(fields, inner)];
        if (key === 'SelectStmt') return [key, copy(fields, [...(inner ?? []), ...tablesOf(fields)])];
        return [key, copy(fields, inner)];
      }),
    );
  };
  const reference = (fields: Fields, inner: readonly string[] | null): Fields => {
    const nodes = fields.fields as Node[];
    const parts = strings(nodes);
    if (parts.length !== nodes.length) {
      if (inner !== null) return fields;
      throw bad('a whole row is no value', 'name the columns');
    }
    if (inner !== null)
      return own(parts) && !inner.includes(of.table.name) ? { ...fields, ...onRow(parts.at(-1) ?? '') } : fields;
    if (parts.length > 1 && !own(parts)) throw noColumn(parts.join('.'));
    return { ...fields, ...onRow(parts.at(-1) ?? '') };
  };
  const made = copy(node, null) as Node;
  return { sql: expressionSql(made), reads: [...reads], functions, nested: contains(node, 'SubLink') };
}

/** Of a select and of the parts of a UNION. */
function tablesOf(select: unknown): string[] {
  if (!isObject(select)) return [];
  const names: string[] = [...tablesOf(select.larg), ...tablesOf(select.rarg)];
  walk((select as { fromClause?: unknown }).fromClause, (kind, fields) => {
    if (kind === 'RangeVar')
      names.push(String((fields.alias as { aliasname?: string } | undefined)?.aliasname ?? fields.relname ?? ''));
    if (kind === 'SubLink' || kind === 'SelectStmt') return false;
    return true;
  });
  return names;
}

/** Of every call; schema '' = none is written. */
function functionsOf(node: Node): RelationName[] {
  const found = new Map<string, RelationName>();
  walk([node], (kind, fields) => {
    if (kind !== 'FuncCall') return;
    const parts = strings(fields.funcname as Node[]);
    const one = { schema: parts.at(-2) ?? '', name: parts.at(-1) ?? '' };
    found.set(`${one.schema}.${one.name}`, one);
  });
  return [...found.values()];
}
