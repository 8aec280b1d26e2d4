/**
 * Runs steps and takes them back: loads each by its id from the stored plan, hands it to the engine, and answers in counts. Progress goes into the
 * heartbeat (for those who watch) and seldom to the workflow (for those who ask).
 */
import type { StepOptionsText } from '../plan/model/options';
import { stepOptions } from '../plan/model/options';
import type { Live, StepsOutcome } from '../plan/model/state';
import type { LockHeld, Proof, StepReport } from '../plan/model/status';
import { blocks } from '../plan/model/steps';
import type { Step } from '../plan/model/steps';
import { previewUndo as previewOne, runStep, undoStep } from '../postgres/engine';
import { withSession } from '../postgres/session';
import { loadStep } from '../postgres/state/migrations';
import type { StepContext, StepOutcome, StepProgress, Target } from '../postgres/types';
import { resolveTarget } from '../worker/config';
import { Reporter } from './context';
import type { Tools } from './context';
import type { RunStepsArgs, Subject, UndoArgs, UndoPreview } from './types';

/** Each mode on each relation once, with its worst times: a ladder of a thousand rungs must not fill a history. */
function worstLocks(locks: readonly LockHeld[]): LockHeld[] {
  const worst = new Map<string, LockHeld>();
  for (const lock of locks) {
    const key = `${lock.relation} ${lock.mode}`;
    const seen = worst.get(key);
    worst.set(key, {
      relation: lock.relation,
      mode: lock.mode,
      waitedMs: Math.max(seen?.waitedMs ?? 0, lock.waitedMs),
      heldMs: Math.max(seen?.heldMs ?? 0, lock.heldMs),
    });
  }
  return [...worst.values()].slice(0, 30);
}

const blockedMs = (locks: readonly LockHeld[]): number =>
  locks
    .filter((lock) => ['writes', 'reads and writes'].includes(blocks(lock.mode)))
    .reduce((sum, lock) => sum + lock.heldMs, 0);

const loadSteps = (target: Target, { migration }: Subject, ids: readonly string[]): Promise<Step[]> =>
  withSession(target, { purpose: 'load', migration }, async (session) => {
    const steps: Step[] = [];
    for (const id of ids) steps.push(await loadStep(session, migration, id));
    return steps;
  });

type Runner = (context: StepContext) => Promise<StepOutcome>;

interface Round extends Subject {
  readonly ids: readonly string[];
  readonly options: StepOptionsText;
  readonly baselineMs: number | null;
}

function contextOf(round: Round, target: Target, step: Step, tools: Tools, reporter: Reporter): StepContext {
  const log = tools.log.child({ phase: step.phase, step: step.id });
  return {
    target,
    migration: round.migration,
    workflowId: tools.workflowId,
    step,
    options: stepOptions(round.options, round.baselineMs),
    signal: tools.signal,
    progress: (progress: StepProgress) => {
      const live: Live = { step: step.id, attempt: tools.attempt, ...progress };
      tools.beat(live);
      reporter.report(live);
      if (progress.lagBytes !== null)
        tools.deps.metrics.replicationLag.set({ database: round.database }, progress.lagBytes);
    },
    log: (level, message, fields) => log[level]({ ...fields }, message),
  };
}

function measure(step: Step, outcome: StepOutcome, tools: Tools): void {
  const { metrics } = tools.deps;
  if (outcome.status === 'already') return;
  metrics.stepDuration.observe({ phase: step.phase, action: step.action }, outcome.seconds);
  metrics.rows.inc({ operation: step.run.kind }, outcome.rows);
  for (const lock of outcome.locks) {
    metrics.lockWait.observe({ mode: lock.mode }, lock.waitedMs / 1_000);
    metrics.lockHeld.observe({ mode: lock.mode }, lock.heldMs / 1_000);
  }
  for (const [reason, ms] of Object.entries(outcome.throttledMs)) metrics.throttled.inc({ reason }, ms / 1_000);
  const differing = outcome.proofs.reduce((sum, proof) => sum + proof.differing, 0);
  if (differing > 0) metrics.differingRows.inc(differing);
}

async function each(round: Round, tools: Tools, run: Runner, status: string): Promise<StepsOutcome> {
  const target = resolveTarget(tools.deps.config, round.database);
  const reporter = new Reporter();
  const reports: StepReport[] = [];
  const proofs: Proof[] = [];
  const throttledMs: Record<string, number> = {};
  let blockedWritesMs = 0;
  for (const step of await loadSteps(target, round, round.ids)) {
    tools.signal.throwIfAborted();
    const startedAt = new Date().toISOString();
    const outcome = await run(contextOf(round, target, step, tools, reporter));
    measure(step, outcome, tools);
    tools.log.info(
      { phase: step.phase, step: step.id, status, durationMs: Math.round(outcome.seconds * 1_000), rows: outcome.rows },
      `${status} ${step.title}`,
    );
    reports.push({
      id: step.id,
      status,
      startedAt,
      endedAt: new Date().toISOString(),
      attempts: outcome.attempts,
      rows: outcome.rows,
      locks: worstLocks(outcome.locks),
    });
    proofs.push(...outcome.proofs);
    blockedWritesMs += blockedMs(outcome.locks);
    for (const [reason, ms] of Object.entries(outcome.throttledMs))
      throttledMs[reason] = (throttledMs[reason] ?? 0) + ms;
  }
  return { steps: reports, proofs, throttledMs, blockedWritesMs };
}

export const runSteps = (args: RunStepsArgs, tools: Tools): Promise<StepsOutcome> => each(args, tools, runStep, 'done');

export const undoSteps = (args: UndoArgs, tools: Tools): Promise<StepsOutcome> =>
  each({ ...args, baselineMs: null }, tools, undoStep, 'undone');

/** Which rows could not go back? Reads only. */
export async function previewUndo(args: UndoArgs, tools: Tools): Promise<UndoPreview> {
  const target = resolveTarget(tools.deps.config, args.database);
  const reporter = new Reporter();
  // One column may be asked about twice on the way back; the same row counts once.
  const found = new Map<string, { id: string; column: string; rows: number }>();
  for (const step of await loadSteps(target, args, args.ids)) {
    tools.signal.throwIfAborted();
    const proofs = await previewOne(contextOf({ ...args, baselineMs: null }, target, step, tools, reporter));
    for (const { column, remaining, differing } of proofs) {
      const rows = Math.max(remaining, differing, found.get(column)?.rows ?? 0);
      if (rows > 0) found.set(column, { id: step.id, column, rows });
    }
  }
  const steps = [...found.values()];
  return { rows: steps.reduce((sum, one) => sum + one.rows, 0), steps: steps.slice(0, 50) };
}
