/**
 * The one SELECT on the source that a range is read by. Keeps true: its columns are k (the row's key), r (number of the first rule that refuses it,
 * or NULL), h (the hash of the row as the target must have it), c0, c1, ...; duplicates are told among rows that no rule refuses, so that a bad
 * row never wins over a good one.
 */
import { literal, relation } from '../ident';
import { rowHash } from '../rowHash';
import type { Spec } from './spec';
import { ROW } from './spec';

export interface Part {
  /** Over ROW; null = the whole table. */
  readonly condition: string | null;
  /** Of duplicates: all rows of one key are in one bucket. */
  readonly bucket: { readonly no: number; readonly of: number } | null;
  /** Places of rows that were found to fail: they are left out here and told elsewhere. */
  readonly except: readonly string[];
}

/** The target's side of the same hash, over t. */
export const targetHash = ({ columns, method }: Pick<Spec, 'columns' | 'method'>): string =>
  rowHash(
    columns.map(({ image }) => image.target),
    method,
  );

/** Over ROW: number of the first rule that says false. */
export const ruleNumber = ({ rules }: Pick<Spec, 'rules'>): string =>
  rules.length === 0
    ? 'NULL::int4'
    : `CASE ${rules.map(({ sql }, index) => `WHEN (${sql}) IS FALSE THEN ${index}`).join(' ')} END`;

/** Which rows of the range are meant at all, without the filter of the plan. */
export function rangeOf(spec: Spec, { condition, bucket, except }: Part): string {
  const parts = condition === null ? [] : [condition];
  if (bucket && bucket.of > 1 && spec.dedupe) {
    // By the hash that goes with equality: 1.0 and 1.00 are one key.
    parts.push(`(hash_record_extended(ROW(${spec.dedupe.key.join(', ')}), 7) & ${bucket.of - 1}) = ${bucket.no}`);
  }
  if (except.length > 0) parts.push(`NOT (${excepted(except)})`);
  return parts.length === 0 ? 'true' : parts.join(' AND ');
}

export const filterOf = ({ where, sample }: Spec): string[] => [
  ...(where === null ? [] : [`(${where})`]),
  ...(sample === null ? [] : [sample]),
];

const excepted = (except: readonly string[]): string =>
  `${ROW}.ctid = ANY (${literal(`{${except.map((one) => `"${one}"`).join(',')}}`)}::tid[])`;

/** A filter that fails on a row is not asked about it: AND alone promises no order. */
const guarded = (filter: string, { except }: Part): string =>
  except.length === 0 ? filter : `CASE WHEN ${excepted(except)} THEN false ELSE ${filter} END`;

export const fromOf = ({ source }: Pick<Spec, 'source'>): string => `ONLY ${relation(source)} AS ${ROW}`;

const columnNames = (spec: Spec): string[] => spec.columns.map((_, index) => `c${index}`);

function hashOfRow(spec: Spec): string {
  const images = spec.columns.map(({ image }, index) => image.source.replaceAll('$', () => `u.c${index}`));
  return rowHash(images, spec.method);
}

/**
 * Rows with the number of their rule. Values of a row that a rule refuses are not made: a cast that would fail on them must not stop the others.
 * OFFSET 0 keeps the rules from being asked again for every column.
 */
function judged(spec: Spec, where: string): { from: string; rule: string; value: (sql: string) => string } {
  if (spec.rules.length === 0)
    return { from: `${fromOf(spec)} WHERE ${where}`, rule: 'NULL::int4', value: (sql) => sql };
  const inner = `SELECT ${ROW}.*, ${ROW}.ctid, ${ruleNumber(spec)} AS pgshift_rule FROM ${fromOf(spec)} WHERE ${where} OFFSET 0`;
  const rule = `${ROW}.pgshift_rule`;
  return { from: `(${inner}) AS ${ROW}`, rule, value: (sql) => `CASE WHEN ${rule} IS NULL THEN ${sql} END` };
}

export function selectRange(spec: Spec, part: Part): string {
  const { dedupe } = spec;
  const { from, rule, value } = judged(
    spec,
    [rangeOf(spec, part), ...filterOf(spec).map((filter) => guarded(filter, part))].join(' AND '),
  );
  const values = (of: (sql: string) => string): string =>
    spec.columns.map(({ sql }, index) => `, ${of(value(sql))} AS c${index}`).join('');
  const head = `SELECT ${spec.key}::text AS k, ${rule} AS r`;
  const listed = (rows: string): string =>
    `SELECT u.k, u.r, ${hashOfRow(spec)} AS h${columnNames(spec)
      .map((name) => `, u.${name}`)
      .join('')} FROM (${rows}) AS u`;
  if (dedupe === null) return listed(`${head}${values((sql) => sql)} FROM ${from}`);
  // NULL is nobody's duplicate, as in a unique constraint.
  const alone = dedupe.key.map((sql) => `${sql} IS NULL`).join(' OR ');
  const group = `${dedupe.key.join(', ')}, CASE WHEN ${alone} THEN ${ROW}.ctid END, (${rule}) IS NULL`;
  const merged = (sql: string): string =>
    dedupe.keep === 'merge'
      ? `first_value(${sql}) OVER (PARTITION BY ${group} ORDER BY (${sql}) IS NULL, ${dedupe.order})`
      : sql;
  const place = `row_number() OVER (PARTITION BY ${group} ORDER BY ${dedupe.order}) AS place`;
  return `${listed(`${head}${values(merged)}, ${place} FROM ${from}`)} WHERE u.place = 1 OR u.r IS NOT NULL`;
}

export interface RangeCounts {
  /** Rows of the range, before anything. */
  readonly read: number;
  readonly filtered: number;
  readonly sampledOut: number;
}

/** Counts what the SELECT does not bring over. */
export function countRange(spec: Spec, part: Part): string {
  const where = spec.where === null ? 'true' : `(${spec.where})`;
  const sample = spec.sample ?? 'true';
  return `SELECT count(*)::float8 AS read, count(*) FILTER (WHERE (${where}) IS NOT TRUE)::float8 AS filtered,
                 count(*) FILTER (WHERE (${where}) AND (${sample}) IS NOT TRUE)::float8 AS "sampledOut"
            FROM ${fromOf(spec)} WHERE ${rangeOf(spec, part)}`;
}
