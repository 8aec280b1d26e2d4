/**
 * What each stage of a canary says, as it is known: the report's `stages`. Keeps true: a stage that is ended by a metric names that metric with its values; one that
 * is taken back is never called passed. Nothing here waits or asks.
 */
import type { CanaryState, StageReport } from '../plan/model/canary';
import { judgedNow, metricsOf, stageOf, verdictOf } from '../plan/model/canary';
import type { ConditionState, Judgement, Watched } from '../plan/model/health';
import type { RunState } from '../plan/model/state';
import type { Run } from './run';
import { nowIso } from './run';

export function canaryOf(run: Run): CanaryState {
  if (!run.state.canary) throw new Error('a canary without its stages');
  return run.state.canary;
}

/** What is known of the stage that runs, in its place of the report. */
export function report(run: Run, of: Partial<StageReport>): void {
  const canary = canaryOf(run);
  const stage = stageOf(canary);
  if (stage === null) return;
  const { conditions, baselines } = run.state;
  const known = canary.stages.find(({ name }) => name === stage.name);
  const fresh = { startedAt: nowIso(), endedAt: null, verdict: null, routers: null, skipped: false };
  const next: StageReport = {
    ...(known ?? { ...fresh, name: stage.name, percent: stage.percent, keys: stage.keys.length, metrics: [] }),
    ...(canary.judging ? { metrics: metricsOf(stage.analysis, conditions, baselines) } : {}),
    ...of,
  };
  canary.stages = [...canary.stages.filter(({ name }) => name !== stage.name), next];
}

/** A condition that ends the run while a stage is under way: which, with which values, stays in its report. */
export function noteTripped(run: Run, condition: Watched, state: ConditionState | undefined): void {
  const { canary } = run.state;
  if (!canary || stageOf(canary) === null || !underWay(canary)) return;
  report(run, {});
  const here = canary.stages.find(({ name }) => name === stageOf(canary)?.name);
  const others = (here?.metrics ?? []).filter(({ name }) => name !== condition.name);
  const metrics = [...others, ...metricsOf([condition], state ? { [condition.name]: state } : {}, run.state.baselines)];
  const verdict: Judgement = state?.last === 'error' ? 'error' : 'failed';
  report(run, condition.onFail === 'pause' ? { metrics } : { metrics, verdict, endedAt: nowIso() });
}

const underWay = (canary: CanaryState): boolean =>
  canary.stages.some(({ name, endedAt }) => name === stageOf(canary)?.name && endedAt === null);

/** The stage that a cause belongs to, for people. */
export const inStage = ({ canary }: RunState): string => {
  const stage = canary && underWay(canary) ? stageOf(canary) : null;
  return stage === null ? '' : `stage ${stage.name}: `;
};

/** A run that is taken back ends its stage, too: not passed, whatever was measured. */
export function endStage(run: Run): void {
  const { canary } = run.state;
  if (!canary) return;
  if (underWay(canary)) report(run, { endedAt: nowIso(), verdict: worst(run) });
  canary.judging = false;
}

function worst(run: Run): Judgement {
  const verdict = verdictOf(judgedNow(run.state.canary), run.state.conditions);
  return verdict === 'passed' ? 'inconclusive' : verdict;
}
