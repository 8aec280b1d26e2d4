/**
 * An activity that runs beside the steps for as long as something is so: begun, cancelled and begun again by a condition, never by the steps themselves.
 * Keeps true: it is over before the run continues as new; what it found is taken also when it was told to stop.
 */
import { CancellationScope, condition } from '@temporalio/workflow';
import { isCancellation } from './failure';
import type { Run } from './run';

export interface Beside<T> {
  /** Is it wanted now? What it answers is part of what runs: another answer ends it and begins it anew. null = no. */
  readonly due: () => string | null;
  readonly ask: () => Promise<T>;
  readonly take: (seen: T) => void;
  readonly lost: (error: unknown) => void;
}

const over = (run: Run): boolean => run.draining || run.ended;
/** Before it is begun again after it failed for good. */
const REST_MS = 5_000;

/** Runs until the run ends or continues as new. */
export async function keepBeside<T>(run: Run, of: Beside<T>): Promise<void> {
  for (;;) {
    await condition(() => over(run) || of.due() !== null);
    if (over(run)) return;
    await once(run, of);
  }
}

async function once<T>(run: Run, { due, ask, take, lost }: Beside<T>): Promise<void> {
  const wanted = due();
  if (wanted === null) return;
  const scope = new CancellationScope();
  run.beside += 1;
  let ended = false;
  let rests = false;
  const stop = condition(() => ended || over(run) || due() !== wanted).then(() => scope.cancel());
  try {
    take(await scope.run(ask));
    run.show();
  } catch (error) {
    const failed = !isCancellation(error);
    if (failed) lost(error);
    // What failed when it was told to stop is not begun again at once anyway.
    rests = failed && due() === wanted;
  } finally {
    ended = true;
    run.beside -= 1;
    await stop;
  }
  if (rests) await condition(() => over(run), REST_MS);
}
