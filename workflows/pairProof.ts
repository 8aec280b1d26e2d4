/** The proof of a blue-green: every row of the side that takes the writes is on the other one, compared while both live. */
import type { Side } from '../plan/model/traffic';
import { insist } from './back';
import { Back, causeOf } from './failure';
import { interruptible } from './interruptible';
import { pairArgs, pairState } from './pairRun';
import { persist } from './phases';
import type { Run } from './run';

/** Interruptible work that is tried again, given back or decided by a person, as the plan says. */
export const work = <T>(run: Run, name: string, fn: () => Promise<T>): Promise<T | 'closed' | null> =>
  persist(run, name, () => interruptible(run, fn));

/** Every row of the side that takes the writes is on the other. Throws Back when not. */
export async function proveRows(run: Run, from: Side, shielded = false): Promise<void> {
  const pair = pairState(run);
  if (pair.tables === 0) return;
  pair.tries += 1;
  const ask = () =>
    run.ask(
      'verifyPair',
      { ...pairArgs(run), from, what: 'verify', number: pair.tries },
      `compare every row, from ${from}`,
    );
  const done = shielded ? await insist(run, 'verification', ask, ['retry']) : await work(run, 'validate_green', ask);
  if (done === null || done === 'closed') return;
  pair.evidence['verified'] = { ...done };
  run.state.measured['verified'] = { tables: done.tables, rows: done.rows, seconds: done.seconds };
  if (!done.passed)
    throw new Back(
      causeOf('ProofFailed', `rows differ: ${done.errors.slice(0, 3).join('; ') || 'see pgshift.differences'}`),
    );
}
