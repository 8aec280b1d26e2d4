/**
 * From the source's schema to a list of objects in the target's pgshift.copy_items, each with the statement that takes it away again. Keeps true:
 * the list is written once, in one transaction; what stood in the target before is never on the list of what may be dropped.
 */
import { Problem } from '../../plan/model/errors';
import { ident, literal, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { chooseItems, tableOf } from './choose';
import type { CopyContext } from './context';
import { readAt } from './context';
import type { DumpItem } from './dump';
import { dumpSchema } from './dump';
import { wayBackOfRights } from './rights';
import type { Epoch } from './epoch';
import { changesShape } from '../../plan/model/tableMapping';
import { shownRelation } from '../../plan/model/quote';
import { loadParser } from '../../plan/sql/rowExpression';
import { derivedTable, makeItems } from '../map/derived';
import type { StoredMap } from '../map/store';
import { mapOf, readMaps, targetOf } from '../map/store';
import { readMapTable } from '../map/tables';
import { writeLog } from '../state/journal';
import type { Found } from './tables';
import { chosenTables } from './tables';

/** Objects that do not go with another one: what they are called in DROP. */
const DROPPED = new Set([
  ...[
    'TABLE',
    'FOREIGN TABLE',
    'VIEW',
    'MATERIALIZED VIEW',
    'SEQUENCE',
    'FUNCTION',
    'PROCEDURE',
    'AGGREGATE',
    'TYPE',
    'DOMAIN',
  ],
  ...[
    'SCHEMA',
    'EXTENSION',
    'COLLATION',
    'OPERATOR',
    'OPERATOR CLASS',
    'OPERATOR FAMILY',
    'CAST',
    'CONVERSION',
    'STATISTICS',
  ],
  ...[
    'TEXT SEARCH CONFIGURATION',
    'TEXT SEARCH DICTIONARY',
    'TEXT SEARCH PARSER',
    'TEXT SEARCH TEMPLATE',
    'PUBLICATION',
  ],
  ...['EVENT TRIGGER', 'FOREIGN DATA WRAPPER', 'SERVER', 'TRANSFORM', 'ACCESS METHOD'],
]);

/** What the target has already of what the dump makes with IF NOT EXISTS, or not at all. */
async function existing(target: Session): Promise<ReadonlySet<string>> {
  const rows = await target.rows<{ what: string }>(
    `SELECT 'SCHEMA ' || n.nspname AS what FROM pg_namespace AS n UNION ALL SELECT 'EXTENSION ' || e.extname FROM pg_extension AS e`,
  );
  return new Set(rows.map(({ what }) => what));
}

async function identities(source: Session, items: readonly DumpItem[]): Promise<ReadonlyMap<number, string>> {
  const asked = items.filter(({ kind, oid }) => oid !== '0' && (DROPPED.has(kind) || kind === 'FK CONSTRAINT'));
  const rows = await source.rows<{ id: number; identity: string }>(
    `SELECT i.id, (pg_identify_object(i.class, i.oid, 0)).identity AS identity
       FROM jsonb_to_recordset($1::jsonb) AS i(id int, class oid, oid oid)`,
    [JSON.stringify(asked.map(({ id, classId, oid }) => ({ id, class: classId, oid })))],
  );
  return new Map(rows.map(({ id, identity }) => [id, identity]));
}

/** With what only means something on it: the dump says of a user mapping neither its number nor what it is on. */
const dropServer = (name: string): string => `DO $do$ DECLARE who text; BEGIN
  FOR who IN SELECT CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE quote_ident(m.usename) END FROM pg_catalog.pg_user_mappings AS m WHERE m.srvname = ${literal(name)} LOOP
    EXECUTE 'DROP USER MAPPING IF EXISTS FOR ' || who || ' SERVER ' || ${literal(ident(name))};
  END LOOP;
  DROP SERVER IF EXISTS ${ident(name)};
END $do$`;

function dropOf(item: DumpItem, identity: string | undefined, there: ReadonlySet<string>): string | null {
  if (identity === undefined || there.has(`${item.kind} ${item.tag}`)) return null;
  if (item.kind === 'SERVER') return dropServer(item.tag);
  if (item.kind !== 'FK CONSTRAINT') return `DROP ${item.kind} IF EXISTS ${identity}`;
  // `name on schema.table`: the constraint goes before its table, so that tables can go in any order.
  const match = /^("(?:[^"]|"")+"|[^ ]+) on (.*)$/s.exec(identity);
  return match ? `ALTER TABLE IF EXISTS ${match[2] ?? ''} DROP CONSTRAINT IF EXISTS ${match[1] ?? ''}` : null;
}

