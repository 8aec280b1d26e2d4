/** Latencies of one period, every one of them kept (a demo makes some tens of thousands): percentiles are exact, not estimated. */

export interface PeriodReport {
  readonly period: string;
  readonly seconds: number;
  readonly operations: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The longest that one operation took, from the moment at which it was due. */
  readonly longestMs: number;
  /** When that one was done, ISO 8601; null = there was none. */
  readonly longestAt: string | null;
  /** The longest that this process itself did not get to run: part of the above that is not the database's. */
  readonly ownPauseMs: number;
  /** Failed operations by SQLSTATE (or error code of the connection). */
  readonly errors: Readonly<Record<string, number>>;
  /** "cached plan must not change result type", each tried again at once; the most that one statement of one connection saw. */
  readonly cachedPlans: number;
  readonly cachedPlansPerStatement: number;
}

export class Period {
  readonly #began = performance.now();
  readonly #latencies: number[] = [];
  readonly #errors: Record<string, number> = {};
  readonly #cached = new Map<string, number>();
  #longest = { ms: -1, at: 0 };
  ownPauseMs = 0;

  constructor(readonly name: string) {}

  done(ms: number): void {
    this.#latencies.push(ms);
    if (ms > this.#longest.ms) this.#longest = { ms, at: Date.now() };
  }

  failed(code: string): void {
    this.#errors[code] = (this.#errors[code] ?? 0) + 1;
  }

  cachedPlan(statement: string): void {
    this.#cached.set(statement, (this.#cached.get(statement) ?? 0) + 1);
  }

  report(): PeriodReport {
    const sorted = Float64Array.from(this.#latencies).sort();
    const counts = [...this.#cached.values()];
    const round = (ms: number): number => Math.round(ms * 10) / 10;
    return {
      period: this.name,
      seconds: round((performance.now() - this.#began) / 1000),
      operations: sorted.length,
      p50Ms: round(percentile(sorted, 0.5)),
      p99Ms: round(percentile(sorted, 0.99)),
      longestMs: round(sorted.at(-1) ?? 0),
      longestAt: this.#longest.ms < 0 ? null : new Date(this.#longest.at).toISOString(),
      ownPauseMs: round(this.ownPauseMs),
      errors: this.#errors,
      cachedPlans: counts.reduce((a, b) => a + b, 0),
      cachedPlansPerStatement: Math.max(0, ...counts),
    };
  }
}

/** The smallest value that at least `share` of the sorted values do not exceed; 0 when there are none. */
export const percentile = (sorted: ArrayLike<number>, share: number): number =>
  sorted.length === 0 ? 0 : (sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0);
