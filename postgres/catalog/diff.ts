/**
 * The catalogue of a database as sorted lines, so that two states can be compared: every row of every table of pg_catalog, with object ids
 * replaced by names and column numbers by column names. Lists no object by name: whatever a run left behind is seen.
 *
 * A line is `pg_attribute public.payment.amount {"atttypid":"numeric", ...}`: catalogue, what the row is about, and its columns that are
 * not null, false or empty. Rows made by initdb (object ids below 16384) are one line with a hash for each catalogue, so that a GRANT on
 * a built-in function is still seen. What is set aside stands in aside.ts; the order of a table's columns is too, that of a view's is not.
 */
import type { ClientBase } from 'pg';
import { catalogLayout, sharedFilter } from './layout';
import type { CatalogTable } from './layout';
import { Names } from './names';
import type { RawRow } from './names';
import { OWN_SCHEMA, withSnapshot } from './session';
import type { ReadRows } from './session';

export interface FingerprintOptions {
  /** Schemas whose contents do not count; default: pgshift's own. Temporary and toast schemas never count. */
  readonly ignore?: readonly string[];
}

export interface CatalogChange {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** FirstNormalObjectId: below it initdb made it. */
const FIRST_OF_USER = 16384;
/** A catalogue with fewer built-in rows than this prints them one by one: schemas, languages, the database itself. */
const FEW = 10;

/**
 * Reads the whole catalogue. `client` must not be in a transaction. Takes about half a second on a database of 50 tables.
 * Throws Problem LockTimeout when a relation stays locked ACCESS EXCLUSIVE for 5 s.
 */
export async function fingerprintCatalog(client: ClientBase, options: FingerprintOptions = {}): Promise<string[]> {
  const ignore = options.ignore ?? [OWN_SCHEMA];
  return withSnapshot(client, async (read) => {
    const [version] = await read<{ number: number }>(`SELECT current_setting('server_version_num')::int AS number`);
    const layout = await catalogLayout(read, version?.number ?? 0);
    const contents = new Map<CatalogTable, RawRow[]>();
    const lines: string[] = [];
    for (const table of layout) {
      const { rows, builtIn } = await readCatalogTable(read, table);
      contents.set(table, rows);
      if (builtIn !== null) lines.push(`${table.name} (built in) ${builtIn}`);
    }
    const names = await Names.resolve(read, contents, ignore);
    for (const [table, rows] of contents) for (const row of rows) lines.push(...names.line(table, row));
    return lines.sort();
  });
}

/** What is only in `after`, and what is only in `before`; a line that stands twice counts twice. */
export function diffCatalog(before: readonly string[], after: readonly string[]): CatalogChange {
  return { added: without(after, before), removed: without(before, after) };
}

function without(lines: readonly string[], taken: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of taken) counts.set(line, (counts.get(line) ?? 0) + 1);
  return lines.filter((line) => {
    const left = counts.get(line) ?? 0;
    if (left > 0) counts.set(line, left - 1);
    return left === 0;
  });
}

async function readCatalogTable(
  read: ReadRows,
  table: CatalogTable,
): Promise<{ rows: RawRow[]; builtIn: string | null }> {
  const mine = table.shared ? `(${sharedFilter(table)})` : 'true';
  // System columns count only where somebody granted something on them.
  const real =
    table.name === 'pg_attribute' ? '(NOT x.attisdropped AND (x.attnum > 0 OR x.attacl IS NOT NULL))' : 'true';
  const number = table.hasOid ? 'x.oid' : table.owner === null ? null : `x.${table.owner}::oid`;
  const ofInitdb = number === null || table.shared ? 'false' : `${number} < ${FIRST_OF_USER}`;
  const columns = [table.hasOid ? 'x.oid::int8 AS oid' : null, ...table.columns.map((c) => `${c.sql} AS ${c.name}`)];
  const raw = table.columns.map((c) => `x.${c.name}::text`);
  const from = `FROM pg_catalog.${table.name} x WHERE ${mine} AND ${real}`;
  const [answer] = await read<{ rows: RawRow[] | null; many: number; hash: string | null }>(`
    SELECT
      (SELECT json_agg(u) FROM (SELECT ${columns.filter((c) => c !== null).join(', ')} ${from}
        AND (NOT (${ofInitdb}) OR (SELECT count(*) ${from} AND ${ofInitdb}) < ${FEW})) AS u) AS rows,
      (SELECT count(*) ${from} AND ${ofInitdb}) AS many,
      (SELECT md5(string_agg(r, '' ORDER BY r COLLATE "C")) FROM (
        SELECT md5(concat_ws('|', ${raw.join(', ')})) AS r ${from} AND ${ofInitdb}) AS h) AS hash`);
  const many = answer?.many ?? 0;
  return {
    rows: answer?.rows ?? [],
    builtIn: many >= FEW ? `${many} rows ${answer?.hash ?? ''}` : null,
  };
}
