/**
 * Ranges of rows as SQL: by keyset (a unique, not-null key, compared as a row, so composite keys work) or by ctid (blocks of the heap).
 * Keeps true: every row is in exactly one range; bounds travel as text and are cast back to the key's own type; a keyset range is open at
 * its lower end and closed at its upper one, a ctid range the other way round.
 */
import type { KeyColumn, RelationName } from '../plan/model/steps';
import { ident, literal, relation } from './ident';
import type { Session } from './session';

/** Key values as Postgres prints them; for ctid a block number, and a line pointer when it is not 0. */
export type Bound = readonly string[];

export interface Range {
  /** null = from the very start. */
  readonly low: Bound | null;
  /** null = to the very end. */
  readonly high: Bound | null;
}

export interface RangeSql {
  /** Predicate over the alias with $1, $2, ...; `values` belong to it. */
  readonly text: string;
  readonly values: readonly string[];
}

export interface Keyed {
  readonly table: RelationName;
  readonly key: readonly KeyColumn[] | null;
}

const columns = (alias: string, key: readonly KeyColumn[]): string =>
  `(${key.map(({ name }) => `${alias}.${ident(name)}`).join(', ')})`;
const casts = (key: readonly KeyColumn[], from: number): string =>
  `(${key.map(({ type }, index) => `$${from + index}::${type}`).join(', ')})`;

/** The predicate of a range. `alias` is an identifier as it stands in the statement. */
export function rangeSql(alias: string, key: readonly KeyColumn[] | null, range: Range): RangeSql {
  const values: string[] = [];
  const parts: string[] = [];
  const [afterLow, upToHigh] = key === null ? ['>=', '<'] : ['>', '<='];
  for (const [operator, bound] of [
    [afterLow, range.low],
    [upToHigh, range.high],
  ] as const) {
    if (bound === null) continue;
    if (key === null) {
      values.push(`(${bound[0] ?? '0'},${bound[1] ?? '0'})`);
      parts.push(`${alias}.ctid ${operator} $${values.length}::tid`);
    } else {
      parts.push(`${columns(alias, key)} ${operator} ${casts(key, values.length + 1)}`);
      values.push(...bound);
    }
  }
  return { text: parts.length > 0 ? parts.join(' AND ') : 'true', values };
}

/** Table as UPDATE, DELETE and SELECT name it: by ctid one heap at a time, so ONLY. */
export const heap = ({ table, key }: Keyed): string => `${key === null ? 'ONLY ' : ''}${relation(table)}`;

/** The highest key that is there now; null = no rows. For ctid the number of blocks. */
export async function highWater(session: Session, of: Keyed): Promise<Bound | null> {
  if (of.key === null) return blocksOf(session, of.table);
  const order = of.key.map(({ name }) => `t.${ident(name)} DESC`).join(', ');
  const row = await session.one<{ bound: string[] }>(
    `SELECT ARRAY[${of.key.map(({ name }) => `t.${ident(name)}::text`).join(', ')}] AS bound
       FROM ${relation(of.table)} AS t ORDER BY ${order} LIMIT 1`,
  );
  return row?.bound ?? null;
}

async function blocksOf(session: Session, table: RelationName): Promise<Bound | null> {
  const row = await session.one<{ blocks: string }>(
    `SELECT (pg_catalog.pg_relation_size($1::regclass) / pg_catalog.current_setting('block_size')::int)::text AS blocks`,
    [relation(table)],
  );
  return row === undefined || row.blocks === '0' ? null : [row.blocks];
}

export interface NextRange {
  readonly high: Bound;
  /** Holds fewer rows than were asked for: how many is not known. */
  readonly short: boolean;
  /** Rows in it: exact by key, by density of blocks for ctid. */
  readonly about: number;
}

/**
 * The upper end of the next range after `low`, about `rows` rows long and never beyond `mark`. `rowsPerBlock` is used for ctid alone. null = nothing is left.
 */
export async function nextBound(
  session: Session,
  of: Keyed,
  at: { readonly low: Bound | null; readonly mark: Bound; readonly rows: number; readonly rowsPerBlock: number },
): Promise<NextRange | null> {
  const { low, mark, rows } = at;
  if (of.key === null) {
    const from = Number(low?.[0] ?? 0);
    const end = Number(mark[0]);
    if (from >= end) return null;
    const high = Math.min(end, from + Math.max(1, Math.round(rows / at.rowsPerBlock)));
    return { high: [String(high)], short: false, about: Math.round((high - from) * at.rowsPerBlock) };
  }
  if (low !== null && low.every((value, index) => value === mark[index])) return null;
  const range = rangeSql('t', of.key, { low, high: mark });
  const found = await session.one<{ bound: string[] }>(
    `SELECT ARRAY[${of.key.map(({ name }) => `t.${ident(name)}::text`).join(', ')}] AS bound FROM ${relation(of.table)} AS t
      WHERE ${range.text} ORDER BY ${of.key.map(({ name }) => `t.${ident(name)}`).join(', ')} OFFSET ${rows - 1} LIMIT 1`,
    range.values,
  );
  return found ? { high: found.bound, short: false, about: rows } : { high: mark, short: true, about: rows };
}

const SAMPLED_BLOCKS = 300;

/** Upper ends that split the table into about `parts` equal lanes, the last one aside; fewer when they cannot be told. */
export async function splitBounds(session: Session, of: Keyed, mark: Bound, parts: number): Promise<Bound[]> {
  if (parts <= 1) return [];
  if (of.key === null) {
    const blocks = Number(mark[0]);
    const ends = Array.from({ length: parts - 1 }, (_, index) => Math.floor((blocks * (index + 1)) / parts));
    return [...new Set(ends)].filter((end) => end > 0 && end < blocks).map((end) => [String(end)]);
  }
  const pages = await blocksOf(session, of.table);
  // A partitioned table has no blocks of its own, and sampling its partitions would read them whole.
  if (pages === null) return [];
  const percent = Math.min(100, (100 * SAMPLED_BLOCKS) / Math.max(1, Number(pages[0])));
  const order = of.key.map(({ name }) => `t.${ident(name)}`).join(', ');
  const sample = await session.rows<{ bound: string[] }>(
    `SELECT ARRAY[${of.key.map(({ name }) => `t.${ident(name)}::text`).join(', ')}] AS bound
       FROM ${relation(of.table)} AS t TABLESAMPLE SYSTEM (${percent}) ORDER BY ${order}`,
  );
  const ends = Array.from(
    { length: parts - 1 },
    (_, index) => sample[Math.floor((sample.length * (index + 1)) / parts)],
  );
  const seen = new Set<string>([mark.join('\u0000')]);
  return ends.flatMap((row) => {
    const id = row?.bound.join('\u0000');
    if (row === undefined || id === undefined || seen.has(id)) return [];
    seen.add(id);
    return [row.bound];
  });
}

/** The key of rows as jsonb over alias `t`, for pgshift.differences. */
export const keyJson = (key: readonly KeyColumn[] | null): string =>
  key === null
    ? `jsonb_build_object('ctid', t.ctid::text)`
    : `jsonb_build_object(${key.map(({ name }) => `${literal(name)}, t.${ident(name)}::text`).join(', ')})`;
