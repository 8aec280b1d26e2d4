/**
 * One reading of a condition: SQL, Prometheus, JSON over HTTP, or the throughput of everybody else. Never throws for what it could not read: that
 * is a reading too (an error, or null), and unknown is never a pass. Nothing that a server said is passed on.
 */
import type { Reading, Watched } from '../plan/model/health';
import { comparesSides, intervalMs } from '../plan/model/health';
import { isProblem } from '../plan/model/errors';
import type { Counters, Sample } from '../plan/model/counters';
import { between, metricOf, ROUTER_METRICS } from '../plan/model/counters';
import type { Side } from '../plan/model/traffic';
import { readCounters } from '../postgres/state/routes';
import { meanSince } from '../postgres/brakes';
import type { BrakeMemory } from '../postgres/brakes';
import { readThroughput } from '../postgres/throughput';
import type { ThroughputSample } from '../postgres/throughput';
import { withSession } from '../postgres/session';
import { countClients } from '../postgres/switch/clients';
import { resolveTarget } from '../worker/config';
import type { ActivityDeps } from './deps';
import type { PairSides, WatchedRoute } from './types';

/** What a reading remembers of the one before it (rates need two). */
export interface ReadingMemory {
  throughput?: ThroughputSample;
  router?: { readonly sample: Sample; readonly at: number };
  readonly brakes: BrakeMemory;
}

const TIMEOUT_MS = 10_000;
const BODY_MAX = 1_000_000;

const number = (value: unknown): number | null => {
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value !== 'string' || value.trim() === '') return null;
  const parsed = Number(value);
  return Number.isFinite(parsed) ? parsed : null;
};

const known = (value: number | null, ageMs = 0): Reading => ({ value, error: null, ageMs });
const failed = (code: string): Reading => ({ value: null, error: code, ageMs: 0 });

/** No longer than the interval: a source that hangs must not keep the others from being read. */
const patienceMs = (condition: Watched): number => Math.min(TIMEOUT_MS, Math.max(1_000, intervalMs(condition)));

/** Read as far as it may be large, and no further. */
async function textOf(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  if (response.body === null) return '';
  for await (const part of response.body as AsyncIterable<Uint8Array>) {
    bytes += part.length;
    // Leaving the loop cancels the body.
    if (bytes > BODY_MAX) throw new Error('too large');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

async function json(url: string, timeoutMs: number): Promise<unknown> {
  const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs), redirect: 'error' });
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`HTTP ${response.status}`);
  }
  return JSON.parse(await textOf(response)) as unknown;
}

/** `$.data.items[0].value` */
export function atPath(body: unknown, path: string): unknown {
  let at = body;
  for (const [, key, index] of path.replace(/^\$\.?/, '').matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    if (typeof at !== 'object' || at === null) return null;
    const name = key ?? index ?? '';
    at = Object.hasOwn(at, name) ? (at as Record<string, unknown>)[name] : null;
  }
  return at;
}

async function prometheus(base: string | null, query: string, timeoutMs: number): Promise<Reading> {
  if (base === null) return failed('InvalidConfig');
  const url = `${base.replace(/\/$/, '')}/api/v1/query?query=${encodeURIComponent(query)}`;
  const body = (await json(url, timeoutMs)) as { data?: { resultType?: string; result?: unknown } };
  const { resultType, result } = body.data ?? {};
  let sample: unknown = null;
  if (resultType === 'scalar') sample = result;
  else if (resultType === 'vector' && Array.isArray(result) && result.length === 1)
    sample = (result[0] as { value?: unknown }).value;
  if (!Array.isArray(sample)) return known(null);
  const at = number(sample[0]);
  return known(number(sample[1]), at === null ? 0 : Math.max(0, Date.now() - at * 1_000));
}

/** One row, one number; read only, with a deadline of its own. */
async function sql(deps: ActivityDeps, database: string, query: string, timeoutMs: number): Promise<Reading> {
  const target = resolveTarget(deps.config, database);
  return withSession(
    target,
    { purpose: 'health', searchPath: ['public', 'pg_catalog'], connectTimeoutMs: 5_000 },
    async (session) => {
      await session.run(`SET statement_timeout = ${timeoutMs}`);
      await session.run('BEGIN READ ONLY');
      const rows = await session.rows<Record<string, unknown>>(query);
      await session.run('ROLLBACK');
      const [row] = rows;
      const values = row ? Object.values(row) : [];
      return known(rows.length === 1 && values.length === 1 ? number(values[0]) : null);
    },
  );
}

async function throughput(deps: ActivityDeps, database: string, memory: ReadingMemory): Promise<Reading> {
  const target = resolveTarget(deps.config, database);
  const { sample, perSecond } = await withSession(target, { purpose: 'health', connectTimeoutMs: 5_000 }, (session) =>
    readThroughput(session, memory.throughput),
  );
  memory.throughput = sample;
  return known(perSecond);
}

/** As the brake appP95 reads it, so that the two can be compared; a quiet moment is not known, never 0. */
async function latency(deps: ActivityDeps, database: string, memory: ReadingMemory): Promise<Reading> {
  const options = { purpose: 'health', searchPath: ['public', 'pg_catalog'], connectTimeoutMs: 5_000 };
  const mean = await withSession(resolveTarget(deps.config, database), options, (session) =>
    meanSince(session, memory.brakes),
  );
  return known(mean === null || mean <= 0 ? null : mean);
}

