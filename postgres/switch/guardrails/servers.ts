/** Guardrails about the two servers: which they are, what they have room for, whether each reaches the other. */
import { isProblem } from '../../../plan/model/errors';
import { tool } from '../../backup';
import type { Session } from '../../session';
import { randomBytes } from 'node:crypto';
import { otherSide, SIDES } from '../../../plan/model/traffic';
import { refuseSame } from '../pair';
import { probeSubscription } from '../subscription';
import { userTables } from '../tables';
import type { Check, Finding } from './types';
import { ALWAYS, BEFORE, none, ofEach } from './types';

const setting = async (session: Session, name: string): Promise<string> => {
  const row = await session.one<{ value: string }>(`SELECT pg_catalog.current_setting($1) AS value`, [name]);
  if (!row) throw new Error('no such setting');
  return row.value;
};
const count = async (session: Session, sql: string): Promise<number> => {
  const row = await session.one<{ n: number }>(sql);
  if (!row) throw new Error('no count');
  return row.n;
};

const OLDEST = 140000;

export const SERVERS: readonly Check[] = [
  {
    id: 'different_databases',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'name two databases',
    look: async ({ both }) => {
      try {
        await refuseSame(both);
        return [{ side: 'both', ok: true, evidence: 'a lock taken in blue is not seen in green' }];
      } catch (error) {
        if (isProblem(error) && error.code === 'SameDatabase')
          return [{ side: 'both', ok: false, evidence: error.message }];
        throw error;
      }
    },
  },
  {
    id: 'version',
    stages: BEFORE,
    severity: 'error',
    remedy: 'PostgreSQL 14 or later on both sides',
    look: (input) =>
      ofEach(input, async ({ serverVersion }) => ({
        ok: serverVersion >= OLDEST,
        evidence: `server_version_num ${serverVersion}`,
      })),
  },
  {
    id: 'tools',
    stages: BEFORE,
    severity: 'error',
    remedy: `PGSHIFT_POSTGRES_BIN: a folder with the pg_dump and pg_restore of blue's version or a later one`,
    look: async ({ both: { blue } }) => {
      const { ok, said } = await dumpVersion(Math.floor(blue.serverVersion / 10_000));
      const server = `${Math.floor(blue.serverVersion / 10_000)}.${blue.serverVersion % 10_000}`;
      return [{ side: 'blue', ok, evidence: ok ? said : `${said}${/\d/.test(said) ? `, and blue is ${server}` : ''}` }];
    },
  },
  {
    id: 'primary',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'connect to the primary',
    look: (input) =>
      ofEach(input, async (session) => {
        const standby = await count(session, `SELECT pg_catalog.pg_is_in_recovery()::int AS n`);
        return { ok: standby === 0, evidence: standby === 0 ? 'a primary' : 'a standby: it takes no writes' };
      }),
  },
  {
    id: 'wal_level',
    stages: BEFORE,
    severity: 'error',
    remedy: `ALTER SYSTEM SET wal_level = 'logical'; and restart. Green too: the way back starts there`,
    look: (input) =>
      ofEach(input, async (session) => {
        const level = await setting(session, 'wal_level');
        return { ok: level === 'logical', evidence: `wal_level = ${level}` };
      }),
  },
  {
    id: 'replication_capacity',
    stages: BEFORE,
    severity: 'error',
    remedy: 'raise the setting and restart',
    look: (input) =>
      ofEach(input, async (session) => {
        const free = await capacity(session);
        const short = free.filter(({ left, needed }) => left < needed);
        return { ok: short.length === 0, evidence: free.map(({ what, left }) => `${what}: ${left} free`).join(', ') };
      }),
  },
  {
    id: 'slot_keep_size',
    stages: BEFORE,
    severity: 'warning',
    remedy: 'max_slot_wal_keep_size = -1 for the time of the switch, or more than the WAL of the longest interruption',
    look: (input) =>
      ofEach(input, async (session) => {
        const size = await setting(session, 'max_slot_wal_keep_size');
        return { ok: size === '-1', evidence: `max_slot_wal_keep_size = ${size}` };
      }),
  },
  {
    id: 'wal_disk',
    stages: ALWAYS,
    severity: 'info',
    remedy: 'a slot keeps WAL until green has it: watch the free space of pg_wal',
    look: (input) =>
      ofEach(input, async (session) => {
        const kept = await count(
          session,
          `SELECT coalesce(max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn)), 0)::float8 AS n
             FROM pg_catalog.pg_replication_slots AS s`,
        );
        return {
          ok: true,
          evidence: `slots keep ${Math.round(kept / 1024 ** 2)} MB of WAL now; how much disk is free no statement tells`,
        };
      }),
  },
  {
    id: 'lock_table',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'raise max_locks_per_transaction and restart: the fence locks every table at once',
    look: (input) =>
      ofEach(input, async (session) => {
        const slots = await count(
          session,
          `SELECT (current_setting('max_locks_per_transaction')::int *
                   (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)) AS n`,
        );
        const tables = (await userTables(session)).length;
        // Each table costs a lock on it and one more while its trigger is made.
        return { ok: tables * 2 < slots * 0.7, evidence: `${tables} tables, room for about ${slots} locks` };
      }),
  },
  {
    id: 'reachable_from_peer',
    stages: BEFORE,
    severity: 'error',
    remedy: 'PGSHIFT_DATABASE_<NAME>_FROM_PEER, pg_hba.conf, a role with LOGIN and REPLICATION',
    look: async ({ both, peers }) => {
      const found: Finding[] = [];
      for (const side of SIDES) {
        const other = otherSide(side);
        try {
          await probeSubscription(both[side], peers[other], `pgshift_probe_${randomBytes(4).toString('hex')}`);
          found.push({
            side,
            ok: true,
            evidence: `the server of ${side} reaches ${other}, logs in for replication, and may subscribe`,
          });
        } catch (error) {
          if (!isProblem(error)) throw error;
          found.push({ side, ok: false, evidence: error.message, remedy: error.hint });
        }
      }
      return found;
    },
  },
  {
    id: 'other_engines',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'stop its jobs on both sides for the switch, or answer for it by name (allow): it writes by itself',
    look: (input) =>
      ofEach(input, (session) =>
        none(
          session,
          `SELECT e.extname::text AS name FROM pg_catalog.pg_extension AS e
            WHERE e.extname IN ('pg_cron', 'pg_partman', 'pglogical', 'pgactive', 'bdr', 'timescaledb', 'citus') ORDER BY 1`,
          'extensions that write or replicate by themselves',
        ),
      ),
  },
];

