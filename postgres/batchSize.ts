/**
 * How many rows the next batch takes: towards a target time. GitLab's figures for growth (smoothing 0.4, at most 1.2 a step), with a quick
 * start: while batches are far under the target the size doubles, because a ladder from 100 rows by 1.2 takes dozens of them.
 */
const SMOOTHING = 0.4;
const MAX_GROWTH = 1.2;
const MAX_SHRINK = 0.5;
const AIM = 0.95;
const START_ROWS = 1_000;

export interface BatchLimits {
  readonly targetMs: number;
  readonly min: number;
  readonly max: number;
}

/** What a batch may not exceed for a while. */
export interface Short {
  readonly ms: number;
  readonly rows: number;
}

const NO_LIMIT: Short = { ms: Infinity, rows: Infinity };

export class BatchSize {
  #rows: number;
  #msPerRow: number | null = null;
  /** Set when clients had to wait behind us: from then on batches stay this short. */
  #targetMs: number;
  #short: Short = NO_LIMIT;

  constructor(private readonly limits: BatchLimits) {
    this.#rows = this.#clamp(START_ROWS);
    this.#targetMs = limits.targetMs;
  }

  get rows(): number {
    return Math.round(this.#rows);
  }

  get atMinimum(): boolean {
    return this.rows <= this.limits.min;
  }

  /** For now a batch may be no longer than this; null = as it was. */
  within(short: Short | null): void {
    this.#short = short ?? NO_LIMIT;
    if (short === null) return;
    if (this.#msPerRow !== null) this.#rows = this.#clamp(Math.min(this.#rows, this.#wanted(this.#msPerRow)));
    this.#rows = this.#clamp(this.#rows);
  }

  /** A batch over `rows` rows took `ms`. */
  took(rows: number, ms: number): void {
    if (rows <= 0) return;
    const seen = ms / rows;
    this.#msPerRow = this.#msPerRow === null ? seen : SMOOTHING * seen + (1 - SMOOTHING) * this.#msPerRow;
    const growth = ms < this.#target / 4 ? 2 : MAX_GROWTH;
    this.#rows = this.#clamp(
      Math.min(Math.max(this.#wanted(this.#msPerRow), this.#rows * MAX_SHRINK), this.#rows * growth),
    );
  }

  get #target(): number {
    return Math.min(this.#targetMs, this.#short.ms);
  }

  #wanted(msPerRow: number): number {
    return (AIM * this.#target) / msPerRow;
  }

  /** A batch timed out or lost a deadlock: half of it, and grow again from there. */
  halve(): void {
    this.#rows = this.#clamp(this.#rows / 2);
    this.#msPerRow = null;
  }

  /** Clients waited behind a batch: never again for longer than half of what they are allowed to wait. */
  shorten(ms: number): void {
    this.#targetMs = Math.max(10, Math.min(this.#targetMs, ms / 2));
    this.halve();
  }

  #clamp(rows: number): number {
    return Math.max(this.limits.min, Math.min(this.limits.max, this.#short.rows, rows));
  }
}
