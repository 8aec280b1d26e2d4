/**
 * Which table is compared with which, column by column. Keeps true: a column that one side lacks and the plan does not explain is an error of its
 * own, never left out in silence; a key is used for walking only when both sides have it as an index and sort it the same way.
 */
import { Problem } from '../../plan/model/errors';
import { shown, shownRelation } from '../../plan/model/quote';
import type { KeyColumn, RelationName } from '../../plan/model/steps';
import { parseColumnName, parseTableName, tableFilter } from '../../plan/model/tableNames';
import type { TableMap, ValidationPlan, VerifyFinding } from '../../plan/model/validation';
import { ident, literal, relation } from '../ident';
import type { Compared, Sides } from './images';
import { hashOf, imagesOf, keyTextOf } from './images';
import type { SelfTest } from './selfTest';
import type { Column, Shape } from './shapes';

export interface PairColumn extends Compared {
  /** The target's name. */
  readonly name: string;
}

export interface PairKey {
  /** The target's names; of a source that lacks the target's index too. */
  readonly names: readonly string[];
  /** Array of text over alias t, the same on both sides for the same key. */
  readonly text: Sides;
  readonly columns: readonly PairColumn[];
  /** 64-bit hash of `text`. */
  readonly hash: Sides;
  /** Ranges of this key hold the same rows on both sides, and an index finds them. */
  readonly walk: {
    readonly source: readonly KeyColumn[];
    readonly target: readonly KeyColumn[];
    readonly sum: Sides;
  } | null;
}

export interface Pair {
  /** For people, and the name in pgshift's tables: the source's, and the target's. */
  readonly label: string;
  readonly targetLabel: string;
  readonly source: Shape;
  readonly target: Shape;
  /** FROM item with alias t, and what the plan's filter leaves of it. */
  readonly from: Sides;
  readonly where: Sides;
  readonly columns: readonly PairColumn[];
  readonly rowHash: Sides;
  readonly key: PairKey | null;
  /** The plan changes names, rows or values. */
  readonly mapped: boolean;
}

export interface Pairs {
  readonly pairs: readonly Pair[];
  readonly findings: readonly VerifyFinding[];
}

export interface PairInput {
  readonly plan: ValidationPlan;
  readonly source: readonly Shape[];
  readonly target: readonly Shape[];
  /** Both connections are one database: a table is not compared with itself. */
  readonly sameDatabase: boolean;
  readonly test: SelfTest;
}

const nameKey = ({ schema, name }: RelationName): string => `${schema}\u0000${name}`;

const NO_MAP: TableMap = { columns: {}, omit: [], nulls: {}, enrich: {} };

/** @throws Problem NoSuchObject for a name of the plan that is not there, SameDatabase. */
export function pairTables(input: PairInput): Pairs {
  const { plan, source, target } = input;
  const wanted = tableFilter(plan.tables.include, plan.tables.exclude);
  const byName = new Map(target.map((shape) => [nameKey(shape), shape]));
  const maps = mapsByTable(plan, source);
  const findings: VerifyFinding[] = [];
  const pairs: Pair[] = [];
  for (const from of source.filter(wanted)) {
    const map = maps.get(nameKey(from)) ?? NO_MAP;
    const to = map.to === undefined ? from : (parseTableName(map.to) ?? from);
    if (input.sameDatabase && nameKey(to) === nameKey(from)) {
      if (maps.has(nameKey(from))) throw sameTable(shownRelation(from));
      continue;
    }
    const found = byName.get(nameKey(to));
    if (!found) {
      const message = `${shownRelation(to)} is not there on the target`;
      findings.push({ check: 'rows', table: shownRelation(from), message });
      continue;
    }
    const made = pairOf(input, { from, to: found, map });
    pairs.push(made.pair);
    findings.push(...made.findings);
  }
  if (pairs.length === 0 && findings.length === 0)
    throw input.sameDatabase
      ? new Problem('SameDatabase', 'source and target are the same database, and no map.to names other tables')
      : new Problem('NoSuchObject', 'no table of the source matches tables.include', {
          where: { path: 'tables.include' },
        });
  return { pairs, findings };
}

