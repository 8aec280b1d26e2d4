/** Two databases that one switch joins, and sessions in both. Nothing here changes anything. */
import { randomBytes } from 'node:crypto';
import { Problem } from '../../plan/model/errors';
import type { Side } from '../../plan/model/traffic';
import type { Session } from '../session';
import { addressOf, openSession } from '../session';
import type { Target } from '../types';

export interface Pair {
  readonly migration: string;
  readonly blue: Target;
  readonly green: Target;
}

/** A session in each; both direct. */
export interface Both {
  readonly blue: Session;
  readonly green: Session;
}

/** What one side looks like from a switch that may have lost the other. */
export type Reachable = { readonly [side in Side]: Session | null };

/** Tells this pair from every other that the two servers may hold: also from one that another configuration calls the same. */
export const pairingOf = ({ blue, green }: Pick<Pair, 'blue' | 'green'>): string =>
  [blue, green].map((side) => `${side.name}=${databaseOf(side)}`).join(':');

const databaseOf = (target: Target): string => {
  const { where } = addressOf(target);
  return where.slice(where.lastIndexOf('/') + 1);
};

/** Opens, works, closes both. Throws Unreachable, LoginFailed, TlsFailed. */
export async function withBoth<T>(pair: Pair, purpose: string, work: (both: Both) => Promise<T>): Promise<T> {
  const options = { purpose, migration: pair.migration };
  const opened = await Promise.allSettled([openSession(pair.blue, options), openSession(pair.green, options)]);
  const close = () => Promise.all(opened.map((one) => (one.status === 'fulfilled' ? one.value.close() : undefined)));
  try {
    const [blue, green] = opened.map((one) => {
      if (one.status === 'rejected') throw one.reason;
      return one.value;
    });
    return await work({ blue, green } as Both);
  } finally {
    await close();
  }
}

/**
 * Refuses two connections that lead to one database. Addresses, system identifiers and names prove nothing (a restored copy has them too): a lock
 * that is taken through one and seen through the other does. Throws SameDatabase.
 */
export async function refuseSame({ blue, green }: Both): Promise<void> {
  const key = BigInt.asIntN(64, BigInt(`0x${randomBytes(8).toString('hex')}`)).toString();
  await blue.run('SELECT pg_catalog.pg_advisory_lock($1::bigint)', [key]);
  try {
    const seen = await green.one(
      `SELECT 1 AS one FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
          AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
          AND ((l.classid::bigint << 32) | l.objid::bigint) = $1::bigint`,
      [key],
    );
    if (seen)
      throw new Problem('SameDatabase', `${blue.name} and ${green.name} are the same database (${blue.where})`, {
        hint: 'green is another database: on another server, or beside blue',
      });
  } finally {
    if (!blue.lost) await blue.run('SELECT pg_catalog.pg_advisory_unlock($1::bigint)', [key]).catch(() => undefined);
  }
}