/** It refuses a server that is newer than itself, and then blue's schema cannot be read. */
async function dumpVersion(major: number): Promise<{ readonly ok: boolean; readonly said: string }> {
  try {
    const said = (await Promise.all([asked('pg_dump'), asked('pg_restore')])).sort((a, b) => majorOf(a) - majorOf(b));
    const [oldest = ''] = said;
    return { ok: majorOf(oldest) >= major, said: oldest };
  } catch (error) {
    return { ok: false, said: isProblem(error) ? error.message : 'pg_dump or pg_restore cannot be run' };
  }
}
const asked = async (name: 'pg_dump' | 'pg_restore'): Promise<string> =>
  (await tool(name, ['--version'], process.env, undefined)).trim();
const majorOf = (said: string): number => Number(/\) (\d+)/.exec(said)?.[1] ?? 0);

interface Room {
  readonly what: string;
  readonly left: number;
  readonly needed: number;
}

async function capacity(session: Session): Promise<Room[]> {
  const row = await session.one<Record<string, number>>(
    `SELECT current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_catalog.pg_replication_slots) AS slots,
            current_setting('max_wal_senders')::int - (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walsender') AS senders,
            current_setting('max_logical_replication_workers')::int -
              (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE backend_type LIKE 'logical replication%worker') AS appliers,
            current_setting('max_worker_processes')::int -
              (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE backend_type LIKE 'logical replication%' OR backend_type LIKE 'parallel%') AS workers`,
  );
  if (!row) throw new Error('no capacity');
  return [
    // One that replicates, one by which changes are compared, and one to spare for the way back.
    { what: 'max_replication_slots', left: row.slots ?? 0, needed: 3 },
    { what: 'max_wal_senders', left: row.senders ?? 0, needed: 3 },
    { what: 'max_logical_replication_workers', left: row.appliers ?? 0, needed: 1 },
    { what: 'max_worker_processes', left: row.workers ?? 0, needed: 1 },
  ];
}
