/**
 * Finds rows again by their keys (or, where there is none, by the hash of the whole row): what version a side has just now. Any number of keys in
 * one statement; by index where there is one.
 */
import { ident } from '../ident';
import type { Candidate } from './lanes';
import { HASH_KEY } from './lanes';
import type { Pair, PairKey } from './pairs';
import type { SessionPair } from './session';
import type { Side } from './tally';

/** What a side has under a key. Empty `hash` = no such row. */
export interface Version {
  readonly hash: string;
  /** Changes with every write to the row. */
  readonly writes: string;
}

export const NO_ROW: Version = { hash: '', writes: '' };

export type KeyValues = readonly (string | null)[];

export const valuesOf = (pair: Pair, { key }: Pick<Candidate, 'key'>): KeyValues =>
  pair.key === null ? [key[HASH_KEY] ?? null] : pair.key.names.map((name) => key[name] ?? null);

export const keyId = (values: KeyValues): string => JSON.stringify(values);

export interface Found {
  /** `unnest(...) AS q(...) JOIN table AS t ON ...`, with $1, $2, ... */
  readonly from: string;
  readonly values: readonly unknown[];
}

/** The rows of these keys over alias t; q.n is the key's place in the list, from 1. */
export function joinKeys(pair: Pair, key: PairKey, side: Side, keys: readonly KeyValues[]): Found {
  const arrays: string[] = [];
  const on: string[] = [];
  key.columns.forEach((column, index) => {
    const plain = side === 'target' ? column.to : column.from;
    const simple = plain !== null && column[side] === `t.${ident(plain.name)}`;
    const type = simple ? plain.type : 'text';
    arrays.push(`$${index + 1}::text[]::${type}[]`);
    const left = simple ? column[side] : `(${column[side]})::text`;
    on.push(plain?.notNull ? `${left} = q.k${index}` : `${left} IS NOT DISTINCT FROM q.k${index}`);
  });
  const names = key.columns.map((_, index) => `k${index}`).join(', ');
  return {
    from: `unnest(${arrays.join(', ')}) WITH ORDINALITY AS q(${names}, n) JOIN ${pair.from[side]} ON ${on.join(' AND ')} AND ${pair.where[side]}`,
    values: key.columns.map((_, index) => keys.map((values) => values[index] ?? null)),
  };
}

interface Row extends Record<string, unknown> {
  readonly n: number;
  readonly hash: string;
  readonly writes: string;
}

/** Versions by `keyId`; keys without a row are left out. */
export async function lookup(
  { source, target }: SessionPair,
  pair: Pair,
  side: Side,
  keys: readonly KeyValues[],
): Promise<Map<string, Version>> {
  const session = side === 'source' ? source : target;
  if (keys.length === 0) return new Map();
  if (pair.key === null) {
    const rows = await session.rows<{ hash: string; n: string }>(
      `SELECT ${pair.rowHash[side]}::text AS hash, count(*)::text AS n FROM ${pair.from[side]}
        WHERE ${pair.where[side]} AND ${pair.rowHash[side]} = ANY ($1::int8[]) GROUP BY 1`,
      [keys.map(([hash]) => hash)],
    );
    return new Map(rows.map(({ hash, n }) => [keyId([hash]), { hash: n, writes: n }]));
  }
  const { from, values } = joinKeys(pair, pair.key, side, keys);
  const rows = await session.rows<Row>(
    `SELECT q.n::float8 AS n, string_agg(${pair.rowHash[side]}::text, ',' ORDER BY ${pair.rowHash[side]}) AS hash,
            string_agg(t.xmin::text, ',' ORDER BY t.xmin::text) AS writes FROM ${from} GROUP BY q.n`,
    values,
  );
  return new Map(rows.map(({ n, hash, writes }) => [keyId(keys[n - 1] ?? []), { hash, writes }]));
}
