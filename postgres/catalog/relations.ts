/**
 * SQL that reads relations and their columns. Every query is one set-based pass (no query for each table), so that 10,000 tables take
 * seconds. `oid` and `rel` are for joining in read.ts and never leave it.
 */
import type { Column, Table } from '../../plan/model/catalog';
import { USER_SCHEMA } from './session';

/** A JSON RelationName of pg_namespace `n` and pg_class `c`. */
export const relationJson = (n: string, c: string): string =>
  `json_build_object('schema', ${n}.nspname, 'name', ${c}.relname)`;

/** Names of the columns of `rel` whose numbers are in the array `numbers`, in the array's order. Numbers <= 0 are left out. */
export const columnNames = (rel: string, numbers: string): string => `
  ARRAY(SELECT a.attname::text FROM unnest(${numbers}) WITH ORDINALITY AS given(num, ord)
        JOIN pg_attribute a ON a.attrelid = ${rel} AND a.attnum = given.num AND a.attnum > 0 ORDER BY given.ord)`;

/** Names of the columns of `rel` that object (classid, objid) depends on by pg_depend. */
export const dependedColumns = (rel: string, classid: string, objid: string): string => `
  ARRAY(SELECT DISTINCT a.attname::text FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = '${classid}'::regclass AND d.objid = ${objid}
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ${rel} AND d.refobjsubid > 0 ORDER BY 1)`;

export const commentOf = (classid: string, objid: string, subid = '0'): string =>
  `(SELECT description FROM pg_description WHERE classoid = '${classid}'::regclass AND objoid = ${objid} AND objsubid = ${subid})`;

type Own =
  'columns' | 'indexes' | 'constraints' | 'incoming' | 'triggers' | 'policies' | 'rules' | 'statistics' | 'dependents';
export type RelationRow = Omit<Table, Own> & { readonly oid: number };
export type ColumnRow = Column & { readonly rel: number };

/** Beyond this many relations, sizes are the pages that VACUUM or ANALYZE last saw: opening each relation would take most of the time. */
const EXACT_SIZES = 10_000;
export const MANY = `SELECT count(*) > ${EXACT_SIZES} AS many FROM pg_class`;

/** Bytes of the main fork of pg_class `c`. A relation that was never vacuumed or analysed is always asked for. */
export const bytes = (c: string, many: boolean): string =>
  many
    ? `CASE WHEN ${c}.relpages > 0 OR ${c}.reltuples >= 0 THEN ${c}.relpages::int8 * current_setting('block_size')::int8 ELSE coalesce(pg_relation_size(${c}.oid), 0) END`
    : `coalesce(pg_relation_size(${c}.oid), 0)`;

