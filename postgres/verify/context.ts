/** What a verification is given, and what it says while it works. Knows no Temporal: cancellation is an AbortSignal, progress a callback. */
import type { ValidationPlan } from '../../plan/model/validation';
import type { ValidationLive } from '../../plan/model/validationState';
import type { Log, Target } from '../types';

/** What the workflow keeps of it, with the phase narrowed. */
export interface VerifyProgress extends ValidationLive {
  readonly phase: 'compare' | 'recheck' | 'repair' | 'checks';
}

export interface VerifyContext {
  readonly plan: ValidationPlan;
  readonly source: Target;
  readonly target: Target;
  readonly signal: AbortSignal;
  readonly progress: (progress: VerifyProgress) => void;
  readonly log: Log;
}
