/**
 * Judges readings of conditions: passed, failed, inconclusive or error, and when that is enough to act. Pure: reading is done elsewhere.
 * Unknown is never a pass; an error is not a failure, but too many in a row are.
 */
import type { Name } from './expression';
import { evaluate, parseExpression } from './expression';
import type { Condition } from './plan';
import type { RunPhase } from './steps';
import { parseDuration } from './values';

/** A condition of the plan, or pgshift's own watch of the throughput. */
export interface Watched extends Omit<Condition, 'source'> {
  readonly source: Condition['source'] | 'throughput' | 'latency';
  /** Failures count only while they follow each other (the built-in watch); a plan's count in all. */
  readonly consecutive?: boolean;
}

export type Judgement = 'passed' | 'failed' | 'inconclusive' | 'error';

export interface ConditionState {
  readonly readings: number;
  readonly failures: number;
  readonly errorsInARow: number;
  readonly passes: number;
  readonly last: Judgement | null;
  readonly value: number | null;
  readonly at: string | null;
  /** For a chart: epoch seconds and value, thinned out as they grow. Kept where there is a list to begin with. */
  readonly points?: readonly Point[];
}

export type Point = readonly [seconds: number, value: number];

export interface Reading {
  readonly value: number | null;
  /** Code of what went wrong, without the server's own words. */
  readonly error: string | null;
  /** Older than two intervals is inconclusive. */
  readonly ageMs: number;
  /** Of a condition that compares the sides of a pair; `value` is then green's. */
  readonly blue?: number | null;
  readonly green?: number | null;
}

/** What happened to a condition that people should see. */
export interface HealthEvent {
  readonly name: string;
  readonly verdict: string;
  readonly at: string;
  readonly value: number | null;
}

export const freshCondition: ConditionState = {
  readings: 0,
  failures: 0,
  errorsInARow: 0,
  passes: 0,
  last: null,
  value: null,
  at: null,
};

export const intervalMs = (condition: Pick<Condition, 'interval'>): number =>
  parseDuration(condition.interval) ?? 30_000;

function verdict(condition: Watched, reading: Reading, baseline: number | null): Judgement {
  if (reading.error !== null) return 'error';
  const { value } = reading;
  if (value === null || !Number.isFinite(value) || reading.ageMs > 2 * intervalMs(condition)) return 'inconclusive';
  const readings = { value, baseline, blue: reading.blue ?? null, green: reading.green ?? null };
  const fails = condition.failWhen === undefined ? false : evaluate(parseExpression(condition.failWhen), readings);
  if (fails === true) return 'failed';
  if (fails === null) return 'inconclusive';
  if (condition.successWhen === undefined) return 'passed';
  const succeeds = evaluate(parseExpression(condition.successWhen), readings);
  if (succeeds === true) return 'passed';
  return succeeds === false && condition.failWhen === undefined ? 'failed' : 'inconclusive';
}

export function judge(
  condition: Watched,
  before: ConditionState,
  reading: Reading,
  baseline: number | null,
  at: string,
): ConditionState {
  const last = verdict(condition, reading, baseline);
  const failures = last === 'failed' ? before.failures + 1 : condition.consecutive ? 0 : before.failures;
  return {
    readings: before.readings + 1,
    failures,
    errorsInARow: last === 'error' ? before.errorsInARow + 1 : 0,
    passes: last === 'passed' ? before.passes + 1 : last === 'failed' ? 0 : before.passes,
    last,
    value: reading.value,
    at,
    ...(before.points === undefined ? {} : { points: withPoint(before.points, at, reading.value) }),
  };
}

const POINTS_MAX = 40;

/** Never more than so many: then every second one goes, so that the whole time stays in sight. */
function withPoint(points: readonly Point[], at: string, value: number | null): readonly Point[] {
  if (value === null || !Number.isFinite(value)) return points;
  const kept = points.length < POINTS_MAX ? points : points.filter((_, i) => i % 2 === 1);
  return [...kept, [Math.round(Date.parse(at) / 1_000), Number(value.toPrecision(6))]];
}

/** Has it failed for good? */
export function tripped(condition: Watched, state: ConditionState): 'failed' | 'error' | null {
  if (state.failures > condition.failureLimit) return 'failed';
  return state.errorsInARow > condition.consecutiveErrorLimit ? 'error' : null;
}

/** A metric gate opens after `count` passes in a row (1 when it says none). */
export const opened = (condition: Watched, state: ConditionState): boolean => state.passes >= (condition.count ?? 1);

/** Does the run have to wait for it before it goes on to what cannot be taken back? */
export const holdsBack = (condition: Watched, state: ConditionState | undefined): boolean =>
  condition.onInconclusive === 'hold' &&
  !condition.dryRun &&
  condition.onFail !== 'alert' &&
  (state === undefined || state.last === null || state.last === 'inconclusive' || state.last === 'error');

/** Enough readings were taken (`count`): it is not watched any more. */
export const exhausted = (condition: Watched, state: ConditionState | undefined): boolean =>
  condition.count !== undefined && (state?.readings ?? 0) >= condition.count;

export const watchedIn = (condition: Watched, phase: RunPhase): boolean =>
  condition.phases === undefined || (condition.phases as readonly RunPhase[]).includes(phase);

/**
 * Automatic rollback when performance falls 50 % under the baseline: committed transactions a second of everybody else, while clients are
 * busy (a quiet hour is not a slow one: then the reading is inconclusive), for six readings in a row.
 * A plan replaces it by a condition of its own with the name `performance`.
 */
export const PERFORMANCE: Watched = {
  name: 'performance',
  source: 'throughput',
  failWhen: 'value < 0.5 * baseline',
  interval: '5s',
  initialDelay: '0s',
  failureLimit: 5,
  consecutive: true,
  consecutiveErrorLimit: 1_000_000,
  phases: ['expand', 'backfill', 'build', 'validate', 'contract'],
  onFail: 'rollback',
  onInconclusive: 'ignore',
  dryRun: false,
};

const names = (condition: Pick<Watched, 'failWhen' | 'successWhen'>, ...wanted: readonly Name[]): boolean =>
  [condition.failWhen, condition.successWhen].some(
    (text) => text !== undefined && parseExpression(text).names.some((name) => wanted.includes(name)),
  );

export const needsBaseline = (condition: Watched): boolean => names(condition, 'baseline');
/** It is read once for each side of a pair. */
export const comparesSides = (condition: Pick<Watched, 'failWhen' | 'successWhen'>): boolean =>
  names(condition, 'blue', 'green');

/** Of five readings; those that failed are left out, and fewer than three are no baseline. */
export function median(values: readonly (number | null)[]): number | null {
  const known = values.filter((v): v is number => v !== null && Number.isFinite(v)).sort((a, b) => a - b);
  return known.length < 3 ? null : (known[Math.floor(known.length / 2)] ?? null);
}
