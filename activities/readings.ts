/**
 * One reading of a condition: SQL, Prometheus, JSON over HTTP, or the throughput of everybody else. Never throws for what it could not read: that
 * is a reading too (an error, or null), and unknown is never a pass. Nothing that a server said is passed on.
 */
import type { Reading, Watched } from '../plan/model/health';
import { intervalMs } from '../plan/model/health';
import { isProblem } from '../plan/model/errors';
import { meanSince } from '../postgres/brakes';
import type { BrakeMemory } from '../postgres/brakes';
import { readThroughput } from '../postgres/throughput';
import type { ThroughputSample } from '../postgres/throughput';
import { withSession } from '../postgres/session';
import { resolveTarget } from '../worker/config';
import type { ActivityDeps } from './deps';

/** What a reading remembers of the one before it (rates need two). */
export interface ReadingMemory {
  throughput?: ThroughputSample;
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

async function json(url: string): Promise<unknown> {
  const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), redirect: 'error' });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  const text = await response.text();
  if (text.length > BODY_MAX) throw new Error('too large');
  return JSON.parse(text) as unknown;
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

async function prometheus(base: string | null, query: string, now: number): Promise<Reading> {
  if (base === null) return failed('InvalidConfig');
  const url = `${base.replace(/\/$/, '')}/api/v1/query?query=${encodeURIComponent(query)}`;
  const body = (await json(url)) as { data?: { resultType?: string; result?: unknown } };
  const { resultType, result } = body.data ?? {};
  let sample: unknown = null;
  if (resultType === 'scalar') sample = result;
  else if (resultType === 'vector' && Array.isArray(result) && result.length === 1)
    sample = (result[0] as { value?: unknown }).value;
  if (!Array.isArray(sample)) return known(null);
  const at = number(sample[0]);
  return known(number(sample[1]), at === null ? 0 : Math.max(0, now - at * 1_000));
}

/** One row, one number; read only, with a deadline of its own. */
async function sql(deps: ActivityDeps, database: string, query: string): Promise<Reading> {
  const target = resolveTarget(deps.config, database);
  return withSession(
    target,
    { purpose: 'health', searchPath: ['public', 'pg_catalog'], connectTimeoutMs: 5_000 },
    async (session) => {
      await session.run(`SET statement_timeout = ${TIMEOUT_MS}`);
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

export async function read(
  condition: Watched,
  database: string,
  deps: ActivityDeps,
  memory: ReadingMemory,
): Promise<Reading> {
  try {
    const at = condition.database ?? database;
    switch (condition.source) {
      case 'sql':
        return await sql(deps, at, condition.query ?? '');
      case 'prometheus':
        return await prometheus(deps.config.prometheusUrl, condition.query ?? '', Date.now());
      case 'http':
        return known(number(atPath(await json(condition.url ?? ''), condition.jsonPath ?? '')));
      case 'throughput':
        return await throughput(deps, at, memory);
      case 'latency':
        return await latency(deps, at, memory);
      case 'router':
        return failed('NotYet');
    }
  } catch (error) {
    return failed(isProblem(error) ? error.code : 'Unreachable');
  }
}

/** How far apart the five readings of a baseline are: quickly, but not faster than the source changes. */
export const baselineSpacingMs = (condition: Watched): number => Math.min(intervalMs(condition), 1_000);
