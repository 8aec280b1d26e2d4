/**
 * Types as the planner of a type change needs them: what was written, made independent of the session's search_path, and whether a cast
 * between two of them keeps every value. Keeps true: a type that is not known to keep values is never said to keep them.
 */
import { parseSync } from 'libpg-query';
import type { TypeName } from 'libpg-query';
import { ident } from '../../model/quote';
import { as, strings } from '../ast';
import type { Catalog, Cast, TypeInfo } from '../../model/catalog';

export interface TypeRef {
  /** For people, as it was written or as format_type() prints it. */
  readonly text: string;
  /** The same type under any search_path. */
  readonly sql: string;
  /** Without a length that would cut: what a value is compared in. */
  readonly loose: string;
  /** As pg_cast's names are given in the catalogue: format_type() without modifiers. */
  readonly base: string;
  readonly schema: string;
  /** pg_type.typname of the element for arrays. */
  readonly name: string;
  readonly modifiers: readonly number[];
  readonly array: boolean;
  readonly info: TypeInfo | null;
}

const FORMATTED: Readonly<Record<string, string>> = {
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

export function parseTypeName(text: string): TypeName | null {
  try {
    const select = as((parseSync(`SELECT NULL::${text}`).stmts ?? [])[0]?.stmt, 'SelectStmt');
    const target = as((select?.targetList ?? [])[0], 'ResTarget');
    return as(target?.val, 'TypeCast')?.typeName ?? null;
  } catch {
    return null;
  }
}

/** Looks the type up: as written, else pg_catalog, else along the search path. null = no such type. */
export function resolveType(catalog: Catalog, text: string, searchPath: readonly string[]): TypeRef | null {
  const tree = parseTypeName(text);
  if (!tree) return null;
  const parts = strings(tree.names);
  const name = parts.at(-1) ?? '';
  const written = parts.at(-2);
  const schemas = written === undefined ? ['pg_catalog', ...searchPath] : [written];
  const info = schemas.flatMap((s) => catalog.types.filter((t) => t.schema === s && t.name === name))[0] ?? null;
  if (!info && written !== 'pg_catalog') return null;
  const schema = info?.schema ?? 'pg_catalog';
  const array = (tree.arrayBounds ?? []).length > 0;
  const modifiers = (tree.typmods ?? []).flatMap((node) => {
    const constant = as(node, 'A_Const');
    return constant && 'ival' in constant ? [constant.ival?.ival ?? 0] : [];
  });
  const suffix = array ? '[]' : '';
  const bare = schema === 'pg_catalog' ? (FORMATTED[name] ?? name) : `${quoted(schema)}.${quoted(name)}`;
  const mods = modifiers.length > 0 && name !== 'interval' ? `(${modifiers.join(',')})` : '';
  // The grammar itself binds keyword types (numeric, timestamp with time zone) to pg_catalog: their text is safe as it is.
  const sql =
    written === 'pg_catalog'
      ? text
      : `${schema === 'pg_catalog' ? 'pg_catalog.' : `${ident(schema)}.`}${ident(name)}${mods}${suffix}`;
  const cuts = name === 'varchar' || name === 'varbit';
  return {
    text,
    sql,
    loose: cuts ? `pg_catalog.${name}${suffix}` : sql,
    base: bare + suffix,
    schema,
    name,
    modifiers,
    array,
    info,
  };
}

const quoted = (name: string): string => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : ident(name));

export type Keeps = 'always' | 'or fails' | 'no';

const INTS = ['int2', 'int4', 'int8'];
const INT_DIGITS: Readonly<Record<string, number>> = { int2: 5, int4: 10, int8: 19 };
const TEXTS = ['text', 'varchar', 'bpchar', 'citext', 'name'];

/** A domain's base, followed to the end. */
function unwrap(catalog: Catalog, type: TypeRef): { readonly type: TypeRef; readonly checked: boolean } {
  let checked = false;
  let at = type;
  for (let depth = 0; at.info?.kind === 'domain' && !at.array && depth < 20; depth += 1) {
    checked ||= at.info.hasConstraints || at.info.notNull;
    const base = at.info.base === null ? null : resolveType(catalog, at.info.base, []);
    if (!base) break;
    at = base;
  }
  return { type: at, checked };
}

/** Does the assignment cast keep every value, or keep it or fail, or may it change one? 'no' also where there is no assignment cast. */
export function keeps(catalog: Catalog, from: TypeRef, to: TypeRef): Keeps {
  const source = unwrap(catalog, from).type;
  const { type: target, checked } = unwrap(catalog, to);
  if (source.array !== target.array) return 'no';
  if (!assignable(catalog, from, to)) return 'no';
  const kept = keepsBase(source, target);
  return kept === 'always' && checked ? 'or fails' : kept;
}

