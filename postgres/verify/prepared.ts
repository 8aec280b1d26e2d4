/** Everything a phase of a verification begins with: sessions, the self-test, the pairs, and the fence of its step. */
import { Problem } from '../../plan/model/errors';
import type { VerifyFinding } from '../../plan/model/validation';
import type { Attempt } from '../fence';
import { beginAttempt, fenceBroken, finishAttempt } from '../fence';
import type { Session } from '../session';
import { openSession } from '../session';
import type { VerifyContext } from './context';
import type { Pair } from './pairs';
import { pairTables } from './pairs';
import { selfTest } from './selfTest';
import type { SessionPair } from './session';
import { closePair, openPair } from './session';
import type { Shape } from './shapes';
import { identityOf, readShapes } from './shapes';

export interface Prepared {
  readonly sessions: SessionPair;
  readonly pairs: readonly Pair[];
  readonly findings: readonly VerifyFinding[];
  readonly source: readonly Shape[];
  readonly target: readonly Shape[];
}

/** @throws Problem NoSuchObject, SameDatabase, PreflightFailed, Unreachable, ... */
export async function prepare(
  context: Pick<VerifyContext, 'plan' | 'target'>,
  sessions: SessionPair,
): Promise<Prepared> {
  const [here, there] = await Promise.all([identityOf(sessions.source), identityOf(sessions.target)]);
  if (there.recovering)
    throw new Problem(
      'PreflightFailed',
      `${context.target.name} is a standby: verification keeps its state in the target`,
      {
        hint: 'name the primary as target, or swap the two sides',
      },
    );
  const test = await selfTest(sessions);
  const [source, target] = await Promise.all([readShapes(sessions.source), readShapes(sessions.target)]);
  const sameDatabase = here.same === there.same;
  const { pairs, findings } = pairTables({ plan: context.plan, source, target, sameDatabase, test });
  return { sessions, pairs, findings, source, target };
}

export interface Phase extends Prepared {
  /** On the target: checkpoints and differences. */
  readonly state: Session;
  readonly attempt: Attempt;
}

/** Runs one phase under its fence; answers null when it is done already, or there is nothing for it to do. Every session is closed at the end. */
export async function withPhase<T>(
  context: VerifyContext,
  stepId: 'compare' | 'recheck' | 'repair' | 'checks',
  work: (phase: Phase) => Promise<T>,
  needed: (state: Session) => Promise<boolean> = () => Promise.resolve(true),
): Promise<T | null> {
  const { name } = context.plan;
  const state = await openSession(context.target, { purpose: stepId, migration: name });
  try {
    const ref = { migration: name, stepId, phase: 'validate' } as const;
    const begun = await beginAttempt(state, ref, 'do', context.signal);
    if (begun.state === 'already') return null;
    if (!(await needed(state))) {
      if (!(await finishAttempt(state, begun.attempt, { status: 'done', result: {} })))
        throw fenceBroken(begun.attempt);
      return null;
    }
    const sessions = await openPair(context.source, context.target, name, stepId);
    try {
      return await work({ ...(await prepare(context, sessions)), state, attempt: begun.attempt });
    } finally {
      await closePair(sessions);
    }
  } finally {
    await state.close();
  }
}
