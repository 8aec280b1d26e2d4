/**
 * Is the target fed from the source by logical replication, and how far is it? Keeps true: a position counts only when the slot says that the target
 * has it flushed, or when pgshift's own stream has committed it there; what cannot be seen does not exist, and then time stands in for it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Session } from '../session';
import { checkSignal } from '../work';
import type { SessionPair } from './session';

/** Where the source's log is now, as text; of a standby, how far it has replayed. */
export async function positionOf(source: Session): Promise<string> {
  const row = await source.one<{ lsn: string }>(
    `SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text AS lsn`,
  );
  return row?.lsn ?? '0/0';
}

export interface Barrier {
  readonly slots: readonly string[];
  /** True once the target has everything up to `lsn`; false when it took too long. `meanwhile` runs between looks. */
  passed(lsn: string, signal: AbortSignal, meanwhile: () => Promise<void>): Promise<boolean>;
}

const PASS_MS = 30_000;
const LOOK_MS = 5;

/** Null: nothing says that the target follows the source. */
export async function findBarrier({ source, target }: SessionPair): Promise<Barrier | null> {
  const subscribed = await target
    .rows<{ slot: string }>(
      `SELECT s.subslotname::text AS slot FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid
        WHERE d.datname = current_database() AND s.subenabled AND s.subslotname IS NOT NULL`,
    )
    .catch(() => []);
  const slots = await source.rows<{ slot: string }>(
    `SELECT r.slot_name::text AS slot FROM pg_replication_slots AS r
      WHERE r.slot_type = 'logical' AND r.database = current_database() AND r.slot_name = ANY ($1::text[])`,
    [subscribed.map(({ slot }) => slot)],
  );
  if (slots.length === 0) return findStreamBarrier({ source, target });
  const names = slots.map(({ slot }) => slot);
  return {
    slots: names,
    passed: async (lsn, signal, meanwhile) => {
      for (const end = performance.now() + PASS_MS; performance.now() < end;) {
        checkSignal(signal);
        const row = await source.one<{ passed: boolean | null }>(
          `SELECT bool_and(r.confirmed_flush_lsn >= $2::pg_lsn) AS passed FROM pg_replication_slots AS r WHERE r.slot_name = ANY ($1::text[])`,
          [names, lsn],
        );
        if (row?.passed === true) return true;
        await meanwhile();
        await sleep(LOOK_MS);
      }
      return false;
    },
  };
}

/** pgshift's own stream from this very source: its position is committed with the changes. */
async function findStreamBarrier({ source, target }: SessionPair): Promise<Barrier | null> {
  const here = await source
    .one<{ system: string; database: string }>(
      `SELECT s.system_identifier::text AS system, current_database()::text AS database FROM pg_control_system() AS s`,
    )
    .catch(() => undefined);
  const there = await target.one<{ there: boolean }>(`SELECT to_regclass('pgshift.streams') IS NOT NULL AS there`);
  if (!here || there?.there !== true) return null;
  const streams = await target.rows<{ slot: string }>(
    `SELECT s.slot FROM pgshift.streams AS s WHERE s.ended_at IS NULL AND s.system_identifier = $1 AND s.source_database = $2`,
    [here.system, here.database],
  );
  if (streams.length === 0) return null;
  const slots = streams.map(({ slot }) => slot);
  return {
    slots,
    passed: async (lsn, signal, meanwhile) => {
      for (const end = performance.now() + PASS_MS; performance.now() < end;) {
        checkSignal(signal);
        const row = await target.one<{ passed: boolean | null }>(
          `SELECT bool_and(s.position >= $2::pg_lsn) AS passed FROM pgshift.streams AS s WHERE s.slot = ANY ($1::text[])`,
          [slots, lsn],
        );
        if (row?.passed === true) return true;
        await meanwhile();
        await sleep(LOOK_MS);
      }
      return false;
    },
  };
}
