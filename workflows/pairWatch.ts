/**
 * Beside the steps: the direction that replicates, watched from the end of the sync to the decommissioning, also while a gate or a pause waits. What is
 * wrong is shown where a person decides; a slot that is lost ends the way back, and is said so.
 */
import { CancellationScope, condition } from '@temporalio/workflow';
import { failed, isCancellation } from './failure';
import { pairArgs, pairState } from './pairRun';
import type { Run } from './run';

const over = (run: Run): boolean => run.draining || run.ended;
const due = (run: Run): boolean => !run.settled && pairState(run).direction !== null && run.state.phase !== 'pause';

/** Runs until the run ends or continues as new; rests while the change is taken back. */
export async function watchReplication(run: Run): Promise<void> {
  for (;;) {
    await condition(() => over(run) || due(run));
    if (over(run)) return;
    await watchOnce(run);
  }
}

async function watchOnce(run: Run): Promise<void> {
  const pair = pairState(run);
  const { direction } = pair;
  if (direction === null) return;
  const scope = new CancellationScope();
  run.beside += 1;
  let ended = false;
  const stop = condition(() => ended || over(run) || !due(run) || pair.direction !== direction).then(() =>
    scope.cancel(),
  );
  try {
    const seen = await scope.run(() =>
      run.ask(
        'watchPair',
        { ...pairArgs(run), direction, step: run.state.phase, known: pair.trouble, maxMs: run.state.settings.watchMs },
        `watch ${direction} replication`,
      ),
    );
    pair.trouble = seen.problems;
    pair.evidence['replication'] = { direction, lagBytes: seen.lagBytes, lagMs: seen.lagMs, problems: seen.problems };
    if (seen.lost && direction === 'reverse')
      pair.noWayBack = 'the slot of the way back is lost: blue lacks writes made on green';
    run.show();
  } catch (error) {
    if (!isCancellation(error)) pair.trouble = [`it cannot be watched: ${failed(error).code}`];
  } finally {
    ended = true;
    run.beside -= 1;
    await stop;
  }
}
