/**
 * The connections behind a route: one node-postgres Pool for each side, and a count of what is checked out. Keeps true: a checkout that has
 * to wait gets no connection; the moment the route is paused every checkout counts until it is released, also one that is still
 * connecting, so that "drained" is never said too early; after it was said the old connections are closed before anything is acknowledged.
 * A pool ends only when nobody is in its queue: node-postgres never answers who waits there at its end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { PoolClient, PoolConfig } from 'pg';
import { Pool } from 'pg';
import type { Home, Route, RouteKey } from '../../plan/model/routing';
import { Problem } from '../../plan/model/errors';
import { homeOf } from '../../plan/model/routing';
import type { Follower } from './follower';
import { closedProblem } from './follower';
import { asLibpq } from './watch';

export interface CheckoutsOptions {
  readonly route: string;
  readonly urls: Readonly<Record<string, string>>;
  readonly pool: PoolConfig;
  readonly waitMs: number;
}

/** What a server says that is shut to us, or about to be: the route knows more, or will soon. */
const SHUT = new Set(['42501', '57P01', '57P02', '57P03']);
const ASK_AGAIN_MS = 50;
const CLOSE_MS = 500;

const codeOf = (error: unknown): string => String((error as { code?: unknown } | null | undefined)?.code ?? '');

interface Checkout {
  readonly key: RouteKey;
  readonly side: string;
}

export type PoolEvent = 'connect' | 'acquire' | 'release' | 'remove' | 'error';

export class Checkouts {
  #pools = new Map<string, Pool>();
  /** How many ask a pool for a client and have none yet. */
  readonly #asking = new Map<Pool, number>();
  /** Pools that take nobody new, until the last who asked them has been answered. */
  readonly #leaving = new Map<Pool, () => void>();
  #out = new Set<Checkout>();
  #waiting = 0;
  #closed = false;
  /** While the route is paused: the side it was on when nothing of ours was out any more. */
  #drainedOn: string | null = null;
  #draining = false;
  #warmed = false;
  #peak = 0;

