/**
 * The sessions of a database: who is in it, and out with them. Keeps true: a session of ours and the walsenders of replication stay; a session that we
 * may not end is named, never waited for without end: behind the wall it is harmless.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../../plan/model/errors';
import type { Session } from '../session';
import { checkSignal } from '../work';

export interface Client extends Record<string, unknown> {
  readonly pid: number;
  readonly role: string | null;
  readonly applicationName: string | null;
  readonly state: string | null;
  /** Age of its transaction, ms; null = none, or not visible to us. */
  readonly transactionMs: number | null;
  /** It has a transaction id: it has written something (or will be seen as if). */
  readonly writing: boolean;
}

/** Client sessions of this database without ours. The names of applications are theirs; no query text is read. */
export const clientsOf = (session: Session): Promise<Client[]> =>
  session.rows<Client>(
    `SELECT a.pid, a.usename::text AS role, nullif(a.application_name, '') AS "applicationName", a.state,
            (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::float8 AS "transactionMs", a.backend_xid IS NOT NULL AS writing
       FROM pg_catalog.pg_stat_activity AS a
      WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
        -- Without pg_read_all_stats other people's sessions show no type: what replicates is known by other means.
        AND coalesce(a.backend_type, 'client backend') = 'client backend' AND a.usename IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_replication AS r WHERE r.pid = a.pid)
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_subscription AS u WHERE u.pid = a.pid)
        AND NOT coalesce(a.usename = current_user AND a.application_name LIKE 'pgshift/%', false)
      ORDER BY a.pid`,
  );

const ASIDE = /^pgshift(\/|-router\/|-haproxy$)/;

/** Sessions of applications: without ours, without routers that only listen and proxies that only look. */
export const usersOf = async (session: Session): Promise<readonly Client[]> =>
  (await clientsOf(session)).filter(({ applicationName }) => !ASIDE.test(applicationName ?? ''));

export const countClients = async (session: Session): Promise<number> => (await usersOf(session)).length;

const describe = ({ pid, role, applicationName, state }: Client): string =>
  `pid ${pid} (${[role, applicationName, state].filter((part) => part !== null).join(', ')})`;
export const describeClients = (clients: readonly Client[]): string =>
  clients.slice(0, 5).map(describe).join(', ') + (clients.length > 5 ? ` and ${clients.length - 5} more` : '');

export interface Ended {
  readonly ended: number;
  /** Sessions that would not go, or that we may not end. */
  readonly left: readonly Client[];
}

const POLL_MS = 10;

/**
 * Ends every client session, again and again, until none has been there at two looks in a row: one that was let in just before the REVOKE may still
 * be starting up. Ends at the latest after `deadlineMs`, or as soon as only sessions are left that we may not end.
 */
export async function endClients(session: Session, deadlineMs: number, signal: AbortSignal): Promise<Ended> {
  const until = performance.now() + deadlineMs;
  const seen = new Set<number>();
  const refused = new Set<number>();
  for (let quiet = 0; ;) {
    checkSignal(signal);
    const clients = await clientsOf(session);
    for (const { pid } of clients) {
      seen.add(pid);
      if (!refused.has(pid) && !(await end(session, pid))) refused.add(pid);
    }
    const left = clients.filter(({ pid }) => !refused.has(pid));
    quiet = left.length === 0 ? quiet + 1 : 0;
    if (quiet >= 2 || performance.now() >= until) return { ended: seen.size - clients.length, left: clients };
    await sleep(POLL_MS);
  }
}

/** false = not ours to end (a superuser's session, and we are none). */
async function end(session: Session, pid: number): Promise<boolean> {
  try {
    await session.run('SELECT pg_catalog.pg_terminate_backend($1)', [pid]);
    return true;
  } catch {
    return false;
  }
}

/** An ordinary autovacuum holds a lock that the wall must wait for; it gives way when it is asked to, one against wraparound does not. */
export const askAutovacuumAway = (session: Session): Promise<unknown> =>
  session
    .rows(
      `SELECT pg_catalog.pg_cancel_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
        WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'autovacuum worker'
          AND a.query NOT LIKE '%(to prevent wraparound)'`,
    )
    .catch(() => undefined);

/** A prepared transaction outlives its session and commits whenever somebody says so. Throws PreflightFailed with their number. */
export async function refusePrepared(session: Session): Promise<void> {
  const row = await session.one<{ n: number; oldest: number | null }>(
    `SELECT count(*)::int AS n, (extract(epoch FROM clock_timestamp() - min(p.prepared)))::float8 AS oldest
       FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = pg_catalog.current_database()`,
  );
  if (!row || row.n > 0)
    throw new Problem(
      'PreflightFailed',
      `${session.name}: ${row?.n ?? 'unknown'} prepared transactions are open, the oldest for ${Math.round(row?.oldest ?? 0)} s`,
      { hint: 'COMMIT PREPARED or ROLLBACK PREPARED them; pg_prepared_xacts lists them' },
    );
}
