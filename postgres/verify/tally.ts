/**
 * Looks at a range of rows on both sides at once: count, key sum and fingerprint; where they differ, the range is divided by the hash of its keys
 * until few enough rows are left to lay side by side. Reads only; every statement has a snapshot of its own, so none is held for long.
 */
import type { Range } from '../ranges';
import { rangeSql } from '../ranges';
import type { Sides } from './images';
import type { Candidate } from './lanes';
import type { Pair, PairKey } from './pairs';
import type { SessionPair } from './session';

export type Side = keyof Sides;

/** Numbers as text: sums are beyond what JavaScript holds. */
export interface Tally {
  readonly rows: number;
  readonly keys: string;
  readonly sum: string;
}

interface Where {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** Rows laid side by side without dividing first. */
const FEW_ROWS = 4_000;
const BUCKETS = 1_024;

export const onBoth = async <T>(work: (side: Side) => Promise<T>): Promise<Record<Side, T>> => {
  const [source, target] = await Promise.all([work('source'), work('target')]);
  return { source, target };
};

export function rangeWhere(pair: Pair, key: PairKey, side: Side, range: Range): Where {
  const { text, values } = rangeSql('t', key.walk?.[side] ?? [], range);
  return { text: `${text} AND ${pair.where[side]}`, values };
}

async function tallyOf({ sessions, pair, key }: Ranged, side: Side, where: Where): Promise<Tally> {
  const row = await sessions[side].one<{ rows: number; keys: string; sum: string }>(
    `SELECT count(*)::float8 AS rows, coalesce(sum(${key.walk?.sum[side] ?? '0'}), 0)::text AS keys,
            coalesce(sum(${pair.rowHash[side]}), 0)::text AS sum FROM ${pair.from[side]} WHERE ${where.text}`,
    where.values,
  );
  return row ?? { rows: 0, keys: '0', sum: '0' };
}

export interface Ranged {
  readonly sessions: SessionPair;
  readonly pair: Pair;
  readonly key: PairKey;
  readonly range: Range;
}

const same = (a: Tally, b: Tally): boolean => a.rows === b.rows && a.keys === b.keys && a.sum === b.sum;

/** Both sides of one range of a key that both sides can walk. */
export async function tallyRange(of: Ranged): Promise<Record<Side, Tally> & { readonly equal: boolean }> {
  const found = await onBoth((side) => tallyOf(of, side, rangeWhere(of.pair, of.key, side, of.range)));
  return { ...found, equal: same(found.source, found.target) };
}

/** Keys of the rows that differ within a range which is known to differ. */
export async function rowsThatDiffer(of: Ranged, rows: number): Promise<Candidate[]> {
  const { pair, key, range } = of;
  const where = (side: Side) => rangeWhere(pair, key, side, range);
  if (rows <= FEW_ROWS) return layTogether(of, where);
  const buckets = await onBoth((side) => bucketsOf(of, side, where(side)));
  const differing = Array.from({ length: BUCKETS }, (_, bucket) => bucket).filter(
    (bucket) => buckets.source.get(bucket) !== buckets.target.get(bucket),
  );
  if (differing.length === 0) return [];
  return layTogether(of, (side) => {
    const { text, values } = where(side);
    const bucket = `(${key.hash[side]} & ${BUCKETS - 1})::int`;
    return { text: `${text} AND ${bucket} = ANY ($${values.length + 1}::int[])`, values: [...values, differing] };
  });
}

async function bucketsOf({ sessions, pair, key }: Ranged, side: Side, where: Where): Promise<Map<number, string>> {
  const rows = await sessions[side].rows<{ bucket: number; tally: string }>(
    `SELECT (u.k & ${BUCKETS - 1})::int AS bucket, concat(count(*), '/', sum(u.k), '/', sum(u.r)) AS tally
       FROM (SELECT ${key.hash[side]} AS k, ${pair.rowHash[side]} AS r FROM ${pair.from[side]} WHERE ${where.text}) AS u GROUP BY 1`,
    where.values,
  );
  return new Map(rows.map(({ bucket, tally }) => [bucket, tally]));
}

type Hashed = Map<string, string[]>;

async function layTogether(
  { sessions, pair, key }: Omit<Ranged, 'range'>,
  where: (side: Side) => Where,
): Promise<Candidate[]> {
  const found = await onBoth(async (side) => {
    const { text, values } = where(side);
    const rows = await sessions[side].rows<{ key: (string | null)[]; hash: string }>(
      `SELECT ${key.text[side]} AS key, ${pair.rowHash[side]}::text AS hash FROM ${pair.from[side]} WHERE ${text}`,
      values,
    );
    return byKey(rows);
  });
  return compareKeys(key.names, found);
}

export function byKey(rows: readonly { readonly key: readonly (string | null)[]; readonly hash: string }[]): Hashed {
  const hashed: Hashed = new Map();
  for (const { key, hash } of rows) {
    const id = JSON.stringify(key);
    const there = hashed.get(id);
    if (there) there.push(hash);
    else hashed.set(id, [hash]);
  }
  return hashed;
}

const version = (hashes: readonly string[] | undefined): string => (hashes ? [...hashes].sort().join(',') : '');

/** Of a key that stands twice on a side both rows count. */
export function compareKeys(names: readonly string[], { source, target }: Record<Side, Hashed>): Candidate[] {
  const found: Candidate[] = [];
  const add = (id: string, kind: Candidate['kind']): void => {
    const values = JSON.parse(id) as (string | null)[];
    found.push({ key: Object.fromEntries(names.map((name, index) => [name, values[index] ?? null])), kind });
  };
  for (const [id, hashes] of source) {
    const there = target.get(id);
    if (there === undefined) add(id, 'missing');
    else if (version(hashes) !== version(there)) add(id, 'changed');
  }
  for (const id of target.keys()) if (!source.has(id)) add(id, 'extra');
  return found;
}
