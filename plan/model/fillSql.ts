/**
 * One batch of a backfill as SQL: what `plan` shows is what the engine sends. Keeps true: where a step keeps what it overwrites, the
 * rows that are kept are exactly those that the same statement writes.
 */
import { ident, identList, relation } from './quote';
import type { BackfillRun, KeyColumn, KeptValues } from './steps';

const keptKey = (key: readonly KeyColumn[]): string[] => key.map((_, i) => `k${String(i + 1)}`);

/** `table`: as UPDATE names it; `range`: a predicate over t. */
export function fillSql(run: BackfillRun, table: string, range: string): string {
  const where = `${range} AND (${run.pending})`;
  if (!run.keep || run.key === null) return `UPDATE ${table} AS t SET ${run.set.join(', ')} WHERE ${where}`;
  const { keep, key } = run;
  const names = keptKey(key);
  const columns = key.map((k) => `t.${ident(k.name)}`);
  const value = `t.${ident(keep.column)}`;
  return [
    `WITH due AS MATERIALIZED (SELECT ${columns.map((c, i) => `${c} AS ${names[i] ?? ''}`).join(', ')}, ${value} AS was FROM ${table} AS t WHERE ${where} FOR UPDATE)`,
    `, filled AS (UPDATE ${table} AS t SET ${run.set.join(', ')} FROM due WHERE ${columns.map((c, i) => `${c} = due.${names[i] ?? ''}`).join(' AND ')}`,
    ` RETURNING ${names.map((n) => `due.${n}`).join(', ')}, due.was, ${value} AS filled)`,
    ` INSERT INTO ${relation(keep.table)} AS kept SELECT * FROM filled`,
    ` ON CONFLICT (${names.join(', ')}) DO UPDATE SET was = EXCLUDED.was, filled = EXCLUDED.filled`,
  ].join('');
}

/** The table of KeptValues: its key, the value that was there and the one that was written. */
export const createKept = (table: string, kept: KeptValues, key: readonly KeyColumn[]): string[] => [
  `CREATE TABLE ${relation(kept.table)} AS SELECT ${key.map((k, i) => `${ident(k.name)} AS k${String(i + 1)}`).join(', ')}, ${ident(kept.column)} AS was, ${ident(kept.column)} AS filled FROM ${table} WITH NO DATA`,
  `ALTER TABLE ${relation(kept.table)} ADD PRIMARY KEY (${identList(keptKey(key))})`,
];

/** Rows over t that still have the value that was written; what somebody wrote since stays. */
export function keptRows(
  kept: KeptValues,
  key: readonly KeyColumn[],
): { readonly value: string; readonly pending: string } {
  const match = key.map((k, i) => `kept.k${String(i + 1)} = t.${ident(k.name)}`).join(' AND ');
  const from = `FROM ${relation(kept.table)} AS kept WHERE ${match}`;
  return {
    value: `(SELECT kept.was ${from})`,
    // By image: there are types without an operator =.
    pending: `EXISTS (SELECT 1 ${from} AND pg_catalog.record_image_eq(ROW(kept.filled), ROW(t.${ident(kept.column)})) AND pg_catalog.record_image_ne(ROW(kept.was), ROW(kept.filled)))`,
  };
}
