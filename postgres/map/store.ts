/**
 * The plan's map in the target, where everybody who copies finds it: it may be large, so that no workflow carries it. Keeps true: it is written once,
 * by the run that has claimed the name.
 */
import type { CopyControl } from '../../plan/model/dataMigration';
import type { RelationName } from '../../plan/model/steps';
import type { TableMapping } from '../../plan/model/tableMapping';
import { parseTableName } from '../../plan/model/tableNames';
import type { Session } from '../session';

/** A table's entry, with what the plan calls it. */
export interface StoredMap {
  readonly named: RelationName;
  readonly path: string;
  readonly mapping: TableMapping;
}

export const entriesOf = (map: Readonly<Record<string, TableMapping>>): StoredMap[] =>
  Object.entries(map).flatMap(([text, mapping]) => {
    const named = parseTableName(text);
    return named === null ? [] : [{ named, path: `map.${text}`, mapping }];
  });

/** Idempotent: a run that was claimed before finds what it wrote. */
export async function storeMaps(
  session: Session,
  migration: string,
  map: Readonly<Record<string, TableMapping>>,
): Promise<void> {
  await session.run(
    `INSERT INTO pgshift.copy_maps (migration_name, schema_name, table_name, path, mapping)
     SELECT $1, m.schema, m.name, m.path, m.mapping FROM jsonb_to_recordset($2::jsonb) AS m(schema text, name text, path text, mapping jsonb)
     ON CONFLICT DO NOTHING`,
    [
      migration,
      JSON.stringify(
        entriesOf(map).map(({ named, path, mapping }) => ({ schema: named.schema, name: named.name, path, mapping })),
      ),
    ],
  );
}

export async function readMaps(session: Session, migration: string): Promise<StoredMap[]> {
  const rows = await session.rows<{ schema: string; name: string; path: string; mapping: TableMapping }>(
    `SELECT m.schema_name AS schema, m.table_name AS name, m.path, m.mapping FROM pgshift.copy_maps AS m WHERE m.migration_name = $1`,
    [migration],
  );
  return rows.map(({ schema, name, path, mapping }) => ({ named: { schema, name }, path, mapping }));
}

/** What is moved for one table of the source, as its copy was listed. */
export async function mapOfTable(session: Session, migration: string, table: RelationName): Promise<StoredMap | null> {
  const row = await session.one<{ schema: string; name: string; path: string; mapping: TableMapping }>(
    `SELECT m.schema_name AS schema, m.table_name AS name, m.path, m.mapping FROM pgshift.copy_tables AS t
       JOIN pgshift.copy_maps AS m ON m.migration_name = t.migration_name AND m.schema_name = t.map_schema AND m.table_name = t.map_table
      WHERE t.migration_name = $1 AND t.schema_name = $2 AND t.table_name = $3`,
    [migration, table.schema, table.name],
  );
  return row ? { named: { schema: row.schema, name: row.name }, path: row.path, mapping: row.mapping } : null;
}

interface Placed extends RelationName {
  readonly above: readonly RelationName[];
}

const same = (a: RelationName, b: RelationName): boolean => a.schema === b.schema && a.name === b.name;

/** The entry of a table: its own, else that of the nearest table above it. */
export const mapOf = (maps: readonly StoredMap[], table: Placed): StoredMap | null =>
  maps.find(({ named }) => same(named, table)) ??
  maps.find(({ named }) => table.above.some((one) => same(named, one))) ??
  null;

/** Where a table's rows go. */
export function targetOf(table: RelationName, map: Pick<StoredMap, 'mapping'> | null): RelationName {
  if (map === null) return { schema: table.schema, name: table.name };
  const own = { schema: table.schema, name: table.name };
  return (map.mapping.to === undefined ? null : parseTableName(map.mapping.to)) ?? own;
}

/** Do its rows go through a stage? Else they stream straight into their table. */
export const isStaged = (
  { load, errors, schema }: Pick<CopyControl, 'load' | 'errors' | 'schema'>,
  map: StoredMap | null,
): boolean =>
  map !== null ||
  (load !== undefined && load.method !== 'copy') ||
  (schema === 'existing' && errors !== undefined && (errors.max !== 0 || errors.rate !== null));
