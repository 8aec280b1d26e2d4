/** Reads from the catalogue of a loaded dump what the demo must know of its tables: plain tables with a primary key, largest first. */
import type { ClientBase } from 'pg';
import { ident, relation } from '../../postgres/ident';

export interface DumpColumn {
  readonly name: string;
  /** format_type() without its modifier: `numeric`, `integer`, `text` (also for varchar without a limit). */
  readonly type: string;
  /** format_type() with it: `numeric(10,2)`. */
  readonly fullType: string;
  readonly notNull: boolean;
  readonly generated: boolean;
  readonly foreign: boolean;
  /** Part of the primary key or a unique index. */
  readonly unique: boolean;
  readonly indexed: boolean;
  /** Quoted names of the sequences that its default draws from. */
  readonly sequences: readonly string[];
  /** Of integers in a unique index, and of dates and times. */
  readonly min: string | null;
  readonly max: string | null;
  readonly spanDays: number | null;
}

export interface DumpTable {
  readonly schema: string;
  readonly name: string;
  /** Counted, not estimated. */
  readonly rows: number;
  readonly key: readonly string[];
  readonly columns: readonly DumpColumn[];
  /** Unique indexes; no columns = an expression is among them. */
  readonly uniques: readonly { readonly name: string; readonly columns: readonly string[] }[];
  /** Tables that it refers to, as quoted names. */
  readonly parents: readonly string[];
}

const TABLES = `
SELECT n.nspname AS schema, c.relname AS name, c.oid::integer AS oid,
  (SELECT array_agg(a.attname::text ORDER BY k.ord) FROM unnest(i.indkey) WITH ORDINALITY k(num, ord)
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num WHERE k.ord <= i.indnkeyatts) AS key,
  coalesce((SELECT array_agg(DISTINCT f.confrelid::regclass::text) FROM pg_constraint f
     WHERE f.conrelid = c.oid AND f.contype = 'f'), '{}') AS parents
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relkind = 'r' AND NOT c.relispartition AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'pgshift')
  AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid OR h.inhrelid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2`;

const COLUMNS = `
SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS type, format_type(a.atttypid, a.atttypmod) AS "fullType",
  a.attnotnull AS "notNull", a.attgenerated <> '' AS generated,
  EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = a.attrelid AND f.contype = 'f' AND a.attnum = ANY (f.conkey)) AS foreign,
  EXISTS (SELECT FROM pg_index x WHERE x.indrelid = a.attrelid AND x.indisunique AND a.attnum = ANY (x.indkey)) AS unique,
  EXISTS (SELECT FROM pg_index x WHERE x.indrelid = a.attrelid AND a.attnum = ANY (x.indkey)) AS indexed,
  coalesce((SELECT array_agg(DISTINCT d.refobjid::regclass::text) FROM pg_attrdef e
     JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid AND d.refclassid = 'pg_class'::regclass
     JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum), '{}')
  || coalesce((SELECT array_agg(d.objid::regclass::text) FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
     WHERE d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'), '{}') AS sequences
FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`;

const UNIQUES = `
SELECT c.relname::text AS name, CASE WHEN 0 = ANY (i.indkey) THEN '{}' ELSE
  (SELECT array_agg(a.attname::text ORDER BY k.ord) FROM unnest(i.indkey) WITH ORDINALITY k(num, ord)
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num WHERE k.ord <= i.indnkeyatts) END AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion) ORDER BY 1`;

/** Every plain table (not partitioned, not inherited, not an extension's) with a primary key, largest first, then by name. */
export async function readTables(client: ClientBase): Promise<DumpTable[]> {
  const found = await client.query<{ schema: string; name: string; oid: number; key: string[]; parents: string[] }>(
    TABLES,
  );
  const tables: DumpTable[] = [];
  for (const { oid, ...table } of found.rows) {
    const count = await client.query<{ n: string }>(`SELECT count(*) AS n FROM ${relation(table)}`);
    const columns = (await client.query<Omit<DumpColumn, 'min' | 'max' | 'spanDays'>>(COLUMNS, [oid])).rows;
    const uniques = (await client.query<{ name: string; columns: string[] }>(UNIQUES, [oid])).rows;
    const ranged: DumpColumn[] = [];
    for (const column of columns) ranged.push(await withRange(client, table, column));
    tables.push({ ...table, rows: Number(count.rows[0]?.n ?? 0), columns: ranged, uniques });
  }
  return tables.sort((a, b) => b.rows - a.rows || a.name.localeCompare(b.name));
}

async function withRange(
  client: ClientBase,
  table: { readonly schema: string; readonly name: string },
  column: Omit<DumpColumn, 'min' | 'max' | 'spanDays'>,
): Promise<DumpColumn> {
  const name = ident(column.name);
  const type = column.fullType === 'character varying' ? 'text' : column.type;
  const time = /^(date|timestamp)/.test(type);
  if (!time && !/^(smallint|integer|bigint)$/.test(type))
    return { ...column, type, min: null, max: null, spanDays: null };
  const span = time
    ? `, ceil(extract(epoch FROM max(${name})::timestamp - min(${name})::timestamp) / 86400)::integer AS days`
    : '';
  const { rows } = await client.query<{ min: string | null; max: string | null; days?: number | null }>(
    `SELECT min(${name})::text AS min, max(${name})::text AS max${span} FROM ${relation(table)}`,
  );
  return { ...column, type, min: rows[0]?.min ?? null, max: rows[0]?.max ?? null, spanDays: rows[0]?.days ?? null };
}
