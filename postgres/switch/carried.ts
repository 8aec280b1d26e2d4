/**
 * Which tables and columns a direction carries when green's shape differs from blue's (the plan's change). Keeps true: what replication could not carry,
 * there and back, is refused before a row is copied; a column or table that only green has stays on green.
 */
import { Problem } from '../../plan/model/errors';
import { shown, shownRelation } from '../../plan/model/quote';
import type { Session } from '../session';
import type { Both } from './pair';
import type { Published } from './publication';
import type { Side } from '../../plan/model/traffic';
import { otherSide } from '../../plan/model/traffic';
import type { UserTable } from './tables';
import { ofUser, replicated, userTables } from './tables';

interface Column {
  readonly name: string;
  readonly type: string;
  readonly generated: boolean;
  /** A row without a value for it is refused. */
  readonly demanded: boolean;
}

interface Row extends Column, Record<string, unknown> {
  readonly oid: string;
}

const columnsOf = async (session: Session): Promise<ReadonlyMap<string, readonly Column[]>> => {
  const rows = await session.rows<Row>(
    `SELECT c.oid::text AS oid, a.attname::text AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.attgenerated <> '' AS generated,
            a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS demanded
       FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND ${ofUser('c', 'n')} ORDER BY c.oid, a.attnum`,
  );
  const found = new Map<string, Column[]>();
  for (const row of rows) found.set(row.oid, [...(found.get(row.oid) ?? []), row]);
  return found;
};

/** Column lists came with 15. */
const LISTS_FROM = 150000;

/** What the publication of `publisher` lists: tables that both sides have, and of each the columns that both have. */
export async function carriedTables(both: Both, publisher: Side): Promise<Published[]> {
  const here = both[publisher];
  const there = both[otherSide(publisher)];
  const [mine, theirs] = [await columnsOf(here), await columnsOf(there)];
  const known = new Map((await userTables(there)).map((table) => [shownRelation(table), table]));
  return replicated(await userTables(here)).flatMap((table): Published[] => {
    const { schema, name } = table;
    const other = known.get(shownRelation(table));
    if (other === undefined) return [];
    const names = new Set((theirs.get(other.oid) ?? []).map((column) => column.name));
    const stored = (mine.get(table.oid) ?? []).filter(({ generated }) => !generated);
    const common = stored.filter((column) => names.has(column.name));
    return [common.length === stored.length ? { schema, name } : { schema, name, columns: common.map((c) => c.name) }];
  });
}

/** How green's shape differs from blue's, for verification and for people. */
export interface ShapeDifference {
  /** Tables that only green has. */
  readonly addedTables: readonly string[];
  /** Columns that only green has, by table as blue calls it. */
  readonly addedColumns: Readonly<Record<string, readonly string[]>>;
  /** Columns whose type is another one. */
  readonly changedTypes: readonly string[];
}

/** Throws Refused naming what the change made that cannot be carried. Only reads. */
export async function compareShapes(both: Both): Promise<ShapeDifference> {
  const [blue, green] = [await columnsOf(both.blue), await columnsOf(both.green)];
  const onGreen = new Map((await userTables(both.green)).map((table) => [shownRelation(table), table]));
  const onBlue = await userTables(both.blue);
  const added: Record<string, string[]> = {};
  const changed: string[] = [];
  const wrong: string[] = [];
  for (const table of onBlue) {
    const label = shownRelation(table);
    const other = onGreen.get(label);
    if (other === undefined || other.kind !== table.kind) {
      wrong.push(`${label} is ${other === undefined ? 'not there' : 'another kind of table'}`);
      continue;
    }
    const theirs = new Map((green.get(other.oid) ?? []).map((column) => [column.name, column]));
    for (const column of blue.get(table.oid) ?? []) {
      const found = theirs.get(column.name);
      theirs.delete(column.name);
      if (found === undefined) wrong.push(`${label} has no column ${shown(column.name)}`);
      else if (found.generated !== column.generated)
        wrong.push(`${label}.${shown(column.name)} is generated on one side`);
      else if (found.type !== column.type) changed.push(`${label}.${shown(column.name)}`);
    }
    refuseAdded(label, table, [...theirs.values()], both.green, wrong);
    if (theirs.size > 0) added[label] = [...theirs.keys()];
  }
  if (wrong.length > 0)
    throw new Problem('Refused', `change: green could not follow blue: ${wrong.slice(0, 5).join('; ')}`, {
      hint: 'a change may add tables, columns (with a default, or nullable), indexes and constraints, and widen types; what drops or renames comes after the switch, as a schema migration',
      details: { wrong: wrong.slice(0, 50) },
    });
  const known = new Set(onBlue.map(shownRelation));
  return {
    addedTables: [...onGreen.keys()].filter((label) => !known.has(label)),
    addedColumns: added,
    changedTypes: changed,
  };
}

function refuseAdded(label: string, table: UserTable, added: readonly Column[], green: Session, wrong: string[]): void {
  if (added.length === 0) return;
  const demanded = added.find((column) => column.demanded);
  if (demanded) wrong.push(`${label}.${shown(demanded.name)} wants a value that blue does not have: give it a default`);
  const listed = added.some(({ generated }) => !generated);
  if (listed && green.serverVersion < LISTS_FROM)
    wrong.push(`${label} has more columns than on blue: a way back needs PostgreSQL 15 or later on green`);
  // A whole-row identity does not fit into a list of columns: every UPDATE would be refused.
  if (listed && !table.hasKey && table.identity !== 'i')
    wrong.push(`${label} has more columns than on blue and no primary key: there would be no way back`);
}
