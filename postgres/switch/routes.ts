/**
 * The routes that a switch is known to move, set to the side that takes the writes: part of a repair, when the adapter that does it otherwise is not
 * there. Keeps true: what is written has a higher epoch than both databases know, so no router ever goes back.
 */
import type { Session } from '../session';
import { inTransaction } from '../session';
import type { RouteRef } from './guard';
import type { Side } from './names';
import type { Reachable } from './pair';

interface Stored extends Record<string, unknown> {
  readonly side: string;
  readonly epoch: string;
  readonly paused: boolean;
}

const readRoute = (session: Session, route: string): Promise<Stored | undefined> =>
  session.one<Stored>(`SELECT r.side, r.epoch::text AS epoch, r.paused FROM pgshift.routes AS r WHERE r.route = $1`, [
    route,
  ]);

/** Answers the routes that had to be changed. A database that does not answer is left out: the higher epoch of the other one counts. */
export async function settleRoutes(sessions: Reachable, routes: readonly RouteRef[], to: Side): Promise<string[]> {
  const open = [sessions[to], sessions[to === 'blue' ? 'green' : 'blue']].filter((one) => one !== null);
  const changed: string[] = [];
  for (const { route, sides } of routes) {
    const rows = await Promise.all(open.map((session) => readRoute(session, route)));
    const known = rows.filter((row) => row !== undefined);
    if (known.length === 0 || known.every((row) => row.side === sides[to] && !row.paused)) continue;
    const epoch = Math.max(...known.map((row) => Number(row.epoch))) + 1;
    for (const session of open)
      await inTransaction(session, async () => {
        await session.run(`SET LOCAL lock_timeout = '2s'; SET LOCAL synchronous_commit = on`);
        await session.run(
          `UPDATE pgshift.routes SET side = $2, epoch = $3, paused = false, updated_at = clock_timestamp() WHERE route = $1 AND epoch < $3`,
          [route, sides[to], epoch],
        );
      });
    changed.push(route);
  }
  return changed;
}
