/**
 * Errors as workflows meet them and as they leave them: an activity's failure becomes a Cause with a code of the catalogue, a Problem becomes an
 * ApplicationFailure whose type is its code. Nothing else may end a run: a plain Error would block the workflow task for ever.
 */
import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  TimeoutFailure,
  isCancellation,
} from '@temporalio/workflow';
import type { ErrorCode, Problem } from '../plan/model/errors';
import { ERRORS, isErrorCode } from '../plan/model/errors';
import type { Cause } from '../plan/model/state';

/** The change is to be taken back. Thrown through the phases, caught once. */
export class Back extends Error {
  override readonly name = 'Back';
  constructor(readonly back: Cause) {
    super(back.message);
  }
}

export const causeOf = (code: ErrorCode, message: string, by: string | null = null): Cause => ({
  code,
  message,
  hint: ERRORS[code].hint,
  by,
  cancelled: false,
});

/** The activity died with its worker, or was given up: not what the step itself said. */
export const isTimeout = (error: unknown): boolean =>
  error instanceof TimeoutFailure || (error instanceof ActivityFailure && error.cause instanceof TimeoutFailure);

function application(error: unknown): ApplicationFailure | null {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 10; at = at.cause, depth += 1)
    if (at instanceof ApplicationFailure) return at;
  return null;
}

interface Details {
  readonly hint?: unknown;
  readonly [key: string]: unknown;
}

export interface Failed extends Cause {
  readonly details: Details;
}

/** @throws the error itself when it is no failure of an activity: a bug of ours must not be taken for a step's answer. */
export function failed(error: unknown): Failed {
  const found = application(error);
  if (found) {
    const code: ErrorCode = isErrorCode(found.type) ? found.type : 'Bug';
    const details = (found.details?.[0] ?? {}) as Details;
    const hint = typeof details.hint === 'string' ? details.hint : ERRORS[code].hint;
    return { code, message: found.message, hint, by: null, cancelled: false, details };
  }
  if (isTimeout(error)) return { ...causeOf('Timeout', 'an activity ran into its deadline'), details: {} };
  throw error;
}

export const fail = (of: { code: string; message: string; hint: string }, details: object = {}): ApplicationFailure =>
  ApplicationFailure.create({
    type: of.code,
    message: of.message,
    nonRetryable: true,
    details: [{ ...details, code: of.code, hint: of.hint }],
  });

export const failProblem = (problem: Problem): ApplicationFailure =>
  fail(problem, {
    ...problem.details,
    ...(problem.where ? { where: problem.where } : {}),
    ...(problem.value === undefined ? {} : { value: problem.value }),
  });

export const cancelled = (): CancelledFailure => new CancelledFailure('the change was cancelled and taken back');

export { isCancellation };
