/**
 * The rows that differ, with both values by column, into pgshift.differences of the target: the only place where they are written. Values are cut
 * after 8 kB (256 characters of wide tables); what differs is decided on the whole value.
 */
import type { DifferenceKind } from '../../plan/model/validation';
import type { KeyValues } from './lookup';
import { joinKeys, keyId } from './lookup';
import type { Pair } from './pairs';
import type { SessionPair } from './session';
import type { Side } from './tally';
import { onBoth } from './tally';

/** A wide table's values are cut earlier: a hundred rows of a thousand columns must fit into one statement. */
const valueMax = ({ columns }: Pair): number => (columns.length > 30 ? 256 : 8_192);

/** One line of pgshift.differences. Of a row that is listed without values `column` is null. */
export interface DifferenceLine {
  readonly key: Readonly<Record<string, string | null>>;
  readonly kind: DifferenceKind;
  readonly column: string | null;
  readonly source: string | null;
  readonly target: string | null;
}

interface Row extends Record<string, unknown> {
  readonly n: number;
  readonly shown: (string | null)[];
  readonly whole: (string | null)[];
}

type Rows = ReadonlyMap<string, Row>;

const keyOf = (pair: Pair, key: KeyValues): Record<string, string | null> =>
  Object.fromEntries((pair.key?.names ?? []).map((name, index) => [name, key[index] ?? null]));

function valuesSql(pair: Pair, side: Side): string {
  const texts = pair.columns.map((column) => `(${column[side]})::text`);
  const list = (wrap: (text: string) => string): string => `ARRAY[${texts.map(wrap).join(', ')}]::text[]`;
  return `${list((text) => `left(${text}, ${valueMax(pair)})`)} AS shown, ${list((text) => `md5(${text})`)} AS whole`;
}

async function readRows(sessions: SessionPair, pair: Pair, side: Side, keys: readonly KeyValues[]): Promise<Rows> {
  const values = valuesSql(pair, side);
  if (pair.key === null) {
    const rows = await sessions[side].rows<Row & { hash: string }>(
      `SELECT DISTINCT ON (u.hash) u.* FROM (SELECT 0::float8 AS n, ${pair.rowHash[side]}::text AS hash, ${values} FROM ${pair.from[side]}
        WHERE ${pair.where[side]} AND ${pair.rowHash[side]} = ANY ($1::int8[])) AS u ORDER BY u.hash`,
      [keys.map(([hash]) => hash)],
    );
    return new Map(rows.map((row) => [keyId([row.hash]), row]));
  }
  const { from, values: parameters } = joinKeys(pair, pair.key, side, keys);
  const rows = await sessions[side].rows<Row>(`SELECT q.n::float8 AS n, ${values} FROM ${from}`, parameters);
  return new Map(rows.map((row) => [keyId(keys[row.n - 1] ?? []), row]));
}

export interface Different {
  readonly key: KeyValues;
  /** As it was found; of rows that are read again, as they are now. */
  readonly kind: DifferenceKind;
}

/** Lines with values for `listed`. A row that is alike by now (it was written a moment ago) is listed as it was found, without values. */
export async function readDifferences(
  sessions: SessionPair,
  pair: Pair,
  listed: readonly Different[],
): Promise<DifferenceLine[]> {
  if (listed.length === 0) return [];
  const keys = listed.map(({ key }) => key);
  const found = await onBoth((side) => readRows(sessions, pair, side, keys));
  return listed.flatMap(({ key, kind }) => linesOf(pair, { key, kind }, found));
}

function linesOf(pair: Pair, { key, kind }: Different, found: Readonly<Record<Side, Rows>>): DifferenceLine[] {
  const [source, target] = [found.source.get(keyId(key)), found.target.get(keyId(key))];
  const named = pair.key === null ? { '(row hash)': key[0] ?? null } : keyOf(pair, key);
  const now = pair.key === null || (source && target) ? kind : source ? 'missing' : target ? 'extra' : kind;
  const lines = pair.columns.flatMap(({ name }, index): DifferenceLine[] => {
    if (source && target && pair.key !== null && source.whole[index] === target.whole[index]) return [];
    const value = (row: Row | undefined): string | null => row?.shown[index] ?? null;
    if (value(source) === null && value(target) === null) return [];
    // A row without key that one side has more often is shown once.
    const shown = pair.key === null ? (now === 'missing' ? 'source' : 'target') : null;
    return [
      {
        key: named,
        kind: now,
        column: name,
        source: shown === 'target' ? null : value(source),
        target: shown === 'source' ? null : value(target),
      },
    ];
  });
  return lines.length > 0 ? lines : [{ key: named, kind: now, column: null, source: null, target: null }];
}