function keepsBase(from: TypeRef, to: TypeRef): Keeps {
  const same = from.name === to.name && from.schema === to.schema;
  const [m] = to.modifiers;
  const [n] = from.modifiers;
  if (INTS.includes(from.name) && INTS.includes(to.name))
    return INTS.indexOf(to.name) >= INTS.indexOf(from.name) ? 'always' : 'or fails';
  if (to.name === 'numeric') return keepsNumeric(from, to);
  if (to.name === 'float8' && ['int2', 'int4', 'float4', 'float8'].includes(from.name)) return 'always';
  if (to.name === 'float4' && ['int2', 'float4'].includes(from.name)) return 'always';
  if (TEXTS.includes(to.name)) return keepsText(from, to, same);
  if (same) {
    if (from.modifiers.length === 0 && to.modifiers.length === 0) return 'always';
    if (/^time/.test(to.name)) return m === undefined || (n !== undefined && m >= n) || m === 6 ? 'always' : 'no';
    if (to.name === 'varbit') return m === undefined || (n !== undefined && m >= n) ? 'always' : 'or fails';
    if (to.name === 'bit') return m === n ? 'always' : 'no';
    return 'no';
  }
  switch (`${from.name} ${to.name}`) {
    case 'json jsonb':
    case 'date timestamp':
    case 'date timestamptz':
    case 'timestamp timestamptz':
      return /^time/.test(to.name) && m !== undefined && (n === undefined || m < n) && from.name !== 'date'
        ? 'no'
        : 'or fails';
    case 'jsonb json':
    case 'cidr inet':
      return 'always';
    default:
      return 'no';
  }
}

function keepsNumeric(from: TypeRef, to: TypeRef): Keeps {
  const [precision, scale = 0] = to.modifiers;
  const digits = INT_DIGITS[from.name];
  if (digits !== undefined) {
    if (precision === undefined) return 'always';
    return scale < 0 ? 'no' : precision - scale >= digits ? 'always' : 'or fails';
  }
  if (from.name !== 'numeric') return 'no';
  const [oldPrecision, oldScale = 0] = from.modifiers;
  if (precision === undefined) return 'always';
  if (oldPrecision === undefined || scale < oldScale) return 'no';
  return precision - scale >= oldPrecision - oldScale ? 'always' : 'or fails';
}

/** Types that print the same text under every setting. */
const STEADY_OUTPUT = new Set(
  'int2 int4 int8 numeric bool uuid json jsonb inet cidr macaddr macaddr8 text varchar bpchar citext name bit varbit oid'.split(
    ' ',
  ),
);

function keepsText(from: TypeRef, to: TypeRef, same: boolean): Keeps {
  const [m] = to.modifiers;
  const [n] = from.modifiers;
  if (to.name === 'name') return same ? 'always' : 'no';
  // Trailing blanks mean nothing in character(n) and something elsewhere.
  if (to.name === 'bpchar')
    return from.name !== 'bpchar' ? 'no' : m === undefined || (n !== undefined && m >= n) ? 'always' : 'or fails';
  if (m === undefined) return 'always';
  return (from.name === 'varchar' || from.name === 'bpchar') && n !== undefined && m >= n ? 'always' : 'or fails';
}

const castOf = (catalog: Catalog, from: TypeRef, to: TypeRef): Cast | undefined =>
  catalog.casts.find((c) => c.source === strip(from.base) && c.target === strip(to.base));
const strip = (base: string): string => base.replace(/\[\]$/, '');

const isText = (type: TypeRef): boolean => type.info?.category === 'S' || TEXTS.includes(type.name);

/** Is there an assignment (or implicit) cast? */
export function assignable(catalog: Catalog, from: TypeRef, to: TypeRef): boolean {
  const source = unwrap(catalog, from).type;
  const target = unwrap(catalog, to).type;
  if (source.array !== target.array) return !target.array && isText(target);
  if (source.name === target.name && source.schema === target.schema) return true;
  const cast = castOf(catalog, source, target);
  if (cast) return cast.context !== 'explicit';
  // Anything prints itself into a text column; nothing is read from text without being told to.
  return isText(target);
}

/** Does the cast's result depend on settings of the session (or is nothing known about it)? */
export function castIsStable(catalog: Catalog, from: TypeRef, to: TypeRef): boolean {
  const source = unwrap(catalog, from).type;
  const target = unwrap(catalog, to).type;
  if (source.name === target.name && source.schema === target.schema) return false;
  const cast = castOf(catalog, source, target);
  if (cast && !(cast.method === 'inout' && (source.info?.kind === 'enum' || target.info?.kind === 'enum')))
    return cast.volatility !== 'immutable';
  if (isText(target)) return !(STEADY_OUTPUT.has(source.name) || source.info?.kind === 'enum');
  if (isText(source))
    return !(STEADY_OUTPUT.has(target.name) || target.info?.kind === 'enum' || /^(float[48]|bytea)$/.test(target.name));
  return true;
}
