/** The list of tables in the target: what is to be copied, how far it is. Written by openers of epochs and by the copies themselves. */
import type { CopyControl } from '../../plan/model/dataMigration';
import { rangeBytes } from '../../plan/model/dataMigration';
import { shownRelation } from '../../plan/model/quote';
import type { Piece } from '../../plan/model/state';
import { tableFilter } from '../../plan/model/tableNames';
import type { RelationName } from '../../plan/model/steps';
import type { TableMapping } from '../../plan/model/tableMapping';
import { mapOf, readMaps } from '../map/store';
import type { StoredMap } from '../map/store';
import type { Session } from '../session';
import { inTransaction } from '../session';

export interface Found extends RelationName {
  readonly oid: string;
  readonly kind: string;
  /** As of the snapshot: the file that its rows lie in. Null = nothing of its own is stored. */
  readonly filenode: string | null;
  readonly bytes: number;
  readonly rows: number;
  /** Tables that it is a partition or a child of, nearest first. */
  readonly above: readonly RelationName[];
}

type FoundRow = Found & Record<string, unknown>;

/** By its own name or by that of a table above it: partitions and children go with their parents. */
export function chooser({ include, exclude }: CopyControl['tables']): (table: Found) => boolean {
  const [included, excluded] = [tableFilter(include, []), tableFilter(exclude, [])];
  return (table) => {
    const names = [{ schema: table.schema, name: table.name }, ...table.above];
    return names.some(included) && !names.some(excluded);
  };
}

/** Every table of the user's that the patterns choose. Call it at the snapshot. */
export const chosenTables = async (source: Session, tables: CopyControl['tables']): Promise<Found[]> =>
  (await userTables(source)).filter(chooser(tables));

/** Tables of extensions belong to their extension. */
export const userTables = (source: Session): Promise<Found[]> =>
  source.rows<FoundRow>(
    `WITH RECURSIVE up(oid, parent) AS (
       SELECT i.inhrelid, i.inhparent FROM pg_inherits AS i
       UNION SELECT up.oid, i.inhparent FROM up JOIN pg_inherits AS i ON i.inhrelid = up.parent)
     SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
            CASE WHEN c.relkind = 'r' THEN c.relfilenode::text END AS filenode,
            CASE WHEN c.relkind = 'r' THEN coalesce(pg_table_size(c.oid), 0) ELSE 0 END::float8 AS bytes,
            greatest(c.reltuples, 0)::float8 AS rows,
            coalesce((SELECT jsonb_agg(jsonb_build_object('schema', pn.nspname, 'name', pc.relname)) FROM up
                        JOIN pg_class AS pc ON pc.oid = up.parent JOIN pg_namespace AS pn ON pn.oid = pc.relnamespace
                       WHERE up.oid = c.oid), '[]'::jsonb) AS above
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgshift') AND n.nspname !~ '^pg_(toast|temp)'
        AND NOT EXISTS (SELECT 1 FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
      ORDER BY 2, 3`,
  );

/** Writes the list, largest first; of a later epoch only what is not copied yet learns where its rows lie now. */
export async function writeTables(
  target: Session,
  migration: string,
  epoch: number,
  found: readonly Found[],
): Promise<void> {
  const maps = await readMaps(target, migration);
  const data = JSON.stringify(
    found
      .filter(({ kind }) => kind === 'r')
      .sort((a, b) => b.bytes - a.bytes || (a.schema + a.name < b.schema + b.name ? -1 : 1))
      .map(({ schema, name, oid, filenode, bytes, rows, above }, index) => ({
        no: index + 1,
        schema,
        name,
        oid,
        filenode,
        bytes,
        rows,
        mapped: mapOf(maps, { schema, name, above })?.named ?? null,
      })),
  );
  const LIST = `jsonb_to_recordset($2::jsonb) AS f(no int, schema text, name text, oid oid, filenode oid, bytes bigint, rows float8, mapped jsonb)`;
  await inTransaction(target, async () => {
    const before = await target.one(
      `SELECT 1 AS one FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 LIMIT 1`,
      [migration],
    );
    if (!before) {
      await target.run(
        `INSERT INTO pgshift.copy_tables (migration_name, table_no, schema_name, table_name, source_oid, filenode, bytes, rows_estimate,
                                          map_schema, map_table)
         SELECT $1, f.no, f.schema, f.name, f.oid, f.filenode, f.bytes, round(f.rows)::bigint, f.mapped->>'schema', f.mapped->>'name' FROM ${LIST}`,
        [migration, data],
      );
      return;
    }
    await target.run(
      `UPDATE pgshift.copy_tables AS t SET source_oid = f.oid, filenode = f.filenode FROM ${LIST}
        WHERE t.migration_name = $1 AND t.schema_name = f.schema AND t.table_name = f.name AND t.state NOT IN ('done', 'skipped')
          AND t.epoch <> $3`,
      [migration, data, epoch],
    );
  });
}

