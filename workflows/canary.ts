/**
 * Workflow `canary`: the road of a blue-green (blueGreen.ts) with stages before and after its switch (stages.ts). One JSON object in; people on green a few at a
 * time, then the writes, or everything as it was.
 */
import { makeContinueAsNewFunc } from '@temporalio/workflow';
import type { RunState } from '../plan/model/state';
import { isObject } from '../plan/model/validate';
import { validateCanary } from '../plan/model/validateCanary';
import { beginPair, PAIR_ROAD } from './blueGreen';
import { Run } from './run';
import type { RunResult } from './schemaMigration';
import { runToItsEnd } from './schemaMigration';

/** The workflow's type says the kind where the plan does not. */
const withKind = (start: unknown): unknown => (isObject(start) ? { kind: 'canary', ...start } : start);

/** One argument for people: the plan. The second one is the state that a continue-as-new passes on. */
export async function canary(start: unknown, resumed?: RunState): Promise<RunResult> {
  const given = withKind(start);
  const state = resumed ?? beginPair(given, validateCanary);
  const again = makeContinueAsNewFunc<typeof canary>();
  const run = new Run(state, (next) => again(given, next));
  return runToItsEnd(run, given, PAIR_ROAD);
}
