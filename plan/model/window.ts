/**
 * Maintenance windows: when is it open, and when will it be next. Pure: the current time is given. Runs inside workflows (croner works in
 * the sandbox: Date there is the workflow's own clock).
 */
import { Cron } from 'croner';
import { Problem } from './errors';
import type { SchemaMigrationPlan } from './plan';
import { parseDuration } from './values';
import { PHASES } from './steps';

export type Window = NonNullable<SchemaMigrationPlan['window']>;

const DEFAULT_PHASES: readonly string[] = ['contract', 'cleanup', 'switch_traffic', 'decommission'];
const cron = (window: Window) => new Cron(window.cron, { timezone: window.timezone, paused: true });

/** @throws Problem InvalidPlan when cron, timezone or phases cannot be. */
export function checkWindow(window: Window, phases: readonly string[] = PHASES): void {
  const bad = (path: string, what: string, hint: string) =>
    new Problem('InvalidPlan', `${path}: ${what}`, { where: { path }, hint });
  const unknown = window.phases?.find((p) => !phases.includes(p));
  if (unknown !== undefined) throw bad('window.phases', 'names no phase of this kind', `phases: ${phases.join(', ')}`);
  if ((parseDuration(window.duration) ?? 0) <= 0) throw bad('window.duration', 'must be longer than 0s', 'write 4h');
  try {
    if (cron(window).nextRun(new Date(0)) === null) throw new Error('never');
  } catch {
    throw bad(
      'window.cron',
      'not a cron line that ever comes, or the timezone is unknown',
      'as 0 2 * * 6,0 with timezone Europe/Vienna',
    );
  }
}

/** @param phase or the name of a canary's stage. */
export const windowCovers = (window: Window, phase: string): boolean =>
  (window.phases ?? DEFAULT_PHASES).includes(phase);

export interface Opening {
  readonly open: boolean;
  /** Epoch ms: when it closes, if open; when it opens, if not; null = never again. */
  readonly untilMs: number | null;
}

/** An occurrence that began at most `duration` ago is open still. */
export function windowAt(window: Window, nowMs: number): Opening {
  const duration = parseDuration(window.duration) ?? 0;
  const job = cron(window);
  // The first start after (now - duration) is either the one that is open or the next to come. 1 ms back: an opening at exactly that moment is over.
  const start = job.nextRun(new Date(nowMs - duration));
  if (start === null) return { open: false, untilMs: null };
  if (start.getTime() > nowMs) return { open: false, untilMs: start.getTime() };
  // Overlapping occurrences (duration longer than the period) keep it open.
  return { open: true, untilMs: start.getTime() + duration };
}
