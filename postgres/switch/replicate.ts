/**
 * The two directions of a switch, and the guard between them. Keeps true: at most one of them is active, and it is turned on only when the other's
 * apply worker is seen to be gone (or a loop would begin: each change would come back as a new one); what one left is found by its name and taken away.
 */
import { Problem } from '../../plan/model/errors';
import type { Side } from '../../plan/model/traffic';
import { otherSide, SIDES } from '../../plan/model/traffic';
import { crashPoint } from '../crashPoints';
import type { Session } from '../session';
import { inTransaction } from '../session';
import type { Target } from '../types';
import type { Direction, ReplicationNames } from './names';
import { publisherOf, replicationNames } from './names';
import type { Both, Pair, Reachable } from './pair';
import { pairingOf } from './pair';
import type { Patience } from './patience';
import type { Ends } from './progress';
import type { Published } from './publication';
import { dropPublication, ensurePublication } from './publication';
import { advanceSlot, dropSlot, ensureSlot, keepSlot, mustSlot } from './slot';
import {
  disableSubscription,
  dropSubscription,
  enableSubscription,
  ensureSubscription,
  subscriptionState,
} from './subscription';

export const namesOf = (pair: Pick<Pair, 'migration' | 'blue' | 'green'>, direction: Direction): ReplicationNames =>
  replicationNames(pair.migration, pairingOf(pair), direction);

export const endsOf = (both: Both, direction: Direction): Ends => {
  const publisher = publisherOf(direction);
  return { publisher: both[publisher], subscriber: both[otherSide(publisher)] };
};

const opposite = (direction: Direction): Direction => (direction === 'forward' ? 'reverse' : 'forward');

/**
 * Turns a direction on. Throws NotNow while the other one is on or still running, StepFailed when there is no subscription to turn on.
 */
export async function activate(both: Both, pair: Pair, direction: Direction): Promise<void> {
  const other = endsOf(both, opposite(direction)).subscriber;
  const name = namesOf(pair, opposite(direction)).subscription;
  const state = await subscriptionState(other, name);
  if (state !== null && (state.enabled || state.running))
    throw new Problem('NotNow', `${other.name}: ${opposite(direction)} replication is on; both at once would loop`, {
      hint: 'it is turned off first, and its worker must have ended',
    });
  const { subscriber } = endsOf(both, direction);
  const mine = namesOf(pair, direction).subscription;
  if ((await subscriptionState(subscriber, mine)) === null)
    throw new Problem('StepFailed', `${subscriber.name}: there is no subscription ${mine}`);
  await enableSubscription(subscriber, mine);
}

/** Turns it off and waits for its worker. Idempotent. */
export const deactivate = (both: Both, pair: Pair, direction: Direction): Promise<void> =>
  disableSubscription(endsOf(both, direction).subscriber, namesOf(pair, direction).subscription);

/** Both ends must know what `origin = none` is. */
const originOf = (publisher: Session, subscriber: Session): 'none' | 'any' =>
  Math.min(publisher.serverVersion, subscriber.serverVersion) >= 160000 ? 'none' : 'any';

export interface WayBackOptions {
  /** The tables it carries, as the publisher has them. */
  readonly tables: readonly Published[];
  /** The publisher as the subscriber's server reaches it. */
  readonly publisher: Target;
  readonly slotDeadlineMs: number;
  readonly patience: Patience;
}

/**
 * Makes the direction that a switch will leave by, turned off: publication, slot, subscription, in this order. Before the pause, while the publisher
 * is still fenced: inside it only `readyWayBack` is needed. Idempotent.
 */
export async function prepareWayBack(
  both: Both,
  pair: Pair,
  direction: Direction,
  options: WayBackOptions,
): Promise<void> {
  const { publisher, subscriber } = endsOf(both, direction);
  const names = namesOf(pair, direction);
  await ensurePublication(publisher, names.publication, options.tables, options.patience);
  crashPoint('wayback.published');
  await ensureSlot(publisher, names.slot, options.slotDeadlineMs);
  crashPoint('wayback.slot');
  const origin = originOf(publisher, subscriber);
  await ensureSubscription(subscriber, { names, publisher: options.publisher, origin });
}

/**
 * Between the fence and the lift: passes over what came to the publisher by replication, and turns the direction on. The publisher is fenced and the
 * other direction off, so nothing that a client wrote is passed over. Throws NotNow, SlotLost.
 */
