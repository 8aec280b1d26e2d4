/**
 * Workflow `blueGreen`: one JSON object in, the writes on green (or everything as it was) out. Its steps are walked from the start every time and what is
 * marked as done is passed over; the switch itself is pairSwitch.ts, the way back pairBack.ts. Keeps true: clients wait for nothing but the pause; from
 * the switch on the way back is another switch, with the same proof.
 */
import { CancellationScope, makeContinueAsNewFunc, workflowInfo } from '@temporalio/workflow';
import { pairControlOf, syncControlOf } from '../plan/model/blueGreen';
import { canaryPartOf, newCanaryState } from '../plan/model/canary';
import { isProblem } from '../plan/model/errors';
import { newPairState } from '../plan/model/pairState';
import type { RunState } from '../plan/model/state';
import { newState } from '../plan/model/state';
import type { PairStep } from '../plan/model/steps';
import { pairSteps } from '../plan/model/steps';
import { validateBlueGreen } from '../plan/model/validate';
import type { AnyPairPlan } from '../plan/model/validateCanary';
import { copyState } from './dataCopy';
import { Back, failProblem } from './failure';
import { askHelp, passGate, passWindow } from './gates';
import { interruptible } from './interruptible';
import { goBackPair } from './pairBack';
import { decommission, hold, monitor } from './pairEnd';
import { backUpBlue, keepParts, pairArgs, pairState, seenOf, timed } from './pairRun';
import { proveRows, work } from './pairProof';
import { switchOver, Undone } from './pairSwitch';
import { createGreen, sync } from './pairSync';
import { watchReplication } from './pairWatch';
import { hooks, measureBaselines, persist } from './phases';
import { Run, nowIso } from './run';
import type { Road, RunResult } from './schemaMigration';
import { runToItsEnd } from './schemaMigration';
import { keepReads, passLastStage, stageAfter, stagesBefore } from './stages';
import { untilSure } from './watcher';

/** @param validate says which kind it must be. */
export function beginPair(start: unknown, validate: (json: unknown) => AnyPairPlan): RunState {
  let plan: AnyPairPlan;
  try {
    plan = validate(start);
  } catch (error) {
    if (isProblem(error)) throw failProblem(error);
    throw error;
  }
  const { workflowId: id, startTime } = workflowInfo();
  const { name, blue: database } = plan;
  return {
    ...newState({ id, name, database, kind: plan.kind }, startTime.toISOString()),
    pair: newPairState(pairControlOf(plan)),
    copy: {
      ...{ control: syncControlOf(plan), epoch: 0, lost: [], tables: 0, bytes: 0, queue: [], copied: 0, rows: 0 },
      ...{ bytesDone: 0, quarantined: [] },
    },
    ...(plan.kind === 'canary' ? { canary: newCanaryState(canaryPartOf(plan)) } : {}),
  };
}

async function open(run: Run, start: unknown): Promise<void> {
  const s = run.state;
  if (!s.marks.includes('opened')) {
    const opened = await run.ask('openBlueGreen', { start }, 'read the configuration of both connections');
    s.control = opened.control;
    s.environment = opened.environment;
    s.settings = opened.settings;
    pairState(run).control = opened.pair;
    copyState(run).control = opened.copy;
    if (s.canary && opened.canary) s.canary.control = opened.canary;
    s.marks.push('opened');
    run.becomeReady();
    run.show('running');
  }
  if (!run.watchesPair) {
    run.watchesPair = true;
    void CancellationScope.nonCancellable(() => Promise.all([watchReplication(run), keepReads(run)]));
  }
}

const dry = (run: Run): boolean => run.state.control?.mode === 'dry-run';

async function guardrails(run: Run, start: unknown): Promise<void> {
  const s = run.state;
  if (!s.marks.includes('preparing')) s.marks.push('preparing');
  const startedAt = nowIso();
  const facts = await interruptible(run, () =>
    run.ask('prepareBlueGreen', { ...pairArgs(run), start }, 'guardrails, then the claim in both databases'),
  );
  if (facts === 'closed') return;
  s.checksum = facts.checksum;
  pairState(run).tables = facts.tables;
  s.measured['serverVersions'] = facts.serverVersions;
  const seen = { ...facts.guardrails, traffic: facts.traffic, tables: facts.tables };
  pairState(run).evidence['guardrails'] = seen;
  if (dry(run)) {
    s.measured['guardrails'] = seen;
    return;
  }
  s.begun = 1;
  s.marks.push('prepared');
  await keepParts(run, [
    {
      id: 'guardrails',
      phase: 'guardrails',
      status: 'done',
      startedAt,
      endedAt: nowIso(),
      attempts: 1,
      evidence: seen,
    },
  ]);
  await measureBaselines(run);
}

async function checkPerformance(run: Run): Promise<void> {
  const pair = pairState(run);
  if (pair.tables === 0) return;
  pair.tries += 1;
  const seen = await work(run, 'performance_check', () =>
    run.ask(
      'verifyPair',
      { ...pairArgs(run), from: 'blue', what: 'performance', number: pair.tries },
      'plans, caches and statistics of green',
    ),
  );
  if (seen !== null && seen !== 'closed') pair.evidence['performance'] = { warnings: seen.warnings };
}

