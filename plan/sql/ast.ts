/**
 * Small readers and writers of Postgres' parse trees. Keeps true: a tree that was written back as SQL (sqlOf) parses to the same tree
 * again, or pgshift stops; nothing is ever glued together from pieces of the user's text.
 */
import { deparseSync } from 'pgsql-deparser';
import { parseSync } from 'libpg-query';
import type { Node, TypeName } from 'libpg-query';
import { Problem } from '../model/errors';
import { ident } from '../model/quote';
import type { RelationName } from '../model/steps';

/** The one key of a node: its type. */
export const kindOf = (node: Node): string => Object.keys(node)[0] ?? '';

/** The node's fields when it is of that type. */
export function as<K extends string>(node: Node | undefined, kind: K): Extract<Node, Record<K, unknown>>[K] | null {
  if (!node || !(kind in node)) return null;
  return (node as Extract<Node, Record<K, unknown>>)[kind];
}

/** `[{String}, ...]` -> texts. */
export const strings = (nodes: readonly Node[] | undefined): string[] =>
  (nodes ?? []).flatMap((node) => {
    const text = as(node, 'String');
    return text ? [text.sval ?? ''] : [];
  });

/** A qualified name (`[schema.]name`) in the form that look-ups take. */
export function nameOf(nodes: readonly Node[] | undefined): { schemaname?: string; relname: string } {
  const parts = strings(nodes);
  const relname = parts.at(-1) ?? '';
  const schemaname = parts.at(-2);
  return schemaname === undefined ? { relname } : { schemaname, relname };
}

export const stringNode = (sval: string): Node => ({ String: { sval } });

type Fields = Record<string, unknown>;
const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Calls `visit` with (node type, fields) for every node inside, parents first; false = do not go deeper. */
export function walk(value: unknown, visit: (kind: string, fields: Fields) => boolean | void): void {
  if (Array.isArray(value)) {
    for (const item of value) walk(item, visit);
    return;
  }
  if (!isObject(value)) return;
  for (const [key, inner] of Object.entries(value)) {
    const deeper = /^[A-Z]/.test(key) && isObject(inner) ? visit(key, inner) : true;
    if (deeper !== false) walk(inner, visit);
  }
}

/** Does any node of one of these types occur? */
export function contains(value: unknown, ...kinds: readonly string[]): boolean {
  let found = false;
  walk(value, (kind) => {
    if (kinds.includes(kind)) found = true;
    return !found;
  });
  return found;
}

/** A copy in which `change` may replace a node's fields (return undefined = keep). */
export function rewrite<T>(value: T, change: (kind: string, fields: Fields) => Fields | undefined): T {
  const copy = (item: unknown): unknown => {
    if (Array.isArray(item)) return item.map(copy);
    if (!isObject(item)) return item;
    return Object.fromEntries(
      Object.entries(item).map(([key, inner]) => {
        const changed = /^[A-Z]/.test(key) && isObject(inner) ? change(key, inner) : undefined;
        return [key, copy(changed ?? inner)];
      }),
    );
  };
  return copy(value) as T;
}

/** Without positions, which differ between two texts of one tree. */
function bare(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(bare);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(
        ([key]) =>
          key !== 'location' &&
          key !== 'stmt_location' &&
          key !== 'stmt_len' &&
          key !== 'rexpr_list_start' &&
          key !== 'rexpr_list_end' &&
          key !== 'list_start' &&
          key !== 'list_end',
      )
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, bare(inner)]),
  );
}

export const sameTree = (a: unknown, b: unknown): boolean => JSON.stringify(bare(a)) === JSON.stringify(bare(b));

const print = (node: Node): string => deparseSync(node, { pretty: false }).trim().replace(/;$/, '');

/** A whole statement as SQL; parsed again and compared, so that what is sent is what was meant. Throws Bug. */
export function sqlOf(statement: Node): string {
  const text = print(statement);
  let again: Node | undefined;
  try {
    again = parseSync(text).stmts?.[0]?.stmt;
  } catch {
    again = undefined;
  }
  if (!again || !sameTree(again, statement))
    throw new Problem('Bug', `a ${kindOf(statement)} could not be written back as SQL`);
  return text;
}

