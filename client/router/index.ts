/**
 * The router library for applications: a node-postgres Pool that follows a switch. It imports nothing of pgshift but plan/model, so that
 * an application that uses it carries neither Temporal nor the engine.
 *
 *     const router = createRouter({ route: 'app', connections: { blue: process.env.BLUE, green: process.env.GREEN } });
 *     const pool = router.pool();
 *     await pool.query('SELECT 1');
 */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Pool, PoolConfig } from 'pg';
import { Counting } from '../../plan/model/counters';
import { Problem } from '../../plan/model/errors';
import type { RouteKey } from '../../plan/model/routing';
import { flagIsOn } from '../../plan/model/routing';
import { Checkouts } from './checkouts';
import { Follower } from './follower';
import type { KeyedClient, Shadow } from './keyed';
import { keyedClient } from './keyed';
import { RoutedPool } from './pool';

export { bucket } from '../../plan/model/bucket';
export type { KeyedClient, Shadow } from './keyed';

export interface RouterOptions {
  /** Name of the route, as the plan's `traffic: [{type: router, route}]` says it. */
  readonly route: string;
  /** URL of each side. Clients connect there; a pooler may stand between. */
  readonly connections: Readonly<Record<string, string>>;
  /**
   * Where to listen, if not there: LISTEN needs a direct connection, and a transaction pooler gives none.
   * @default connections
   */
  readonly listen?: Readonly<Record<string, string>>;
  /** Where clients go while no database knows the route. @default the first of connections */
  readonly initial?: string;
  /** node-postgres' own settings, for each side's pool (`max`, `idleTimeoutMillis`, ...). */
  readonly pool?: Omit<PoolConfig, 'connectionString'>;
  /** How long a checkout waits for the end of a pause, ms. Far above the switch's maxPause. @default 30000 */
  readonly waitMs?: number;
  /** How often each database is asked when nothing was notified, ms. @default 1000 */
  readonly pollMs?: number;
  /** After how long a database that does not answer counts as unreachable, ms. @default 2000 */
  readonly answerMs?: number;
}

export interface RouterState {
  readonly route: string;
  readonly side: string;
  readonly epoch: number;
  readonly paused: boolean;
  /** A database said so; until then `side` is `initial`. */
  readonly resolved: boolean;
  /** Sides that answered when they were last asked. */
  readonly reachable: readonly string[];
  readonly inUse: number;
  readonly waiting: number;
}

export type RouterEvent = 'change' | 'trouble' | 'shadow';

export interface Router {
  /** A node-postgres Pool on the current side; always the same one. During a pause its checkouts wait, and nothing fails. */
  pool(): Pool;
  /** One key's client: its writes go to the key's home. */
  for(key: RouteKey): KeyedClient;
  /** The current side, once a database said which it is. @throws Problem Unreachable when none answers within waitMs. */
  current(): Promise<string>;
  /** Is this feature on for this key? From memory; false while it is not known, and for an absent key. */
  flag(name: string, key: RouteKey): boolean;
  /** Settles when flags and route are known, or no database could be asked. Never throws. */
  ready(): Promise<void>;
  state(): RouterState;
  on(event: 'change', listener: (state: RouterState) => void): Router;
  /** A database that cannot be followed just now. The router goes on with what it knows. */
  on(event: 'trouble', listener: (side: string, error: unknown) => void): Router;
  on(event: 'shadow', listener: (seen: Shadow) => void): Router;
  /** Ends the connections, those that are checked out when they are released, and stops following. */
  close(): Promise<void>;
}

const WAIT_MS = 30_000;
const POLL_MS = 1_000;
const ANSWER_MS = 2_000;

/** Makes a router; it starts following at once. @throws Problem InvalidConfig when a side has no readable URL. */
export function createRouter(options: RouterOptions): Router {
  const { route, waitMs = WAIT_MS } = options;
  const urls = options.connections;
  const sides = Object.keys(urls);
  const initial = options.initial ?? sides[0];
  check(options, sides, initial);

  const counting = new Counting();
  const follower: Follower = new Follower({
    route,
    urls: options.listen ?? urls,
    initial,
    instance: `${hostname()}/${process.pid}/${randomUUID().slice(0, 8)}`,
    pollMs: options.pollMs ?? POLL_MS,
    answerMs: options.answerMs ?? ANSWER_MS,
    hello: (now) => ({
      epoch: now.epoch,
      drained: checkouts.isDrained(now),
      inUse: checkouts.counts.inUse,
      counters: counting.now,
    }),
  });
  const checkouts: Checkouts = new Checkouts(
    { route, urls, pool: options.pool ?? {}, waitMs },
    follower,
    (event, ...args) => {
      // As the Pool does, but an error that nobody listens for does not end the process.
      if (event !== 'error' || pool.listenerCount('error') > 0) pool.emit(event, ...args);
    },
  );
  let closing: Promise<void> | null = null;
  const close = (): Promise<void> =>
    (closing ??= (async () => {
      await checkouts.close();
      await follower.close();
    })());
  const pool = new RoutedPool(checkouts, options.pool ?? {}, close);
  const state = (): RouterState => {
    const { side, epoch, paused } = follower.route;
    const { inUse, waiting } = checkouts.counts;
    const { resolved, reachable } = follower;
    return { route, side, epoch, paused, resolved, reachable, inUse, waiting };
  };

  const router: Router = {
    pool: () => pool,
    for: (key) => keyedClient(key, { checkouts, follower, counting }, (seen) => void follower.emit('shadow', seen)),
    async current() {
      await follower.ready();
      if (follower.resolved) await follower.ask();
      else await follower.until(() => true, performance.now() + waitMs).catch(() => undefined);
      if (follower.resolved) return follower.route.side;
      throw new Problem('Unreachable', `route ${route}: none of ${sides.join(', ')} answers`);
    },
    flag: (name, key) => flagIsOn(follower.flag(name), key),
    ready: () => follower.ready(),
    state,
    on(event: RouterEvent, listener: (...args: never[]) => void) {
      if (event === 'change') follower.on('change', () => (listener as (now: RouterState) => void)(state()));
      else follower.on(event, listener as (...args: unknown[]) => void);
      return router;
    },
    close,
  };
  return router;
}

function check(
  options: RouterOptions,
  sides: readonly string[],
  initial: string | undefined,
): asserts initial is string {
  const bad = (what: string) => new Problem('InvalidConfig', `createRouter: ${what}`, { hint: 'URLs are not shown' });
  if (!options.route) throw bad('route is missing');
  if (initial === undefined) throw bad('connections is empty');
  if (!sides.includes(initial)) throw bad('initial names no connection');
  const listen = Object.keys(options.listen ?? options.connections);
  if (listen.length !== sides.length || listen.some((side) => !sides.includes(side)))
    throw bad('listen must have the same sides as connections');
  for (const urls of [options.connections, options.listen ?? {}])
    for (const [side, url] of Object.entries(urls))
      if (typeof url !== 'string' || !/^(postgres(ql)?|socket):/.test(url) || !URL.canParse(url))
        throw bad(`the URL of ${side} cannot be read`);
}
