/**
 * How far the other side is, and whether replication is well. Keeps true: what is not known is null and never passes; "applied" means flushed there, not
 * only seen; a position counts only while OUR subscription consumes the slot (whoever else did so could confirm what nobody has).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../../plan/model/errors';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { checkSignal } from '../work';
import type { ReplicationNames } from './names';
import { mustSlot, slotState } from './slot';
import type { SlotState } from './slot';
import { subscriptionState } from './subscription';
import type { SubscriptionState } from './subscription';

/** Publisher and subscriber of one direction. */
export interface Ends {
  readonly publisher: Session;
  readonly subscriber: Session;
}

export interface Lag {
  /** null = unknown. */
  readonly bytes: number | null;
  /** Age of the oldest change that is not flushed there; 0 when none is; null = unknown. */
  readonly ms: number | null;
}

export interface ReplicationHealth {
  readonly slot: SlotState | null;
  readonly subscription: SubscriptionState | null;
  readonly lag: Lag;
  /** What is wrong, one sentence each; empty = well. */
  readonly problems: readonly string[];
}

/** null where it cannot be told: no slot, not consumed by us. */
export async function lagOf(publisher: Session, names: ReplicationNames): Promise<Lag> {
  const slot = await slotState(publisher, names.slot);
  if (slot === null || !slot.active || slot.consumer !== names.subscription) return { bytes: null, ms: null };
  const row = await publisher.one<{ ms: number | null; flushed: boolean }>(
    `SELECT (extract(epoch FROM r.flush_lag) * 1000)::float8 AS ms, r.flush_lsn >= r.sent_lsn AS flushed
       FROM pg_catalog.pg_stat_replication AS r WHERE r.pid = $1`,
    [slot.activePid],
  );
  // The server forgets its measurement when nothing happens: then what has been sent has been flushed.
  return { bytes: slot.lagBytes, ms: row === undefined ? null : (row.ms ?? (row.flushed ? 0 : null)) };
}

/** Everything that must be well before anything rests on a direction. `tables` = how many it must carry. */
export async function healthOf(
  { publisher, subscriber }: Ends,
  names: ReplicationNames,
  tables: number,
): Promise<ReplicationHealth> {
  const [slot, subscription, lag] = [
    await slotState(publisher, names.slot),
    await subscriptionState(subscriber, names.subscription),
    await lagOf(publisher, names),
  ];
  const problems: string[] = [];
  const say = (wrong: boolean, text: string): void => void (wrong && problems.push(text));
  say(slot === null, `${publisher.name} has no slot ${names.slot}`);
  say(slot?.walStatus === 'lost', 'the slot has lost WAL that it needs');
  say(slot !== null && !slot.active, 'nobody consumes the slot');
  say(slot?.active === true && slot.consumer !== names.subscription, 'somebody else consumes the slot');
  say(subscription === null, `${subscriber.name} has no subscription ${names.subscription}`);
  if (subscription !== null) {
    say(!subscription.enabled, 'the subscription is disabled');
    say(!subscription.running, 'the apply worker does not run');
    say(subscription.slot !== names.slot, 'the subscription names another slot');
    say(subscription.notReady > 0, `${subscription.notReady} tables are not ready`);
    say(subscription.tables !== tables, `it carries ${subscription.tables} of ${tables} tables`);
    say(subscription.skips, 'it is told to leave a transaction out');
  }
  say(lag.bytes === null, 'the lag is unknown');
  return { slot, subscription, lag, problems };
}

/** Is everything up to `lsn` flushed on the other side? Only told while our subscription consumes the slot. */
export async function hasReached(publisher: Session, names: ReplicationNames, lsn: string): Promise<boolean> {
  const row = await publisher.one<{ reached: boolean }>(
    `SELECT s.confirmed_flush_lsn >= $2::pg_lsn AS reached
       FROM pg_catalog.pg_replication_slots AS s JOIN pg_catalog.pg_stat_replication AS r ON r.pid = s.active_pid
      WHERE s.slot_name = $1 AND s.database = pg_catalog.current_database() AND r.application_name = $3`,
    [names.slot, lsn, names.subscription],
  );
  return row?.reached === true;
}

const POLL_MS = 5;
const POKE_MS = 20;

export interface Reached {
  readonly ms: number;
  /** What the slot had confirmed then. */
  readonly confirmed: string | null;
}

/**
 * Waits until everything up to `lsn` is flushed on the other side. Both sides are nudged meanwhile: a commit on the publisher makes an idle stream say
 * how far it is, one on the subscriber flushes what was applied asynchronously (else either takes up to a second to do it by itself).
 * Throws SwitchOverran after `deadlineMs`, SlotLost, AbortError.
 */
export async function waitReached(
  { publisher, subscriber }: Ends,
  names: ReplicationNames,
  lsn: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Reached> {
  const began = performance.now();
  let poked = -POKE_MS;
  for (;;) {
    checkSignal(signal);
    const slot = await mustSlot(publisher, names.slot);
    if (await hasReached(publisher, names, lsn)) return { ms: performance.now() - began, confirmed: slot.confirmed };
    const spent = performance.now() - began;
    if (spent >= deadlineMs)
      throw new Problem(
        'SwitchOverran',
        `${subscriber.name}: had not reached the position after ${Math.round(spent)} ms`,
        {
          details: { wanted: lsn, confirmed: slot.confirmed, active: slot.active, lagBytes: slot.lagBytes },
        },
      );
    if (spent - poked >= POKE_MS) {
      await Promise.all([poke(publisher), poke(subscriber)]);
      poked = spent;
    }
    await sleep(POLL_MS);
  }
}

/**
 * Waits until the other side shows everything that could be seen on the publisher when this was asked (asynchronous commits too: where the WAL is written
 * counts, not where it is flushed). Answers how long that took, ms. Throws as waitReached.
 */
export async function waitSynced(
  ends: Ends,
  names: ReplicationNames,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<number> {
  const began = performance.now();
  const at = await ends.publisher.one<{ lsn: string }>(`SELECT pg_catalog.pg_current_wal_insert_lsn()::text AS lsn`);
  if (!at) throw new Problem('Bug', 'the server did not say where its WAL ends');
  await waitReached(ends, names, at.lsn, deadlineMs - (performance.now() - began), signal);
  return performance.now() - began;
}

/** A small synchronous commit of ours, in a row that no client reads and no direction carries. */
const poke = (session: Session): Promise<unknown> =>
  inTransaction(session, async () => {
    await session.run(`SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '100ms'`);
    await session.run(`UPDATE pgshift.guard SET updated_at = pg_catalog.clock_timestamp()`);
  }).catch((error: unknown) => {
    if (session.lost) throw error;
  });
