/**
 * From a table's map, as it is in the plan, to SQL. Keeps true: every column of the source has a place on the target or is left out by name, every
 * column of the target that needs a value gets one; nothing is guessed, and what is wrong is told with its place in the plan.
 */
import { Problem } from '../../plan/model/errors';
import type { LoadControl } from '../../plan/model/dataMigration';
import { shown, shownRelation } from '../../plan/model/quote';
import type { TableMapping } from '../../plan/model/tableMapping';
import { listOf, parseOrder, parsePercent } from '../../plan/model/tableMapping';
import { parseColumnName } from '../../plan/model/tableNames';
import type { RelationName } from '../../plan/model/steps';
import { rowExpression } from '../../plan/sql/rowExpression';
import { ident, literal } from '../ident';
import type { SelfTest } from '../verify/selfTest';
import { columnOf } from './column';
import { lookupSql, ruleSql } from './rules';
import type { Spec, SpecColumn, SpecDedupe, SpecRule } from './spec';
import { ROW } from './spec';
import type { MapTable, TableColumn } from './tables';

export interface MapInput {
  readonly mapping: TableMapping;
  /** `map.<table>`, for messages. */
  readonly path: string;
  readonly source: MapTable;
  readonly target: MapTable;
  readonly load: LoadControl;
  /** Whether the target's table was there before. */
  readonly existing: boolean;
  readonly test: SelfTest;
  /** Rows come again after the copy: they must be found. */
  readonly onward?: boolean;
}

export const readName = (text: string): string => parseColumnName(text) ?? text;
export const onRow = (name: string): string => `${ROW}.${ident(name)}`;

/** Where a column of the target comes from. */
export interface Origin {
  /** The source's column; null = computed. */
  readonly from: TableColumn | null;
  readonly sql: string;
  readonly reads: readonly string[];
  readonly path: string;
  readonly rule: SpecRule | null;
}

const noColumn = (table: RelationName, name: string, path: string): Problem =>
  new Problem('NoSuchObject', `${path}: ${shownRelation(table)} has no column ${shown(name)}`, { where: { path } });

/** What the map says of the target's columns by name; columns that it does not name are taken over by those who ask. */
export function originsOf(mapping: TableMapping, source: MapTable, path: string): Map<string, Origin> {
  const names = source.columns.map(({ name }) => name);
  const known = new Map(source.columns.map((column) => [column.name, column]));
  const of = { table: source, columns: names, alias: ROW };
  const origins = new Map<string, Origin>();
  const computed = (text: string, at: string): Origin => {
    const { sql, reads } = rowExpression(text, of, at);
    return { from: null, sql: `(${sql})`, reads, path: at, rule: null };
  };
  for (const [text, rule] of Object.entries(mapping.columns)) {
    const name = readName(text);
    const at = `${path}.columns.${shown(name)}`;
    if (typeof rule === 'string') {
      const from = known.get(readName(rule));
      if (!from) throw noColumn(source, readName(rule), at);
      origins.set(name, { from, sql: onRow(from.name), reads: [from.name], path: at, rule: null });
    } else if ('sql' in rule) origins.set(name, computed(rule.sql, `${at}.sql`));
    else {
      const column = readName(rule.lookup.column);
      if (!known.has(column)) throw noColumn(source, column, `${at}.lookup.column`);
      const { sql, known: there } = lookupSql(rule.lookup);
      const reason = `no entry for the value of ${column}`;
      const must = there === null ? null : { column: name, rule: 'lookup', sql: there, reason, path: `${at}.lookup` };
      origins.set(name, { from: null, sql: `(${sql})`, reads: [column], path: `${at}.lookup`, rule: must });
    }
  }
  for (const [text, { sql }] of Object.entries(mapping.enrich)) {
    const name = readName(text);
    origins.set(name, computed(sql, `${path}.enrich.${shown(name)}.sql`));
  }
  return origins;
}

