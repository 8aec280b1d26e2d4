/**
 * The map before anything is written: every entry is compiled against both servers, and the source itself says whether each expression is one over its
 * row. Keeps true: nothing of the plan is run here; what is wrong is told with its place in the plan.
 */
import type { CopyControl } from '../../plan/model/dataMigration';
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import type { TableMapping } from '../../plan/model/tableMapping';
import { changesShape, NO_MAPPING } from '../../plan/model/tableMapping';
import { loadParser, rowExpression } from '../../plan/sql/rowExpression';
import type { Found } from '../copy/tables';
import type { Session } from '../session';
import { inTransaction } from '../session';
import type { SelfTest } from '../verify/selfTest';
import { selfTest } from '../verify/selfTest';
import { derivedTable } from './derived';
import { placed } from './placed';
import { checkOnward } from './onward';
import { resolveMap } from './resolve';
import { fromOf, selectRange } from './select';
import type { Spec } from './spec';
import { ROW } from './spec';
import type { StoredMap } from './store';
import { entriesOf, isStaged, mapOf, targetOf } from './store';
import type { MapTable } from './tables';
import { readMapTable } from './tables';

export interface CheckMaps {
  readonly source: Session;
  readonly target: Session;
  readonly control: CopyControl;
  readonly map: Readonly<Record<string, TableMapping>>;
  /** As chosenTables gives them. */
  readonly chosen: readonly Found[];
}

const COPY = { method: 'copy', onConflict: 'fail', disable: [] } as const;
const WHOLE = { condition: null, bucket: null, except: [] };

const same = (a: RelationName, b: RelationName): boolean => a.schema === b.schema && a.name === b.name;

/** @throws Problem NoSuchObject, InvalidPlan, PreflightFailed with where.path; what Postgres says of an expression. */
export async function checkMaps({ source, target, control, map, chosen }: CheckMaps): Promise<void> {
  const entries = entriesOf(map);
  for (const { named, path } of entries)
    if (!chosen.some((table) => same(table, named)))
      throw new Problem('NoSuchObject', `${path}: the source has no such table, or tables does not choose it`, {
        where: { path },
      });
  if (entries.length === 0 && !isStaged(control, null)) return;
  await loadParser();
  const test = await selfTest({ source, target });
  for (const table of chosen) {
    const entry = mapOf(entries, table);
    if (table.kind !== 'r' || !isStaged(control, entry)) continue;
    refuseSpread(table, entry, control);
    await checkOne({ source, target, control, test }, table, entry);
  }
}

/** What a map of a partitioned table cannot mean for each partition alone. */
function refuseSpread(table: Found, entry: StoredMap | null, control: CopyControl): void {
  if (entry === null || same(entry.named, table)) return;
  const { path, mapping } = entry;
  const bad = (at: string, what: string, hint: string): Problem =>
    new Problem('InvalidPlan', `${path}.${at}: ${what}`, { where: { path: `${path}.${at}` }, hint });
  if (mapping.deduplicate !== undefined)
    throw bad('deduplicate', 'duplicates may lie in different partitions', 'name the partitions one by one');
  if (mapping.to !== undefined && (control.load?.method ?? 'copy') === 'copy')
    throw bad('to', 'several partitions go to one table', 'say  load: { method: insert }  or upsert');
  if (control.schema === 'create' && changesShape(mapping))
    throw bad(
      'columns',
      'the shape of partitions cannot be changed on the way',
      'make the tables, and say  schema: existing',
    );
}

interface Checking {
  readonly source: Session;
  readonly target: Session;
  readonly control: CopyControl;
  readonly test: SelfTest;
}

