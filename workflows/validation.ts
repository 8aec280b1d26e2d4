/**
 * Workflow `validation`: one JSON object in (the plan file's content), the verdict out. It changes nothing but the target's schema pgshift, unless it
 * was asked to repair. Differences are an answer, not a failure: the run completes with `passed: false`. Pause stops behind the range in hand.
 */
import {
  ApplicationFailure,
  CancellationScope,
  allHandlersFinished,
  condition,
  isCancellation,
  setCurrentDetails,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { isProblem } from '../plan/model/errors';
import { DEFAULT_SETTINGS } from '../plan/model/state';
import type { Settings } from '../plan/model/state';
import { validateValidation } from '../plan/model/validate';
import type { ValidationOutcome, ValidationPlan, VerifyResult } from '../plan/model/validation';
import type { ValidationPhase, ValidationState } from '../plan/model/validationState';
import { newValidation, renderValidation } from '../plan/model/validationState';
import type { RunStatus } from '../plan/model/status';
import { changedAttributes } from './attributes';
import { cancelled, fail, failProblem, failed, isTimeout } from './failure';
import { asking } from './proxies';
import { setValidationHandlers } from './validationHandlers';

export class Validation {
  settings: Settings = DEFAULT_SETTINGS;
  checksum = '';
  private shown: ReadonlyMap<string, string | boolean> = new Map();
  readonly ask = asking(() => this.settings);

  constructor(readonly state: ValidationState) {}

  show(status?: RunStatus, phase?: ValidationPhase): void {
    const s = this.state;
    if (status !== undefined) s.status = status;
    if (phase !== undefined) s.phase = phase;
    s.updatedAt = new Date(Date.now()).toISOString();
    setCurrentDetails(renderValidation(s));
    const attributes = new Map<string, string | boolean>([
      ['MigrationName', s.name],
      ['MigrationDatabase', s.target],
      ['MigrationKind', 'validation'],
      ['MigrationPhase', s.phase],
      ['MigrationStatus', s.status],
      ['MigrationEnvironment', s.environment],
      ['NeedsApproval', false],
    ]);
    const changed = changedAttributes(this.shown, attributes);
    if (changed.length > 0) upsertSearchAttributes(changed);
    this.shown = attributes;
  }

  /** Decisions so far, into pgshift.audit. A hint for later readers: the history has them too. */
  async record(): Promise<void> {
    const { target: database, name: migration, inbox } = this.state;
    if (inbox.audit.length === 0 || this.checksum === '') return;
    this.state.inbox = { ...inbox, audit: [] };
    await this.ask('record', { database, migration, audit: inbox.audit }, 'record decisions');
  }
}

type Phase = 'compare' | 'checks' | 'recheck' | 'repair';

const TITLES: Readonly<Record<Phase, string>> = {
  compare: 'compare every table by ranges',
  checks: 'compare schema, constraints, sequences and what else was asked',
  recheck: 'look again at the rows that differed',
  repair: 'repair the rows that differ on the target',
};

/** Runs a phase; a pause cancels it behind its range and it goes on from its checkpoints. */
async function runPhase(run: Validation, phase: Phase): Promise<void> {
  const s = run.state;
  for (;;) {
    if (s.inbox.paused !== null) {
      run.show('paused');
      await condition(() => s.inbox.paused === null);
      await run.record();
    }
    run.show('running', phase === 'checks' ? 'compare' : phase);
    const scope = new CancellationScope();
    const watch = new CancellationScope();
    let paused = false;
    const watching = watch
      .run(async () => {
        await condition(() => s.inbox.paused !== null);
        paused = true;
        scope.cancel();
      })
      .catch((error: unknown) => {
        if (!isCancellation(error)) throw error;
      });
    try {
      const subject = { target: s.target, validation: s.name, phase };
      return await scope.run(() => run.ask('verifyPhase', subject, TITLES[phase]));
    } catch (error) {
      if (!paused || !(isCancellation(error) || isTimeout(error))) throw error;
    } finally {
      watch.cancel();
      await watching;
    }
  }
}

async function drive(run: Validation, start: unknown): Promise<ValidationOutcome> {
  const s = run.state;
  const opened = await run.ask('openValidation', { start }, 'reach both sides and claim the name');
  run.settings = opened.settings;
  run.checksum = opened.checksum;
  s.environment = opened.environment;
  const phases: Phase[] = ['compare', 'checks', 'recheck', ...(opened.repair ? (['repair'] as const) : [])];
  for (const phase of phases) await runPhase(run, phase);
  run.show('running', 'finish');
  return CancellationScope.nonCancellable(async () => {
    await run.record();
    const subject = { target: s.target, validation: s.name, ended: 'result' } as const;
    const { result, whole } = await run.ask('finishValidation', subject, 'put the result together');
    if (!result) throw fail({ code: 'FenceBroken', message: 'another run has the name by now', hint: 'look at it' });
    s.result = result;
    const reportRef = `${s.target}/${s.name}`;
    s.reportRef = whole ? null : reportRef;
    await end(run, 'completed');
    return { status: 'completed', id: s.id, checksum: run.checksum, reportRef, ...(result satisfies VerifyResult) };
  });
}

async function end(run: Validation, status: RunStatus): Promise<void> {
  run.state.endedAt = new Date(Date.now()).toISOString();
  run.state.live = null;
  run.show(status);
  await condition(allHandlersFinished);
}

async function giveUp(run: Validation, error: unknown): Promise<Error> {
  const s = run.state;
  const cancel = isCancellation(error);
  const problem = cancel ? null : error instanceof ApplicationFailure ? null : failed(error);
  if (problem) s.lastError = { code: problem.code, message: problem.message, hint: problem.hint };
  if (run.checksum !== '')
    await run.ask(
      'finishValidation',
      { target: s.target, validation: s.name, ended: 'given-up' },
      'give the name back',
    );
  await end(run, cancel ? 'cancelled' : 'failed');
  if (cancel) return cancelled();
  return problem ? fail(problem, problem.details) : (error as Error);
}

function begin(start: unknown): ValidationPlan {
  try {
    return validateValidation(start);
  } catch (error) {
    if (isProblem(error)) throw failProblem(error);
    throw error;
  }
}

/** One argument: the plan. */
export async function validation(start: unknown): Promise<ValidationOutcome> {
  const { name, source, target } = begin(start);
  const { workflowId: id, startTime } = workflowInfo();
  const run = new Validation(newValidation({ id, name, source, target }, startTime.toISOString()));
  setValidationHandlers(run);
  run.show('running');
  try {
    return await drive(run, start);
  } catch (error) {
    throw await CancellationScope.nonCancellable(() => giveUp(run, error));
  }
}
