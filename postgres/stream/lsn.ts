/** Positions in a source's log: as Postgres prints them, and as numbers that can be compared. */

export const lsnText = (lsn: bigint): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;

/** Throws nothing: what is no position is the beginning. */
export function lsnOf(text: string): bigint {
  const found = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  return found ? (BigInt(`0x${found[1] ?? '0'}`) << 32n) | BigInt(`0x${found[2] ?? '0'}`) : 0n;
}
