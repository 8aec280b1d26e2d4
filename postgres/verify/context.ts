/** What a verification is given, and what it says while it works. Knows no Temporal: cancellation is an AbortSignal, progress a callback. */
import type { ValidationPlan } from '../../plan/model/validation';
import type { Target } from '../types';

export interface VerifyProgress {
  readonly phase: 'compare' | 'recheck' | 'repair' | 'checks';
  /** The table that was looked at last. */
  readonly table: string;
  readonly tablesDone: number;
  readonly tables: number;
  /** Rows of the source; the total is the planner's estimate. */
  readonly rowsDone: number;
  readonly rowsTotal: number;
  readonly rowsPerSecond: number;
  readonly etaSeconds: number | null;
  /** Rows that differed at first sight. */
  readonly candidates: number;
}

export interface VerifyContext {
  readonly plan: ValidationPlan;
  readonly source: Target;
  readonly target: Target;
  readonly signal: AbortSignal;
  readonly progress: (progress: VerifyProgress) => void;
  readonly log: (
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    fields?: Readonly<Record<string, unknown>>,
  ) => void;
}
