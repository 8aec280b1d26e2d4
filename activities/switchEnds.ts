/**
 * The two ends of a switch: forward after the lift, back before it. Keeps true: either is right when any part of it was done before, by whomever; neither
 * is given up by the budget, since clients wait.
 */
import { Problem } from '../plan/model/errors';
import { otherSide } from '../plan/model/traffic';
import { crashPoint } from '../postgres/crashPoints';
import type { Session } from '../postgres/session';
import { inTransaction } from '../postgres/session';
import { restoreConnect } from '../postgres/switch/connect';
import { takeBack } from '../postgres/switch/fence';
import { readGuard } from '../postgres/switch/guard';
import { directionFrom } from '../postgres/switch/names';
import { activate, dropDirection } from '../postgres/switch/replicate';
import { fencingOf } from './blueGreen';
import { must } from './blueGreenReady';
import type { Tools } from './context';
import type { OpenPair } from './pairSessions';
import type { Parts } from './switchParts';
import type { SwitchArgs, SwitchOutcome } from './types';

/** What is done after the lift, or to take back: outside of the budget, and never given up by it. */
const AFTER_MS = 10_000;

/** A write to a row of ours that no direction carries. */
async function probe(session: Session, id: string): Promise<void> {
  await inTransaction(session, async () => {
    await session.run('SET LOCAL synchronous_commit = on');
    const rows = await session.run(
      `UPDATE pgshift.guard SET updated_at = clock_timestamp() WHERE id = $1 AND writable`,
      [id],
    );
    if (rows !== 1) throw new Problem('FenceBroken', `${session.name}: does not take writes`);
  });
}

export interface Running {
  readonly open: OpenPair;
  readonly args: SwitchArgs;
  readonly tools: Tools;
  readonly parts: Parts;
}

/** After the lift: clients lead to the other side and go on. Right when any of it was done before. */
export async function goForward({ open, args, parts }: Running, epoch: number): Promise<void> {
  const { both, traffic, pair } = open;
  const to = otherSide(args.from);
  const call = (what: string) =>
    open.call(`${args.purpose}/${args.number}/${what}`, AFTER_MS, {
      token: epoch,
      signal: new AbortController().signal,
    });
  await parts.run('switch_traffic', async () => {
    // CONNECT first: clients come in the moment they are pointed there.
    await restoreConnect(both[to], must(await readGuard(both[to], pair.migration), both[to], pair.migration));
    await traffic.point(to, call('point'));
  });
  crashPoint('flip.after', args.purpose);
  await parts.run('probe', async () => {
    await probe(both[to], pair.migration);
    const state = await traffic.status(call('status'));
    if (state.target !== to) throw new Problem('TrafficFailed', state.because ?? `clients do not lead to ${to}`);
  });
  await parts.run('resume', () => traffic.resume(call('resume')));
  crashPoint('resume.after', args.purpose);
}

/** Nothing was lifted: the side that it came from takes writes, clients go on there, and the sync goes on. Right when any of it was done before. */
export async function goBack({ open, args }: Running): Promise<void> {
  const { both, pair, traffic } = open;
  // Also when this attempt was given up, or the worker shuts down: clients are waiting.
  const signal = new AbortController().signal;
  const { from } = args;
  const to = otherSide(from);
  await takeBack(both, pair.migration, from, { ...fencingOf(args, signal), deadlineMs: 0 });
  const row = must(await readGuard(both[from], pair.migration), both[from], pair.migration);
  const call = open.call(`${args.purpose}/${args.number}/undo`, AFTER_MS, { token: row.epoch, signal });
  const [undone] = await Promise.allSettled([traffic.undo(from, call)]);
  const there = directionFrom(from);
  const back = directionFrom(to);
  // The way back has an origin of its own that means nothing any more: it is made anew by the next attempt.
  await dropDirection(both, pair, back, { ...open.patience, budgetMs: AFTER_MS, signal });
  await activate(both, pair, there);
  // Only now: the sync goes on while whoever could not be reached is asked again.
  if (undone.status === 'rejected') throw undone.reason;
}

export const outcomeOf = (
  running: Running,
  of: Partial<SwitchOutcome> & Pick<SwitchOutcome, 'outcome'>,
): SwitchOutcome => ({
  pausedMs: Math.round(running.parts.spentMs),
  fenceLsn: null,
  appliedLsn: null,
  clientErrors: null,
  because: null,
  parts: running.parts.done,
  ...of,
});
