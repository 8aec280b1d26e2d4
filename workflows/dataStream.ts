/**
 * What goes on beside the phases of a data migration once its rows are copied: the stream of changes, or the passes of an increment. Keeps true: one
 * activity at a time reads the source's log; it stops for a pause, a tuning, a continue-as-new and the way back, and all of these wait until it
 * has stopped; a change that cannot be applied holds the stream and nothing else.
 */
import { CancellationScope, condition } from '@temporalio/workflow';
import type { HeldChange } from '../activities/types';
import { nextRun } from '../plan/model/dataModes';
import { commandsFor } from '../plan/model/render';
import type { RunState } from '../plan/model/state';
import { copyArgs, copyState } from './dataCopy';
import { Back, causeOf, failed, isCancellation } from './failure';
import { passGate } from './gates';
import { interruptible } from './interruptible';
import { persist } from './phases';
import type { Run } from './run';
import { nowIso } from './run';

/** Everything is copied and built: from here on changes are followed. */
const BUILT = 'phase:build';
/** A person let it end: no new activity begins beside the phases. */
const ENDING = 'stream:ending';
const ENDED = 'stream:ended';

const has = (run: Run, mark: string): boolean => run.state.marks.includes(mark);
const held = (run: Run): HeldChange | null => copyState(run).held ?? null;
const mode = (run: Run) => copyState(run).control;

export const goesOnBeside = (run: Run): boolean =>
  mode(run).streaming !== undefined || mode(run).incremental?.every !== undefined;

const over = (run: Run): boolean => run.settled || run.draining || has(run, ENDED);
const wanted = (run: Run): boolean =>
  has(run, BUILT) && !has(run, ENDING) && !run.isPaused() && held(run) === null && run.wantsBack() === null;

/** Runs until the run is settled or continues as new, beside the phases. */
export async function goBeside(run: Run): Promise<void> {
  if (!goesOnBeside(run)) return;
  for (;;) {
    await condition(() => over(run) || wanted(run) || answered(run) !== null);
    if (over(run)) return;
    if (answered(run) !== null) await takeAnswer(run);
    else if (mode(run).streaming) await once(run, () => followOnce(run));
    else if (await timeForPass(run)) await once(run, () => passOnce(run));
  }
}

/** One activity, cancelled and waited for when it is not wanted any more. */
async function once(run: Run, work: () => Promise<void>): Promise<void> {
  const scope = new CancellationScope();
  const { tunings } = run.state.inbox;
  run.following = true;
  const stopped = condition(
    () => !run.following || over(run) || !wanted(run) || run.state.inbox.tunings !== tunings,
  ).then(() => scope.cancel());
  try {
    await scope.run(work);
  } catch (error) {
    if (!isCancellation(error) && !over(run)) giveUp(run, error);
  } finally {
    run.following = false;
    await stopped;
  }
}

/** What Temporal's retries do not mend: taken back, or a person looks at it and says resume. */
function giveUp(run: Run, error: unknown): void {
  const { code, message, hint } = failed(error);
  const s = run.state;
  s.lastError = { code, message, hint };
  if (s.control?.onFailure === 'pause') s.unwell = `following the source failed: ${code}: ${message}`;
  else run.tripped = { code, message, hint, by: null, cancelled: false };
  run.show();
}

async function followOnce(run: Run): Promise<void> {
  const done = await run.ask('followStream', followArgs(run, false), 'follow the changes of the source');
  if (done.held) hold(run, done.held);
}

const followArgs = (run: Run, drain: boolean) => ({
  ...copyArgs(run),
  drain,
  maxMs: run.state.settings.watchMs,
});

// A change that cannot be applied --------------------------------------------------------------------------------------

function hold(run: Run, change: HeldChange): void {
  const { table, code, message } = change;
  const c = copyState(run);
  c.held = change;
  c.quarantined = [
    ...c.quarantined.filter((one) => one.table !== table),
    { no: 0, table, code, message, skipped: false },
  ];
  run.state.lastError = {
    code,
    message,
    hint: 'its key lies in pgshift.quarantine; mend the target and retry, or skip it',
  };
  run.show();
}

function answered(run: Run): 'retry' | 'skip' | null {
  const change = held(run);
  return (change && run.state.inbox.answers?.[change.table]) ?? null;
}

async function takeAnswer(run: Run): Promise<void> {
  const change = held(run);
  const verdict = answered(run);
  if (change === null || verdict === null) return;
  const { [change.table]: _, ...rest } = run.state.inbox.answers ?? {};
  run.state.inbox = { ...run.state.inbox, answers: rest };
  if (verdict === 'skip') {
    const asked = await run
      .ask('skipChange', { ...copyArgs(run), lsn: change.lsn }, `leave out what ${change.table} refuses`)
      .catch((error: unknown) => error);
    if (asked instanceof Error) return giveUp(run, asked);
  }
  const c = copyState(run);
  c.held = null;
  c.quarantined = c.quarantined.filter((one) => one.table !== change.table || one.no !== 0);
  run.state.lastError = null;
  run.show();
}