async function checkOne(
  { source, target, control, test }: Checking,
  table: Found,
  entry: StoredMap | null,
): Promise<void> {
  const mapping = entry?.mapping ?? NO_MAPPING;
  const path = entry?.path ?? `map.${shownRelation(table)}`;
  const to = targetOf(table, entry);
  const from = await readMapTable(source, table);
  if (from === null) throw new Problem('NoSuchObject', `${shownRelation(table)} is not there any more`);
  const goesOn = control.streaming !== undefined || control.incremental !== undefined;
  await checkNames(source, mapping, from, path, goesOn);
  const existing = control.schema === 'existing';
  const there = existing ? await readMapTable(target, to) : await derivedTable(source, mapping, from, path, to);
  if (there === null)
    throw new Problem('PreflightFailed', `${path}: ${shownRelation(to)} is not there on ${target.name}`, {
      where: { path },
      hint: 'make it, or say  schema: create',
    });
  const load = control.load ?? COPY;
  const onward = control.incremental !== undefined;
  const spec = resolveMap({ mapping, path, source: from, target: there, load, existing, test, onward });
  await checkExpressions(source, spec, path);
  if (control.streaming) await checkOnward(source, { spec, path, table: from, capture: control.streaming.capture });
}

/** Functions that may answer differently for the same row, as the catalogue has them. */
async function checkNames(
  source: Session,
  mapping: TableMapping,
  table: MapTable,
  path: string,
  goesOn: boolean,
): Promise<void> {
  const of = { table, columns: table.columns.map(({ name }) => name), alias: ROW };
  for (const { text, at } of texts(mapping, path)) {
    const { functions, nested } = rowExpression(text, of, at);
    if (nested && goesOn)
      throw new Problem('NotYet', `${at}: what other rows say changes without this one: not built for what goes on`, {
        where: { path: at },
        value: text,
        hint: 'one row must be made of one row; or say  transfer: full',
      });
    if (functions.length === 0) continue;
    const volatile = await source.one<{ name: string }>(
      `SELECT p.proname::text AS name FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
         JOIN jsonb_to_recordset($1::jsonb) AS f(schema text, name text) ON f.name = p.proname AND (f.schema = n.nspname OR (f.schema = '' AND n.nspname IN ('pg_catalog', 'public')))
        GROUP BY p.proname HAVING bool_and(p.provolatile = 'v') LIMIT 1`,
      [JSON.stringify(functions)],
    );
    if (volatile)
      throw new Problem('InvalidPlan', `${at}: ${volatile.name}() may give another value for the same row`, {
        where: { path: at },
        value: text,
        hint: 'a range may be copied again, and the proof repeats it; a function of your own that only reads is STABLE',
      });
  }
}

function texts(mapping: TableMapping, path: string): { text: string; at: string }[] {
  const list = [
    ...(mapping.where === undefined ? [] : [{ text: mapping.where, at: `${path}.where` }]),
    ...Object.entries(mapping.enrich).map(([name, { sql }]) => ({ text: sql, at: `${path}.enrich.${name}.sql` })),
  ];
  for (const [name, rule] of Object.entries(mapping.columns))
    if (typeof rule === 'object' && 'sql' in rule) list.push({ text: rule.sql, at: `${path}.columns.${name}.sql` });
  for (const [name, rule] of Object.entries(mapping.validate))
    if (typeof rule === 'object' && 'sql' in rule) list.push({ text: rule.sql, at: `${path}.validate.${name}.sql` });
  return list;
}

/** Each alone in a WHERE, where neither an aggregate nor a set can stand; then all together as they will be asked. */
async function checkExpressions(source: Session, spec: Spec, path: string): Promise<void> {
  const parts: { sql: string; at: string; predicate: boolean }[] = [
    ...(spec.where === null ? [] : [{ sql: spec.where, at: `${path}.where`, predicate: true }]),
    ...spec.rules.map(({ sql, path: at }) => ({ sql, at, predicate: true })),
    ...spec.columns.map(({ sql, path: at }) => ({ sql, at, predicate: false })),
  ];
  for (const { sql, at, predicate } of parts)
    await explained(source, `SELECT 1 FROM ${fromOf(spec)} WHERE ${predicate ? `(${sql})` : `(${sql}) IS NULL`}`, at);
  await explained(source, selectRange(spec, WHOLE), path);
}

async function explained(source: Session, sql: string, path: string): Promise<void> {
  await placed(path, () =>
    inTransaction(source, async () => {
      await source.run(`SET LOCAL search_path = pg_catalog, public`);
      await source.run(`EXPLAIN ${sql}`);
    }),
  );
}