/** Client sessions, ours and those that only follow or look aside. */
async function connections(deps: ActivityDeps, database: string): Promise<Reading> {
  const options = { purpose: 'health', connectTimeoutMs: 5_000 };
  return known(await withSession(resolveTarget(deps.config, database), options, countClients));
}

/** Where conditions of one run are read. */
export interface Places {
  /** That of a condition which names none. */
  readonly database: string;
  readonly sides?: PairSides;
  readonly routes?: readonly WatchedRoute[];
}

export async function read(
  condition: Watched,
  { database, sides, routes }: Places,
  deps: ActivityDeps,
  memory: ReadingMemory,
): Promise<Reading> {
  if (condition.source === 'router') return ofRouters(condition, routes ?? [], database, deps, memory);
  if (sides === undefined || !comparesSides(condition))
    return readOne(condition, condition.database ?? database, deps, memory);
  const [blue, green] = await Promise.all(
    [sides.blue, sides.green].map((side) => readOne(ofSide(condition, side), side, deps, memory)),
  );
  if (!blue || !green) return failed('Bug');
  return {
    value: green.value,
    blue: blue.value,
    green: green.value,
    error: blue.error ?? green.error,
    ageMs: Math.max(blue.ageMs, green.ageMs),
  };
}

/** What routers counted since the last reading, of both sides; `value` is that of the new one. */
async function ofRouters(
  condition: Watched,
  routes: readonly WatchedRoute[],
  database: string,
  deps: ActivityDeps,
  memory: ReadingMemory,
): Promise<Reading> {
  const metric = ROUTER_METRICS.find((one) => one === condition.query);
  const [route] = routes;
  if (metric === undefined || route === undefined) return failed('InvalidConfig');
  try {
    const sample = await sampleOf(routes, database, deps);
    const at = performance.now();
    const before = memory.router;
    memory.router = { sample, at };
    if (before === undefined) return known(null);
    const counted = between(before.sample, sample);
    const of = (side: Side): number | null => metricOf(metric, counted, route.sides[side], (at - before.at) / 1_000);
    const green = of('green');
    return { ...known(green), blue: of('blue'), green };
  } catch (error) {
    return failed(isProblem(error) ? error.code : 'Unreachable');
  }
}

async function sampleOf(routes: readonly WatchedRoute[], database: string, deps: ActivityDeps): Promise<Sample> {
  const options = { purpose: 'health', connectTimeoutMs: 5_000 };
  return withSession(resolveTarget(deps.config, database), options, async (session) => {
    const all = new Map<string, Counters>();
    for (const one of routes) for (const [key, of] of await readCounters(session, one.route)) all.set(key, of);
    return all;
  });
}

/** What routers counted of the old side in all their lives: how it was before the first stage. undefined = a rate, which needs two samples. */
export async function lifelong(
  condition: Watched,
  { database, routes = [] }: Places,
  deps: ActivityDeps,
): Promise<number | null | undefined> {
  if (condition.source !== 'router' || condition.query === 'throughput') return undefined;
  const metric = ROUTER_METRICS.find((one) => one === condition.query);
  const [route] = routes;
  if (metric === undefined || route === undefined) return null;
  try {
    const counted = between(new Map(), await sampleOf(routes, database, deps));
    return metricOf(metric, counted, route.sides.blue, 0);
  } catch (error) {
    if (!isProblem(error)) throw error;
    return null;
  }
}

/** As it is asked of one side: `$side` is the name of its connection. */
function ofSide(condition: Watched, side: string): Watched {
  const { query, url } = condition;
  return {
    ...condition,
    ...(query === undefined ? {} : { query: query.replaceAll('$side', side) }),
    ...(url === undefined ? {} : { url: url.replaceAll('$side', side) }),
  };
}

async function readOne(condition: Watched, at: string, deps: ActivityDeps, memory: ReadingMemory): Promise<Reading> {
  const timeoutMs = patienceMs(condition);
  try {
    switch (condition.source) {
      case 'sql':
        return await sql(deps, at, condition.query ?? '', timeoutMs);
      case 'prometheus':
        return await prometheus(deps.config.prometheusUrl, condition.query ?? '', timeoutMs);
      case 'http':
        return known(number(atPath(await json(condition.url ?? '', timeoutMs), condition.jsonPath ?? '')));
      case 'throughput':
        return await throughput(deps, at, memory);
      case 'latency':
        return await latency(deps, at, memory);
      case 'connections':
        return await connections(deps, at);
      case 'router':
        return failed('InvalidConfig');
    }
  } catch (error) {
    return failed(isProblem(error) ? error.code : 'Unreachable');
  }
}

/** How far apart the five readings of a baseline are: quickly, but not faster than the source changes. */
export const baselineSpacingMs = (condition: Watched): number =>
  condition.source === 'router' ? ROUTER_SPACING_MS : Math.min(intervalMs(condition), 1_000);
/** Routers tell what they counted every 2 s. */
const ROUTER_SPACING_MS = 2_500;
