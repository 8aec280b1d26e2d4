/** After the switch: watched, held with blue in step, and then the way back is given up. Keeps true: the clocks run on through a pause, only their end waits. */
import { CancellationScope } from '@temporalio/workflow';
import type { RunStatus } from '../plan/model/status';
import { parseDuration } from '../plan/model/values';
import { insist } from './back';
import { pairArgs, pairState, seenOf, timed } from './pairRun';
import { drainDecisions } from './recorder';
import type { Run } from './run';
import { nowIso } from './run';
import { archiveBlue, untilUnused } from './unused';

const endedEarly =
  ({ state }: Run) =>
  (): boolean =>
    state.phase === 'hold' && state.inbox.endHold !== null;

export async function monitor(run: Run): Promise<void> {
  const ms = parseDuration(pairState(run).control.monitor) ?? 0;
  const since = run.state.opened['monitor'] ?? nowIso();
  run.state.opened['monitor'] = since;
  await dwell(run, () => Date.parse(since) + ms, 'the monitoring ends');
}

/** Until the time is over (a tuning may change it), or a person ends it early; a pause waits for its end. */
export async function dwell(
  run: Run,
  ends: () => number,
  summary: string,
  { status = 'holding', early = endedEarly(run) }: { readonly status?: RunStatus; readonly early?: () => boolean } = {},
): Promise<void> {
  const s = run.state;
  for (;;) {
    if ((early() || ends() <= Date.now()) && !run.isPaused()) return;
    const tunings = s.inbox.tunings;
    const paused = run.isPaused();
    await run.wait({
      status,
      waiting: run.waitsForResume(),
      until: () => (early() && !run.isPaused()) || s.inbox.tunings !== tunings || run.isPaused() !== paused,
      timeoutMs: paused && ends() <= Date.now() ? null : Math.max(1, ends() - Date.now()),
      summary,
    });
  }
}

export async function hold(run: Run): Promise<void> {
  const pair = pairState(run);
  pair.heldSince ??= nowIso();
  await dwell(run, () => run.holdEnds() ?? 0, 'the hold ends');
}

const STAYS = 'blue:stays';
const OVER = 'blue:over';
const LEFT = 'left as it is';

/**
 * The last step. First whoever still uses a blue that is to go is waited for, with the way back as it was; then nothing interrupts it, not even a cancel, and
 * what fails is tried until it works. May run again from the beginning: what was done is in the marks.
 */
export async function decommission(run: Run): Promise<void> {
  const s = run.state;
  if (s.marks.includes(OVER)) return;
  const removes = pairState(run).control.decommission !== 'keep';
  if (removes && !s.marks.includes('finished') && !s.marks.includes(STAYS) && !(await untilUnused(run, false)))
    s.marks.push(STAYS);
  run.settled = true;
  await CancellationScope.nonCancellable(async () => {
    if (!s.marks.includes('finished')) await giveUpBack(run);
    if (removes && !s.marks.includes(STAYS)) await remove(run);
    s.marks.push(OVER);
  });
}

async function giveUpBack(run: Run): Promise<void> {
  const s = run.state;
  const pair = pairState(run);
  pair.noWayBack = 'the way back was given up with the decommissioning';
  run.show('running');
  const ended = await insist(
    run,
    'decommission',
    () => run.ask('decommission', pairArgs(run), 'give up the way back'),
    ['retry'],
  );
  pair.direction = null;
  s.measured['blue'] = ended?.blue ?? '';
  await timed(run, 'decommission', () => Promise.resolve(ended), seenOf);
  await run.ask(
    'finish',
    { database: s.database, migration: s.name, status: 'completed', strict: false, cause: null, of: 'own' },
    'record that it is completed',
  );
  s.marks.push('finished');
}

/** When nobody uses it, and after it was archived. */
async function remove(run: Run): Promise<void> {
  const s = run.state;
  if (!(await archiveBlue(run)) || !(await untilUnused(run, true))) {
    s.measured['blue'] = LEFT;
    return;
  }
  run.show('running');
  await drainDecisions(run);
  s.marks.push('blue:gone');
  const removed = await insist(
    run,
    'decommission',
    () => run.ask('removeBlue', pairArgs(run), `${pairState(run).control.decommission} blue`),
    ['retry', 'skip'],
  );
  s.measured['blue'] = removed?.blue ?? LEFT;
}
