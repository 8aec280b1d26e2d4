/**
 * Count and fingerprint of a whole table at one snapshot: what a copy keeps of its source while it can be seen. Rows that differ are not looked for here
 * (postgres/verify does): after a copy that reads every range once, two numbers a table say whether it is right.
 */
import { ident, relation } from '../ident';
import { rowHash, textHash } from '../rowHash';
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
  const values = columns.map((name) => `t.${ident(name)}`);
  const hash = form === 'binary' ? rowHash(values, 'hash') : textHash(values);
  // By its key's text; of a table without a key by its own.
  const picked = sample?.length
    ? `ROW(${sample.map((name) => `t.${ident(name)}::text`).join(', ')})::text`
    : `(ROW(${values.join(', ')}))::text`;
  const some = sample === null ? '' : ` FILTER (WHERE hashtextextended(${picked}, 3) & ${SAMPLE_ONE_OF - 1} = 0)`;
  const found = await session.one<{ rows: number; sum: string }>(
    `SELECT count(*)::float8 AS rows, coalesce(sum((${hash})::numeric)${some}, 0)::text AS sum FROM ONLY ${relation(table)} AS t`,
  );
  return { rows: found?.rows ?? 0, sum: found?.sum ?? '0' };
}
