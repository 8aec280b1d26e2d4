/** What a map needs to know of one table of either side: columns with their types, the ways in by a unique key. Read by name, one table at a time. */
import type { RelationName } from '../../plan/model/steps';
import { relation } from '../ident';
import type { Session } from '../session';

export interface TableColumn {
  readonly name: string;
  /** As format_type() writes it, names of user's types with their schema. */
  readonly type: string;
  /** The same without its modifier, as it may stand behind `::`. */
  readonly cast: string;
  readonly typeOid: number;
  /** pg_type.typcategory: N numbers, S strings, D times, ... */
  readonly category: string;
  readonly notNull: boolean;
  readonly generated: boolean;
  /** a and d: identity; '' otherwise. */
  readonly identity: string;
  readonly hasDefault: boolean;
  /** Not its type's own; null = its type's. */
  readonly collation: string | null;
}

export interface MapTable extends RelationName {
  readonly oid: string;
  readonly partitioned: boolean;
  readonly columns: readonly TableColumn[];
  /** Unique, whole, immediate keys that are never NULL; the primary key first. */
  readonly keys: readonly (readonly string[])[];
}

/** `character` and `bit` mean a length of 1 when they are written without one. */
const CASTS: Readonly<Record<number, string>> = {
  1042: 'pg_catalog.bpchar',
  1014: 'pg_catalog._bpchar',
  1560: 'pg_catalog."bit"',
  1561: 'pg_catalog._bit',
};

const COLUMNS = `
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, format_type(a.atttypid, NULL) AS cast,
       a.atttypid::int8::float8 AS "typeOid", t.typcategory::text AS category, a.attnotnull AS "notNull", a.attgenerated <> '' AS generated,
       a.attidentity::text AS identity, a.atthasdef AS "hasDefault",
       CASE WHEN a.attcollation <> t.typcollation THEN (SELECT quote_ident(n.nspname) || '.' || quote_ident(l.collname)
         FROM pg_collation AS l JOIN pg_namespace AS n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) END AS collation
  FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
 WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`;

const KEYS = `
SELECT jsonb_agg(k.columns ORDER BY k.prime DESC, k.n, k.id) AS keys FROM (
  SELECT i.indexrelid AS id, i.indisprimary AS prime, i.indnkeyatts AS n, jsonb_agg(a.attname ORDER BY c.n) AS columns
    FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS c(num, n)
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = c.num
   WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
     AND c.n <= i.indnkeyatts
   GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts HAVING bool_and(a.attnotnull)) AS k`;

/** Null = there is no such table. Call it with search_path = pg_catalog, so that types come with their schema. */
export async function readMapTable(session: Session, name: RelationName): Promise<MapTable | null> {
  const found = await session.one<{ oid: string; kind: string }>(
    `SELECT c.oid::text AS oid, c.relkind::text AS kind FROM pg_class AS c WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')`,
    [relation(name)],
  );
  if (!found) return null;
  const columns = await session.rows<TableColumn & Record<string, unknown>>(COLUMNS, [found.oid]);
  const keys = await session.one<{ keys: string[][] | null }>(KEYS, [found.oid]);
  return {
    schema: name.schema,
    name: name.name,
    oid: found.oid,
    partitioned: found.kind === 'p',
    columns: columns.map((column) => ({ ...column, cast: CASTS[column.typeOid] ?? column.cast })),
    keys: keys?.keys ?? [],
  };
}
