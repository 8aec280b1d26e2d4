/** After the switch: watched, held with blue in step, and then the way back is given up. Keeps true: the clocks run on through a pause, only their end waits. */
import type { RunStatus } from '../plan/model/status';
import { parseDuration } from '../plan/model/values';
import { insist } from './back';
import { pairArgs, pairState, seenOf, timed } from './pairRun';
import { drainDecisions } from './recorder';
import type { Run } from './run';
import { nowIso } from './run';

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

/** The last step: nothing interrupts it, and what fails is tried until it works. */
export async function decommission(run: Run): Promise<void> {
  const s = run.state;
  const pair = pairState(run);
  run.settled = true;
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
  if (pair.control.decommission === 'keep') return;
  await drainDecisions(run);
  s.marks.push('blue:gone');
  const removed = await insist(
    run,
    'decommission',
    () => run.ask('removeBlue', pairArgs(run), `${pair.control.decommission} blue`),
    ['retry', 'skip'],
  );
  s.measured['blue'] = removed?.blue ?? 'left as it is';
}
