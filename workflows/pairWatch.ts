/**
 * Beside the steps: the direction that replicates, watched from the end of the sync to the decommissioning, also while a gate or a pause waits. What is
 * wrong is shown where a person decides; a slot that is lost ends the way back, and is said so.
 */
import { keepBeside } from './beside';
import { failed } from './failure';
import { pairArgs, pairState } from './pairRun';
import type { Run } from './run';

const due = (run: Run): 'forward' | 'reverse' | null =>
  run.settled || run.state.phase === 'pause' ? null : pairState(run).direction;

/** Runs until the run ends or continues as new; rests while the change is taken back. */
export async function watchReplication(run: Run): Promise<void> {
  const pair = pairState(run);
  await keepBeside(run, {
    due: () => due(run),
    ask: () => {
      const direction = due(run) ?? 'forward';
      const args = { direction, step: run.state.phase, known: pair.trouble, maxMs: run.state.settings.watchMs };
      return run
        .ask('watchPair', { ...pairArgs(run), ...args }, `watch ${direction} replication`)
        .then((seen) => ({ ...seen, direction }));
    },
    take: ({ direction, problems, lagBytes, lagMs, lost }) => {
      pair.trouble = problems;
      pair.evidence['replication'] = { direction, lagBytes, lagMs, problems };
      if (lost && direction === 'reverse')
        pair.noWayBack = 'the slot of the way back is lost: blue lacks writes made on green';
    },
    lost: (error) => {
      pair.trouble = [`it cannot be watched: ${failed(error).code}`];
    },
  });
}