/** @throws Problem NoSuchObject, InvalidPlan, PreflightFailed, each with where.path. */
export function resolveMap(input: MapInput): Spec {
  const { mapping, path, source, target, load, test } = input;
  const origins = originsOf(mapping, source, path);
  const columns = columnsOf(input, origins);
  const byTarget = new Map(columns.map((column) => [column.name, column]));
  const tracked = load.method !== 'copy' && (input.existing || load.onConflict !== 'fail');
  const conflict = target.keys.find((key) => key.every((name) => byTarget.has(name))) ?? null;
  if ((tracked || input.onward) && conflict === null)
    throw new Problem(
      'PreflightFailed',
      `${path}: ${shownRelation(target)} has no unique key whose columns are all loaded`,
      {
        where: { path },
        hint: input.onward
          ? 'rows that come again are found by it: add a primary key, or let its columns come over'
          : `load.method: ${load.method} finds rows by it: add a primary key, or say  method: copy`,
      },
    );
  const where = mapping.where === undefined ? null : rowExpression(mapping.where, rowOf(source), `${path}.where`);
  const [key = null] = source.keys;
  return {
    source: { schema: source.schema, name: source.name },
    target: { schema: target.schema, name: target.name },
    targetPartitioned: target.partitioned,
    columns,
    where: where?.sql ?? null,
    whereReads: where?.reads ?? [],
    sample: sampleOf(mapping, source, key),
    rules: rulesOf(input, byTarget, origins),
    dedupe: dedupeOf(mapping, source, path, key),
    key: keyOf(key),
    conflict,
    load,
    tracked,
    method: test.method,
  };
}

const rowOf = (source: MapTable) => ({
  table: source,
  columns: source.columns.map(({ name }) => name),
  alias: ROW,
});

/** Of a table without a key the place where the row lies, as the snapshot sees it. */
const keyOf = (key: readonly string[] | null): string =>
  key === null
    ? `jsonb_build_object('ctid', ${ROW}.ctid::text)`
    : `jsonb_build_object(${key.map((name) => `${literal(name)}, ${onRow(name)}::text`).join(', ')})`;

function columnsOf(input: MapInput, origins: ReadonlyMap<string, Origin>): SpecColumn[] {
  const { mapping, path, source, target, test } = input;
  const omitted = new Set(mapping.omit.map(readName));
  const sources = new Map(source.columns.map((column) => [column.name, column]));
  const nulls = new Map(Object.entries(mapping.nulls).map(([name, value]) => [readName(name), value]));
  for (const name of omitted)
    if (!sources.has(name) && !target.columns.some((column) => column.name === name))
      throw noColumn(source, name, `${path}.omit`);
  const used = new Set([...origins.values()].flatMap(({ reads }) => reads));
  const columns: SpecColumn[] = [];
  const left = new Set(origins.keys());
  for (const to of target.columns) {
    left.delete(to.name);
    const plain = sources.get(to.name);
    const origin =
      origins.get(to.name) ??
      (plain && !omitted.has(to.name)
        ? {
            from: plain,
            sql: onRow(plain.name),
            reads: [plain.name],
            path: `${path}.columns.${shown(to.name)}`,
            rule: null,
          }
        : undefined);
    if (to.generated) {
      if (origins.has(to.name))
        throw new Problem(
          'InvalidPlan',
          `${origins.get(to.name)?.path ?? path}: the target computes ${shown(to.name)} itself`,
          {
            where: { path: origins.get(to.name)?.path ?? path },
          },
        );
      if (plain) used.add(plain.name);
      continue;
    }
    if (origin === undefined) {
      if (to.notNull && !to.hasDefault && to.identity === '')
        throw new Problem(
          'PreflightFailed',
          `${path}: ${shownRelation(target)}.${shown(to.name)} needs a value and gets none`,
          {
            where: { path },
            hint: `say where it comes from:  columns: { ${shown(to.name)}: ... }`,
          },
        );
      continue;
    }
    // A computed value under an old name replaces the old one: that is said, not silent.
    if (origin.from) used.add(origin.from.name);
    else if (plain) used.add(plain.name);
    const filler = nulls.get(to.name);
    nulls.delete(to.name);
    columns.push(columnOf(to, origin, filler === undefined ? null : String(filler), test, columns.length));
  }
  for (const name of left) throw noColumn(target, name, origins.get(name)?.path ?? path);
  for (const name of nulls.keys()) throw noColumn(target, name, `${path}.nulls.${shown(name)}`);
  const lost = source.columns.find(({ name }) => !used.has(name) && !omitted.has(name));
  if (lost)
    throw new Problem('PreflightFailed', `${path}: ${shown(lost.name)} has no place on ${shownRelation(target)}`, {
      where: { path },
      hint: `nothing is left out in silence: say  omit: [${shown(lost.name)}]`,
    });
  return columns;
}