const sameTable = (table: string): Problem =>
  new Problem('SameDatabase', `${table} would be compared with itself`, { hint: 'name another table under map.to' });

function mapsByTable(plan: ValidationPlan, source: readonly Shape[]): Map<string, TableMap> {
  const known = new Set(source.map(nameKey));
  const maps = new Map<string, TableMap>();
  for (const [text, map] of Object.entries(plan.map)) {
    const name = parseTableName(text);
    if (name === null || !known.has(nameKey(name)))
      throw new Problem('NoSuchObject', `map: the source has no table ${name ? shownRelation(name) : ''}`, {
        where: { path: `map.${text}` },
      });
    maps.set(nameKey(name), map);
  }
  return maps;
}

interface Match {
  readonly from: Shape;
  readonly to: Shape;
  readonly map: TableMap;
}

function pairOf({ test }: PairInput, match: Match): { pair: Pair; findings: VerifyFinding[] } {
  const { from, to, map } = match;
  const label = shownRelation(from);
  const { columns, missing } = compareColumns(match);
  const images = columns.map((column) => imagesOf(column, test));
  const only = (shape: Shape): string => `${shape.partitioned ? '' : 'ONLY '}${relation(shape)} AS t`;
  const key = keyOf(columns, match, test);
  const pair: Pair = {
    label,
    targetLabel: shownRelation(to),
    source: from,
    target: to,
    from: { source: only(from), target: only(to) },
    where: { source: map.where === undefined ? 'true' : `(${map.where})`, target: 'true' },
    columns,
    rowHash: {
      source: hashOf(
        images.map((i) => i.source),
        test,
      ),
      target: hashOf(
        images.map((i) => i.target),
        test,
      ),
    },
    key,
    mapped: map !== NO_MAP,
  };
  return { pair, findings: missing.map((message) => ({ check: 'rows', table: label, message })) };
}

/** Column by column, in the order of the target's names. */
function compareColumns({ from, to, map }: Match): { columns: PairColumn[]; missing: string[] } {
  const names = (record: Readonly<Record<string, unknown>>): string[] => Object.keys(record);
  const read = (text: string): string => parseColumnName(text) ?? text;
  const given = new Map([
    ...names(map.columns).map((n) => [read(n), map.columns[n]] as const),
    ...names(map.enrich).map((n) => [read(n), map.enrich[n]] as const),
  ]);
  const nulls = new Map(names(map.nulls).map((n) => [read(n), map.nulls[n]]));
  const omitted = new Set(map.omit.map(read));
  const sources = new Map(from.columns.map((c) => [c.name, c]));
  const used = new Set<string>();
  const columns: PairColumn[] = [];
  const missing: string[] = [];
  for (const column of to.columns) {
    const rule = given.get(column.name);
    const oldName = rule === undefined ? column.name : typeof rule === 'string' ? read(rule) : null;
    const old = oldName === null ? null : (sources.get(oldName) ?? undefined);
    if (old === undefined) {
      if (rule !== undefined) throw noColumn(from, oldName ?? '');
      if (!omitted.has(column.name)) missing.push(`column ${shown(column.name)} is on the target only`);
      continue;
    }
    if (old) used.add(old.name);
    // A computed value under an old name replaces the old one.
    else if (sources.has(column.name)) used.add(column.name);
    if (omitted.has(column.name)) continue;
    const plain = old === null ? `(${typeof rule === 'object' ? rule.sql : ''})` : `t.${ident(old.name)}`;
    const filler = nulls.get(column.name);
    const source = filler === undefined ? plain : `coalesce(${plain}, ${literal(String(filler))})`;
    columns.push({ name: column.name, from: old, to: column, source, target: `t.${ident(column.name)}` });
    given.delete(column.name);
  }
  for (const name of given.keys()) throw noColumn(to, name);
  const unused = from.columns.filter((c) => !used.has(c.name) && !omitted.has(c.name) && !isRead(c, map));
  missing.push(...unused.map((c) => `column ${shown(c.name)} is on the source only`));
  return { columns: columns.sort((a, b) => (a.name < b.name ? -1 : 1)), missing };
}

