/**
 * What every activity stands on: heartbeats beside the work, cancellation as an AbortSignal, errors as failures of the catalogue, one log line
 * an attempt. Keeps true: nothing leaves an activity but counts, references and Problems; a raw error of a driver never does.
 */
import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity';
import type { ErrorCode, Problem } from '../plan/model/errors';
import { ERRORS, isProblem } from '../plan/model/errors';
import type { Live } from '../plan/model/state';
import type { ValidationLive } from '../plan/model/validationState';
import type { Log, LogFields } from '../worker/logger';
import type { ActivityDeps } from './deps';

export interface Tools {
  readonly deps: ActivityDeps;
  readonly signal: AbortSignal;
  readonly workflowId: string;
  /** The first run of the chain: the same through continue-as-new, another for another start. */
  readonly chainId: () => Promise<string>;
  readonly attempt: number;
  readonly log: Log;
  /** The details of the next heartbeats. */
  beat(details: unknown): void;
  /** What the last attempt's heartbeat said. */
  readonly lastBeat: unknown;
}

export type Body<A, R> = (args: A, tools: Tools) => Promise<R>;

/** By its name: what Node itself throws need not be an Error of this realm. */
const isAbort = (error: unknown): boolean =>
  error instanceof CancelledFailure ||
  (typeof error === 'object' && error !== null && 'name' in error && error.name === 'AbortError');

const MESSAGE_MAX = 1_000;
const DETAILS_MAX = 8_000;

function failureOf(problem: Problem): ApplicationFailure {
  const { code, hint, where, value, details } = problem;
  const full = { ...details, code, hint, ...(where ? { where } : {}), ...(value === undefined ? {} : { value }) };
  const small = JSON.stringify(full).length <= DETAILS_MAX ? full : { code, hint };
  return ApplicationFailure.create({
    type: code,
    message: problem.message.slice(0, MESSAGE_MAX),
    nonRetryable: !ERRORS[code].retryable,
    details: [small],
  });
}

/** Temporal is told what happened, in words of the catalogue alone. */
function outward(error: unknown, context: Context): Error {
  if (isAbort(error) && context.cancellationSignal.aborted) {
    // A worker that stops is not a person who cancels: another worker goes on at once.
    if (context.cancellationDetails?.workerShutdown && !context.cancellationDetails.cancelRequested)
      return ApplicationFailure.create({
        type: 'ServerRestarting' satisfies ErrorCode,
        message: 'the worker is shutting down',
        nonRetryable: false,
        nextRetryDelay: '100ms',
      });
    return error instanceof CancelledFailure ? error : new CancelledFailure('stopped');
  }
  if (error instanceof ApplicationFailure) return error;
  if (isProblem(error)) return failureOf(error);
  const name = error instanceof Error ? error.name : typeof error;
  return ApplicationFailure.create({
    type: 'Bug' satisfies ErrorCode,
    message: `an unexpected ${name}; the worker's log has it`,
    nonRetryable: true,
    details: [{ code: 'Bug', hint: ERRORS.Bug.hint }],
  });
}

export function activity<A, R>(deps: ActivityDeps, operation: string, body: Body<A, R>): (args: A) => Promise<R> {
  return async (args) => {
    const context = Context.current();
    const { info } = context;
    const workflowId = info.workflowExecution?.workflowId ?? '';
    const { attempt } = info;
    let details: unknown = info.heartbeatDetails;
    const beat = (): void => context.heartbeat(details);
    const timer = setInterval(beat, Math.max(200, Math.min(1_000, (info.heartbeatTimeoutMs ?? 10_000) / 4)));
    const fields: LogFields = { migrationId: workflowId, operation, attempt };
    const log = deps.log.child(fields);
    const began = performance.now();
    try {
      beat();
      const result = await body(args, {
        deps,
        signal: context.cancellationSignal,
        workflowId,
        chainId: () => chainOf(context),
        attempt,
        log,
        beat: (next) => {
          details = next;
        },
        lastBeat: info.heartbeatDetails,
      });
      log.debug({ durationMs: Math.round(performance.now() - began), status: 'done' }, operation);
      return result;
    } catch (error) {
      const durationMs = Math.round(performance.now() - began);
      const failure = outward(error, context);
      const code = failure instanceof ApplicationFailure ? (failure.type ?? 'Bug') : 'cancelled';
      const level = code === 'cancelled' ? 'info' : code === 'Bug' ? 'error' : 'warn';
      log[level](
        { durationMs, status: 'failed', code, ...(code === 'Bug' ? { err: error } : {}) },
        `${operation}: ${failure.message}`,
      );
      throw failure;
    } finally {
      clearInterval(timer);
    }
  };
}

const chains = new Map<string, string>();
const CHAINS_MAX = 1_000;

/** Asked once for each run: an activity knows its run, not the chain's first one. */
async function chainOf(context: Context): Promise<string> {
  const { workflowId = '', runId = '' } = context.info.workflowExecution ?? {};
  const known = chains.get(runId);
  if (known !== undefined) return known;
  const described = await context.client.workflow.getHandle(workflowId, runId).describe();
  const first = described.raw.workflowExecutionInfo?.firstRunId ?? '';
  const chain = first === '' ? runId : first;
  if (chains.size > CHAINS_MAX) chains.clear();
  chains.set(runId, chain);
  return chain;
}

/**
 * Tells the workflow how far the step is, at growing intervals: every signal is an event of its history for ever, while heartbeats (which
 * `pgshift watch` reads) cost nothing. 2 s, 4 s, ... 10 min: some thirty for a step that takes a day.
 */
export class Reporter {
  private next = 2_000;
  private due = performance.now() + 2_000;
  private readonly context = Context.current();

  report(live: Live | ValidationLive): void {
    if (performance.now() < this.due) return;
    this.next = Math.min(this.next * 2, 600_000);
    this.due = performance.now() + this.next;
    const { workflowId = '', runId = '' } = this.context.info.workflowExecution ?? {};
    // A hint that is lost is no loss; the run may have ended meanwhile.
    this.context.client.workflow
      .getHandle(workflowId, runId)
      .signal('reportProgress', live)
      .catch(() => undefined);
  }
}
