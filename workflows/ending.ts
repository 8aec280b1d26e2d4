/** The run's last words: nothing may be begun any more, and who still waits for an answer gets one. */
import { allHandlersFinished, condition } from '@temporalio/workflow';
import type { RunState } from '../plan/model/state';
import type { Run } from './run';
import { nowIso } from './run';

export async function endRun(run: Run, status: RunState['status']): Promise<void> {
  run.settled = true;
  run.ended = true;
  run.state.endedAt = nowIso();
  run.state.step = null;
  run.state.waiting = null;
  run.show(status);
  run.ready = true;
  await condition(allHandlersFinished);
}
