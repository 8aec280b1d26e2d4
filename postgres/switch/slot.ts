/**
 * Logical slots of pgoutput. Keeps true: a slot that nobody consumes never outlives its switch (it would fill the disk with WAL); a name is dropped only
 * by its exact name. Making one waits for every transaction that is open in the whole server: never without a deadline.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import type { ClientConfig } from 'pg';
import { Problem } from '../../plan/model/errors';
import { ident } from '../ident';
import type { Session } from '../session';
import { addressOf, connectionString, withSession } from '../session';
import { QUERY_CANCELED, sqlstate, toProblem } from '../toProblem';
import type { Target } from '../types';

export interface SlotState {
  readonly active: boolean;
  readonly activePid: number | null;
  /** application_name of the walsender: a subscription's is its name. null = not active, or not visible. */
  readonly consumer: string | null;
  readonly confirmed: string | null;
  /** reserved, extended, unreserved, lost. */
  readonly walStatus: string | null;
  /** Bytes of WAL that may still be written before it is lost; null = no limit. */
  readonly safeBytes: number | null;
  /** Bytes of WAL that it keeps. */
  readonly keptBytes: number | null;
  /** From its confirmed position to the end of the WAL; null = unknown, which is never "none". */
  readonly lagBytes: number | null;
}

/** null = there is none of that name in this database. */
export async function slotState(session: Session, name: string): Promise<SlotState | null> {
  const row = await session.one<SlotState & Record<string, unknown>>(
    `SELECT s.active, s.active_pid AS "activePid", r.application_name AS consumer, s.confirmed_flush_lsn::text AS confirmed,
            s.wal_status AS "walStatus", s.safe_wal_size::float8 AS "safeBytes",
            pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn)::float8 AS "keptBytes",
            pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.confirmed_flush_lsn)::float8 AS "lagBytes"
       FROM pg_catalog.pg_replication_slots AS s LEFT JOIN pg_catalog.pg_stat_replication AS r ON r.pid = s.active_pid
      WHERE s.slot_name = $1 AND s.database = pg_catalog.current_database() AND s.plugin = 'pgoutput'`,
    [name],
  );
  return row ?? null;
}

/** Throws SlotLost when it is gone, or has lost WAL that it needs. */
export async function mustSlot(session: Session, name: string): Promise<SlotState> {
  const state = await slotState(session, name);
  if (state === null || state.walStatus === 'lost')
    throw new Problem('SlotLost', `${session.name}: slot ${name} ${state === null ? 'is gone' : 'has lost its WAL'}`);
  return state;
}

export interface SnapshotSlot {
  readonly name: string;
  /** Everything committed before it is in the snapshot, everything after it comes through the slot. */
  readonly consistentPoint: string;
  /** Lives until `release()`, or until the connection breaks: import it before. */
  readonly snapshot: string;
  readonly release: () => Promise<void>;
}

/**
 * Makes the slot and exports the snapshot that belongs to it. A slot of the name, of an attempt whose snapshot is lost, is dropped first. Throws
 * Timeout when transactions of before do not end in time (none is ended), PrivilegeMissing, and what a connection throws.
 */
