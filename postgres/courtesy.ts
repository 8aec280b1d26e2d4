/**
 * Leaves the server to those who write. A batch takes WAL and disk in one gulp, and each commit of a client meanwhile waits until it is
 * flushed; no brake sees that, because nobody waits for a lock. So while others write, a batch is short and a rest follows that is a multiple
 * of it: the share of the time in which clients can meet a batch stays small, whatever the machine. Keeps true: who is alone is not slowed.
 */
import { FOR_WRITERS } from '../plan/model/status';
import type { Session } from './session';

/** Transactions a second that write, of everybody else on the server. Housekeeping stays under it. */
const FEW = 10;
const SHORT_MS = 25;
/** Rests as many times as long as the batch took. */
const RESTS = 4;
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

  /** Until the second look nobody is known to be alone. */
  get due(): boolean {
    return this.#others === null || this.#others > FEW;
  }

  get reason(): string | null {
    return this.#others !== null && this.due ? FOR_WRITERS : null;
  }

  /** The longest that a batch may last now, ms; null = as long as the plan says. */
  get longestMs(): number | null {
    return this.due ? SHORT_MS : null;
  }

  /** How long to rest after a batch, ms. */
  restMs(tookMs: number): number {
    return this.due ? Math.min(LONGEST_REST_MS, RESTS * tookMs) : 0;
  }
}
