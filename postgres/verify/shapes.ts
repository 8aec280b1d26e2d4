/**
 * What verification knows of the tables of one database: columns with their types, the ways in by a unique index, heaps and sizes. Read from the
 * catalogue in a fixed number of queries, however many tables there are. Partitions and pgshift's own tables are not tables of their own here.
 */
import type { RelationName } from '../../plan/model/steps';
import type { Session } from '../session';

export interface Column {
  readonly name: string;
  /** format_type with and without its modifier, as `numeric(10,2)` and `numeric`. */
  readonly type: string;
  readonly base: string;
  readonly typeOid: number;
  /** Element of an array, else 0. */
  readonly elementOid: number;
  /** pg_type.typcategory: N numbers, S strings, D times, ... */
  readonly category: string;
  /** Compares the same on every server: byte by byte. Of types without collation true. */
  readonly plainOrder: boolean;
  readonly notNull: boolean;
  /** s and v: generated; '' otherwise. */
  readonly generated: string;
  /** a and d: identity; '' otherwise. */
  readonly identity: string;
  readonly hasDefault: boolean;
}

export interface Shape extends RelationName {
  readonly oid: string;
  readonly partitioned: boolean;
  readonly columns: readonly Column[];
  /** Columns of unique, valid, immediate, whole-table indexes over NOT NULL columns; the primary key first. */
  readonly keys: readonly (readonly string[])[];
  readonly bytes: number;
  /** The planner's figure; -1 = never analysed. */
  readonly rows: number;
}

const USER = `n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgshift')`;

const TABLES = `
  SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'p' AS partitioned,
    CASE WHEN c.relkind = 'p' THEN coalesce((SELECT sum(pg_table_size(p.relid)) FROM pg_partition_tree(c.oid) AS p WHERE p.isleaf), 0)
         ELSE pg_table_size(c.oid) END::float8 AS bytes,
    CASE WHEN c.relkind = 'p' THEN coalesce((SELECT sum(greatest(x.reltuples, 0)) FROM pg_partition_tree(c.oid) AS p
           JOIN pg_class AS x ON x.oid = p.relid WHERE p.isleaf), 0) ELSE c.reltuples END::float8 AS rows
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND ${USER}
  ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`;

/** ucs_basic, C and POSIX by their fixed oids; deterministic providers of code point order by their locale. */
const columnsSql = (version: number): string => `
  SELECT a.attrelid::text AS rel, json_agg(json_build_object(
      'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'base', format_type(a.atttypid, NULL),
      'typeOid', a.atttypid::int8, 'elementOid', CASE WHEN t.typcategory = 'A' THEN t.typelem::int8 ELSE 0 END,
      'category', t.typcategory,
      'plainOrder', a.attcollation = 0 OR a.attcollation IN (950, 951) OR EXISTS (SELECT FROM pg_collation AS l
         WHERE l.oid = CASE WHEN a.attcollation = 100 THEN 0 ELSE a.attcollation END AND l.collcollate IN ('C', 'POSIX') AND l.collprovider = 'c')
         OR (a.attcollation = 100 AND (SELECT d.datcollate IN ('C', 'POSIX')${version >= 150000 ? ` AND d.datlocprovider = 'c'` : ''}
             FROM pg_database AS d WHERE d.datname = current_database())),
      'notNull', a.attnotnull, 'generated', a.attgenerated, 'identity', a.attidentity, 'hasDefault', a.atthasdef)
    ORDER BY a.attnum) AS columns
  FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid JOIN pg_class AS c ON c.oid = a.attrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND ${USER}
  GROUP BY a.attrelid`;

const KEYS = `
  SELECT i.indrelid::text AS rel, ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, ord)
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.num WHERE k.ord <= i.indnkeyatts ORDER BY k.ord) AS columns
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
    AND NOT c.relispartition AND ${USER}
    AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, ord)
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.num WHERE k.ord <= i.indnkeyatts AND NOT a.attnotnull)
  ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid`;

type TableRow = Omit<Shape, 'columns' | 'keys'> & Record<string, unknown>;

/** Every table of the user's, in order of its names. */
export async function readShapes(session: Session): Promise<Shape[]> {
  const tables = await session.rows<TableRow>(TABLES);
  const columns = new Map(
    (await session.rows<{ rel: string; columns: Column[] }>(columnsSql(session.serverVersion))).map((r) => [
      r.rel,
      r.columns,
    ]),
  );
  const keys = new Map<string, string[][]>();
  for (const row of await session.rows<{ rel: string; columns: string[] }>(KEYS))
    keys.set(row.rel, [...(keys.get(row.rel) ?? []), row.columns]);
  return tables.map((t) => ({ ...t, columns: columns.get(t.oid) ?? [], keys: keys.get(t.oid) ?? [] }));
}

export interface Identity {
  /** The same for two connections to one database. */
  readonly same: string;
  readonly recovering: boolean;
}

export async function identityOf(session: Session): Promise<Identity> {
  const row = await session.one<{ database: string; recovering: boolean }>(
    `SELECT (SELECT d.oid::text FROM pg_database AS d WHERE d.datname = current_database()) AS database,
            pg_is_in_recovery() AS recovering`,
  );
  const system = await session
    .one<{ id: string }>(`SELECT system_identifier::text AS id FROM pg_control_system()`)
    .catch(() => undefined);
  // Without the right to read the control file two servers are told apart by their addresses.
  const server = system?.id ?? session.where.replace(/\/[^/]*$/, '');
  return { same: `${server}/${row?.database ?? ''}`, recovering: row?.recovering ?? false };
}