/** There, and (a drill) back and there again. */
async function switchToGreen(run: Run): Promise<void> {
  const s = run.state;
  const pair = pairState(run);
  if (pair.control.drill)
    for (const [mark, from] of [
      ['drill:there', 'blue'],
      ['drill:back', 'green'],
    ] as const) {
      if (s.marks.includes(mark)) continue;
      await trySwitch(run, { from, purpose: 'drill' });
      s.marks.push(mark);
    }
  await trySwitch(run, { from: 'blue', purpose: 'switch' });
  s.contractedAt = nowIso();
  const subject = { database: s.database, migration: s.name };
  const finished = await persist(run, 'record', () =>
    run.ask(
      'finish',
      { ...subject, status: 'contracted', strict: false, cause: null, of: 'own' },
      'record that green takes the writes',
    ),
  );
  if (finished) s.measured = { ...s.measured, ...finished.measured };
}

/** Undone for good: taken back, or a person says when to try again. */
async function trySwitch(run: Run, asked: Parameters<typeof switchOver>[1]): Promise<void> {
  for (;;) {
    try {
      return await switchOver(run, asked);
    } catch (error) {
      if (!(error instanceof Undone)) throw error;
      if (run.state.control?.onFailure !== 'pause') throw new Back(error.cause_);
      await askHelp(run, 'switch', ['retry'], error.cause_);
      run.show('running');
    }
  }
}

async function walk(run: Run, name: PairStep, start: unknown): Promise<void> {
  switch (name) {
    case 'guardrails':
      return guardrails(run, start);
    case 'backup_blue':
      return backUpBlue(run);
    case 'create_green':
      return createGreen(run);
    case 'apply_change':
      if (!pairState(run).control.hasChange) return;
      await timed(
        run,
        name,
        () => work(run, name, () => run.ask('applyChange', { ...pairArgs(run), start }, 'apply the change on green')),
        seenOf,
      );
      return;
    case 'sync':
      return sync(run);
    case 'validate_green':
      await timed(
        run,
        name,
        () => proveRows(run, 'blue'),
        () => seenOf(pairState(run).evidence['verified']),
      );
      return;
    case 'performance_check':
      await timed(
        run,
        name,
        () => checkPerformance(run),
        () => seenOf(pairState(run).evidence['performance']),
      );
      return;
    case 'stages':
      return stagesBefore(run);
    case 'gate':
      if (run.state.canary) await passLastStage(run);
      await passGate(run, 'switch_traffic');
      await passWindow(run, 'switch_traffic');
      await untilSure(run);
      return;
    case 'pause':
      return switchToGreen(run);
    // Parts of the switch, which is one activity.
    case 'fence':
    case 'catch_up':
    case 'reverse':
    case 'switch_traffic':
    case 'probe':
    case 'resume':
      return;
    case 'full':
      return stageAfter(run);
    case 'monitor':
      await timed(
        run,
        name,
        () => monitor(run),
        () => ({ trouble: pairState(run).trouble }),
      );
      return;
    case 'hold':
      await timed(
        run,
        name,
        () => hold(run),
        () => ({ trouble: pairState(run).trouble }),
      );
      return;
    case 'decommission':
      return decommission(run);
  }
}

const WITHOUT_GATE: readonly PairStep[] = ['fence', 'catch_up', 'reverse', 'switch_traffic', 'probe', 'resume'];

/** Their parts have names of their own. */
const WITHOUT_STEP: readonly PairStep[] = ['hold', 'monitor', 'gate', 'stages', 'full'];

async function step(run: Run, name: PairStep, start: unknown): Promise<void> {
  const s = run.state;
  const mark = `phase:${name}`;
  if (s.marks.includes(mark)) return;
  const inside = WITHOUT_GATE.includes(name);
  s.phase = name;
  if (!dry(run) && !inside) {
    await passGate(run, name);
    await passWindow(run, name);
    await hooks(run, 'before', name);
  }
  if (!inside && !WITHOUT_STEP.includes(name)) s.step = name;
  if (!inside) run.show('running');
  await walk(run, name, start);
  s.step = null;
  s.live = null;
  if (!dry(run) && (!inside || name === 'resume')) await hooks(run, 'after', name);
  s.marks.push(mark);
}

async function forward(run: Run, start: unknown): Promise<void> {
  for (const name of pairSteps(run.state.kind)) {
    await step(run, name, start);
    if (dry(run)) return;
    await run.clear();
    if (run.mustContinue()) await run.renew();
  }
}

export const PAIR_ROAD: Road = { open, forward, goBack: goBackPair };

/** One argument for people: the plan. The second one is the state that a continue-as-new passes on. */
export async function blueGreen(start: unknown, resumed?: RunState): Promise<RunResult> {
  const state = resumed ?? beginPair(start, validateBlueGreen);
  const again = makeContinueAsNewFunc<typeof blueGreen>();
  const run = new Run(state, (next) => again(start, next));
  return runToItsEnd(run, start, PAIR_ROAD);
}
