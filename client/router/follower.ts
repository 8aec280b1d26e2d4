/**
 * What this process believes about the route: the row with the highest epoch of all its databases, and never again a lower one. Keeps true:
 * with no database in reach the last known route and flags stay; a pause ends by itself when its time is over, since whoever ended it may
 * be dead (the fence in the database, not this, keeps writes from the wrong side).
 */
import { EventEmitter } from 'node:events';
import { Problem } from '../../plan/model/errors';
import type { Flag, Route } from '../../plan/model/routing';
import { newer } from '../../plan/model/routing';
import type { Hello } from './watch';
import { Watch } from './watch';

export interface FollowerOptions {
  readonly route: string;
  readonly urls: Readonly<Record<string, string>>;
  /** Where clients go while no database knows the route. */
  readonly initial: string;
  readonly instance: string;
  readonly pollMs: number;
  readonly answerMs: number;
  readonly hello: (route: Route) => Hello;
}

/** A second database that does not answer must not hold up the start for longer. */
const SETTLE_MS = 1_000;

/** Events: `change` (the route that is now true), `trouble` (side, error). */
export class Follower extends EventEmitter {
  #known: Route | null = null;
  #readAt = -Infinity;
  #expired = false;
  #expiry: NodeJS.Timeout | null = null;
  #flags = new Map<string, Map<string, Flag>>();
  #heard = new Set<string>();
  #resolved = false;
  #closed = false;
  readonly #startedAt = performance.now();
  readonly #watches: readonly Watch[];
  readonly #ready: Promise<void>;

  constructor(private readonly options: FollowerOptions) {
    super();
    this.setMaxListeners(0);
    this.#watches = Object.entries(options.urls).map(
      ([side, url]) =>
        new Watch({
          side,
          url,
          route: options.route,
          instance: options.instance,
          pollMs: options.pollMs,
          answerMs: options.answerMs,
          onRoute: (read) => this.#learn(side, read),
          onFlags: (flags) => void this.#flags.set(side, new Map(flags.map((flag) => [flag.name, flag]))),
          hello: () => options.hello(this.route),
          onTrouble: (error) => this.emit('trouble', side, error),
        }),
    );
    this.#ready = this.#start();
  }

  /** What is true as far as this process knows. Before `resolved` it is a guess. */
  get route(): Route {
    const known = this.#known ?? { side: this.options.initial, epoch: 0, paused: false, pauseMs: null, share: null };
    return this.#expired && known.paused ? { ...known, paused: false } : known;
  }

  /** At least one database said what is true. */
  get resolved(): boolean {
    return this.#resolved;
  }

  /** Since the route was last read, ms. */
  get ageMs(): number {
    return performance.now() - this.#readAt;
  }

  get reachable(): readonly string[] {
    return this.#watches.filter((watch) => watch.reachable).map(({ side }) => side);
  }

  /** Flags of the current side; of another one while that was never read. */
  flag(name: string): Flag | undefined {
    const of = this.#flags.get(this.route.side) ?? this.#flags.values().next().value;
    return of?.get(name);
  }

  /** Settles once every database was asked, or one answered and the others took too long. */
  ready(): Promise<void> {
    return this.#ready;
  }

  /** Asks all databases now; settles when all answered, or one did and the others take too long. */
  async ask(): Promise<void> {
    await enough(this.#watches.map((watch) => watch.ask()));
  }

  /** Asks too, but only until `holds` is true of the route. */
  async askFor(holds: (route: Route) => boolean): Promise<void> {
    if (holds(this.route)) return;
    let look = (): void => undefined;
    const heard = new Promise<void>((resolve) => {
      look = () => void (holds(this.route) && resolve());
    });
    this.on('change', look);
    await Promise.race([this.ask(), heard]).finally(() => this.off('change', look));
  }

  /** Tells every database where this router stands. */
  async say(): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch.say()));
  }

  /** Until `holds` is true of the route. @throws Problem TrafficFailed after `untilMs` (on performance.now's clock), or when closed. */
  async until(holds: (route: Route) => boolean, untilMs: number): Promise<Route> {
    await this.#ready;
    if (this.#closed) throw closedProblem(this.options.route);
    if (this.#resolved && holds(this.route)) return this.route;
    return new Promise((resolve, reject) => {
      const done = (settle: () => void): void => {
        clearTimeout(timer);
        this.off('change', look);
        this.off('closed', look);
        settle();
      };
      const look = (): void => {
        if (this.#closed) done(() => reject(closedProblem(this.options.route)));
        else if (this.#resolved && holds(this.route)) done(() => resolve(this.route));
      };
      const timer = setTimeout(() => done(() => reject(this.#late())), Math.max(0, untilMs - performance.now()));
      this.on('change', look);
      this.on('closed', look);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.emit('closed');
    if (this.#expiry) clearTimeout(this.#expiry);
    await Promise.all(this.#watches.map((watch) => watch.close()));
  }

  async #start(): Promise<void> {
    await this.ask();
    this.#settle();
  }

  /** From here on one answer is enough. */
  #settle(): void {
    if (this.#resolved || this.#heard.size === 0) return;
    this.#resolved = true;
    this.emit('change', this.route);
  }

  #learn(side: string, read: Route | null): void {
    this.#heard.add(side);
    const before = this.route;
    if (read !== null) {
      this.#known = newer(this.#known, read);
      if (this.#known === read) {
        this.#readAt = performance.now();
        this.#timePause(read);
      }
    }
    const { epoch, side: where, paused } = this.route;
    if (before.epoch !== epoch || before.side !== where || before.paused !== paused) this.emit('change', this.route);
    if (this.#heard.size === this.#watches.length || performance.now() - this.#startedAt > SETTLE_MS) this.#settle();
  }

  #timePause(read: Route): void {
    if (this.#expiry) clearTimeout(this.#expiry);
    this.#expiry = null;
    this.#expired = read.paused && read.pauseMs !== null && read.pauseMs <= 0;
    if (!read.paused || read.pauseMs === null || this.#expired) return;
    this.#expiry = setTimeout(
      () => {
        this.#expired = true;
        this.emit('change', this.route);
      },
      Math.min(read.pauseMs, 2 ** 31 - 1),
    );
  }

  #late(): Problem {
    const { route, resolved } = this;
    const what = !resolved ? 'no database says where it is' : route.paused ? 'it is paused' : 'the key is being moved';
    return new Problem('TrafficFailed', `route ${this.options.route}: no connection in time; ${what}`, {
      details: { route: this.options.route, reachable: this.reachable, epoch: route.epoch, paused: route.paused },
      hint: 'the switch takes longer than the pool waits (waitMs); look at pgshift status',
    });
  }
}

async function enough(asked: readonly Promise<boolean>[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, SETTLE_MS);
  });
  await Promise.race([Promise.all(asked), late]);
  clearTimeout(timer);
}

export const closedProblem = (route: string): Problem =>
  new Problem('TrafficFailed', `route ${route}: the router is closed`, { hint: 'it was closed by the application' });
