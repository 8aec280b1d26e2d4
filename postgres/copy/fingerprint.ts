/**
 * Count and order-independent fingerprint of a whole table, the same on both sides when the rows are the same bytes. NULL and '' differ, and a
 * sum sees duplicates where an exclusive or would not. Simple for now: one number a table.
 */
import { ident, relation } from '../ident';
import type { Session } from '../session';
import type { RelationName } from '../../plan/model/steps';

export type FingerprintForm = 'binary' | 'text';

export interface Fingerprint {
  readonly rows: number;
  /** Sum of 64-bit hashes, as text. */
  readonly sum: string;
}

/** Of `verify: sample`: one row of so many is hashed, the same on both sides. All are counted. */
export const SAMPLE_ONE_OF = 16;

/** Binary: exact to the byte. Text where oids of a user's types, or another major's hash, would make equal rows differ. */
export async function fingerprintOf(
  session: Session,
  table: RelationName,
  columns: readonly string[],
  form: FingerprintForm,
  sample: readonly string[] | null = null,
): Promise<Fingerprint> {
  const row = `ROW(${columns.map((name) => `t.${ident(name)}`).join(', ')})`;
  const hash =
    form === 'binary' ? `hash_record_extended(ROW(record_send(${row})), 0)` : `hashtextextended((${row})::text, 0)`;
  // By its key's text; of a table without a key by its own.
  const picked = sample?.length
    ? `ROW(${sample.map((name) => `t.${ident(name)}::text`).join(', ')})::text`
    : `(${row})::text`;
  const some = sample === null ? '' : ` FILTER (WHERE hashtextextended(${picked}, 3) & ${SAMPLE_ONE_OF - 1} = 0)`;
  const found = await session.one<{ rows: number; sum: string }>(
    `SELECT count(*)::float8 AS rows, coalesce(sum((${hash})::numeric)${some}, 0)::text AS sum FROM ONLY ${relation(table)} AS t`,
  );
  return { rows: found?.rows ?? 0, sum: found?.sum ?? '0' };
}
