/** Rate, remaining time and the rest of what a person sees of batch work. Keeps a window of ten seconds, nothing that grows. */
import type { BatchSize } from './batchSize';
import type { Counted, Lane } from './lanes';
import type { Throttle } from './throttle';
import type { Work } from './work';
import { tell } from './work';

const WINDOW_MS = 10_000;
const SLOTS = 20;

export class Meter {
  readonly #window: { at: number; rows: number }[];
  #scanned: number;
  #total: number;

  constructor(
    private readonly work: Work,
    private readonly throttle: Throttle,
    lanes: readonly Lane[],
    private readonly size: BatchSize,
  ) {
    this.#scanned = lanes.reduce((sum, lane) => sum + lane.scanned, 0);
    this.#window = [{ at: performance.now(), rows: this.#scanned }];
    this.#total = lanes.reduce((sum, lane) => sum + lane.rowsTotal, 0);
    this.#tell(null);
  }

  batch(counted: Counted): void {
    this.#scanned += counted.scanned;
    const now = performance.now();
    const last = this.#window.at(-1);
    if (last && now - last.at < WINDOW_MS / SLOTS && this.#window.length > 1) last.rows = this.#scanned;
    else this.#window.push({ at: now, rows: this.#scanned });
    while (this.#window.length > SLOTS + 1) this.#window.shift();
    this.#tell(null);
  }

  /** All is done: the estimate gives way to what was counted. */
  end(): void {
    this.#total = this.#scanned;
    this.#tell(null);
  }

  waiting(reason: string): void {
    this.#tell(reason);
  }

  #tell(waitingFor: string | null): void {
    const first = this.#window[0];
    const now = performance.now();
    const rate = first && now > first.at ? ((this.#scanned - first.rows) * 1000) / (now - first.at) : 0;
    const left = Math.max(0, this.#total - this.#scanned);
    tell(this.work.context, {
      rowsDone: this.#scanned,
      rowsTotal: Math.max(this.#total, this.#scanned),
      rowsPerSecond: Math.round(rate),
      etaSeconds: rate > 0 ? Math.round(left / rate) : null,
      batchRows: this.size.rows,
      throttledBy: this.throttle.reason,
      ...this.throttle.readings,
      waitingFor,
    });
  }
}
