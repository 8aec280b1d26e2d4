/**
 * Who stands in the way of a lock. Read before every try, so that we wait beside the lock queue and never in it. Never reads query texts.
 * A role without pg_read_all_stats sees no transaction ages of others: then an age is unknown (null), and the caller remembers since when
 * it has seen that session.
 */
import type { LockMode, LockTarget } from '../plan/model/steps';
import { LOCK_MODES } from '../plan/model/steps';
import { relation } from './ident';
import type { Session } from './session';

export interface Blocker {
  /** 0 = a prepared transaction: it has no process. */
  readonly pid: number;
  readonly relation: string;
  readonly mode: string;
  readonly kind: 'session' | 'autovacuum' | 'autovacuum to prevent wraparound' | 'prepared transaction';
  readonly state: string | null;
  /** Age of its transaction, ms; null = not visible to us. */
  readonly ageMs: number | null;
  readonly applicationName: string | null;
}

/** Which modes conflict with a mode, as the manual's table has it. */
const CONFLICTS: Readonly<Record<LockMode, readonly LockMode[]>> = {
  'ACCESS SHARE': LOCK_MODES.slice(7),
  'ROW SHARE': LOCK_MODES.slice(6),
  'ROW EXCLUSIVE': LOCK_MODES.slice(4),
  'SHARE UPDATE EXCLUSIVE': LOCK_MODES.slice(3),
  SHARE: ['ROW EXCLUSIVE', 'SHARE UPDATE EXCLUSIVE', 'SHARE ROW EXCLUSIVE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE'],
  'SHARE ROW EXCLUSIVE': LOCK_MODES.slice(2),
  EXCLUSIVE: LOCK_MODES.slice(1),
  'ACCESS EXCLUSIVE': LOCK_MODES,
};

/** pg_locks' spelling ("ShareRowExclusiveLock") of a mode, and back. */
export const lockName = (mode: LockMode): string =>
  `${mode.toLowerCase().replace(/(?:^| )([a-z])/g, (_, letter: string) => letter.toUpperCase())}Lock`;
const MODE_OF_NAME = new Map(LOCK_MODES.map((mode) => [lockName(mode), mode]));
export const lockMode = (name: string): LockMode | undefined => MODE_OF_NAME.get(name);

const SELECT_BLOCKER = `
  SELECT coalesce(l.pid, 0) AS pid, l.relation::regclass::text AS relation, l.mode,
         CASE WHEN l.pid IS NULL THEN 'prepared transaction'
              WHEN a.backend_type = 'autovacuum worker' AND a.query LIKE '%(to prevent wraparound)' THEN 'autovacuum to prevent wraparound'
              WHEN a.backend_type = 'autovacuum worker' THEN 'autovacuum' ELSE 'session' END AS kind,
         a.state, (extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)) * 1000)::float8 AS "ageMs",
         nullif(a.application_name, '') AS "applicationName"
    FROM pg_catalog.pg_locks AS l
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
    LEFT JOIN pg_catalog.pg_prepared_xacts AS p ON '-1/' || p.transaction::text = l.virtualtransaction`;

/** Everybody who holds, or waits for, a lock that conflicts with one of `targets`; our own backends (`mine`) aside. */
export async function findBlockers(
  observer: Session,
  targets: readonly LockTarget[],
  mine: readonly number[],
): Promise<Blocker[]> {
  if (targets.length === 0) return [];
  const wanted = targets.flatMap((target) =>
    CONFLICTS[target.mode].map((mode) => ({ relation: relation(target.relation), mode: lockName(mode) })),
  );
  return observer.rows<Blocker & Record<string, unknown>>(
    `${SELECT_BLOCKER}
       JOIN jsonb_to_recordset($1::jsonb) AS w(relation text, mode text)
         ON l.relation = to_regclass(w.relation) AND l.mode = w.mode
      WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND NOT (coalesce(l.pid, 0) = ANY ($2::int[]))
      ORDER BY "ageMs" DESC NULLS LAST`,
    [JSON.stringify(wanted), mine],
  );
}

/** Whom the backend `pid` is waiting for at this moment (pg_blocking_pids), with the relation it wants. */
export async function blockersOf(observer: Session, pid: number): Promise<Blocker[]> {
  return observer.rows<Blocker & Record<string, unknown>>(
    `SELECT b.pid, coalesce(w.relation::regclass::text, w.locktype) AS relation, w.mode,
            CASE WHEN b.pid = 0 THEN 'prepared transaction'
                 WHEN a.backend_type = 'autovacuum worker' AND a.query LIKE '%(to prevent wraparound)' THEN 'autovacuum to prevent wraparound'
                 WHEN a.backend_type = 'autovacuum worker' THEN 'autovacuum' ELSE 'session' END AS kind,
            a.state, (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::float8 AS "ageMs",
            nullif(a.application_name, '') AS "applicationName"
       FROM unnest(pg_blocking_pids($1)) AS b(pid)
       LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
       LEFT JOIN LATERAL (SELECT l.relation, l.locktype, l.mode FROM pg_locks AS l
                           WHERE l.pid = $1 AND NOT l.granted LIMIT 1) AS w ON true`,
    [pid],
  );
}

export interface Waiter extends Record<string, unknown> {
  readonly pid: number;
  readonly waitedMs: number;
}

/** Who waits behind one of our backends, and for how long (longest first). */
export const waitersBehind = (observer: Session, pids: readonly number[]): Promise<Waiter[]> =>
  observer.rows<Waiter>(
    `SELECT l.pid, (extract(epoch FROM clock_timestamp() - l.waitstart) * 1000)::float8 AS "waitedMs"
       FROM pg_catalog.pg_locks AS l
      WHERE NOT l.granted AND l.waitstart IS NOT NULL AND NOT (l.pid = ANY ($1::int[]))
        AND pg_catalog.pg_blocking_pids(l.pid) && $1::int[]
      ORDER BY 2 DESC`,
    [pids],
  );

/** "lock on payment held by pid 4711 (idle in transaction, 12 s, psql)" */
export function describeBlocker(blocker: Blocker): string {
  const who = blocker.pid === 0 ? 'a prepared transaction' : `pid ${blocker.pid}`;
  const age = blocker.ageMs === null ? null : `${Math.round(blocker.ageMs / 1000)} s`;
  const kind = blocker.kind === 'session' || blocker.kind === 'prepared transaction' ? null : blocker.kind;
  const about = [kind, blocker.state, age, blocker.applicationName].filter((part) => part !== null && part !== '');
  return `lock on ${blocker.relation} held by ${who}${about.length > 0 ? ` (${about.join(', ')})` : ''}`;
}
