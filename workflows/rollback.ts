/**
 * Workflow `rollback`: takes back a migration whose run has ended, by the stored way back, after a person approved it at gate `rollback`.
 * Refused (NotNow) while a later migration that depends on it stands, or when there is no way back.
 */
import { CancellationScope, isCancellation, makeContinueAsNewFunc, workflowInfo } from '@temporalio/workflow';
import { isProblem } from '../plan/model/errors';
import type { RollbackPlan } from '../plan/model/plan';
import type { RunState } from '../plan/model/state';
import { newState } from '../plan/model/state';
import { validateRollback } from '../plan/model/validate';
import { lostOnTheWay, takeBack } from './back';
import { Back, cancelled, fail, failProblem, failed } from './failure';
import { askPeople } from './gates';
import { openToAll } from './gateRules';
import { setHandlers } from './handlers';
import { drainDecisions, recordDecisions } from './recorder';
import { Run } from './run';
import { endRun } from './ending';

export interface RollbackResult {
  readonly status: 'completed';
  readonly id: string;
  readonly checksum: string;
  readonly reportRef: string;
}

function begin(start: unknown): { plan: RollbackPlan; state: RunState } {
  try {
    const plan = validateRollback(start);
    const { workflowId: id, startTime } = workflowInfo();
    const state = newState(
      { id, name: plan.migration, database: plan.database, kind: 'rollback' },
      startTime.toISOString(),
    );
    return { plan, state };
  } catch (error) {
    if (isProblem(error)) throw failProblem(error);
    throw error;
  }
}

async function prepare(run: Run, reason: string): Promise<void> {
  const s = run.state;
  if (!s.marks.includes('prepared')) {
    const subject = { database: s.database, migration: s.name };
    const { facts, control, environment, settings } = await run.ask(
      'prepareRollback',
      subject,
      `what stands of ${s.name}`,
    );
    s.control = control;
    s.environment = environment;
    s.settings = settings;
    s.facts = facts;
    s.done = s.begun = facts.steps.length;
    s.phase = 'gate';
    s.marks.push('opened', 'prepared');
    run.becomeReady();
    run.show('running');
  }
  // Before the person decides, not after.
  const lost = await CancellationScope.nonCancellable(() => lostOnTheWay(run));
  await askPeople(run, openToAll('rollback'), lost === null ? reason : `${reason}: ${lost}`);
}

/** The person's no comes as the gate's verdict: nothing was changed. */
async function drive(run: Run, plan: RollbackPlan): Promise<RollbackResult> {
  const s = run.state;
  const why = plan.reason === undefined ? '' : ` (${plan.by ?? 'somebody'}: ${plan.reason})`;
  await prepare(run, `taking back ${s.name} after its end${why}`);
  const vote = s.inbox.gates['rollback'];
  if (vote?.verdict !== 'approved') {
    const by = s.inbox.approvals.at(-1)?.by ?? 'somebody';
    throw fail({ code: 'Rejected', message: `gate rollback was rejected by ${by}`, hint: 'see the reason' });
  }
  await CancellationScope.nonCancellable(() =>
    takeBack(run, {
      code: 'RolledBack',
      message: `approved by ${vote.votes[0]?.by ?? ''}`,
      hint: '',
      by: null,
      cancelled: false,
    }),
  );
  await drainDecisions(run);
  await endRun(run, 'completed');
  return { status: 'completed', id: s.id, checksum: s.facts?.checksum ?? '', reportRef: `${s.database}/${s.name}` };
}

export async function rollback(start: unknown, resumed?: RunState): Promise<RollbackResult> {
  const { plan, state: fresh } = begin(start);
  const again = makeContinueAsNewFunc<typeof rollback>();
  const run = new Run(resumed ?? fresh, (next) => again(start, next));
  setHandlers(run);
  run.show(resumed ? undefined : 'running');
  void CancellationScope.nonCancellable(() => recordDecisions(run));
  try {
    return await drive(run, plan);
  } catch (error) {
    const cancel = isCancellation(error);
    if (
      !cancel &&
      !(error instanceof Back) &&
      !(error instanceof Error && error.name === 'ApplicationFailure') &&
      !isActivityFailure(error)
    )
      throw error;
    return CancellationScope.nonCancellable(async () => {
      await drainDecisions(run);
      const problem = error instanceof Back ? { ...error.back, details: {} } : failed(error);
      const { code, message, hint } = problem;
      if (!cancel) run.state.lastError = { code, message, hint };
      await endRun(run, cancel ? 'cancelled' : 'failed');
      if (cancel) throw cancelled();
      throw fail(problem, problem.details);
    });
  }
}

const isActivityFailure = (error: unknown): boolean => error instanceof Error && error.name === 'ActivityFailure';
