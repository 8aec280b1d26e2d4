/**
 * The routes that a switch is known to move, set to the side that takes the writes: part of a repair, when the adapter that does it otherwise is not
 * there. Keeps true: what is written has a higher epoch than both databases know, so no router ever goes back; and a higher token, so that an attempt
 * that was given up and wakes again cannot move the route any more.
 */
import type { Side } from '../../plan/model/traffic';
import { otherSide } from '../../plan/model/traffic';
import type { Session } from '../session';
import { inTransaction } from '../session';
import type { RouteRow } from '../state/routes';
import { lockRoute, readRoute, writeRoute } from '../state/routes';
import type { RouteRef } from './guard';
import type { Reachable } from './pair';

const LOCK_MS = 2_000;

/**
 * Answers the routes that had to be changed; a route that nobody uses yet is left alone. A database that does not answer is left out: the higher epoch of
 * the other one counts. `token` = epoch of the guard rows after the repair.
 */
export async function settleRoutes(
  sessions: Reachable,
  routes: readonly RouteRef[],
  to: Side,
  token: number,
): Promise<string[]> {
  const open = [sessions[to], sessions[otherSide(to)]].filter((one) => one !== null);
  const changed: string[] = [];
  for (const { route, sides } of routes) {
    const rows = (await Promise.all(open.map((session) => readRoute(session, route)))).filter((row) => row !== null);
    const [newest] = [...rows].sort((a, b) => b.epoch - a.epoch);
    if (newest === undefined || (rows.length === open.length && rows.every((row) => settled(row, sides[to])))) continue;
    const next: RouteRow = {
      ...newest,
      side: sides[to],
      epoch: newest.epoch + 1,
      paused: false,
      pauseMs: null,
      token: Math.max(token, ...rows.map((row) => row.token)),
    };
    for (const session of open) await writeOne(session, route, next);
    changed.push(route);
  }
  return changed;
}

const settled = (row: RouteRow, side: string): boolean => row.side === side && !row.paused && row.pauseMs === null;

const writeOne = (session: Session, route: string, next: RouteRow): Promise<void> =>
  inTransaction(session, async () => {
    await session.run('SET LOCAL synchronous_commit = on');
    const there = await lockRoute(session, route, next.side, LOCK_MS);
    if (there.epoch < next.epoch) await writeRoute(session, route, next);
  });
