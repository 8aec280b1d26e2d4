/**
 * What a table on the source looks like to a copy: columns, whether their values travel in binary, the key to cut it by. Read in the snapshot's
 * transaction, so that it fits the rows.
 */
import { Problem } from '../../plan/model/errors';
import type { KeyColumn, RelationName } from '../../plan/model/steps';
import { ident, relation } from '../ident';
import type { Session } from '../session';

export interface Shape {
  readonly table: RelationName;
  readonly oid: string;
  /** Columns that are written: generated ones are computed by the target. */
  readonly columns: readonly string[];
  /** All of them, for fingerprints. */
  readonly all: readonly string[];
  /** Of varying length: what makes rows differ in size. */
  readonly varying: readonly string[];
  readonly key: readonly KeyColumn[] | null;
  /** Has blocks that can be told by ctid. */
  readonly heap: boolean;
  readonly binary: boolean;
  /** A type of the user's is in it: its oid differs between databases, and some binary forms carry oids. */
  readonly userTypes: boolean;
}

interface Column extends Record<string, unknown> {
  readonly name: string;
  readonly generated: boolean;
  readonly varying: boolean;
  readonly binary: boolean;
  readonly own: boolean;
}

/**
 * A value's binary form carries type oids inside arrays and composites. Oids of built-in types are the same everywhere, those of types that
 * a user or an extension made are not; `nested` marks the places where they are carried. Values that name an object of the catalogue are an
 * oid too: only their text means the same in another database.
 */
const OF_THE_CATALOGUE =
  "'regproc', 'regprocedure', 'regoper', 'regoperator', 'regclass', 'regtype', 'regconfig', 'regdictionary', 'regnamespace', 'regrole', 'regcollation'";

const COLUMNS = `
WITH RECURSIVE parts(col, oid, nested) AS (
  SELECT a.attnum, a.atttypid, false FROM pg_attribute AS a
   WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT p.col, x.oid, x.nested FROM parts AS p JOIN pg_type AS t ON t.oid = p.oid
   CROSS JOIN LATERAL (
     SELECT t.typbasetype AS oid, p.nested WHERE t.typtype = 'd'
     UNION ALL SELECT t.typelem, true WHERE t.typelem <> 0 AND t.typlen = -1
     UNION ALL SELECT f.atttypid, true FROM pg_attribute AS f
                WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
     UNION ALL SELECT r.rngsubtype, p.nested FROM pg_range AS r WHERE r.rngtypid = t.oid
     UNION ALL SELECT r.rngtypid, p.nested FROM pg_range AS r WHERE t.typtype = 'm' AND r.rngmultitypid = t.oid) AS x),
judged AS (
  SELECT p.col, bool_and(t.typsend <> 0 AND t.typreceive <> 0 AND NOT (p.nested AND t.oid >= 16384)
                  AND NOT (t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN (${OF_THE_CATALOGUE}))) AS binary,
         bool_or(t.oid >= 16384) AS own
    FROM parts AS p JOIN pg_type AS t ON t.oid = p.oid GROUP BY p.col)
SELECT a.attname::text AS name, a.attgenerated <> '' AS generated, a.attlen = -1 AND a.attgenerated <> 'v' AS varying,
       j.binary, j.own
  FROM pg_attribute AS a JOIN judged AS j ON j.col = a.attnum
 WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`;

/** Unique, whole, never null, of integers alone: what ranges can be cut by without a sort order of text. The primary key first. */
const KEY = `
SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, NULL)) ORDER BY k.n) AS key
  FROM pg_index AS i
 CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
  LEFT JOIN pg_stats AS st ON st.schemaname = $2 AND st.tablename = $3 AND st.attname = a.attname AND k.n = 1
 WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
   AND k.n <= i.indnkeyatts
 GROUP BY i.indexrelid, i.indisprimary
HAVING bool_and(a.attnotnull AND a.atttypid IN (20, 21, 23))
   AND bool_and(abs(coalesce(st.correlation, 1)) > 0.8)
 ORDER BY i.indisprimary DESC, count(*), i.indexrelid LIMIT 1`;

/** Throws Drift when the table is not there any more, or was rewritten since the snapshot: then its rows cannot be seen from it. */
export async function shapeOf(
  source: Session,
  table: RelationName & { readonly oid: string; readonly filenode: string | null },
): Promise<Shape> {
  await refuseRewritten(source, table);
  const columns = await source.rows<Column>(COLUMNS, [table.oid]);
  const key = await source.one<{ key: KeyColumn[] }>(KEY, [table.oid, table.schema, table.name]);
  const access = await source.one<{ heap: boolean }>(
    `SELECT c.relkind = 'r' AND coalesce(am.amname = 'heap', false) AS heap
       FROM pg_class AS c LEFT JOIN pg_am AS am ON am.oid = c.relam WHERE c.oid = $1::oid`,
    [table.oid],
  );
  return {
    table: { schema: table.schema, name: table.name },
    oid: table.oid,
    columns: columns.filter(({ generated }) => !generated).map(({ name }) => name),
    all: columns.map(({ name }) => name),
    varying: columns.filter(({ varying }) => varying).map(({ name }) => name),
    key: key?.key ?? null,
    // Before 14 a range of blocks is looked for by reading the whole table.
    heap: access?.heap === true && source.serverVersion >= 140000,
    binary: columns.every(({ binary }) => binary),
    userTypes: columns.some(({ own }) => own),
  };
}

/** TRUNCATE and a rewriting ALTER TABLE leave nothing that an older snapshot could see, and no error: the file's number tells. */
export async function refuseRewritten(
  source: Session,
  table: RelationName & { readonly oid: string; readonly filenode: string | null },
): Promise<void> {
  const now = await source.one<{ filenode: string | null; there: boolean }>(
    `SELECT pg_catalog.pg_relation_filenode($1::oid)::text AS filenode, pg_catalog.to_regclass($2) = $1::oid AS there`,
    [table.oid, relation(table)],
  );
  if (now?.there === true && now.filenode === table.filenode) return;
  throw new Problem(
    'Drift',
    `${table.schema}.${table.name} was ${now?.there ? 'rewritten or emptied' : 'dropped or renamed'} on the source since the snapshot`,
    {
      hint: 'retry it: then it is read from a new snapshot',
    },
  );
}

const TYPES = `
SELECT coalesce(jsonb_object_agg(a.attname, format_type(a.atttypid, NULL)), '{}'::jsonb) AS types
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped`;

/** Binary forms of two types may be taken for each other (float8 and bigint): values of a column whose type is another one travel as text. */
export async function sameTypes(source: Session, target: Session, { schema, name }: RelationName): Promise<boolean> {
  const read = async (session: Session): Promise<Readonly<Record<string, string>>> =>
    (await session.one<{ types: Record<string, string> }>(TYPES, [schema, name]))?.types ?? {};
  const [mine, theirs] = [await read(source), await read(target)];
  return Object.entries(mine).every(([column, type]) => theirs[column] === undefined || theirs[column] === type);
}

/** The columns as COPY takes them; a table without any has no list. */
export const columnList = ({ columns }: Shape): string =>
  columns.length === 0 ? '' : `(${columns.map(ident).join(', ')})`;
