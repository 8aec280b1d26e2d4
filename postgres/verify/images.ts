/**
 * How one value is made comparable on two sides, and how rows become 64-bit hashes. Keeps true: where both sides have the same type the value's
 * own bytes are compared (1.0 is not 1.00, 0 is not -0); a type whose bytes are not the same everywhere is compared by its text under pinned
 * settings; where the plan changes the type, by value after the same cast that filled the target.
 */
import { rowHash } from '../rowHash';
import type { SelfTest } from './selfTest';
import type { Column } from './shapes';

export interface Sides {
  readonly source: string;
  readonly target: string;
}

const FLOATS: readonly number[] = [700, 701];
const NUMERIC = 1700;

const both = (source: string, target: string, wrap: (expression: string) => string): Sides => ({
  source: wrap(source),
  target: wrap(target),
});
const text = (expression: string): string => `(${expression})::text`;
const value = (expression: string): string => `trim_scale((${expression})::numeric)`;

/** Of a plain column, `from` is what the source has; of an expression it is null. */
export interface Compared {
  readonly from: Column | null;
  readonly to: Column;
  /** SQL over alias t. */
  readonly source: string;
  readonly target: string;
}

export function imagesOf({ from, to, source, target }: Compared, { byBytes }: SelfTest): Sides {
  const known = byBytes.has(to.typeOid);
  if (from === null) {
    return known ? { source: `(${source})::${to.type}`, target } : both(source, target, text);
  }
  if (from.typeOid === to.typeOid && known) {
    if (from.type === to.type) return { source, target };
    if (to.typeOid === NUMERIC) return both(source, target, value);
    return to.category === 'S' ? both(source, target, text) : { source: `(${source})::${to.type}`, target };
  }
  if (from.category === 'N' && to.category === 'N' && known) {
    if (FLOATS.includes(from.typeOid) && FLOATS.includes(to.typeOid))
      return both(source, target, (expression) => `(${expression})::float8`);
    return both(source, target, value);
  }
  // A cast to a shorter string would cut what was lost and call it equal.
  if (from.category === 'S' || !known) return both(source, target, text);
  return { source: `(${source})::${to.type}`, target };
}

/** The same key reads the same on both sides, whatever its types are. */
export function keyTextOf({ from, to, source, target }: Compared): Sides {
  if (from?.typeOid === NUMERIC || to.typeOid === NUMERIC) return both(source, target, (e) => text(value(e)));
  return both(source, target, text);
}

export const hashOf = (values: readonly string[], { method }: SelfTest): string => rowHash(values, method);
