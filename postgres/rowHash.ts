/**
 * The one fingerprint of a row: 64 bits over the bytes of its values. Keeps true: copies, maps and verification hash rows by the same words, so that what
 * one of them calls equal, the others do too; NULL, '' and the number of values all count. Sums of it are independent of order and see duplicates.
 */

/** md5: for servers that lack hash_record_extended (before 14), or hash differently. */
export type HashMethod = 'hash' | 'md5';

/** A bigint over the values, each an SQL expression. */
export function rowHash(values: readonly string[], method: HashMethod): string {
  const bytes = `record_send(ROW(${values.join(', ')}))`;
  return method === 'hash'
    ? `hash_record_extended(ROW(${bytes}), 0)`
    : `('x' || left(md5(${bytes}), 16))::bit(64)::int8`;
}

/** Over the text of the row: where oids of a user's types, or another major's forms, would make equal rows differ. */
export const textHash = (values: readonly string[]): string => `hashtextextended((ROW(${values.join(', ')}))::text, 0)`;