  constructor(
    private readonly options: CheckoutsOptions,
    private readonly follower: Follower,
    private readonly onEvent: (event: PoolEvent, ...args: unknown[]) => void,
  ) {
    follower.on('change', () => this.#changed());
  }

  get counts(): { readonly total: number; readonly idle: number; readonly waiting: number; readonly inUse: number } {
    const pools = [...this.#pools.values()];
    return {
      total: pools.reduce((sum, pool) => sum + pool.totalCount, 0),
      idle: pools.reduce((sum, pool) => sum + pool.idleCount, 0),
      waiting: pools.reduce((sum, pool) => sum + pool.waitingCount, 0) + this.#waiting,
      inUse: this.#out.size,
    };
  }

  /** Nothing that has to wait under this route is out any more, and under a pause its connections are closed. */
  isDrained(route: Route): boolean {
    if (route.paused) return this.#drainedOn !== null;
    return Boolean(route.share?.moving) && ![...this.#out].some(({ key }) => homeOf(route, key).held);
  }

  /**
   * A client of the key's home (or of the side that `choose` says), once the key need not wait.
   * @throws Problem TrafficFailed when it had to wait for longer than waitMs; what the driver says when the server cannot be reached and
   * the route knows no other.
   */
  async take(key: RouteKey, choose: (route: Route) => Home = (route) => homeOf(route, key)): Promise<PoolClient> {
    const untilMs = performance.now() + this.options.waitMs;
    for (;;) {
      const route = await this.#open(choose, untilMs);
      const { side } = choose(route);
      // Counted before the connection is asked for: from here to the release this is a checkout.
      const checkout: Checkout = { key, side };
      this.#out.add(checkout);
      this.#peak = Math.max(this.#peak, this.#out.size);
      let client: PoolClient;
      try {
        client = await this.#connect(this.#pool(side));
      } catch (error) {
        this.#back(checkout);
        await this.#mayTryAgain(error, route, untilMs);
        continue;
      }
      const home = choose(this.follower.route);
      if (!home.held && home.side === side) return this.#lend(client, checkout);
      // The route changed while we connected: nothing was sent yet, so nothing is lost.
      this.#back(checkout, () => client.release());
    }
  }

  async #open(choose: (route: Route) => Home, untilMs: number): Promise<Route> {
    if (this.#closed) throw closedProblem(this.options.route);
    const { route, resolved } = this.follower;
    if (resolved && !choose(route).held) return route;
    this.#waiting++;
    return this.follower.until((now) => !choose(now).held, untilMs).finally(() => this.#waiting--);
  }

  /** Hands out; `release` also tells us. */
  #lend(client: PoolClient, checkout: Checkout): PoolClient {
    const release = client.release.bind(client);
    client.release = (error) => this.#back(checkout, () => release(error));
    return client;
  }

  #back(checkout: Checkout, release?: () => void): void {
    try {
      release?.();
    } finally {
      if (this.#out.delete(checkout)) this.#look();
    }
  }

  /** Returns when another try makes sense; throws the driver's error when it does not. */
  async #mayTryAgain(error: unknown, route: Route, untilMs: number): Promise<void> {
    if (this.#closed) throw closedProblem(this.options.route);
    const isNews = (now: Route): boolean => now.epoch > route.epoch || now.paused;
    // One side that takes its time to answer must not hold up what the other has said already.
    await this.follower.askFor(isNews);
    if (isNews(this.follower.route)) return;
    if (!SHUT.has(codeOf(error)) || performance.now() + ASK_AGAIN_MS >= untilMs) throw error;
    await sleep(ASK_AGAIN_MS);
  }

  async #connect(pool: Pool): Promise<PoolClient> {
    this.#asking.set(pool, (this.#asking.get(pool) ?? 0) + 1);
    try {
      return await pool.connect();
    } finally {
      const left = (this.#asking.get(pool) ?? 1) - 1;
      if (left > 0) this.#asking.set(pool, left);
      else {
        this.#asking.delete(pool);
        this.#leaving.get(pool)?.();
      }
    }
  }

  /** Settles when all its connections are closed. */
  async #end(pool: Pool): Promise<void> {
    if (this.#asking.has(pool)) {
      await new Promise<void>((resolve) => this.#leaving.set(pool, resolve));
      this.#leaving.delete(pool);
    }
    await pool.end();
  }

  #pool(side: string): Pool {
    const found = this.#pools.get(side);
    if (found) return found;
    if (this.#closed) throw closedProblem(this.options.route);
    const url = this.options.urls[side];
    if (url === undefined)
      throw new Problem(
        'InvalidConfig',
        `route ${this.options.route} is on side ${side}, which has no connection here`,
        {
          hint: `give createRouter a connection named ${side}`,
        },
      );
    const pool = new Pool({ ...this.options.pool, connectionString: asLibpq(url) });
    // One that is out may break between two queries, which no query hears of: the next one says so, and no process ends of it.
    pool.on('connect', (client) => client.on('error', () => undefined));
    for (const event of ['connect', 'acquire', 'release', 'remove'] as const)
      pool.on(event as 'connect', (...args: unknown[]) => this.onEvent(event, ...args));
    pool.on('release', (error: unknown) => {
      if (SHUT.has(codeOf(error))) void this.follower.ask();
    });
    // An idle connection that the switch ended is no error of the application's; a listener is needed all the same.
    pool.on('error', (error, client) => {
      void this.follower.ask();
      if (this.#pools.get(side) === pool && !this.follower.route.paused) this.onEvent('error', error, client);
    });
    this.#pools.set(side, pool);
    return pool;
  }

  #changed(): void {
    const { route } = this.follower;
    if (!route.paused) {
      this.#drainedOn = null;
      this.#warmed = false;
      this.#peak = this.#out.size;
      // A switch that this process slept through. In a canary both sides serve.
      if (route.share === null)
        for (const side of [...this.#pools.keys()]) if (side !== route.side) void this.#closePool(side);
    }
    this.#look();
    void this.follower.say();
  }

  /** Whether what is asked of us is done by now. */
  #look(): void {
    const { route } = this.follower;
    if (route.paused) this.#drain(route);
    else if (route.share?.moving) void this.follower.say();
  }

  #drain(route: Route): void {
    if (this.#drainedOn !== null) return this.#warm(route);
    if (this.#out.size > 0 || this.#draining) return;
    // Whoever fences a side ends its sessions: ours are gone by then, and no dead one can be handed out afterwards.
    this.#draining = true;
    void Promise.all([...this.#pools.keys()].map((side) => this.#closePool(side))).then(() => {
      this.#draining = false;
      const now = this.follower.route;
      if (!now.paused || this.#out.size > 0) return;
      this.#drainedOn = now.side;
      void this.follower.say();
    });
  }

  /** Still paused, but pointed somewhere else: connects now as many as were in use, so that the first ones need not. */
  #warm({ side }: Route): void {
    if (this.#warmed || side === this.#drainedOn || this.#closed || this.options.urls[side] === undefined) return;
    this.#warmed = true;
    const pool = this.#pool(side);
    const many = Math.min(Math.max(this.#peak, this.#waiting), this.options.pool.max ?? 10);
    for (let i = 0; i < many; i++)
      this.#connect(pool).then(
        (client) => client.release(),
        () => undefined, // tried again by whoever needs it
      );
  }

  async #closePool(side: string): Promise<void> {
    const pool = this.#pools.get(side);
    if (!pool) return;
    this.#pools.delete(side);
    await Promise.race([this.#end(pool).catch(() => undefined), sleep(CLOSE_MS, undefined, { ref: false })]);
  }

  /** Ends idle connections now and the others when they are released. */
  async close(): Promise<void> {
    this.#closed = true;
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => this.#end(pool)));
  }
}