export async function createSlotWithSnapshot(
  target: Target,
  name: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<SnapshotSlot> {
  await withSession(target, { purpose: 'slot' }, (session) => dropSlot(session, name));
  const peer = { name: target.name, ...addressOf(target) };
  // The driver's types do not know the option; the protocol's startup message does.
  const config: ClientConfig & { replication: string } = {
    connectionString: connectionString(target),
    application_name: 'pgshift/slot',
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    replication: 'database',
  };
  const client = new Client(config);
  client.on('error', () => undefined);
  const release = async (): Promise<void> => void (await client.end().catch(() => undefined));
  const stop = new AbortController();
  const onAbort = (): void => stop.abort();
  signal.addEventListener('abort', onAbort, { once: true });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    stop.abort();
  }, deadlineMs);
  // A closed socket is not noticed by a server that waits for transactions: its process has to be ended.
  stop.signal.addEventListener('abort', () => void endWalsender(target, pidOf(client)), { once: true });
  try {
    await client.connect();
    if (signal.aborted) throw abort();
    const { rows } = await client.query<{ consistent_point: string; snapshot_name: string }>(
      `CREATE_REPLICATION_SLOT ${ident(name)} LOGICAL pgoutput EXPORT_SNAPSHOT`,
    );
    const [row] = rows;
    if (!row) throw new Problem('Bug', 'the server made a slot and did not say where it begins');
    return { name, consistentPoint: row.consistent_point, snapshot: row.snapshot_name, release };
  } catch (error) {
    await release();
    if (late) throw tooLate(target.name, deadlineMs);
    if (signal.aborted) throw abort();
    throw toProblem(error, peer);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

const tooLate = (name: string, ms: number): Problem =>
  new Problem('Timeout', `${name}: the slot could not be made within ${Math.round(ms / 1000)} s`, {
    hint: 'it waits for every transaction that is open in the server, in any database: look for old ones in pg_stat_activity',
  });

function abort(): Error {
  const error = new Error('aborted');
  error.name = 'AbortError';
  return error;
}

/** The driver keeps the backend's pid of the startup message. */
const pidOf = (client: Client): number | null => (client as unknown as { processID?: number | null }).processID ?? null;

const endWalsender = async (target: Target, pid: number | null): Promise<void> => {
  if (pid === null) return;
  await withSession(target, { purpose: 'slot' }, (session) =>
    session.run(
      `SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
        WHERE a.pid = $1 AND a.backend_type = 'walsender' AND a.application_name = 'pgshift/slot'`,
      [pid],
    ),
  ).catch(() => undefined);
};

/** One without a snapshot, from here on. What is there of the name, and whole, stays. Throws Timeout. */
export async function ensureSlot(session: Session, name: string, deadlineMs: number): Promise<void> {
  const there = await slotState(session, name);
  if (there !== null && there.walStatus !== 'lost') return;
  if (there !== null) await dropSlot(session, name);
  await session.run(`SET statement_timeout = ${Math.ceil(deadlineMs)}`);
  try {
    await session.run(`SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')`, [name]);
  } catch (error) {
    if (sqlstate(error) === QUERY_CANCELED) throw tooLate(session.name, deadlineMs);
    throw error;
  } finally {
    if (!session.lost) await session.run('SET statement_timeout = 0');
  }
}

/** Passes over everything up to `lsn`: it was not written by a client of this side. Only while nobody consumes it. */
export const advanceSlot = (session: Session, name: string, lsn: string): Promise<number> =>
  session.run(`SELECT pg_catalog.pg_replication_slot_advance($1, $2::pg_lsn)`, [name, lsn]);

/**
 * The same slot, on disk. How far a slot was advanced is in memory until the next checkpoint, and a server that crashes before has it where it was: what was
 * passed over would come after all. A copy of a slot is written at once; twice, for the name. Dies between: the name is free, and it is made anew before
 * the next try.
 */
export async function keepSlot(session: Session, name: string, spare: string): Promise<void> {
  const copy = (from: string, to: string): Promise<number> =>
    session.run(`SELECT pg_catalog.pg_copy_logical_replication_slot($1, $2)`, [from, to]);
  await dropSlot(session, spare);
  await copy(name, spare);
  await dropSlot(session, name);
  await copy(spare, name);
  await dropSlot(session, spare);
}

const FREE_MS = 5_000;

/** Ends whoever reads it: a later attempt of ours goes on from where the slot is. Throws Timeout. */
export async function freeSlot(session: Session, name: string): Promise<void> {
  for (const until = performance.now() + FREE_MS; ; await sleep(20)) {
    const state = await slotState(session, name);
    if (state?.activePid === undefined || state.activePid === null) return;
    if (performance.now() > until)
      throw new Problem('Timeout', `${session.name}: slot ${name} is in use and its reader does not end`);
    await session.run('SELECT pg_catalog.pg_terminate_backend($1)', [state.activePid]);
  }
}

const DROP_MS = 10_000;

/** Idempotent; ends its consumer if there is one. Throws Timeout when that does not go. */
export async function dropSlot(session: Session, name: string): Promise<void> {
  for (const until = performance.now() + DROP_MS; ;) {
    const row = await session.one<{ pid: number | null }>(
      `SELECT s.active_pid AS pid FROM pg_catalog.pg_replication_slots AS s
        WHERE s.slot_name = $1 AND s.database = pg_catalog.current_database()`,
      [name],
    );
    if (!row) return;
    try {
      if (row.pid !== null) await session.run('SELECT pg_catalog.pg_terminate_backend($1)', [row.pid]);
      else {
        await session.run('SELECT pg_catalog.pg_drop_replication_slot($1)', [name]);
        return;
      }
    } catch (error) {
      if (performance.now() > until) throw error;
    }
    if (performance.now() > until)
      throw new Problem('Timeout', `${session.name}: slot ${name} is in use and its consumer does not end`);
    await sleep(20);
  }
}
