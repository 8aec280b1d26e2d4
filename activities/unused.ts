/**
 * Before blue is renamed or dropped: is it used by anybody, and a dump of it. Keeps true: only a whole period without anybody is called unused; an attempt that
 * begins anew counts its period anew; who uses blue is told by role and application, nothing of what they ask.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { isProblem } from '../plan/model/errors';
import { backUp } from '../postgres/backup';
import { openSession } from '../postgres/session';
import type { Session } from '../postgres/session';
import { useOf } from '../postgres/switch/unused';
import { checkSignal } from '../postgres/work';
import { resolveTarget } from '../worker/config';
import type { Tools } from './context';
import type { PairArgs, UnusedWatched, WatchUnusedArgs } from './types';

const LOOK_MS = 500;
/** The server counts a session some time after it came, ours as well. */
const SETTLES_MS = 3_000;
/** Who uses it is told at once; somebody else, not sooner than this: names that are new every time make no history. */
const NEWS_MS = 60_000;
const CAME_AND_WENT = 'sessions that come and go';

/** Answers when blue was quiet for long enough, when somebody new uses it, or after `maxMs`. */
export async function watchUnused(args: WatchUnusedArgs, tools: Tools): Promise<UnusedWatched> {
  const blue = resolveTarget(tools.deps.config, args.pair.blue);
  const began = performance.now();
  // Nobody looked while there was no worker.
  let quiet = tools.attempt === 1 ? args.quiet : null;
  for (;;) {
    const session = await openSession(blue, { purpose: 'unused' });
    try {
      return await watchThrough(session, { ...args, quiet }, tools, began);
    } catch (error) {
      // The server was started again: its sessions are new ones, and so is the period.
      if (!session.lost || !isProblem(error)) throw error;
      checkSignal(tools.signal);
      quiet = null;
    } finally {
      await session.close();
    }
    await sleep(LOOK_MS, undefined, { signal: tools.signal });
  }
}

async function watchThrough(
  session: Session,
  { quietMs, counted, known, quiet, maxMs }: WatchUnusedArgs,
  tools: Tools,
  began: number,
): Promise<UnusedWatched> {
  let quietSince = performance.now() - (quiet?.forMs ?? 0);
  if (counted) await sleep(SETTLES_MS, undefined, { signal: tools.signal });
  // Since the look before one has come: ours.
  let sessions = quiet === null ? (await useOf(session)).sessions : quiet.sessions + 1;
  if (quiet === null) quietSince = performance.now();
  for (;;) {
    checkSignal(tools.signal);
    const use = await useOf(session);
    const came = counted && use.sessions !== sessions;
    sessions = use.sessions;
    const usedBy = use.by ?? (came ? CAME_AND_WENT : null);
    const who = usedBy !== null && use.by === null ? [CAME_AND_WENT] : use.who;
    const now = performance.now();
    if (usedBy !== null) quietSince = now;
    tools.beat({ usedBy });
    const seen = { usedBy, who, quiet: { forMs: Math.round(now - quietSince), sessions } };
    if (usedBy === null && now - quietSince >= quietMs) return { unused: true, ...seen };
    const news = who.some((one) => !known.includes(one)) && (known.length === 0 || now - began > NEWS_MS);
    if (news || now - began > maxMs) return { unused: false, ...seen };
    await sleep(LOOK_MS, undefined, { signal: tools.signal });
  }
}

/** Under a name of its own: that of before the switch, where the plan made one, stays. */
export async function archiveBlue(
  { pair, migration }: PairArgs,
  tools: Tools,
): Promise<{ readonly bytes: number; readonly reference: string }> {
  const target = resolveTarget(tools.deps.config, pair.blue);
  const given = typeof pair.archive === 'object' ? pair.archive.directory : undefined;
  const directory = given ?? join(tools.deps.config.home, 'backups', pair.blue);
  const name = `${pair.blue}-${migration}-before-${pair.decommission}`;
  const { bytes, entries, seconds } = await backUp({ target, directory, name, signal: tools.signal });
  tools.log.info({ bytes, entries, durationMs: Math.round(seconds * 1_000) }, 'blue archived and read back');
  return { bytes, reference: `${name}.dump` };
}
