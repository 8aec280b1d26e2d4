/**
 * Cuts one table into ranges of about the same number of bytes, TOAST included. Keeps true: the ranges cover the table without overlap, the
 * first and the last are open to their side, so that what the sample did not see is in one of them.
 */
import { ident, literal, relation } from '../ident';
import type { Bound } from '../ranges';
import type { Session } from '../session';
import type { Shape } from './shape';
import type { NewUnit } from './unit';

/** Below this the second connection costs more than it gives. */
const SPLIT_FROM = 32 * 1024 ** 2;
const SAMPLED_BLOCKS = 300;
const BLOCKS_A_RANGE = 10;
const MOST = 10_000;

/** How many ranges a table of so many bytes gets: a multiple of those that run at once, so that none is left over at the end. */
export function rangesFor(bytes: number, rangeBytes: number, parallel: number): number {
  if (bytes < SPLIT_FROM && bytes <= rangeBytes) return 1;
  const needed = Math.max(1, Math.ceil(bytes / rangeBytes));
  return Math.min(MOST, Math.ceil(needed / parallel) * parallel);
}

/**
 * Upper ends of `parts` ranges, the last one aside. One sample of blocks gives both the order and the weights; a value that lies in TOAST weighs
 * what it takes there, and is not read for it.
 */
async function boundsOf(source: Session, shape: Shape, parts: number): Promise<Bound[]> {
  const byKey = shape.key !== null;
  const columns = shape.key?.map(({ name }) => `t.${ident(name)}`) ?? [`(t.ctid::text::point)[0]::bigint`];
  const blocks = await source.one<{ blocks: number }>(
    `SELECT (pg_catalog.pg_relation_size($1::oid) / pg_catalog.current_setting('block_size')::int)::float8 AS blocks`,
    [shape.oid],
  );
  const wanted = Math.max(SAMPLED_BLOCKS, parts * BLOCKS_A_RANGE);
  const percent = Math.min(100, (100 * wanted) / Math.max(1, blocks?.blocks ?? 1));
  const weight = ['32', ...shape.varying.map((name) => `coalesce(pg_column_size(t.${ident(name)}), 0)`)].join(' + ');
  const names = columns.map((_, index) => `k${index}`);
  const rows = await source.rows<{ bound: string[] }>(
    `WITH s AS (
       SELECT ${columns.map((column, index) => `${column} AS k${index}`).join(', ')}, (${weight})::float8 AS w
         FROM ONLY ${relation(shape.table)} AS t TABLESAMPLE SYSTEM (${percent}) REPEATABLE (1)),
     c AS (SELECT ${names.join(', ')}, ceil(${parts} * sum(w) OVER (ORDER BY ${names.join(', ')}) / sum(w) OVER ()) AS part FROM s),
     b AS (SELECT ${names.join(', ')}, part, row_number() OVER (PARTITION BY part ORDER BY ${names.map((n) => `${n} DESC`).join(', ')}) AS n FROM c)
     SELECT ARRAY[${names.map((n) => `${n}::text`).join(', ')}] AS bound FROM b WHERE n = 1 AND part < ${parts} ORDER BY part`,
  );
  // By key the end belongs to its range; by block it does not.
  const bounds = rows.map(({ bound }) => (byKey ? bound : [String(Number(bound[0]) + 1)]));
  const seen = new Set<string>();
  return bounds.filter((bound) => {
    const text = bound.join(' ');
    return seen.has(text) ? false : seen.add(text);
  });
}

/** The ranges of a table; one open on both sides when it is small or cannot be cut. */
export async function cut(source: Session, shape: Shape, parts: number, rows: number): Promise<NewUnit[]> {
  const bounds = parts > 1 && (shape.key !== null || shape.heap) ? await boundsOf(source, shape, parts) : [];
  const ends: (Bound | null)[] = [...bounds, null];
  return ends.map((high, index) => ({
    low: index === 0 ? null : (bounds[index - 1] ?? null),
    high,
    rowsTotal: Math.round(rows / ends.length),
  }));
}

/** The condition of a range as text: COPY takes no parameters. Null = the whole table. */
export function conditionOf(
  shape: Shape,
  range: { readonly low: Bound | null; readonly high: Bound | null },
  alias = 't',
): string | null {
  const { key } = shape;
  const parts: string[] = [];
  const left = key === null ? `${alias}.ctid` : `(${key.map(({ name }) => `${alias}.${ident(name)}`).join(', ')})`;
  const right = (bound: Bound): string =>
    key === null
      ? `${literal(`(${bound[0] ?? '0'},0)`)}::tid`
      : `(${key.map(({ type }, index) => `${literal(bound[index] ?? '')}::${type}`).join(', ')})`;
  const [above, upTo] = key === null ? ['>=', '<'] : ['>', '<='];
  if (range.low !== null) parts.push(`${left} ${above} ${right(range.low)}`);
  if (range.high !== null) parts.push(`${left} ${upTo} ${right(range.high)}`);
  return parts.length === 0 ? null : parts.join(' AND ');
}
