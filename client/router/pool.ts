/**
 * A node-postgres Pool as applications and their libraries know it, whose connections are those of the route's current side. It has none
 * of its own: every method goes to the checkouts. `query` is the Pool's own and goes through `connect`.
 */
import type { PoolClient, PoolConfig } from 'pg';
import { Pool } from 'pg';
import type { Checkouts } from './checkouts';

type Connected = (error: Error | undefined, client: PoolClient | undefined, done: (release?: unknown) => void) => void;

export class RoutedPool extends Pool {
  readonly #checkouts: Checkouts;
  readonly #close: () => Promise<void>;
  #ending: Promise<void> | null = null;

  /** @param close ends the router: a pool that is ended has nothing left to follow. */
  constructor(checkouts: Checkouts, config: PoolConfig, close: () => Promise<void>) {
    super(config);
    this.#checkouts = checkouts;
    this.#close = close;
    // Properties in the driver's types, accessors in its code: they are put on the instance. Waiting = for a connection, or for the
    // end of a pause.
    const counts = { totalCount: 'total', idleCount: 'idle', waitingCount: 'waiting' } as const;
    for (const [name, count] of Object.entries(counts))
      Object.defineProperty(this, name, { get: () => checkouts.counts[count], enumerable: true });
  }

  /** Waits while the route is paused, up to waitMs. @throws Problem TrafficFailed; what the driver says when the server is down. */
  override connect(): Promise<PoolClient>;
  override connect(callback: Connected): void;
  override connect(callback?: Connected): Promise<PoolClient> | void {
    const taken = this.#checkouts.take(undefined);
    if (callback === undefined) return taken;
    taken.then(
      (client) => callback(undefined, client, (error) => client.release(error as Error | undefined)),
      (error: Error) => callback(error, undefined, () => undefined),
    );
  }

  /** Ends the router too. Waits for what is checked out. */
  override end(): Promise<void>;
  override end(callback: () => void): void;
  override end(callback?: () => void): Promise<void> | void {
    this.#ending ??= this.#close();
    if (callback === undefined) return this.#ending;
    void this.#ending.then(callback, callback);
  }
}
