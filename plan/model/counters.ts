/**
 * What routers count of their own queries, by side, and what follows from two readings of it. Counts only grow while a router lives, so that whoever reads them
 * takes differences; latencies are a histogram whose steps are a factor of the root of two. Pure: routers (client/router) and readings share it.
 */

/** Of one side: queries, those that failed, and how many took how long. */
export interface SideCounts {
  readonly n: number;
  readonly errors: number;
  /** Step i: up to 0.25 * 2^(i/2) ms. */
  readonly ms: readonly number[];
}

export interface ShadowCounts {
  readonly n: number;
  readonly different: number;
  readonly failed: number;
}

/** As it lies in `pgshift.routers.counters`. */
export interface Counters {
  readonly sides: Readonly<Record<string, SideCounts>>;
  readonly shadow: ShadowCounts;
}

export const ROUTER_METRICS = [
  'error_rate',
  'latency_p50',
  'latency_p95',
  'latency_p99',
  'throughput',
  'shadow_differences',
  'shadow_errors',
] as const;
export type RouterMetric = (typeof ROUTER_METRICS)[number];

const STEPS = 48;
const SMALLEST_MS = 0.25;

export const stepOf = (ms: number): number =>
  ms <= SMALLEST_MS ? 0 : Math.min(STEPS - 1, Math.ceil(2 * Math.log2(ms / SMALLEST_MS)));
const endOf = (step: number): number => SMALLEST_MS * 2 ** (step / 2);

/** One router's counts, changed in place: a query costs a few additions. */
export class Counting {
  #sides = new Map<string, { n: number; errors: number; ms: number[] }>();
  #shadow = { n: 0, different: 0, failed: 0 };

  query(side: string, ms: number, failed: boolean): void {
    let of = this.#sides.get(side);
    if (!of) this.#sides.set(side, (of = { n: 0, errors: 0, ms: [] }));
    of.n += 1;
    if (failed) of.errors += 1;
    const step = stepOf(ms);
    while (of.ms.length <= step) of.ms.push(0);
    of.ms[step] = (of.ms[step] ?? 0) + 1;
  }

  shadow(equal: boolean | null): void {
    this.#shadow.n += 1;
    if (equal === null) this.#shadow.failed += 1;
    else if (!equal) this.#shadow.different += 1;
  }

  get now(): Counters {
    return { sides: Object.fromEntries(this.#sides), shadow: this.#shadow };
  }
}

const count = (json: unknown): number => (typeof json === 'number' && Number.isFinite(json) && json >= 0 ? json : 0);
const isObject = (json: unknown): json is Record<string, unknown> =>
  typeof json === 'object' && json !== null && !Array.isArray(json);

/** What somebody wrote there; null = nothing that could be read. */
export function parseCounters(json: unknown): Counters | null {
  if (!isObject(json) || !isObject(json.sides)) return null;
  const sides = Object.entries(json.sides).map(([side, of]): [string, SideCounts] => {
    const { n, errors, ms } = isObject(of) ? of : { n: 0, errors: 0, ms: [] };
    return [side, { n: count(n), errors: count(errors), ms: (Array.isArray(ms) ? ms : []).slice(0, STEPS).map(count) }];
  });
  const { n, different, failed } = isObject(json.shadow) ? json.shadow : { n: 0, different: 0, failed: 0 };
  return {
    sides: Object.fromEntries(sides),
    shadow: { n: count(n), different: count(different), failed: count(failed) },
  };
}

/** By router. */
export type Sample = ReadonlyMap<string, Counters>;

const NONE: SideCounts = { n: 0, errors: 0, ms: [] };
const NO_SHADOW: ShadowCounts = { n: 0, different: 0, failed: 0 };

/** What was counted between two samples; a router that is new counts from its beginning, one that is gone is left out. */
export function between(before: Sample, after: Sample): Counters {
  const sides: Record<string, { n: number; errors: number; ms: number[] }> = {};
  const shadow = { n: 0, different: 0, failed: 0 };
  for (const [instance, now] of after) {
    const was = before.get(instance);
    for (const [side, of] of Object.entries(now.sides)) {
      const old = was?.sides[side] ?? NONE;
      const into = (sides[side] ??= { n: 0, errors: 0, ms: [] });
      into.n += Math.max(0, of.n - old.n);
      into.errors += Math.max(0, of.errors - old.errors);
      of.ms.forEach((n, i) => (into.ms[i] = (into.ms[i] ?? 0) + Math.max(0, n - (old.ms[i] ?? 0))));
    }
    const old = was?.shadow ?? NO_SHADOW;
    for (const key of ['n', 'different', 'failed'] as const) shadow[key] += Math.max(0, now.shadow[key] - old[key]);
  }
  return { sides, shadow };
}

/** Upper end of the step that holds it, ms; null = nothing was counted. */
export function quantile(ms: readonly number[], q: number): number | null {
  const all = ms.reduce((sum, n) => sum + n, 0);
  if (all === 0) return null;
  let seen = 0;
  for (const [step, n] of ms.entries()) {
    seen += n;
    if (seen >= q * all) return endOf(step);
  }
  return endOf(STEPS - 1);
}

/** One metric of one side over `seconds`; null = nothing was counted that it could be said of. */
export function metricOf(metric: RouterMetric, counted: Counters, side: string, seconds: number): number | null {
  const of = counted.sides[side] ?? NONE;
  const { shadow } = counted;
  switch (metric) {
    case 'error_rate':
      return of.n === 0 ? null : of.errors / of.n;
    case 'latency_p50':
      return quantile(of.ms, 0.5);
    case 'latency_p95':
      return quantile(of.ms, 0.95);
    case 'latency_p99':
      return quantile(of.ms, 0.99);
    case 'throughput':
      return seconds > 0 ? of.n / seconds : null;
    case 'shadow_differences':
      return shadow.n - shadow.failed === 0 ? null : shadow.different / (shadow.n - shadow.failed);
    case 'shadow_errors':
      return shadow.n === 0 ? null : shadow.failed / shadow.n;
  }
}
