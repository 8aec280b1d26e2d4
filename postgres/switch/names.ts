/**
 * What everything that a switch leaves in a server for a while is called. Keeps true: the names of one migration are always the same, so that a
 * new attempt finds what the one before made, and nothing of ours is ever taken for somebody else's (or the other way round).
 */
import { createHash } from 'node:crypto';
import type { Side } from '../../plan/model/traffic';

/** forward = from blue to green; reverse = the way back. */
export type Direction = 'forward' | 'reverse';
export const publisherOf = (direction: Direction): Side => (direction === 'forward' ? 'blue' : 'green');
export const directionFrom = (publisher: Side): Direction => (publisher === 'blue' ? 'forward' : 'reverse');

export interface ReplicationNames {
  readonly publication: string;
  /** Also the subscription's application_name on the publisher. */
  readonly subscription: string;
  readonly slot: string;
  /** Slot from which the rows that changed since they were compared are compared again. */
  readonly checkSlot: string;
  /** Where `slot` lies for a moment while it is written to disk. */
  readonly spareSlot: string;
}

/** Everything of ours outside schema pgshift begins so. */
export const PREFIX = 'pgshift_';
/** The wall's trigger; `_` sorts before letters: it raises before a user's statement trigger has done anything. */
export const WALL = '_pgshift_wall';

/** Slots are of the whole server and take [a-z0-9_] only, and a migration's name is free in each database: a hash of both. */
const keyOf = (migration: string, databases: string): string =>
  createHash('sha256').update(`${databases}/${migration}`).digest('hex').slice(0, 16);

/** `pairing` tells pairs of databases apart that one server holds (pair.ts). */
export function replicationNames(migration: string, pairing: string, direction: Direction): ReplicationNames {
  const name = `${PREFIX}${keyOf(migration, pairing)}_${direction === 'forward' ? 'fwd' : 'rev'}`;
  return { publication: name, subscription: name, slot: name, checkSlot: `${name}_chk`, spareSlot: `${name}_at` };
}
