/**
 * Work that a person, the clock or a condition may interrupt: cancelled, waited for, and begun again where its progress in the database says.
 * No timer unless one is needed: to be interruptible costs no events.
 */
import { CancellationScope, condition, isCancellation } from '@temporalio/workflow';
import { parseDuration } from '../plan/model/values';
import { isTimeout } from './failure';
import type { Run } from './run';

type Interrupt = 'back' | 'pause' | 'tune' | 'window' | 'timeout';

/** The run's own `timeout`, not an activity's. */
export class TimedOut extends Error {
  override readonly name = 'TimedOut';
}

/**
 * Runs work that may be interrupted and begun again (its progress lies in the database). Interrupted work is waited for.
 * `closesAtMs`: the window's end, for work that pauses then. Answers 'closed' when the window closed. Work that is a wait (`timed` false) does not count for the plan's
 * timeout. @throws Back, or what the work throws.
 */
export async function interruptible<T>(
  run: Run,
  fn: () => Promise<T>,
  closesAtMs: number | null = null,
  timed = true,
): Promise<T | 'closed'> {
  for (;;) {
    await run.clear();
    const tunings = run.state.inbox.tunings;
    let why: Interrupt | null = null;
    const interrupt = (): Interrupt | null => {
      if (run.wantsBack()) return 'back';
      if (run.isPaused()) return 'pause';
      return run.state.inbox.tunings === tunings ? null : 'tune';
    };
    const scope = new CancellationScope();
    const watch = new CancellationScope();
    const watching = watch
      .run(async () => {
        why = await firstInterrupt(run, interrupt, closesAtMs, timed ? run.options().timeout : undefined);
        if (why) scope.cancel();
      })
      .catch((error: unknown) => {
        if (!isCancellation(error)) throw error;
      });
    const began = Date.now();
    try {
      return await scope.run(fn);
    } catch (error) {
      if (why === null || !(isCancellation(error) || isTimeout(error))) throw error;
      if (why === 'window') return 'closed';
      if (why === 'timeout') {
        run.state.spentMs = 0;
        throw new TimedOut();
      }
    } finally {
      if (timed) run.state.spentMs += Date.now() - began;
      watch.cancel();
      await watching;
    }
  }
}

/** No timer unless the plan has a timeout or the window closes: a short step costs no events for being interruptible. */
async function firstInterrupt(
  run: Run,
  interrupt: () => Interrupt | null,
  closesAtMs: number | null,
  timeout: string | undefined,
): Promise<Interrupt | null> {
  const left = timeout === undefined ? null : Math.max(1, (parseDuration(timeout) ?? 0) - run.state.spentMs);
  const closes = closesAtMs === null ? null : Math.max(1, closesAtMs - Date.now());
  if (left === null && closes === null) {
    await condition(() => interrupt() !== null);
    return interrupt();
  }
  const first = Math.min(left ?? Infinity, closes ?? Infinity);
  const woken = await condition(() => interrupt() !== null, first, {
    summary: first === left ? 'timeout of the run' : 'the window closes',
  });
  if (woken) return interrupt();
  return first === left ? 'timeout' : 'window';
}