const hasItems = (target: Session, migration: string): Promise<unknown> =>
  target.one(`SELECT 1 AS one FROM pgshift.copy_items AS i WHERE i.migration_name = $1 LIMIT 1`, [migration]);

interface Line {
  readonly no: number;
  readonly section: string;
  readonly kind: string;
  readonly tag: string;
  readonly table: number | null;
  readonly sql: string;
  readonly drop: string | null;
}

/** Writes the list unless it is there. Throws what pg_dump says, and Refused when an object of the list exists in the target. */
export async function listItems(context: CopyContext, source: Session, target: Session, epoch: Epoch): Promise<void> {
  if (await hasItems(target, context.migration)) return;
  const dumped = await dumpSchema(context, epoch.snapshot);
  const there = await existing(target);
  const lines = await readAt(source, epoch.snapshot, async () => {
    const tables = await chosenTables(source, context.control.tables);
    const owned = await source.rows<{ sequence: string; owner: string }>(
      `SELECT d.objid::text AS sequence, d.refobjid::text AS owner FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')`,
    );
    const reshaped = await reshapedTables(target, context.migration, tables);
    const made = new Set(reshaped.map(({ table }) => table.oid));
    const kept = chooseItems(dumped, {
      control: context.control,
      tables: new Set(tables.map(({ oid }) => oid).filter((oid) => !made.has(oid))),
      ownedBy: new Map(owned.map(({ sequence, owner }) => [sequence, owner])),
    });
    const described = await describe(target, context.migration, kept, await identities(source, kept), there);
    const back = await wayBackOfRights(target, kept);
    const rights = {
      no: 0,
      section: 'pre',
      kind: 'PRIVILEGES',
      tag: 'way back',
      table: null,
      sql: 'SELECT 1',
      drop: back,
    };
    return [
      ...(back === null ? [] : [rights]),
      ...described,
      ...(await ownItems(context, source, target, { reshaped, there, from: described.length + 1 })),
    ];
  });
  await inTransaction(target, async () => {
    if (await hasItems(target, context.migration)) return;
    await target.run(
      `INSERT INTO pgshift.copy_items (migration_name, item_no, section, kind, tag, table_no, sql, drop_sql)
       SELECT $1, i.no, i.section, i.kind, i.tag, i."table", i.sql, i."drop"
         FROM jsonb_to_recordset($2::jsonb) AS i(no int, section text, kind text, tag text, "table" int, sql text, "drop" text)`,
      [context.migration, JSON.stringify(lines)],
    );
  });
}

interface Reshaped {
  readonly table: Found;
  readonly map: StoredMap;
}

/** Tables whose shape a map changes: pg_dump's word on them and on what rests on them does not fit any more. */
async function reshapedTables(target: Session, migration: string, tables: readonly Found[]): Promise<Reshaped[]> {
  const maps = (await readMaps(target, migration)).filter(({ mapping }) => changesShape(mapping));
  return tables.flatMap((table) => {
    const map = maps.find(({ named }) => named.schema === table.schema && named.name === table.name);
    return map ? [{ table, map }] : [];
  });
}

async function ownItems(
  context: CopyContext,
  source: Session,
  target: Session,
  { reshaped, there, from }: { reshaped: readonly Reshaped[]; there: ReadonlySet<string>; from: number },
): Promise<Line[]> {
  if (reshaped.length === 0) return [];
  await loadParser();
  const lines: Line[] = [];
  const add = (line: Omit<Line, 'no'>): void => void lines.push({ no: from + lines.length, ...line });
  const schemas = new Set<string>();
  for (const { table, map } of reshaped) {
    const old = await readMapTable(source, table);
    if (old === null) throw new Problem('NoSuchObject', `${shownRelation(table)} is not there any more`);
    const to = await derivedTable(source, map.mapping, old, map.path, targetOf(table, map));
    const number = await target.one<{ no: number }>(
      `SELECT t.table_no AS no FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND t.source_oid = $2::oid`,
      [context.migration, table.oid],
    );
    if (!there.has(`SCHEMA ${to.schema}`) && !schemas.has(to.schema)) {
      schemas.add(to.schema);
      const sql = `CREATE SCHEMA IF NOT EXISTS ${ident(to.schema)}`;
      const drop = `DROP SCHEMA IF EXISTS ${ident(to.schema)}`;
      add({ section: 'pre', kind: 'SCHEMA', tag: to.schema, table: null, sql, drop });
    }
    const { items, left } = await makeItems(source, map.mapping, old, to, map.path, context.control.keep);
    for (const item of items) add({ ...item, table: item.section === 'post' ? (number?.no ?? null) : null });
    if (left.length > 0)
      await writeLog(target, {
        migration: context.migration,
        level: 'warning',
        phase: 'schema',
        step: null,
        message: `${shownRelation(to)} has another shape than ${shownRelation(table)}; not made for it: ${left.slice(0, 20).join(', ')}`,
      });
  }
  return lines;
}

