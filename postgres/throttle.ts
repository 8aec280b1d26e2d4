/**
 * Slows batch work down by itself. One loop reads the brakes every `everyMs` on sessions of its own; batches ask `admit` before they
 * begin. A faster look watches for clients that wait behind a batch and cancels it: a batch is small and is done again, a client is not.
 * Keeps true: a brake that cannot be read, or was read too long ago, stops the work, and what stops it is always told; a broken connection
 * ends the attempt, because only the next one has a new one.
 */
import { waitersBehind } from './blockers';
import type { Brake, BrakeMemory, BrakeSources, Readings } from './brakes';
import { readBrakes } from './brakes';
import type { Short } from './batchSize';
import { Courtesy } from './courtesy';
import { pause } from './ladder';
import type { Session } from './session';
import { openSession } from './session';
import type { StepContext, Target, ThrottleLimits } from './types';
import type { Work } from './work';
import { tell } from './work';
import type { RelationName } from '../plan/model/steps';

const LOOK_MS = 50;
const STALE_AFTER = 3;
const FIRST_RATE_MS = 200;
const REACH_MS = 2_000;

export interface Throttle {
  /** Waits while a brake is on. Throws AbortError, and what broke the connection. */
  admit(): Promise<void>;
  /** Watches for clients behind `pid` while `batch` runs; true = it was cancelled for them. */
  guard<T>(pid: number, batch: () => Promise<T>): Promise<T>;
  /** After a batch: leaves the server to the others for a while. Throws AbortError. */
  rest(tookMs: number, wrote: boolean): Promise<void>;
  /** The longest that a batch may be just now; null = as the plan says. */
  readonly short: Short | null;
  /** Was the last batch of `pid` cancelled because clients waited behind it? Asking clears it. */
  wasCancelled(pid: number): boolean;
  readonly reason: string | null;
  readonly readings: Readings;
  readonly throttledMs: Readonly<Record<string, number>>;
  close(): Promise<void>;
}

const NO_READINGS: Readings = { lagBytes: null, lagMs: null };

/** `throttle: none`. */
const freely: Throttle = {
  admit: async () => undefined,
  guard: (_pid, batch) => batch(),
  rest: async () => undefined,
  short: null,
  wasCancelled: () => false,
  reason: null,
  readings: NO_READINGS,
  throttledMs: {},
  close: async () => undefined,
};

/** What a throttle needs of the work that it slows down. */
export interface Slowed {
  readonly context: Pick<StepContext, 'options' | 'target' | 'migration' | 'signal' | 'progress'>;
  readonly open: Work['open'];
  /** Where the milliseconds by reason are counted; left out: in the throttle alone. */
  readonly throttled?: Record<string, number>;
}

/** Starts to read the brakes; the first reading is complete when this returns. */
export async function startThrottle(work: Slowed, tables: readonly RelationName[]): Promise<Throttle> {
  const { throttle: limits, appP95 } = work.context.options;
  if (limits === null) return freely;
  const watcher = await work.open('throttle');
  const throttle = new Reading(work, limits, { observer: watcher, tables, limits, appP95 });
  await throttle.read();
  if (limits.maxWalBytesPerSecond !== null) {
    // A rate needs two looks: without the second the first batches would run unbraked.
    await pause(Math.min(limits.everyMs, FIRST_RATE_MS), work.context.signal);
    await throttle.read();
  }
  return throttle;
}

class Reading implements Throttle {
  #brake: Brake | null = null;
  #readAt = 0;
  #readings: Readings = NO_READINGS;
  readonly #memory: BrakeMemory = {};
  readonly #throttled: Record<string, number>;
  readonly #cancelled = new Set<number>();
  readonly #replicas = new Map<string, Session>();
  readonly #running = new Set<number>();
  #looker: Promise<void> | null = null;
  #cancelling: Promise<unknown> = Promise.resolve();
  #reading: Promise<void> | null = null;
  readonly #courtesy = new Courtesy();

  constructor(
    private readonly work: Slowed,
    private readonly limits: ThrottleLimits,
    private readonly sources: Omit<BrakeSources, 'replicas'>,
  ) {
    this.#throttled = work.throttled ?? {};
  }

  get reason(): string | null {
    return this.#brake?.reason ?? this.#courtesy.reason;
  }

  get short(): Short | null {
    return this.#courtesy.short;
  }

  get readings(): Readings {
    return this.#readings;
  }

  get throttledMs(): Readonly<Record<string, number>> {
    return this.#throttled;
  }

