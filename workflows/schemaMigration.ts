/**
 * Workflow `schemaMigration`: one JSON object in (the plan file's content, or a reference to a large one), a change that is completed, taken back or
 * refused out. This file opens and closes a run; phases.ts and back.ts say what happens between.
 */
import {
  CancellationScope,
  ContinueAsNew,
  isCancellation,
  makeContinueAsNewFunc,
  workflowInfo,
} from '@temporalio/workflow';
import { isProblem } from '../plan/model/errors';
import type { Cause, PlanFacts, RunState } from '../plan/model/state';
import { newState } from '../plan/model/state';
import { validateStart } from '../plan/model/validate';
import type { PlanReference } from '../plan/model/validate';
import type { SchemaMigrationPlan } from '../plan/model/plan';
import { cancelCause, goBack, leftBehind } from './back';
import { Back, cancelled, fail, failProblem, failed } from './failure';
import { setHandlers } from './handlers';
import { forward } from './phases';
import { drainDecisions, recordDecisions } from './recorder';
import { Run } from './run';
import { endRun } from './ending';
import { watchHealth } from './watcher';

export interface RunResult {
  readonly status: 'completed';
  readonly id: string;
  readonly checksum: string;
  /** Where the rest lies: `<database>/<name>`, in schema pgshift of that database. */
  readonly reportRef: string;
  /** Of a dry run: the plan itself, there being nowhere else. */
  readonly plan?: PlanFacts['plan'];
}

/** What the plan says of control, before the worker's configuration added to it. @throws ApplicationFailure InvalidPlan, NotYet, ... */
function begin(start: unknown): RunState {
  let plan: SchemaMigrationPlan | PlanReference;
  try {
    plan = validateStart(start);
  } catch (error) {
    if (isProblem(error)) throw failProblem(error);
    throw error;
  }
  const { workflowId: id, startTime } = workflowInfo();
  const { name, database } = plan;
  return newState({ id, name, database, kind: 'schema-migration' }, startTime.toISOString());
}

async function openRun(run: Run, start: unknown): Promise<void> {
  const s = run.state;
  if (s.marks.includes('opened')) return;
  const opened = await run.ask('open', { start }, 'read the configuration of the connection');
  s.control = opened.control;
  s.environment = opened.environment;
  s.settings = opened.settings;
  s.marks.push('opened');
  run.becomeReady();
  run.show('running');
}

async function complete(run: Run): Promise<RunResult> {
  const s = run.state;
  const dry = s.control?.mode === 'dry-run';
  run.settled = true;
  if (!dry && !s.marks.includes('finished')) {
    const finished = await run.ask(
      'finish',
      { database: s.database, migration: s.name, status: 'completed', strict: false, cause: null, of: 'own' },
      'compare the catalogue with what was asked',
    );
    s.catalogDiff = finished.catalogDiff;
    s.measured = { ...s.measured, ...finished.measured };
  }
  await drainDecisions(run);
  await endRun(run, 'completed');
  return {
    status: 'completed',
    id: s.id,
    checksum: s.facts?.checksum ?? s.checksum ?? '',
    reportRef: `${s.database}/${s.name}`,
    ...(dry && s.facts?.plan ? { plan: s.facts.plan } : {}),
  };
}

/** How one kind of run goes: forward from wherever it stands, and back. */
export interface Road {
  open(run: Run, start: unknown): Promise<void>;
  /** @throws Back, or a failure of preflight that wrote nothing. */
  forward(run: Run, start: unknown): Promise<void>;
  /** Answers false when it stays after all. */
  goBack(run: Run, cause: Cause): Promise<boolean>;
}

/** The way forward and the ways back, until one of them is at its end. */
async function drive(run: Run, start: unknown, road: Road): Promise<RunResult> {
  const shielded = <T>(fn: () => Promise<T>): Promise<T> => CancellationScope.nonCancellable(fn);
  let shield = false;
  for (;;) {
    try {
      const walk = () => road.open(run, start).then(() => road.forward(run, start));
      await (shield ? shielded(walk) : walk());
      return await shielded(() => complete(run));
    } catch (error) {
      if (error instanceof ContinueAsNew) throw error;
      const cancel: boolean = !shield && isCancellation(error);
      if (!cancel && !(error instanceof Back)) throw await shielded(() => refuse(run, error, road));
      const cause = error instanceof Back ? error.back : cancelCause();
      if (await shielded(() => road.goBack(run, cause))) throw await shielded(() => endBack(run, cancel));
      // It stays. Temporal's cancel cannot be taken back, so that the rest runs shielded from it.
      shield ||= cancel;
    }
  }
}

/** Preflight said no, or a bug of ours: what was begun is taken back all the same. */
async function refuse(run: Run, error: unknown, road: Road): Promise<Error> {
  const problem = failed(error);
  const { code, message, hint } = problem;
  run.state.lastError = { code, message, hint };
  if (run.state.begun > 0) await road.goBack(run, problem);
  await drainDecisions(run);
  await endRun(run, 'failed');
  return fail(problem, problem.details);
}

async function endBack(run: Run, cancel: boolean): Promise<Error> {
  await drainDecisions(run);
  const { code, message, hint, by } = run.state.cause ?? cancelCause();
  const left = leftBehind(run);
  // What people see last is why it ended, not what happened on the way; a person's own wish is no error.
  const why = left.length === 0 ? message : `${message}; not taken back: ${left.join('; ')}`;
  run.state.lastError = code === 'RolledBack' && left.length === 0 ? null : { code, message: why, hint };
  await endRun(run, cancel ? 'cancelled' : left.length === 0 ? 'rolled_back' : 'failed');
  if (cancel) return cancelled();
  // What is not back as it was must not be called rolled back.
  return left.length === 0
    ? fail({ code: 'RolledBack', message, hint }, { cause: code, by })
    : fail({ code, message: why, hint }, { cause: code, by, left });
}

const SCHEMA_ROAD: Road = { open: openRun, forward, goBack };

export async function runToItsEnd(run: Run, start: unknown, road: Road = SCHEMA_ROAD): Promise<RunResult> {
  setHandlers(run);
  run.show();
  // Beside the phases, and shielded: a cancel ends them through `settled`, after the way back.
  void CancellationScope.nonCancellable(() => Promise.all([watchHealth(run), recordDecisions(run)]));
  return drive(run, start, road);
}

/** One argument for people: the plan. The second one is the state that a continue-as-new passes on. */
export async function schemaMigration(start: unknown, resumed?: RunState): Promise<RunResult> {
  const state = resumed ?? begin(start);
  const again = makeContinueAsNewFunc<typeof schemaMigration>();
  const { name, database } = state;
  const run = new Run(state, (next) => again({ kind: 'schema-migration', name, database, planRef: 'kept' }, next));
  return runToItsEnd(run, start);
}
