/** Small changes that want strong locks, outside any plan: each try waits briefly, steps back, and comes again (rule 3). There is no last try without a timeout. */
import { Problem } from '../../plan/model/errors';
import { pause } from '../ladder';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { isLockProblem } from '../toProblem';

export interface Patience {
  /** Of one lock. */
  readonly lockTimeoutMs: number;
  /** Of all tries together. */
  readonly budgetMs: number;
  readonly signal: AbortSignal;
}

const FIRST_MS = 50;
const LONGEST_MS = 5_000;

/** One transaction, tried until it gets its locks. `what` is for people. Throws LockBudgetSpent, AbortError, and whatever `work` throws. */
export async function patiently<T>(
  session: Session,
  what: string,
  { lockTimeoutMs, budgetMs, signal }: Patience,
  work: () => Promise<T>,
): Promise<T> {
  const until = performance.now() + budgetMs;
  for (let sleepMs = FIRST_MS; ; sleepMs = Math.min(sleepMs * 2, LONGEST_MS)) {
    try {
      return await inTransaction(session, async () => {
        await session.run(`SET LOCAL lock_timeout = ${Math.max(1, Math.ceil(lockTimeoutMs))}`);
        return work();
      });
    } catch (error) {
      if (!isLockProblem(error)) throw error;
      if (performance.now() + sleepMs > until)
        throw new Problem(
          'LockBudgetSpent',
          `${session.name}: ${what}: the lock could not be had within ${Math.round(budgetMs / 1000)} s`,
        );
    }
    await pause(sleepMs * (0.5 + Math.random()), signal);
  }
}
