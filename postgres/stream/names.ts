/** What a stream leaves in the source for a while is called: always the same for one migration of one pair, and never like a switch's. */
import { createHash } from 'node:crypto';
import { pairingOf } from '../switch/pair';
import type { Target } from '../types';

export interface StreamNames {
  readonly publication: string;
  readonly slot: string;
  /** Of a snapshot that is taken later than the first; dropped as soon as the snapshot is held. */
  readonly later: string;
}

/** `slot`: as the plan wants it called. */
export function streamNames(migration: string, source: Target, target: Target, slot?: string): StreamNames {
  const pairing = pairingOf({ blue: source, green: target });
  const name = `pgshift_${createHash('sha256').update(`${pairing}/${migration}`).digest('hex').slice(0, 16)}_str`;
  return { publication: name, slot: slot ?? name, later: `${name}_later` };
}