export const relationsSql = (many: boolean): string => `
  SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name,
    CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned' WHEN 'v' THEN 'view' WHEN 'm' THEN 'matview'
      WHEN 'f' THEN 'foreign' WHEN 'S' THEN 'sequence' ELSE 'composite' END AS kind,
    CASE c.relpersistence WHEN 'p' THEN 'permanent' WHEN 'u' THEN 'unlogged' ELSE 'temporary' END AS persistence,
    pg_get_userbyid(c.relowner) AS owner,
    c.reltuples::float8 AS rows,
    CASE WHEN c.relkind IN ('r', 'm', 'S') THEN ${bytes('c', many)} ELSE 0 END AS "heapBytes",
    -- With its indexes, which read.ts adds: opening each of them once is what takes the time.
    coalesce((SELECT ${bytes('o', many)} FROM pg_class o WHERE o.oid = c.reltoastrelid), 0) AS "totalBytes",
    CASE WHEN c.relispartition THEN (
      SELECT ${relationJson('pn', 'p')} FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
      WHERE h.inhrelid = c.oid LIMIT 1) END AS parent,
    coalesce((
      SELECT json_agg(${relationJson('pn', 'p')} ORDER BY h.inhseqno)
      FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
      WHERE h.inhrelid = c.oid AND NOT c.relispartition), '[]') AS inherits,
    coalesce((
      SELECT json_agg(${relationJson('pn', 'p')} ORDER BY pn.nspname, p.relname)
      FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
      WHERE c.relhassubclass AND h.inhparent = c.oid), '[]') AS children,
    CASE WHEN c.relkind = 'p' THEN (
      SELECT json_build_object('definition', pg_get_partkeydef(c.oid), 'columns', ARRAY(
        SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND (
          a.attnum = ANY (t.partattrs::int2[]) OR EXISTS (
            -- Columns inside key expressions: the relation depends on its own columns for nothing else but those and generated ones.
            SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
              AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum))
        ORDER BY a.attnum))
      FROM pg_partitioned_table t WHERE t.partrelid = c.oid) END AS "partitionKey",
    CASE c.relreplident WHEN 'f' THEN '"full"'::json WHEN 'n' THEN '"nothing"'::json WHEN 'i' THEN coalesce((
        SELECT json_build_object('index', x.relname) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisreplident), '"nothing"'::json)
      ELSE '"default"'::json END AS "replicaIdentity",
    c.relrowsecurity AS "rowSecurity",
    c.relforcerowsecurity AS "forceRowSecurity",
    coalesce(c.reloptions, '{}') || coalesce((
      SELECT array_agg('toast.' || o ORDER BY o) FROM pg_class t, unnest(t.reloptions) AS o WHERE t.oid = c.reltoastrelid), '{}') AS options,
    ${commentOf('pg_class', 'c.oid')} AS comment,
    c.relacl::text[] AS acl,
    (SELECT spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace) AS tablespace,
    (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
     WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
       AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') AS extension
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND ${USER_SCHEMA}
  ORDER BY n.nspname, c.relname`;

/** Columns of everything but sequences (nobody alters those). */
export const columnsSql = (serverVersion: number): string => `
  SELECT a.attrelid::int8 AS rel, a.attname AS name, a.attnum AS number,
    format_type(a.atttypid, a.atttypmod) AS type,
    json_build_object('schema', tn.nspname, 'name', t.typname) AS "typeName",
    a.atttypmod AS typmod,
    a.attnotnull AS "notNull",
    CASE WHEN a.atthasdef THEN (
      SELECT pg_get_expr(f.adbin, f.adrelid) FROM pg_attrdef f WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum) END AS "default",
    CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END AS generated,
    CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END AS identity,
    owned.seq AS "ownedSequence",
    CASE WHEN a.attcollation <> t.typcollation THEN (
      SELECT format('%I.%I', ln.nspname, l.collname) FROM pg_collation l JOIN pg_namespace ln ON ln.oid = l.collnamespace
      WHERE l.oid = a.attcollation) END AS collation,
    CASE WHEN a.attstattarget >= 0 THEN a.attstattarget END AS "statisticsTarget",
    CASE a.attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' ELSE 'extended' END AS storage,
    a.attstorage <> t.typstorage AS "storageChanged",
    ${serverVersion >= 140000 ? `CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END` : 'NULL::text'} AS compression,
    coalesce(a.attoptions, '{}') AS options,
    a.attacl::text[] AS acl,
    cd.description AS comment,
    a.attislocal AS "isLocal",
    s.null_frac::float8 AS "nullFraction",
    s.avg_width AS "averageWidth"
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_namespace tn ON tn.oid = t.typnamespace
  LEFT JOIN pg_description cd ON cd.classoid = 'pg_class'::regclass AND cd.objoid = a.attrelid AND cd.objsubid = a.attnum
  LEFT JOIN (
    -- An identity column's own sequence before one that was given to it by OWNED BY.
    SELECT DISTINCT ON (d.refobjid, d.refobjsubid) d.refobjid AS rel, d.refobjsubid AS num, ${relationJson('sn', 'sc')} AS seq
    FROM pg_depend d JOIN pg_class sc ON sc.oid = d.objid AND sc.relkind = 'S' JOIN pg_namespace sn ON sn.oid = sc.relnamespace
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    ORDER BY d.refobjid, d.refobjsubid, d.deptype DESC, sn.nspname, sc.relname) AS owned ON owned.rel = a.attrelid AND owned.num = a.attnum
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
    AND s.inherited = (c.relkind = 'p')
  WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND ${USER_SCHEMA}
  ORDER BY a.attrelid, a.attnum`;
