/**
 * What the catalogue itself looks like, read from the catalogue: every table of pg_catalog with its columns, and what each column holds.
 * So nothing that a later version adds is forgotten.
 */
import { ASIDE, ASIDE_CATALOGS, DEFAULT_ACL, RENDERED } from './aside';
import { MORE_REFERENCES, REFERENCES_SQL, references13 } from './references';
import type { Reference } from './references';
import type { ReadRows } from './session';

/** What a column's value is: plain, an object id of a catalogue, or a column number of the relation in another column. */
export type Holds =
  | { readonly kind: 'value' }
  | { readonly kind: 'object'; readonly target: string }
  | { readonly kind: 'column'; readonly relation: string };

export interface CatalogColumn {
  readonly name: string;
  /** SQL over row x. */
  readonly sql: string;
  readonly holds: Holds;
}

/** (classid, objid, objsubid): an object of any catalogue. */
export interface AnyObject {
  readonly classid: string;
  readonly objid: string;
  readonly subid: string | null;
}

export interface CatalogTable {
  readonly name: string;
  readonly oid: number;
  readonly shared: boolean;
  readonly hasOid: boolean;
  readonly columns: readonly CatalogColumn[];
  readonly any: readonly AnyObject[];
  /** Column that says whose part a row is: the schema, the relation, or else the first object that it names. */
  readonly owner: string | null;
}

interface Row {
  readonly name: string;
  readonly oid: number;
  readonly shared: boolean;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
}

/** Columns that this role may not read are left out; nearly all are readable to everybody. */
const TABLES = `
  SELECT c.relname AS name, c.oid::int8 AS oid, c.relisshared AS shared,
    json_agg(json_build_object('name', a.attname, 'type', t.typname) ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 JOIN pg_type t ON t.oid = a.atttypid
  WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r' AND has_column_privilege(c.oid, a.attnum, 'SELECT')
  GROUP BY c.oid ORDER BY c.relname`;

const OBJECT_ID = /^(oid|reg\w+|xid)$/;
const OBJECT_IDS = /^(oidvector|_oid|_reg\w+)$/;

function columnSql(catalog: string, column: string, type: string): string {
  const rendered = RENDERED[`${catalog}.${column}`];
  if (rendered) return rendered;
  if (OBJECT_ID.test(type)) return `x.${column}::oid::int8`;
  if (OBJECT_IDS.test(type)) return `x.${column}::oid[]::int8[]`;
  if (type === 'int2vector') return `x.${column}::int2[]`;
  if (type === '_char') return `x.${column}::text[]`;
  // A JavaScript number is not wide enough for a sequence's limits.
  if (type === 'char' || type === 'int8') return `x.${column}::text`;
  if (type === 'pg_node_tree') return `md5(x.${column}::text)`;
  if (type !== '_aclitem') return `x.${column}`;
  const sorted = (acl: string) => `ARRAY(SELECT i::text FROM unnest(${acl}) AS i ORDER BY 1)`;
  const usual = DEFAULT_ACL[`${catalog}.${column}`];
  return `CASE WHEN x.${column} IS NOT NULL THEN nullif(${sorted(`x.${column}`)}, ${usual ? sorted(usual) : `'{}'::text[]`}) END`;
}

/** Every catalogue whose rows can belong to this database. */
export async function catalogLayout(read: ReadRows, serverVersion: number): Promise<CatalogTable[]> {
  const rows = await read<Row>(TABLES);
  const known = serverVersion >= 140000 ? await read<Reference>(REFERENCES_SQL) : references13();
  const references = [...known, ...MORE_REFERENCES];
  return rows.filter((row) => !ASIDE_CATALOGS.includes(row.name)).flatMap((row) => describe(row, references) ?? []);
}

function describe(row: Row, references: readonly Reference[]): CatalogTable | null {
  const own = references.filter(
    (r) => r.catalog === row.name && r.columns.every((c) => row.columns.some((k) => k.name === c)),
  );
  const object = (column: string) => own.find((r) => r.columns.length === 1 && r.columns[0] === column)?.target;
  const relationOf = (column: string) => own.find((r) => r.columns.length === 2 && r.columns[1] === column)?.columns[0];
  const names = row.columns.map((c) => c.name);
  const any = anyObjects(names);
  const inside = new Set(any.flatMap((a) => [a.classid, a.objid, a.subid]));
  const columns = row.columns.flatMap(({ name, type }): CatalogColumn[] => {
    if (name === 'oid' || ASIDE[row.name]?.includes(name) || RENDERED[`${row.name}.${name}`] === null) return [];
    const sql = columnSql(row.name, name, type);
    const rendered = RENDERED[`${row.name}.${name}`] !== undefined;
    const target = object(name);
    const relation = relationOf(name);
    const holds: Holds =
      rendered || inside.has(name)
        ? { kind: 'value' }
        : relation !== undefined
          ? { kind: 'column', relation }
          : target !== undefined
            ? { kind: 'object', target }
            : { kind: 'value' };
    return [{ name, sql, holds }];
  });
  const points = (to: string) => columns.find((c) => c.holds.kind === 'object' && c.holds.target === to)?.name;
  const first = columns.find((c) => c.holds.kind === 'object')?.name ?? null;
  const table: CatalogTable = {
    name: row.name,
    oid: row.oid,
    shared: row.shared,
    hasOid: names.includes('oid'),
    columns,
    any,
    owner: any[0]?.objid ?? points('pg_namespace') ?? points('pg_class') ?? first,
  };
  return !row.shared || sharedFilter(table) !== null ? table : null;
}

function anyObjects(names: readonly string[]): AnyObject[] {
  return names.flatMap((name): AnyObject[] => {
    const match = /^(ref)?class(id|oid)$/.exec(name);
    if (!match) return [];
    const prefix = match[1] ?? '';
    const objid = `${prefix}obj${match[2]}`;
    const subid = `${prefix}objsubid`;
    return [{ classid: name, objid, subid: names.includes(subid) ? subid : null }];
  });
}

const THIS_DATABASE = '(SELECT oid FROM pg_database WHERE datname = current_database())';

/** Rows of a shared catalogue that belong to this database; null = none can (roles, tablespaces and their like are the cluster's). */
export function sharedFilter(table: CatalogTable): string | null {
  if (table.name === 'pg_database') return `x.oid = ${THIS_DATABASE}`;
  const byObject = table.any[0];
  const itself = byObject
    ? `(x.${byObject.classid} = 'pg_database'::regclass AND x.${byObject.objid} = ${THIS_DATABASE})`
    : null;
  const column = table.columns.find((c) => c.holds.kind === 'object' && c.holds.target === 'pg_database');
  const inside = column ? `x.${column.name} = ${THIS_DATABASE}` : null;
  return [itself, inside].filter((part) => part !== null).join(' OR ') || null;
}
