/**
 * What judges a canary when the plan says nothing, or names no more than a source. Keeps true: each of them acts or tells by itself; a condition of the plan
 * with the same name takes its place; what cannot be known where the plan leads people (no routers that count) is not asked for. Pure.
 */
import type { RouterMetric } from './counters';
import type { Watched } from './health';

/** Names whose analyses hold in every stage, with what they mean when the plan gives a source and no condition. */
const MEANING = {
  error_rate: 'value > 0.05',
  error_rate_high: 'value > 0.02',
  response: 'value > 1000',
  complaints: 'value > 10',
} as const;
export const WELL_KNOWN = Object.keys(MEANING) as readonly (keyof typeof MEANING)[];
const ALERTS: readonly string[] = ['error_rate_high'];

const isObject = (json: unknown): json is Record<string, unknown> =>
  typeof json === 'object' && json !== null && !Array.isArray(json);

/** Fills in the condition of an analysis that has a well-known name and none of its own; anything else stays for the schema to judge. */
export function withMeaning(analyses: unknown): unknown {
  if (!isObject(analyses)) return analyses;
  const fill = ([name, one]: [string, unknown]): [string, unknown] => {
    if (!isObject(one) || one.failWhen !== undefined || one.successWhen !== undefined) return [name, one];
    const failWhen = Object.hasOwn(MEANING, name) ? MEANING[name as keyof typeof MEANING] : undefined;
    if (failWhen === undefined) return [name, one];
    return [name, { ...(ALERTS.includes(name) ? { onFail: 'alert' } : {}), ...one, failWhen }];
  };
  return Object.fromEntries(Object.entries(analyses).map(fill));
}

/** A few queries say little: so many readings in a row. */
const IN_A_ROW = 3;

const condition = (
  of: Pick<Watched, 'name' | 'source' | 'failWhen'> & Partial<Watched>,
  onFail: Watched['onFail'],
): Watched => ({
  ...{ interval: '10s', initialDelay: '0s', onInconclusive: 'ignore', failureLimit: IN_A_ROW - 1, consecutive: true },
  ...{ consecutiveErrorLimit: 1_000_000, dryRun: false, onFail },
  ...of,
});

const counted = (name: string, query: RouterMetric, failWhen: string, onFail: Watched['onFail'], more = {}): Watched =>
  condition({ name, source: 'router', query, failWhen, ...more }, onFail);

const ALWAYS: readonly Watched[] = [
  counted('error_rate', 'error_rate', 'value > 0.05', 'rollback'),
  counted('error_rate_high', 'error_rate', 'value > 0.02', 'alert'),
  counted('response', 'latency_p95', 'value > 1000', 'rollback'),
];
/** While both sides answer they are compared with each other; when the writes are over, with what blue was before the first stage. */
const SLOWER = counted('response_slower', 'latency_p95', 'green > 1.5 * blue', 'alert');
const SLOWER_WRITES = counted('response_slower_writes', 'latency_p95', 'value > 2 * baseline', 'alert');
/** Of reads that users see: what is so far off is not waited for as long. */
const READS: readonly Watched[] = [
  counted('reads_error_rate', 'error_rate', 'value > 0.1', 'rollback', { failureLimit: 1 }),
  counted('reads_response', 'latency_p95', 'value > 5000', 'rollback', { failureLimit: 1 }),
];

export const READS_CONNECTIONS = 'reads_connections';

/** Nobody is connected to green although, by its share of all sessions, three should be. */
const noConnections = (percent: number): Watched =>
  condition(
    {
      name: READS_CONNECTIONS,
      source: 'connections',
      failWhen: `green < 1 and blue * ${percent} >= 300`,
      initialDelay: '30s',
    },
    'rollback',
  );

export interface DefaultsOf {
  /** Routers count what they ask. */
  readonly counted: boolean;
  /** Reads are answered by green. */
  readonly reads: boolean;
  readonly percent: number;
  /** The writes are over. */
  readonly last: boolean;
}

export function defaultsFor({ counted: routers, reads, percent, last }: DefaultsOf): readonly Watched[] {
  if (last) return routers ? [...ALWAYS, SLOWER_WRITES] : [];
  return [
    ...(routers ? [...ALWAYS, SLOWER, ...(reads ? READS : [])] : []),
    ...(reads && percent > 0 ? [noConnections(percent)] : []),
  ];
}
