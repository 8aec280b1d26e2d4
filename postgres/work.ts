/** What every kind of step gets to work with, and what it gives back. Internal to postgres/: the facade is engine.ts. */
import type { LockHeld, Proof } from '../plan/model/status';
import { NO_ROWS } from '../plan/model/status';
import type { Attempt } from './fence';
import type { Session } from './session';
import type { StepContext, StepProgress } from './types';

export interface Work {
  readonly context: StepContext;
  /** Runs the step. Its backend is recorded in the step's row. */
  readonly session: Session;
  /** Looks on while `session` is busy. Always in autocommit: it never holds a snapshot that a concurrent build would wait for. */
  readonly observer: Session;
  readonly attempt: Attempt;
  /** 'do', or 'undo.<n>' for the n-th run of the way back. */
  readonly scope: string;
  /** Milliseconds by reason, over all attempts: an interrupted one leaves them in its row. */
  readonly throttled: Record<string, number>;
  /** Another session for this step, closed with it. */
  readonly open: (purpose: string) => Promise<Session>;
}

export interface WorkResult {
  readonly rows: number;
  readonly batches: number;
  readonly locks: readonly LockHeld[];
  readonly proofs: readonly Proof[];
  readonly throttledMs: Readonly<Record<string, number>>;
  /** The record that it is done is committed already, in the same transaction as the work. */
  readonly recorded: boolean;
}

export const NOTHING: WorkResult = { rows: 0, batches: 0, locks: [], proofs: [], throttledMs: {}, recorded: false };

const QUIET: StepProgress = {
  ...NO_ROWS,
  lagBytes: null,
  lagMs: null,
  waitingFor: null,
};

/** Tells the caller how it goes; what is not said is zero. */
export const tell = (context: Pick<StepContext, 'progress'>, progress: Partial<StepProgress>): void =>
  context.progress({ ...QUIET, ...progress });

/** Throws the AbortError of a signal that is up. */
export function checkSignal(signal: AbortSignal): void {
  if (signal.aborted) throw abortError();
}

export function abortError(): Error {
  const error = new Error('the step was asked to stop');
  error.name = 'AbortError';
  return error;
}