/** An expression as SQL, checked in the same way. */
export function expressionSql(expression: Node): string {
  const select: Node = {
    SelectStmt: {
      targetList: [{ ResTarget: { val: expression } }],
      limitOption: 'LIMIT_OPTION_DEFAULT',
      op: 'SETOP_NONE',
    },
  };
  return sqlOf(select).replace(/^SELECT\s+/, '');
}

/** Parses one expression, as transforms have it; null when the grammar refuses it. */
export function parseExpression(text: string): Node | null {
  try {
    const statements = parseSync(`SELECT (${text})`).stmts ?? [];
    const select = as(statements[0]?.stmt, 'SelectStmt');
    const targets = select?.targetList ?? [];
    if (statements.length !== 1 || targets.length !== 1 || Object.keys(select ?? {}).length > 3) return null;
    return as(targets[0], 'ResTarget')?.val ?? null;
  } catch {
    return null;
  }
}

/** Last parts of the column references of an expression, without those of sub-queries' own tables told apart. */
export function columnNames(expression: unknown): string[] {
  const names = new Set<string>();
  walk(expression, (kind, fields) => {
    if (kind !== 'ColumnRef') return;
    const parts = strings(fields.fields as Node[]);
    const last = parts.at(-1);
    if (last !== undefined) names.add(last);
  });
  return [...names];
}

/**
 * References to columns of a table get its alias, so that the expression means the same wherever it is put. A name that is qualified
 * already changes only where its qualifier is one of `own` (the table's name): others are other tables' columns.
 */
export function qualified(
  expression: Node,
  alias: string,
  columns: readonly string[],
  own: readonly string[] = [],
): Node {
  return rewrite(expression, (kind, fields) => {
    if (kind !== 'ColumnRef') return undefined;
    const parts = fields.fields as Node[];
    const names = strings(parts);
    if (parts.length !== names.length || names.length === 0 || names.length > 2) return undefined;
    if (names.length === 2 && !own.includes(names[0] ?? '')) return undefined;
    const last = names.at(-1) ?? '';
    return columns.includes(last) ? { ...fields, fields: [stringNode(alias), stringNode(last)] } : undefined;
  });
}

const ALIASES: Readonly<Record<string, string>> = {
  int2: 'smallint',
  int4: 'integer',
  int8: 'bigint',
  float4: 'real',
  float8: 'double precision',
  bool: 'boolean',
  varchar: 'character varying',
  bpchar: 'character',
  varbit: 'bit varying',
  timestamp: 'timestamp without time zone',
  timestamptz: 'timestamp with time zone',
  time: 'time without time zone',
  timetz: 'time with time zone',
};

export interface TypeText {
  /** As format_type() prints it where the type is built in; user types keep the schema that was written. */
  readonly text: string;
  /** Schema as written, null when none was. */
  readonly schema: string | null;
  readonly name: string;
  readonly modifiers: readonly number[];
  readonly array: boolean;
}

/** A type as format_type() would print it. Interval fields (`interval day`) are kept as the deparser writes them. */
export function typeText(type: TypeName): TypeText {
  const parts = strings(type.names);
  const name = parts.at(-1) ?? '';
  const schema = parts.at(-2) ?? null;
  const array = (type.arrayBounds ?? []).length > 0;
  const modifiers = (type.typmods ?? []).flatMap((node) => {
    const constant = as(node, 'A_Const');
    return constant && 'ival' in constant ? [constant.ival?.ival ?? 0] : [];
  });
  const suffix = array ? '[]' : '';
  if (name === 'interval' || modifiers.length !== (type.typmods ?? []).length)
    return { text: print({ TypeName: type }), schema, name, modifiers, array };
  const base =
    ALIASES[name] ?? (schema === null || schema === 'pg_catalog' ? ident2(name) : `${ident2(schema)}.${ident2(name)}`);
  // char without a length is character(1); the grammar adds the 1 itself.
  if (modifiers.length === 0) return { text: base + suffix, schema, name, modifiers, array };
  const list = `(${modifiers.join(',')})`;
  const text = / with(out)? time zone$/.test(base) ? base.replace(/^(\w+)/, `$1${list}`) : base + list;
  return { text: text + suffix, schema, name, modifiers, array };
}

const ident2 = (name: string): string => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : ident(name));

/** The type as SQL that may be sent. */
export const typeSql = (type: TypeName): string => print({ TypeName: type });

export const sameName = (a: RelationName, b: RelationName): boolean => a.schema === b.schema && a.name === b.name;