export async function readyWayBack(both: Both, pair: Pair, direction: Direction): Promise<string> {
  const { publisher, subscriber } = endsOf(both, direction);
  const names = namesOf(pair, direction);
  await deactivate(both, pair, opposite(direction));
  await mustSlot(publisher, names.slot);
  const own = await subscriptionState(subscriber, names.subscription);
  const row = await publisher.one<{ open: boolean }>(
    `SELECT bool_or(g.writable) AS open FROM pgshift.guard AS g WHERE g.id = $1`,
    [pair.migration],
  );
  if (row?.open !== false)
    throw new Problem('NotNow', `${publisher.name}: takes writes; nothing of its WAL may be passed over`);
  if (own?.enabled !== true) {
    await inTransaction(publisher, async () => {
      await publisher.run('SET LOCAL synchronous_commit = on');
      await publisher.run(`UPDATE pgshift.guard SET updated_at = pg_catalog.clock_timestamp() WHERE id = $1`, [
        pair.migration,
      ]);
    });
    const at = await publisher.one<{ lsn: string }>(`SELECT pg_catalog.pg_current_wal_flush_lsn()::text AS lsn`);
    if (!at) throw new Problem('Bug', 'the server did not say where its WAL ends');
    await advanceSlot(publisher, names.slot, at.lsn);
    // From 16 on what came by replication is left out wherever the slot stands.
    if (originOf(publisher, subscriber) === 'any') await keepSlot(publisher, names.slot, names.spareSlot);
    await activate(both, pair, direction);
    crashPoint('wayback.ready');
  }
  return (await mustSlot(publisher, names.slot)).confirmed ?? '';
}

/**
 * Takes a direction away: subscription (without its slot), slot, publication. Each end is done as far as it can be reached; answers what is left.
 * Idempotent.
 */
export async function dropDirection(
  sessions: Reachable,
  pair: Pair,
  direction: Direction,
  patience: Patience,
): Promise<string[]> {
  const names = namesOf(pair, direction);
  const at = publisherOf(direction);
  const publisher = sessions[at];
  const subscriber = sessions[otherSide(at)];
  if (subscriber) await dropSubscription(subscriber, names.subscription);
  crashPoint('direction.unsubscribed');
  if (publisher) {
    await dropSlot(publisher, names.checkSlot);
    await dropSlot(publisher, names.spareSlot);
    await dropSlot(publisher, names.slot);
    await dropPublication(publisher, names.publication, patience);
  }
  return [
    ...(subscriber ? [] : [`subscription ${names.subscription} on ${otherSide(at)}`]),
    ...(publisher ? [] : [`slot and publication ${names.slot} on ${at}`]),
  ];
}

export interface Leaving {
  readonly side: Side;
  readonly what: 'publication' | 'subscription' | 'slot' | 'wall' | 'guard' | 'origin';
  readonly name: string;
}

/** Everything of a switch, of any migration, that stands in the databases outside the tables of schema pgshift. Only reads. */
export async function leavings(sessions: Reachable): Promise<Leaving[]> {
  const found: Leaving[] = [];
  for (const side of SIDES) {
    const session = sessions[side];
    if (session === null) continue;
    const rows = await session.rows<{ what: Leaving['what']; name: string }>(LEFT);
    found.push(...rows.map(({ what, name }) => ({ side, what, name })), ...(await guardLeft(session, side)));
  }
  return found;
}

const LEFT = `
  SELECT 'publication' AS what, p.pubname::text AS name FROM pg_catalog.pg_publication AS p WHERE p.pubname ~ '^pgshift_[0-9a-f]{16}_(fwd|rev)$'
  UNION ALL
  SELECT 'subscription', u.subname::text FROM pg_catalog.pg_subscription AS u
   WHERE u.subname ~ '^pgshift_[0-9a-f]{16}_(fwd|rev)$'
     AND u.subdbid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
  UNION ALL
  SELECT 'slot', s.slot_name::text FROM pg_catalog.pg_replication_slots AS s
   WHERE s.slot_name ~ '^pgshift_[0-9a-f]{16}_(fwd|rev)(_chk|_at)?$' AND s.database = pg_catalog.current_database()
  UNION ALL
  SELECT 'wall', t.tgrelid::regclass::text FROM pg_catalog.pg_trigger AS t WHERE t.tgname = '_pgshift_wall' AND NOT t.tgisinternal
   ORDER BY 1, 2`;

async function guardLeft(session: Session, side: Side): Promise<Leaving[]> {
  const there = await session.one<{ there: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                     WHERE n.nspname = 'pgshift' AND c.relname = 'guard') AS there`,
  );
  if (!there?.there) return [];
  const rows = await session.rows<{ id: string }>(`SELECT g.id FROM pgshift.guard AS g ORDER BY 1`);
  return rows.map(({ id }) => ({ side, what: 'guard', name: id }));
}
