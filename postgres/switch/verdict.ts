/** What two guard rows say together, also when one of them cannot be read. Pure. */
import type { Side } from '../../plan/model/traffic';
import { otherSide, SIDES } from '../../plan/model/traffic';
import type { GuardRow } from './guard';

/** undefined = its database does not answer; null = it has no row. */
export type SeenRows = { readonly [side in Side]: GuardRow | null | undefined };

export interface Verdict {
  /** The side that takes writes; 'none' = both are fenced; null = cannot be told. */
  readonly writable: Side | 'none' | 'both' | null;
  /** The highest that is known. */
  readonly epoch: number | null;
  /** One sentence. */
  readonly because: string;
}

export function verdictOf(rows: SeenRows): Verdict {
  const known = SIDES.flatMap((side) => (rows[side] ? [rows[side]] : []));
  const epoch = known.length === 0 ? null : Math.max(...known.map((row) => row.epoch));
  const open = SIDES.filter((side) => rows[side]?.writable === true);
  if (open.length === 2)
    return { writable: 'both', epoch, because: 'both guard rows say writable: this must never be' };
  const [side] = open;
  // A side is made writable only after the other was seen fenced and can no longer be opened: one such row is enough to know.
  if (side !== undefined) return { writable: side, epoch, because: `${side}'s guard row says so` };
  const unseen = SIDES.filter((one) => rows[one] === undefined);
  if (unseen.length > 0)
    return { writable: null, epoch, because: `${unseen.join(' and ')} cannot be reached, and may take writes` };
  if (known.length === 0) return { writable: null, epoch, because: 'there are no guard rows: no switch is under way' };
  const missing = SIDES.find((one) => rows[one] === null);
  if (missing !== undefined)
    return { writable: null, epoch, because: `${missing} has no guard row, and ${otherSide(missing)} is fenced` };
  return { writable: 'none', epoch, because: 'both sides are fenced: a switch is (or was) in the middle' };
}