/** A column that an expression of the plan reads is explained by it. */
const isRead = ({ name }: Column, map: TableMap): boolean => {
  const texts = [...Object.values(map.columns), ...Object.values(map.enrich)].flatMap((of) =>
    typeof of === 'string' ? [] : [of.sql],
  );
  return texts.some((sql) => sql.split(/[^\p{L}\p{N}_$]+/u).includes(name) || sql.includes(ident(name)));
};

const noColumn = (of: Shape, name: string): Problem =>
  new Problem('NoSuchObject', `map: ${shownRelation(of)} has no column ${shown(name)}`, { where: { path: 'map' } });

/** Types that every server sorts the same way, without a collation's help. */
const ORDERED: ReadonlySet<number> = new Set([16, 17, 20, 21, 23, 26, 1082, 1114, 1184, 1700, 2950]);
const STRINGS: ReadonlySet<number> = new Set([25, 1042, 1043]);
const INTEGERS: readonly number[] = [21, 23, 20];

function walks({ from, to, source }: PairColumn): boolean {
  if (from === null || source !== `t.${ident(from.name)}`) return false;
  if (INTEGERS.includes(from.typeOid) && INTEGERS.includes(to.typeOid))
    return INTEGERS.indexOf(to.typeOid) >= INTEGERS.indexOf(from.typeOid);
  if (from.typeOid !== to.typeOid) return false;
  return ORDERED.has(from.typeOid) || (STRINGS.has(from.typeOid) && from.plainOrder && to.plainOrder);
}

function keyOf(columns: readonly PairColumn[], { from, to }: Match, test: SelfTest): PairKey | null {
  const byTarget = new Map(columns.map((c) => [c.name, c]));
  const bySource = new Map(columns.flatMap((c) => (c.from ? [[c.from.name, c] as const] : [])));
  const complete = (list: (PairColumn | undefined)[]): PairColumn[][] =>
    list.every((c) => c !== undefined) ? [list as PairColumn[]] : [];
  const ofTarget = to.keys.flatMap((names) => complete(names.map((n) => byTarget.get(n))));
  const ofSource = from.keys.flatMap((names) => complete(names.map((n) => bySource.get(n))));
  const indexed = new Set(from.keys.map((names) => names.join('\u0000')));
  const walkable = ofTarget.find(
    (list) => list.every(walks) && indexed.has(list.map((c) => c.from?.name ?? '').join('\u0000')),
  );
  const chosen = walkable ?? ofTarget[0] ?? ofSource[0];
  return chosen === undefined ? null : makeKey(chosen, chosen === walkable, test);
}

function makeKey(columns: readonly PairColumn[], walkable: boolean, test: SelfTest): PairKey {
  const texts = columns.map(keyTextOf);
  const images = columns.map((c) => imagesOf(c, test));
  const each = (side: keyof Sides, list: readonly Sides[]): string[] => list.map((l) => l[side]);
  const [only, ...more] = columns;
  const integer = only !== undefined && more.length === 0 && INTEGERS.includes(only.to.typeOid);
  const sum = (side: keyof Sides): string => (integer ? only[side] : hashOf(each(side, images), test));
  return {
    names: columns.map((c) => c.name),
    columns,
    text: {
      source: `ARRAY[${each('source', texts).join(', ')}]`,
      target: `ARRAY[${each('target', texts).join(', ')}]`,
    },
    hash: { source: hashOf(each('source', texts), test), target: hashOf(each('target', texts), test) },
    walk: walkable
      ? {
          source: columns.map((c) => ({ name: c.from?.name ?? '', type: c.from?.type ?? '' })),
          target: columns.map((c) => ({ name: c.to.name, type: c.to.type })),
          sum: { source: sum('source'), target: sum('target') },
        }
      : null,
  };
}
