/**
 * The route's rows in both databases, changed as one. Keeps true: every change takes an epoch above both rows, under the locks of all rows
 * that can be reached, taken in one order; an attempt that was given up (lower token) changes nothing. The two commits are not one: after
 * a crash between them the higher epoch is the truth, and the next call writes it to the other database.
 */
import { isProblem, Problem } from '../../plan/model/errors';
import { newer } from '../../plan/model/routing';
import type { Side } from '../../plan/model/traffic';
import { SIDES } from '../../plan/model/traffic';
import type { Session } from '../../postgres/session';
import { openSession, rollBack } from '../../postgres/session';
import type { RouteRow, RouterRow } from '../../postgres/state/routes';
import { forgetRouters, keepFresh, lockRoute, readRoute, readRouters, writeRoute } from '../../postgres/state/routes';
import type { Target } from '../../postgres/types';
import type { Deadline } from '../deadline';
import { failed } from '../deadline';

const CONNECT_MS = 2_000;
const LOCK_MS = 1_000;

export interface RouteTruth {
  readonly row: RouteRow;
  /** Databases that could be asked. */
  readonly reached: readonly Side[];
}

export type Change = (row: RouteRow) => RouteRow;

/** Sessions to both databases, kept for one adapter's calls and made again when they broke. */
export class RouteRows {
  #sessions = new Map<Side, Session>();

  constructor(
    private readonly route: string,
    private readonly targets: Readonly<Record<Side, Target>>,
    /** Side that a route is on while no row says so. */
    private readonly initial: string,
  ) {}

  async #open(deadline: Deadline): Promise<Map<Side, Session>> {
    await Promise.all(
      SIDES.map(async (side) => {
        const found = this.#sessions.get(side);
        if (found && !found.lost) return;
        this.#sessions.delete(side);
        try {
          const connectTimeoutMs = Math.max(1, Math.min(CONNECT_MS, deadline.leftMs));
          this.#sessions.set(side, await openSession(this.targets[side], { purpose: 'route', connectTimeoutMs }));
        } catch (error) {
          if (!isProblem(error) || error.code === 'Bug') throw error;
        }
      }),
    );
    deadline.signal.throwIfAborted();
    return this.#sessions;
  }

  /** The true row. @throws Problem TrafficFailed when no database answers. */
  async read(deadline: Deadline): Promise<RouteTruth> {
    const rows = new Map<Side, RouteRow | null>();
    await this.#each(await this.#open(deadline), async (side, session) => {
      rows.set(side, await readRoute(session, this.route));
    });
    if (rows.size === 0) throw this.#noAnswer();
    const found = [...rows.values()].filter((row) => row !== null);
    return { row: truth(found) ?? this.#unwritten(), reached: [...rows.keys()] };
  }

  /**
   * Changes the route. Whoever must be reached and cannot be makes it fail before anything is written.
   * @throws Problem FenceBroken (an attempt after this one has written), TrafficFailed.
   */
  async change(
    change: Change,
    mustReach: readonly Side[],
    token: number | null,
    deadline: Deadline,
  ): Promise<RouteTruth> {
    const sessions = await this.#open(deadline);
    const missing = mustReach.filter((side) => !sessions.has(side));
    if (missing.length > 0 || sessions.size === 0)
      throw failed(`router ${this.route}`, `the database of ${missing.join(' and ') || 'both sides'} does not answer`);
    const open = SIDES.filter((side) => sessions.has(side)).map(
      (side) => [side, sessions.get(side) as Session] as const,
    );
    try {
      const rows: RouteRow[] = [];
      // One order for everybody: two writers wait for each other at the first row, never crosswise.
      for (const [, session] of open) {
        await session.run('BEGIN');
        rows.push(await lockRoute(session, this.route, this.initial, Math.min(LOCK_MS, Math.max(1, deadline.leftMs))));
      }
      const row = this.#next(rows, change, token);
      for (const [, session] of open) await writeRoute(session, this.route, row);
      for (const [, session] of open) await session.run('COMMIT');
      return { row, reached: open.map(([side]) => side) };
    } catch (error) {
      for (const [, session] of open) await rollBack(session);
      if (isProblem(error) && error.code !== 'FenceBroken')
        throw failed(`router ${this.route}`, `the route could not be written: ${error.message}`);
      throw error;
    }
  }

  #next(rows: readonly RouteRow[], change: Change, given: number | null): RouteRow {
    const highest = Math.max(...rows.map((row) => row.token));
    const token = given ?? highest;
    if (highest > token) throw new Problem('FenceBroken', `router ${this.route}: a later attempt moves this route`);
    const before = truth(rows) ?? this.#unwritten();
    const wanted = change(before);
    const same =
      wanted.side === before.side &&
      wanted.paused === before.paused &&
      JSON.stringify(wanted.details) === JSON.stringify(before.details);
    return { ...wanted, token, epoch: same && before.epoch > 0 ? before.epoch : before.epoch + 1 };
  }

  /** Every living router, by the best that either database knows of it. */
  async routers(deadline: Deadline): Promise<RouterRow[]> {
    const found = new Map<string, RouterRow>();
    await this.#each(await this.#open(deadline), async (_, session) => {
      for (const row of await readRouters(session, this.route)) {
        const known = found.get(row.instance);
        const best = !known || row.epoch > known.epoch || (row.epoch === known.epoch && row.drained) ? row : known;
        found.set(row.instance, {
          ...best,
          ageMs: Math.min(row.ageMs, known?.ageMs ?? Infinity),
          connected: row.connected || known?.connected === true,
        });
      }
    });
    return [...found.values()];
  }

  /** Waits until every router that lives knows this epoch, or the time is over. */
  async heard(
    epoch: number,
    isAlive: (row: RouterRow) => boolean,
    deadline: Deadline,
  ): Promise<{ readonly alive: number; readonly heard: number }> {
    let last = { alive: 0, heard: 0 };
    await deadline.poll(async () => {
      const alive = (await this.routers(deadline)).filter(isAlive);
      last = { alive: alive.length, heard: alive.filter((one) => one.epoch >= epoch).length };
      return last.heard === last.alive ? last : null;
    });
    return last;
  }

  /** In both databases: a router believes the one that it asked last. */
  async keepFresh(ms: number, deadline: Deadline): Promise<void> {
    await this.#each(await this.#open(deadline), (_, session) => keepFresh(session, this.route, ms));
  }

  async forgetDeadRouters(deadline: Deadline): Promise<void> {
    await this.#each(await this.#open(deadline), (_, session) => forgetRouters(session, this.route));
  }

  async #each(sessions: Map<Side, Session>, work: (side: Side, session: Session) => Promise<void>): Promise<void> {
    await Promise.all(
      [...sessions].map(async ([side, session]) => {
        try {
          await work(side, session);
        } catch (error) {
          // A server that went away is one that cannot be asked; anything else is ours to know.
          if (!session.lost) throw error;
          sessions.delete(side);
        }
      }),
    );
  }

  #unwritten(): RouteRow {
    const { initial: side } = this;
    return { side, epoch: 0, paused: false, pauseMs: null, share: null, token: 0, requestKey: null, details: {} };
  }

  #noAnswer(): Problem {
    return failed(`router ${this.route}`, 'neither database answers');
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions.values()].map((session) => session.close()));
    this.#sessions.clear();
  }
}

const truth = (rows: readonly RouteRow[]): RouteRow | null =>
  rows.reduce<RouteRow | null>((known, row) => newer(known, row) as RouteRow, null);