export interface Listed {
  readonly tables: number;
  readonly bytes: number;
  readonly pieces: readonly Piece[];
}

const MOST_TABLES = 500;
const MOST_PIECES = 1_500;
/** Names are carried in the workflow; more than this would make it heavy. */
const NAMED = 200;

/**
 * What is not done, in pieces of work: a big table alone, small ones together up to the bytes of one range. Numbers follow the size, so each
 * piece is a stretch of them.
 */
export async function piecesOf(target: Session, migration: string, control: CopyControl): Promise<Listed> {
  const rows = await target.rows<{ no: number; bytes: number; done: boolean; schema: string; name: string }>(
    `SELECT t.table_no AS no, t.bytes::float8 AS bytes, t.state IN ('done', 'skipped') AS done, t.schema_name AS schema, t.table_name AS name
       FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 ORDER BY t.table_no`,
    [migration],
  );
  const total = rows.reduce((sum, { bytes }) => sum + bytes, 0);
  const most = Math.max(rangeBytes(control), total / MOST_PIECES);
  const pieces: { from: number; to: number; label: string }[] = [];
  let held = 0;
  for (const row of rows.filter(({ done }) => !done)) {
    const last = pieces.at(-1);
    if (last && held + row.bytes <= most && row.no - last.from < MOST_TABLES) {
      last.to = row.no;
      last.label = `tables ${last.from} to ${last.to}`;
      held += row.bytes;
    } else {
      const named = pieces.length < NAMED;
      pieces.push({ from: row.no, to: row.no, label: named ? shownRelation(row) : `table ${row.no}` });
      held = row.bytes;
    }
  }
  return { tables: rows.length, bytes: total, pieces };
}

export interface TableRow extends RelationName {
  readonly no: number;
  readonly oid: string;
  readonly filenode: string | null;
  readonly bytes: number;
  readonly rowsEstimate: number;
  readonly state: 'waiting' | 'running' | 'done' | 'quarantined' | 'skipped';
  readonly epoch: number;
  readonly rows: number;
  readonly format: string | null;
  readonly fingerprint: string | null;
  /** The plan's entry for it, or for a table above it. */
  readonly map: StoredMap | null;
}

export const shown = (row: RelationName): string => shownRelation(row);

interface Read extends Omit<TableRow, 'map'>, Record<string, unknown> {
  readonly mapSchema: string | null;
  readonly mapTable: string | null;
  readonly path: string | null;
  readonly mapping: TableMapping | null;
}

/** Tables from number `from` to `to`, in their order. */
export async function readTables(target: Session, migration: string, from: number, to: number): Promise<TableRow[]> {
  const rows = await target.rows<Read>(
    `SELECT t.table_no AS no, t.schema_name AS schema, t.table_name AS name, t.source_oid::text AS oid, t.filenode::text AS filenode,
            t.bytes::float8 AS bytes, t.rows_estimate::float8 AS "rowsEstimate", t.state, t.epoch, t.rows::float8 AS rows, t.format, t.fingerprint,
            m.schema_name AS "mapSchema", m.table_name AS "mapTable", m.path, m.mapping
       FROM pgshift.copy_tables AS t
       LEFT JOIN pgshift.copy_maps AS m ON m.migration_name = $1 AND m.schema_name = t.map_schema AND m.table_name = t.map_table
      WHERE t.migration_name = $1 AND t.table_no BETWEEN $2 AND $3 ORDER BY t.table_no`,
    [migration, from, to],
  );
  return rows.map(({ mapSchema, mapTable, path, mapping, ...row }) => ({
    ...row,
    map:
      mapSchema === null || mapTable === null || mapping === null
        ? null
        : { named: { schema: mapSchema, name: mapTable }, path: path ?? '', mapping },
  }));
}