async function untilApplied(run: Run): Promise<void> {
  for (let change = held(run); change !== null; change = held(run)) {
    const { table, code, message } = change;
    await run.wait({
      status: 'paused',
      waiting: {
        type: 'person',
        gate: null,
        since: nowIso(),
        until: null,
        reason: `a change of ${table} cannot be applied: ${code}: ${message}`,
        evidence: { table, code },
        commands: ['retry', 'skip'].flatMap((verb) => commandsFor(run.state, verb, { target: table })),
      },
      until: () => held(run) === null,
    });
    run.show('running');
  }
}

// Passes of an increment -----------------------------------------------------------------------------------------------

async function timeForPass(run: Run): Promise<boolean> {
  const every = mode(run).incremental?.every ?? '';
  const at = nextRun(every, Date.now());
  if (at === null) {
    await condition(() => over(run) || !wanted(run));
    return false;
  }
  const stopped = await run.until(
    () => over(run) || !wanted(run),
    at - Date.now(),
    `next pass at ${new Date(at).toISOString()}`,
  );
  return !stopped;
}

async function passOnce(run: Run): Promise<void> {
  const { rows, tables, behind, bad = 0 } = await run.ask('incrementPass', copyArgs(run), 'read what is new');
  const before = (run.state.measured['increments'] ?? { passes: 0, rows: 0 }) as {
    passes: number;
    rows: number;
    bad?: number;
  };
  const aside = (before.bad ?? 0) + bad;
  run.state.measured['increments'] = {
    passes: before.passes + 1,
    rows: before.rows + rows,
    tables,
    behind,
    ...(aside > 0 ? { bad: aside } : {}),
  };
  run.show();
}

// The phases -----------------------------------------------------------------------------------------------------------

/** Phase follow: until a person (or a metric) says that it may end. */
export async function follow(run: Run): Promise<void> {
  const { streaming, incremental } = mode(run);
  if (!streaming && !incremental) return;
  // A snapshot that is held for weeks would keep the source from cleaning up.
  await persist(run, 'follow', () => run.ask('closeSnapshot', copyArgs(run), 'let the snapshot go'));
  await passGate(run, 'finish');
  if (streaming) return untilApplied(run);
  await stopBeside(run);
  await persist(run, 'follow', () => interruptible(run, () => passOnce(run)));
}

/** No activity beside the phases any more, and none begins. */
async function stopBeside(run: Run): Promise<void> {
  if (!has(run, ENDING)) run.state.marks.push(ENDING);
  await condition(() => !run.following);
}

/** Of the way back: what runs beside has ended. */
export const besideOver = (run: Run): Promise<void> => condition(() => !run.following).then(() => undefined);

/** Phase verify of what went on after its copy: row by row, beside the stream. */
export async function verifyLive(run: Run): Promise<void> {
  const s = run.state;
  if (mode(run).verify === 'none') return;
  await untilApplied(run);
  const verified = await persist(run, 'verify', () =>
    interruptible(run, () => run.ask('verifyStream', copyArgs(run), 'compare every row, behind the stream')),
  );
  if (verified === null || verified === 'closed') return;
  s.proof = proofOf(verified.shown);
  s.measured['verified'] = { tables: verified.tables, rows: verified.rows, differing: verified.differing };
  if (verified.warnings) s.measured['warnings'] = verified.warnings;
  if (verified.problems.length > 0)
    throw new Back(
      causeOf('ProofFailed', `the target differs from the source: ${verified.problems.slice(0, 5).join('; ')}`),
    );
}

const proofOf = (
  tables: readonly {
    readonly table: string;
    readonly sourceRows: number;
    readonly targetRows: number;
    readonly ranges: number;
    readonly fingerprintSource: string;
    readonly fingerprintTarget: string;
    readonly equal: boolean;
    readonly differing: number;
  }[],
): RunState['proof'] =>
  tables.map((one) => ({
    table: one.table,
    column: '*',
    rows: one.targetRows,
    remaining: 0,
    ranges: one.ranges,
    fingerprintOld: one.fingerprintSource,
    fingerprintNew: one.fingerprintTarget,
    equal: one.equal,
    differing: one.differing,
  }));

/** Phase finish: everything that the source has now, sequences, and nothing of ours left there. */
export async function endFollowing(run: Run): Promise<void> {
  const { streaming, incremental } = mode(run);
  if ((!streaming && !incremental) || has(run, ENDED)) return;
  await stopBeside(run);
  for (let reached = streaming === undefined; !reached;) {
    await untilApplied(run);
    const done = await persist(run, 'finish', () =>
      interruptible(run, () => run.ask('followStream', followArgs(run, true), 'apply the last changes')),
    );
    if (done === null || done === 'closed') continue;
    // What goes beside takes the answer.
    if (done.held) hold(run, done.held);
    reached = done.verdict === 'reached' || done.verdict === 'ended';
  }
  if (streaming) {
    const ended = await persist(run, 'finish', () =>
      run.ask('endStream', copyArgs(run), 'sequences; drop slot and publication'),
    );
    run.state.measured['stream'] = ended;
  }
  run.state.marks.push(ENDED);
}
