/**
 * Leaves the server to those who write. A batch takes processor, WAL and disk in one gulp, and whoever commits meanwhile waits until its WAL
 * is flushed too; no brake sees that, because nobody waits for a lock. So while others write, batches are short, and after each one comes a
 * rest that is a multiple of it: the more they write, the longer, until clients meet a batch in a seventh of the time. Keeps true: who is alone
 * is not slowed.
 */
import { FOR_WRITERS } from '../plan/model/status';
import type { Short } from './batchSize';
import type { Session } from './session';

/** Transactions a second that write, of everybody else on the server. Housekeeping stays under it. */
const FEW = 10;
/** Small enough that nobody waits long behind the WAL of one batch; what it does to the p99 of others is in bench/README.md. */
const SHORT: Short = { ms: 25, rows: 500 };
/** Rests as many times as long as the batch took: one for each of so many transactions a second. */
const WRITES_PER_REST = 200;
const MOST_RESTS = 6;
const LONGEST_REST_MS = 2_000;
/** Less tells nothing about a rate. */
const LEAST_LOOK_MS = 100;

interface Look {
  readonly xids: number;
  readonly ours: number;
  readonly at: number;
}

export class Courtesy {
  #ours = 0;
  #last: Look | null = null;
  /** Transactions a second. */
  #others: number | null = null;

  /** One of our own transactions has written. */
  wrote(): void {
    this.#ours += 1;
  }

  /** Counts who else has written since the last look. Transaction ids are given out to those who write, and to nobody else. */
  async look(session: Session): Promise<void> {
    const ours = this.#ours;
    const row = await session.one<{ xids: number }>(
      `SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::float8 AS xids`,
    );
    const now = { xids: row?.xids ?? 0, ours, at: performance.now() };
    const last = this.#last;
    if (last && now.at - last.at < LEAST_LOOK_MS) return;
    this.#last = now;
    if (last) this.#others = Math.max(0, now.xids - last.xids - (now.ours - last.ours)) / ((now.at - last.at) / 1000);
  }

  /** A rate needs two looks. */
  get known(): boolean {
    return this.#others !== null;
  }

  get reason(): string | null {
    return this.#others !== null && this.#others > FEW ? FOR_WRITERS : null;
  }

  /** The longest that a batch may be now; null = as the plan says. Nobody is alone before it is known. */
  get short(): Short | null {
    return this.#others === null || this.#others > FEW ? SHORT : null;
  }

  /** How long to rest after a batch, ms. */
  restMs(tookMs: number): number {
    if (this.#others === null || this.#others <= FEW) return 0;
    return Math.min(LONGEST_REST_MS, Math.min(MOST_RESTS, this.#others / WRITES_PER_REST) * tookMs);
  }
}
