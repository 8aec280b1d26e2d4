/**
 * People who read through the router, each by a key of their own. Keeps true: who is of the stage is reckoned here, by the hash that the contract publishes,
 * and which side answered is what that side says itself: neither is asked of the router.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ident } from '../../postgres/ident';
import { bucket, createRouter } from '../router';
import type { Router } from '../router';
import { percentile } from './latency';
import type { ShopUrls } from './shop';
import type { Workload } from './workload';

/** Of those inside the stage, or of those outside of it. */
export interface ReadersReport {
  readonly keys: number;
  readonly reads: number;
  /** Answered by the new side; null = it was not asked to say. */
  readonly there: number | null;
  readonly errors: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface SeenByReaders {
  readonly inside: ReadersReport;
  readonly outside: ReadersReport;
  /** Reads that were asked of both sides, and those with two different answers. */
  readonly compared: number;
  readonly different: number;
  /** When the new side answered last; null = it never did. */
  readonly lastThereAt: number | null;
}

interface Tally {
  readonly keys: readonly string[];
  readonly ms: number[];
  reads: number;
  there: number;
  errors: number;
}

export interface ReadersOptions {
  readonly urls: ShopUrls;
  readonly route: string;
  readonly workload: Workload;
  /** Of the plan, with its first stage. */
  readonly salt: string;
  readonly percent: number;
  /** Each answer says which database gave it; not where answers are compared. */
  readonly saysWhere: boolean;
}

const KEYS = 600;
const RATE = 150;

export class Readers {
  readonly #router: Router;
  readonly #inside: Tally;
  readonly #outside: Tally;
  readonly #text: string;
  readonly #home: string;
  #compared = 0;
  #different = 0;
  #lastThereAt: number | null = null;
  #over = false;
  #running: Promise<void> = Promise.resolve();
  #waiting = new Set<Promise<void>>();

  constructor(private readonly options: ReadersOptions) {
    const { urls, route, workload, salt, percent, saysWhere } = options;
    this.#router = createRouter({
      route,
      connections: { ...urls },
      pool: { max: 4, application_name: 'shop readers' },
    });
    this.#router.on('shadow', ({ equal }) => {
      this.#compared += 1;
      if (equal === false) this.#different += 1;
    });
    const keys = workload.keys.slice(0, KEYS);
    const isIn = (key: string): boolean => bucket(salt, key) < percent * 100;
    const tally = (of: readonly string[]): Tally => ({ keys: of, ms: [], reads: 0, there: 0, errors: 0 });
    this.#inside = tally(keys.filter(isIn));
    this.#outside = tally(keys.filter((key) => !isIn(key)));
    this.#home = decodeURIComponent(new URL(urls.blue).pathname.slice(1));
    this.#text = `SELECT ${ident(workload.columnName)}${saysWhere ? ', current_database() AS demo_side' : ''}
      FROM ${workload.relation} WHERE ${ident(workload.keyName)} = $1`;
  }

  get keys(): readonly string[] {
    return [...this.#inside.keys, ...this.#outside.keys];
  }

  async start(): Promise<void> {
    await this.#router.ready();
    this.#running = this.#pace();
  }

  /** Half of what is read is of the stage's people, who are few: what is said of them shall not rest on a handful of reads. */
  async #pace(): Promise<void> {
    let due = performance.now();
    for (let n = 0; !this.#over; n += 1) {
      const of = n % 2 === 0 ? this.#inside : this.#outside;
      const key = of.keys[Math.floor(n / 2) % Math.max(1, of.keys.length)];
      if (key !== undefined) {
        const read: Promise<void> = this.#read(of, key).finally(() => this.#waiting.delete(read));
        this.#waiting.add(read);
      }
      due += 1000 / RATE;
      await sleep(Math.max(0, due - performance.now()));
    }
  }

  async #read(of: Tally, key: string): Promise<void> {
    const from = performance.now();
    of.reads += 1;
    try {
      const { rows } = await this.#router.for(key).read<{ demo_side?: string }>(this.#text, [key]);
      const side = rows[0]?.demo_side;
      if (side === undefined || side === this.#home) return;
      of.there += 1;
      this.#lastThereAt = Date.now();
    } catch {
      of.errors += 1;
    } finally {
      of.ms.push(performance.now() - from);
    }
  }

  async stop(): Promise<SeenByReaders> {
    this.#over = true;
    await this.#running;
    await Promise.all(this.#waiting);
    await this.#router.close();
    const report = ({ keys, reads, there, errors, ms }: Tally): ReadersReport => {
      const sorted = Float64Array.from(ms).sort();
      const at = (share: number): number => Math.round(percentile(sorted, share) * 10) / 10;
      const counted = this.options.saysWhere ? there : null;
      return { keys: keys.length, reads, there: counted, errors, p50Ms: at(0.5), p99Ms: at(0.99) };
    };
    return {
      inside: report(this.#inside),
      outside: report(this.#outside),
      compared: this.#compared,
      different: this.#different,
      lastThereAt: this.#lastThereAt,
    };
  }

  /** For failures of the story. Never throws. */
  async abandon(): Promise<void> {
    this.#over = true;
    await this.#router.close().catch(() => undefined);
  }
}
