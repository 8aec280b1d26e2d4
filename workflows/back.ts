/**
 * The way back: everything that was begun is taken back in reverse order, also what never happened. Runs shielded from cancel. In the
 * hold, rows that could not go back are counted first and a person is asked when there are any.
 */
import { ERRORS } from '../plan/model/errors';
import type { Cause, StepFact } from '../plan/model/state';
import type { RunStatus } from '../plan/model/status';
import { failed } from './failure';
import { askHelp, askPeople } from './gates';
import { openToAll } from './gateRules';
import type { Run } from './run';

const AT_ONCE = 25;
const subject = (run: Run) => ({ database: run.state.database, migration: run.state.name });

function optionsFor(run: Run) {
  const { throttle, lockTimeout, lockBudget, searchPath } = run.options();
  return { throttle, lockTimeout, lockBudget, searchPath };
}

/** Tries until it works, or a person leaves it out where that is possible. The way back is never given up silently. */
export async function insist<T>(
  run: Run,
  target: string,
  work: () => Promise<T>,
  takes: readonly ('retry' | 'skip')[] = ['retry', 'skip'],
): Promise<T | null> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const { code, message, hint } = failed(error);
      run.state.lastError = { code, message, hint };
      if ((await askHelp(run, target, takes, { code, message, hint })) === 'skip') return null;
      run.show('rolling_back');
    }
  }
}

/** Begun and not yet taken back, last first. */
const standing = (run: Run): readonly StepFact[] => (run.state.facts?.steps ?? []).slice(0, run.state.begun).reverse();

/** Which rows could not go back, as a sentence; null = all of them can. Their keys are listed. */
export async function lostOnTheWay(run: Run): Promise<string | null> {
  const s = run.state;
  const ids = standing(run)
    .filter((step) => step.undo)
    .map((step) => step.id);
  const preview = await insist(run, 'preview of the way back', () =>
    run.ask('previewUndo', { ...subject(run), ids, options: optionsFor(run) }, 'which rows could not go back'),
  );
  s.measured['cannotGoBack'] = preview?.rows ?? 'unknown';
  if (preview?.rows === 0) return null;
  const columns = preview?.steps.map((one) => `${one.column}: ${one.rows}`).join(', ') ?? 'not known';
  return `${preview?.rows ?? 'some'} rows have no valid value in the old shape (${columns}); their keys lie in pgshift.differences`;
}

/** After contract: asks when there are rows that could not go back. Answers false when a person wants it to stay. */
async function mayGoBack(run: Run): Promise<boolean> {
  const s = run.state;
  const reason = await lostOnTheWay(run);
  if (reason === null) return true;
  const { rollback: _, ...others } = s.inbox.gates;
  s.inbox = { ...s.inbox, gates: others };
  await askPeople(run, openToAll('rollback'), reason);
  return s.inbox.gates['rollback']?.verdict === 'approved';
}

/**
 * Takes back what stands, in chunks. Only before the first of them has gone back may a person leave it, and only in the hold: then the change stays
 * whole (answers false). Later the steps below rest on those above: leaving one out would break what clients use.
 */
async function undoAll(run: Run): Promise<boolean> {
  const s = run.state;
  let untouched = s.contractedAt !== null;
  for (let rest = standing(run); rest.length > 0; rest = standing(run)) {
    const chunk = rest.slice(0, untouched ? 1 : AT_ONCE);
    const ids = chunk.filter((step) => step.undo).map((step) => step.id);
    const first = ids[0];
    if (first !== undefined) {
      s.step = first;
      run.show('rolling_back');
      const title = ids.length === 1 ? `take back ${first}` : `take back ${first} to ${ids.at(-1) ?? ''}`;
      const work = () => run.ask('undoSteps', { ...subject(run), ids, options: optionsFor(run) }, title);
      const outcome = await insist(run, first, work, untouched ? ['retry', 'skip'] : ['retry']);
      if (!outcome) return false;
      untouched = false;
      s.steps = [...s.steps.filter((r) => !ids.includes(r.id)), ...outcome.steps];
    }
    const fixed = chunk.filter((step) => step.because !== null && s.steps.some((r) => r.id === step.id));
    if (fixed.length > 0) {
      const named = fixed.map((step) => `${step.id} (${step.because ?? ''})`);
      s.measured['cannotBeTakenBack'] = [...((s.measured['cannotBeTakenBack'] ?? []) as string[]), ...named];
    }
    s.begun -= chunk.length;
    s.done = Math.min(s.done, s.begun);
    s.step = null;
  }
  return true;
}

/** Steps that have no way back. */
export const leftBehind = (run: Run): readonly string[] =>
  (run.state.measured['cannotBeTakenBack'] ?? []) as readonly string[];

/** Everything that stands is taken back and recorded so. Nothing interrupts it. Answers false when a person left it as it is. */
export async function takeBack(run: Run, cause: Cause): Promise<boolean> {
  const s = run.state;
  run.settled = true;
  run.show('rolling_back');
  if (!(await undoAll(run))) return false;
  // A cancel in the middle of preflight may have come after the claim.
  if ((s.marks.includes('preparing') || s.marks.includes('prepared')) && s.control?.mode !== 'dry-run') {
    const { code, message } = cause;
    const finished = await insist(run, 'record', () =>
      run.ask(
        'finish',
        {
          ...subject(run),
          status: leftBehind(run).length === 0 ? 'rolled_back' : 'failed',
          strict: false,
          cause: { code, message },
          of: s.kind === 'rollback' ? 'ended' : 'own',
        },
        'record that it was taken back',
      ),
    );
    if (finished) s.catalogDiff = finished.catalogDiff;
    if (finished) s.measured = { ...s.measured, ...finished.measured };
  }
  return true;
}

/**
 * Takes the change back. Answers false when it stays after all (a person rejected the rollback because rows would be lost, or the old
 * shape is gone already).
 */
export async function goBack(run: Run, cause: Cause): Promise<boolean> {
  const s = run.state;
  run.settled = true;
  s.cause = cause;
  s.waiting = null;
  s.live = null;
  s.step = null;
  const before = s.status;
  run.show('rolling_back');
  const begun = (s.facts?.steps ?? []).slice(0, s.begun);
  const gone = begun.some((step) => step.phase === 'cleanup');
  // From the first swap on clients may have written what only the new shape holds.
  const swapped = s.contractedAt !== null || begun.some((step) => step.phase === 'contract');
  if (!gone && (!swapped || (await mayGoBack(run))) && (await takeBack(run, cause))) return true;
  s.lastError = null;
  stay(run, before);
  return false;
}

/** It stays after all. What asked for the way back is answered: a gate that was rejected may be decided anew. */
export function stay(run: Run, before: RunStatus): void {
  const s = run.state;
  s.cause = null;
  s.step = null;
  const gates = Object.fromEntries(Object.entries(s.inbox.gates).filter(([, gate]) => gate.verdict !== 'rejected'));
  s.inbox = { ...s.inbox, rollback: null, gates };
  run.tripped = null;
  run.settled = false;
  run.show(before === 'rolling_back' ? 'running' : before);
}

export const cancelCause = (): Cause => ({
  code: 'RolledBack',
  message: 'cancelled',
  hint: ERRORS.RolledBack.hint,
  by: null,
  cancelled: true,
});
