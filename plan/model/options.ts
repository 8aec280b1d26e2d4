/** The plan's written options of a step (`200ms`, `5s | 64MB`, `1.5x`) as numbers. Pure; the engine's shape, without importing it. */
import type { SchemaMigrationPlan } from './plan';
import { parseDuration, parseRate, parseRatio, parseSize } from './values';

export type StepOptionsText = Pick<SchemaMigrationPlan, 'throttle' | 'lockTimeout' | 'lockBudget' | 'searchPath'>;

const ms = (text: string): number => parseDuration(text) ?? 0;
const off = <T>(text: string, parse: (t: string) => T): T | null => (text === 'none' ? null : parse(text));

/** @param baselineMs the application's p95 before the first step; null = not measured: then a ratio is no brake. */
export function stepOptions(text: StepOptionsText, baselineMs: number | null) {
  return {
    lockTimeoutMs: ms(text.lockTimeout),
    lockBudgetMs: ms(text.lockBudget),
    searchPath: text.searchPath,
    throttle: text.throttle === 'none' ? null : limits(text.throttle, baselineMs),
  };
}

function limits(t: Exclude<StepOptionsText['throttle'], 'none'>, baselineMs: number | null) {
  const lag = t.maxReplicationLag;
  const archive = t.maxArchiveBacklog;
  return {
    maxReplicationLagMs: parseDuration(lag),
    maxReplicationLagBytes: parseSize(lag),
    maxLockWaitMs: off(t.maxLockWait, ms),
    maxWalBytesPerSecond: off(t.maxWalRate, parseRate),
    maxArchiveBacklog: archive === 'none' ? null : archive,
    waitForAutovacuum: t.autovacuum === 'wait',
    appP95: applicationP95(t.appP95, baselineMs),
    batchTargetMs: ms(t.batch.target),
    batchMin: t.batch.min,
    batchMax: t.batch.max,
    parallel: t.parallel,
    everyMs: ms(t.every),
  };
}

function applicationP95(text: string, baselineMs: number | null) {
  if (text === 'none') return null;
  const ratio = parseRatio(text);
  if (ratio === null) return { ms: ms(text) };
  return baselineMs === null ? null : { ratio, baselineMs };
}
