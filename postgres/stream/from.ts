/** From where on a table is followed: what was committed before is in its copied rows. A position in the log, or a snapshot's own text. */
import { lsnOf } from './lsn';
import type { Tx } from './types';

/** Is a change of this transaction not in the copied rows? */
export type IsNew = (tx: Tx) => boolean;

/** `12:15:13,14`: xmin, xmax, and who was open between them. */
function seenBy(text: string): (xid: bigint) => boolean {
  const [xmin = '0', xmax = '0', list = ''] = text.split(':');
  const [low, high] = [BigInt(xmin), BigInt(xmax)];
  const open = new Set(list.split(',').filter(Boolean).map(BigInt));
  return (xid) => xid < low || (xid < high && !open.has(xid));
}

export function isNewSince(from: string): IsNew {
  if (!from.includes(':')) {
    const lsn = lsnOf(from);
    return ({ commitLsn }) => commitLsn >= lsn;
  }
  const seen = seenBy(from);
  return ({ xid }) => xid === undefined || !seen(xid);
}
