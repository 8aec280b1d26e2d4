/**
 * Activities of workflow `canary`: who is sent to green before the writes are. Keeps true: a share that is taken away is taken away also where only one
 * database answers; reads are sent over only for as long as it is proven how old green is, so that whatever dies here sends them home.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isProblem } from '../plan/model/errors';
import { SIDES } from '../plan/model/traffic';
import { crashPoint } from '../postgres/crashPoints';
import { withSession } from '../postgres/session';
import { readGuard } from '../postgres/switch/guard';
import { waitSynced } from '../postgres/switch/progress';
import { endsOf, namesOf } from '../postgres/switch/replicate';
import { checkSignal } from '../postgres/work';
import type { Tools } from './context';
import { withPair, withTraffic } from './pairSessions';
import type { OpenPair, Sides } from './pairSessions';
import type { KeepReadsArgs, PairArgs, ReadsKept, SetShareArgs, ShareSet } from './types';

const SHARE_MS = 10_000;

/** Epoch of this run's newest attempt: what an earlier run left behind is below it. null = no guard row can be read. */
async function tokenOf(args: PairArgs, targets: Sides): Promise<number | null> {
  const seen = await Promise.all(
    SIDES.map((side) =>
      withSession(targets[side], { purpose: 'route', connectTimeoutMs: 2_000 }, async (session) =>
        readGuard(session, args.migration),
      ).catch((error: unknown) => {
        if (!isProblem(error) || error.code === 'Bug') throw error;
        return null;
      }),
    ),
  );
  const epochs = seen.flatMap((row) => (row === null ? [] : [row.epoch]));
  return epochs.length === 0 ? null : Math.max(...epochs);
}

/** Tells every router; may be done again. Answers how many of them have heard. */
export const setShare = (args: SetShareArgs, tools: Tools): Promise<ShareSet> =>
  withTraffic(args, tools, async ({ traffic, call, sides }) => {
    const { share, number, stage } = args;
    const token = await tokenOf(args, sides);
    crashPoint('share.before', stage);
    const asked = { share, number, run: await tools.chainId() };
    const heard = await traffic.share(asked, call(`share/${number}`, SHARE_MS, token === null ? {} : { token }));
    crashPoint('share.after', stage);
    return heard;
  });

const LOOK_AGAIN_MS = 500;
/** A look that did not come in time says little; so many in a row are something to show. */
const LASTS = 3;

/** Beside a stage that sends reads over. Answers when it is known to be different from `known`, and hourly. */
export async function keepReads(args: KeepReadsArgs, tools: Tools): Promise<ReadsKept> {
  const began = performance.now();
  let differs = 0;
  let latest: ReadsKept = { fresh: args.known, lagMs: null };
  const note = (fresh: boolean, lagMs: number | null): boolean => {
    latest = { fresh, lagMs };
    tools.beat(latest);
    differs = fresh === args.known ? 0 : differs + 1;
    return differs >= (fresh ? 1 : LASTS) || performance.now() - began > args.maxMs;
  };
  for (;;) {
    const over = await withPair(args, tools, (open) => keepWhile(open, args, tools, note)).catch(
      async (error: unknown) => {
        if (!isProblem(error) || error.code === 'Bug') throw error;
        checkSignal(tools.signal);
        return note(false, null);
      },
    );
    if (over) return latest;
    await sleep(LOOK_AGAIN_MS, undefined, { signal: tools.signal });
  }
}

/**
 * Asks again and again how old green is. What was there at the beginning of a look is on green at its end: reads that go there for the rest of maxReadLag
 * see nothing older than that. Answers true when `note` has heard enough; throws when green is too far behind.
 */
async function keepWhile(
  { both, pair, traffic, call }: OpenPair,
  { maxReadLagMs }: KeepReadsArgs,
  tools: Tools,
  note: (fresh: boolean, lagMs: number | null) => boolean,
): Promise<boolean> {
  const ends = endsOf(both, 'forward');
  const names = namesOf(pair, 'forward');
  for (let look = 0; ; look += 1) {
    checkSignal(tools.signal);
    const lagMs = await waitSynced(ends, names, maxReadLagMs, tools.signal);
    const left = maxReadLagMs - lagMs;
    // The way of this call to the servers counts, too.
    if (left > 0) await traffic.keepFresh(left * 0.9, call('fresh', Math.max(left, 1_000)));
    if (note(true, Math.round(lagMs))) return true;
    await sleep(Math.max(20, left / 3), undefined, { signal: tools.signal });
  }
}