/** A hash of the row's key decides: the same rows in every attempt, and in the proof. */
const SHARES = 1_048_576;
function sampleOf(mapping: TableMapping, source: MapTable, key: readonly string[] | null): string | null {
  if (mapping.sample === undefined) return null;
  const parts = (key ?? source.columns.map(({ name }) => name)).map((name) => `${onRow(name)}::text`);
  const share = Math.round(((parsePercent(mapping.sample) ?? 100) / 100) * SHARES);
  return `(hashtextextended(ROW(${parts.join(', ')})::text, 20) & ${SHARES - 1}) < ${share}`;
}

function rulesOf(
  { mapping, path, source }: MapInput,
  byTarget: ReadonlyMap<string, SpecColumn>,
  origins: ReadonlyMap<string, Origin>,
): SpecRule[] {
  const rules = [...origins.values()].flatMap(({ rule }) => (rule === null ? [] : [rule]));
  for (const [text, rule] of Object.entries(mapping.validate)) {
    const name = readName(text);
    const at = `${path}.validate.${shown(name)}`;
    const column = byTarget.get(name);
    const plain = source.columns.some((one) => one.name === name);
    if (!column && !plain) throw noColumn(source, name, at);
    const own =
      typeof rule === 'object' && 'sql' in rule ? rowExpression(rule.sql, rowOf(source), `${at}.sql`).sql : null;
    // A value that cannot be read as its new type is told as that, not as a value outside its range.
    const value = column && column.from === null ? column.sql : onRow(column?.from ?? name);
    rules.push({ column: name, path: at, ...ruleSql(rule, value, own) });
  }
  return rules;
}

function dedupeOf(
  { deduplicate }: TableMapping,
  source: MapTable,
  path: string,
  key: readonly string[] | null,
): SpecDedupe | null {
  if (deduplicate === undefined) return null;
  const at = `${path}.deduplicate`;
  const column = (text: string, where: string): string => {
    const name = readName(text);
    if (!source.columns.some((one) => one.name === name)) throw noColumn(source, name, where);
    return onRow(name);
  };
  const keys = listOf(deduplicate.key).map((text) => column(text, `${at}.key`));
  const given = listOf(deduplicate.order).flatMap((text) => {
    const item = parseOrder(text);
    return item ? [{ sql: column(ident(item.column), `${at}.order`), descending: item.descending }] : [];
  });
  if (given.length === 0 && key === null)
    throw new Problem('InvalidPlan', `${at}.order: is required for a table without a key`, {
      where: { path: `${at}.order` },
      hint: 'which row is kept must not depend on where it lies',
    });
  // What ties is told apart by the key; where there is none, by its place, which the snapshot keeps.
  const all = [
    ...given,
    ...(key ?? []).map((name) => ({ sql: onRow(name), descending: false })),
    { sql: `${ROW}.ctid`, descending: false },
  ];
  const turned = deduplicate.keep !== 'first';
  const order = all.map(
    ({ sql, descending }) => `${sql} ${descending !== turned ? 'DESC NULLS LAST' : 'ASC NULLS LAST'}`,
  );
  return { key: keys, keep: deduplicate.keep, order: order.join(', ') };
}