  async read(): Promise<void> {
    try {
      // Also notices that our own connection is gone, which a brake that is read elsewhere (Prometheus) would not.
      await this.#courtesy.look(this.sources.observer);
      const replicas = await Promise.all(this.work.context.target.replicas.map((replica) => this.#reach(replica)));
      const { brake, readings } = await readBrakes({ ...this.sources, replicas }, this.#memory);
      this.#brake = brake;
      this.#readings = readings;
      this.#readAt = performance.now();
    } catch (error) {
      if (this.sources.observer.lost) throw error;
      // Left as it was; staleness turns it into a reason by itself.
    }
  }

  /** A standby that restarted is found again; one that does not answer is null: unknown. */
  async #reach(replica: Target): Promise<Session | null> {
    const open = this.#replicas.get(replica.name);
    if (open && !open.lost) return open;
    const options = { purpose: 'throttle', migration: this.work.context.migration, connectTimeoutMs: REACH_MS };
    const session = await openSession(replica, options).catch(() => null);
    if (session) this.#replicas.set(replica.name, session);
    else this.#replicas.delete(replica.name);
    return session;
  }

  /** One reading at a time, and no older than asked for. */
  async #fresh(): Promise<void> {
    const everyMs = this.#courtesy.known ? this.limits.everyMs : Math.min(this.limits.everyMs, FIRST_RATE_MS);
    if (performance.now() - this.#readAt < everyMs) return;
    this.#reading ??= this.read().finally(() => (this.#reading = null));
    await this.#reading;
    const age = performance.now() - this.#readAt;
    if (age > STALE_AFTER * this.limits.everyMs)
      this.#brake = { name: this.#brake?.name ?? 'replication-lag', reason: 'the brakes cannot be read' };
  }

  async admit(): Promise<void> {
    for (;;) {
      await this.#fresh();
      const brake = this.#brake;
      if (brake === null) return;
      tell(this.work.context, { throttledBy: brake.reason, ...this.#readings });
      const since = performance.now();
      try {
        await pause(this.limits.everyMs, this.work.context.signal);
      } finally {
        this.#throttled[brake.name] = (this.#throttled[brake.name] ?? 0) + performance.now() - since;
      }
    }
  }

  async rest(tookMs: number, wrote: boolean): Promise<void> {
    if (wrote) this.#courtesy.wrote();
    const ms = this.#courtesy.restMs(tookMs);
    if (ms <= 0) return;
    await pause(ms, this.work.context.signal);
    this.#throttled['writers'] = (this.#throttled['writers'] ?? 0) + ms;
  }

  async guard<T>(pid: number, batch: () => Promise<T>): Promise<T> {
    if (this.limits.maxLockWaitMs === null) return batch();
    this.#running.add(pid);
    this.#looker ??= this.#look(this.limits.maxLockWaitMs).finally(() => (this.#looker = null));
    try {
      return await batch();
    } finally {
      this.#running.delete(pid);
      // A cancel that is on its way must hit this batch or nothing: not the next statement of the session.
      await this.#cancelling;
    }
  }

  wasCancelled(pid: number): boolean {
    const cancelled = this.#cancelled.delete(pid);
    if (cancelled) this.#throttled['lock-wait'] ??= 0;
    return cancelled;
  }

  async #look(maxLockWaitMs: number): Promise<void> {
    const every = Math.min(LOOK_MS, Math.max(10, maxLockWaitMs / 4));
    while (this.#running.size > 0) {
      await new Promise((resolve) => setTimeout(resolve, every));
      const pids = [...this.#running];
      if (pids.length === 0) return;
      const waiters = await waitersBehind(this.sources.observer, pids).catch(() => []);
      // Cancelled a little early: the client that waits must be served within its limit, not only noticed.
      if (!waiters.some(({ waitedMs }) => waitedMs > maxLockWaitMs - 2 * every)) continue;
      this.#cancelling = Promise.all(pids.map((pid) => this.#cancel(pid)));
      await this.#cancelling;
    }
  }

  async #cancel(pid: number): Promise<void> {
    if (!this.#running.has(pid)) return;
    this.#cancelled.add(pid);
    await this.sources.observer.run(`SELECT pg_catalog.pg_cancel_backend($1)`, [pid]).catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#running.clear();
    await this.#looker;
    await this.#reading?.catch(() => undefined);
    await Promise.all([...this.#replicas.values()].map((session) => session.close()));
  }
}