async function describe(
  target: Session,
  migration: string,
  kept: readonly DumpItem[],
  names: ReadonlyMap<number, string>,
  there: ReadonlySet<string>,
): Promise<Line[]> {
  const numbered = await target.rows<{ no: number; oid: string }>(
    `SELECT t.table_no AS no, t.source_oid::text AS oid FROM pgshift.copy_tables AS t WHERE t.migration_name = $1`,
    [migration],
  );
  const numbers = new Map(numbered.map(({ no, oid }) => [oid, no]));
  const byId = new Map(kept.map((item) => [item.id, item]));
  return kept
    .filter(({ kind, tag }) => !(kind === 'SCHEMA' && there.has(`SCHEMA ${tag}`)))
    .map((item, index) => ({
      no: index + 1,
      section: item.section,
      kind: item.kind,
      tag: item.schema === null ? item.tag : `${item.schema}.${item.tag}`,
      table: tableOf(item, byId, numbers),
      sql: item.sql,
      drop: dropOf(item, names.get(item.id), there),
    }));
}

/** Of `schema: create`, before anything is written: none of the chosen tables may be there. Throws PreflightFailed. */
export async function refuseTaken(
  source: Session,
  target: Session,
  context: Pick<CopyContext, 'control'>,
  map: readonly StoredMap[] = [],
): Promise<number> {
  const chosen = await chosenTables(source, context.control.tables);
  const create = context.control.schema === 'create';
  const places = chosen.map((table) => targetOf(table, mapOf(map, table)));
  const rows = await target.rows<{ schema: string; name: string; there: boolean }>(
    `SELECT f.schema, f.name, c.oid IS NOT NULL AS there FROM jsonb_to_recordset($1::jsonb) AS f(schema text, name text)
       LEFT JOIN pg_namespace AS n ON n.nspname = f.schema LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = f.name`,
    [JSON.stringify(places)],
  );
  const wrong = rows.filter(({ there }) => there === create).map(({ schema, name }) => `${schema}.${name}`);
  if (wrong.length > 0)
    throw new Problem(
      'PreflightFailed',
      `${target.name}: ${wrong.slice(0, 5).join(', ')}${wrong.length > 5 ? ` and ${wrong.length - 5} more` : ''} ${create ? 'exist there already' : 'do not exist there'}`,
      {
        hint: create ? 'drop them, choose other tables, or say  schema: existing' : 'say  schema: create',
        details: { checks: wrong.slice(0, 50) },
      },
    );
  const merged = context.control.load !== undefined && context.control.load.method !== 'copy';
  if (!create && !merged) await refuseFilled(target, rows);
  return chosen.filter(({ kind }) => kind === 'r').length;
}

async function holdsRows(target: Session, table: { schema: string; name: string }): Promise<boolean> {
  const kind = await target.one<{ whole: boolean }>(
    `SELECT c.relkind = 'p' AS whole FROM pg_class AS c WHERE c.oid = to_regclass($1)`,
    [relation(table)],
  );
  return (
    (await target.one(`SELECT 1 AS one FROM ${kind?.whole ? '' : 'ONLY '}${relation(table)} LIMIT 1`)) !== undefined
  );
}

async function refuseFilled(target: Session, tables: readonly { schema: string; name: string }[]): Promise<void> {
  for (const { schema, name } of tables)
    if (await holdsRows(target, { schema, name }))
      throw new Problem('PreflightFailed', `${target.name}: ${schema}.${name} holds rows already`, {
        hint: 'empty it, or say  load: { method: insert }  or upsert: then rows that are there stay',
      });
}

/** Every role that the source's objects name must be known to the target: owners, grantees, those of policies. Throws PreflightFailed. */
export async function refuseMissingRoles(source: Session, target: Session): Promise<void> {
  const named = await source.rows<{ name: string }>(
    `SELECT DISTINCT r.rolname::text AS name FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid
      WHERE d.refclassid = 'pg_authid'::regclass AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  const missing = await target.rows<{ name: string }>(
    `SELECT n AS name FROM unnest($1::text[]) AS n WHERE NOT EXISTS (SELECT 1 FROM pg_roles AS r WHERE r.rolname = n) ORDER BY 1`,
    [named.map(({ name }) => name)],
  );
  if (missing.length === 0) return;
  throw new Problem('PreflightFailed', `${target.name}: lacks roles that the source's objects name`, {
    hint: missing
      .slice(0, 20)
      .map(({ name }) => `CREATE ROLE ${ident(name)};`)
      .join(' '),
    details: { checks: missing.map(({ name }) => name) },
  });
}
