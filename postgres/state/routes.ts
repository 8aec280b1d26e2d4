/**
 * Rows of `pgshift.routes` and `pgshift.routers` in one database. Which of two databases' rows is true is decided by the caller
 * (traffic/router), under the row locks taken here.
 */
import type { Counters, Sample } from '../../plan/model/counters';
import { parseCounters } from '../../plan/model/counters';
import type { Route } from '../../plan/model/routing';
import { parseShare } from '../../plan/model/routing';
import { ident, identList } from '../ident';
import type { Session } from '../session';

/** What a route says in one database, with what its writers need to know of each other. */
export interface RouteRow extends Route {
  /** Of the newest attempt that wrote it; a lower one may not write any more. */
  readonly token: number;
  readonly requestKey: string | null;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface RouterRow {
  readonly instance: string;
  readonly epoch: number;
  readonly drained: boolean;
  readonly inUse: number;
  /** Since it was last heard of, ms. */
  readonly ageMs: number;
  /** Its listening session is there. */
  readonly connected: boolean;
}

interface Stored extends Record<string, unknown> {
  readonly side: string;
  readonly epoch: string;
  readonly paused: boolean;
  readonly details: Record<string, unknown> | null;
  readonly pause: number | null;
  readonly fresh: number | null;
  readonly token: string;
  readonly key: string | null;
}

const COLUMNS = `side, epoch, paused, details, token, request_key AS key,
  (extract(epoch FROM pause_until - clock_timestamp()) * 1000)::float8 AS pause,
  (extract(epoch FROM fresh_until - clock_timestamp()) * 1000)::float8 AS fresh`;

const rowOf = (stored: Stored): RouteRow => ({
  side: stored.side,
  epoch: Number(stored.epoch),
  paused: stored.paused,
  pauseMs: stored.pause,
  share: parseShare(stored.details?.share, stored.fresh),
  token: Number(stored.token),
  requestKey: stored.key,
  details: stored.details ?? {},
});

export async function readRoute(session: Session, route: string): Promise<RouteRow | null> {
  const found = await session.one<Stored>(`SELECT ${COLUMNS} FROM pgshift.routes WHERE route = $1`, [route]);
  return found ? rowOf(found) : null;
}

/** Inside a transaction: makes the row if there is none (epoch 0, open, at `side`) and locks it. Throws LockTimeout after `lockMs`. */
export async function lockRoute(session: Session, route: string, side: string, lockMs: number): Promise<RouteRow> {
  await session.run(`SET LOCAL lock_timeout = ${Math.max(1, Math.round(lockMs))}`);
  // A second writer waits here for the first one's insert, and finds its row.
  await session.run(`INSERT INTO pgshift.routes (route, side, epoch) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING`, [
    route,
    side,
  ]);
  const found = await session.one<Stored>(`SELECT ${COLUMNS} FROM pgshift.routes WHERE route = $1 FOR UPDATE`, [route]);
  return rowOf(found as Stored);
}

/** Inside the transaction that holds the lock. `pauseMs` null = until it is ended. */
export async function writeRoute(session: Session, route: string, row: RouteRow): Promise<void> {
  await session.run(
    `UPDATE pgshift.routes SET side = $2, epoch = $3, paused = $4, details = $5::jsonb, token = $6, request_key = $7,
            pause_until = clock_timestamp() + $8::float8 * interval '1 millisecond', updated_at = clock_timestamp()
      WHERE route = $1`,
    [
      route,
      row.side,
      row.epoch,
      row.paused,
      JSON.stringify(row.details),
      row.token,
      row.requestKey,
      row.paused ? row.pauseMs : null,
    ],
  );
}

/** From now on reads may go over for `ms`; no change of the route, so its epoch stays. Whoever changes the route meanwhile goes first. */
export async function keepFresh(session: Session, route: string, ms: number): Promise<void> {
  await session.run(
    `UPDATE pgshift.routes SET fresh_until = clock_timestamp() + $2::float8 * interval '1 millisecond'
      WHERE route = $1 AND ctid IN (SELECT r.ctid FROM pgshift.routes AS r WHERE r.route = $1 FOR UPDATE SKIP LOCKED)`,
    [route, Math.max(0, ms)],
  );
}

/** Every router of the route that has been heard of in the last minute. */
export async function readRouters(session: Session, route: string): Promise<RouterRow[]> {
  const found = await session.rows<{
    instance: string;
    epoch: string;
    drained: boolean;
    used: number;
    age: number;
    connected: boolean;
  }>(
    `SELECT r.instance, r.epoch, r.drained, r.in_use AS used, a.age,
            EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS s WHERE s.pid = r.backend_pid
                       AND s.datname = pg_catalog.current_database()) AS connected
       FROM pgshift.routers AS r
       CROSS JOIN LATERAL (SELECT (extract(epoch FROM clock_timestamp() - r.seen_at) * 1000)::float8 AS age) AS a
      WHERE r.route = $1 AND a.age < 60000`,
    [route],
  );
  return found.map(({ instance, epoch, drained, used, age, connected }) => ({
    instance,
    epoch: Number(epoch),
    drained,
    inUse: used,
    ageMs: age,
    connected,
  }));
}

/** What every router of the route that lives has counted since it began. */
export async function readCounters(session: Session, route: string): Promise<Sample> {
  const found = await session.rows<{ instance: string; counters: unknown }>(
    `SELECT r.instance, r.counters FROM pgshift.routers AS r
      WHERE r.route = $1 AND r.counters IS NOT NULL AND r.seen_at > clock_timestamp() - interval '1 minute'`,
    [route],
  );
  const sample = new Map<string, Counters>();
  for (const { instance, counters } of found) {
    const read = parseCounters(counters);
    if (read !== null) sample.set(`${route}/${instance}`, read);
  }
  return sample;
}

/** Rows that routers left behind when they died. */
export async function forgetRouters(session: Session, route: string): Promise<void> {
  await session.run(
    `DELETE FROM pgshift.routers WHERE route = $1 AND seen_at < clock_timestamp() - interval '1 hour'`,
    [route],
  );
}

/** What a role needs whose application uses the router library. Also in docs/grants.md. */
export const routingGrants = (roles: readonly string[]): readonly string[] => [
  `GRANT USAGE ON SCHEMA ${ident('pgshift')} TO ${identList(roles)}`,
  `GRANT SELECT ON pgshift.routes, pgshift.feature_flags TO ${identList(roles)}`,
  `GRANT SELECT, INSERT, UPDATE, DELETE ON pgshift.routers TO ${identList(roles)}`,
];

/** Lets the roles of applications follow routes and flags, and acknowledge. Needs ownership of schema pgshift. */
export async function grantRouting(session: Session, roles: readonly string[]): Promise<void> {
  if (roles.length === 0) return;
  for (const grant of routingGrants(roles)) await session.run(grant);
}

/** Lets a proxy ask whether reads may go to this side (plan/model/readsCheck.ts). Needs ownership of schema pgshift. */
export async function grantLooking(session: Session, roles: readonly string[]): Promise<void> {
  if (roles.length === 0) return;
  await session.run(`GRANT USAGE ON SCHEMA ${ident('pgshift')} TO ${identList(roles)}`);
  await session.run(`GRANT SELECT ON pgshift.routes TO ${identList(roles)}`);
}
