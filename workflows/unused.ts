/**
 * Before blue is renamed or dropped: nobody uses it, and it is archived. Keeps true: blue that is used is never touched, and nothing fails for it; who uses it
 * is shown until they are gone or a person leaves blue as it is. Runs twice: while the way back is still there, and again just before the removal.
 */
import { CancellationScope, condition } from '@temporalio/workflow';
import type { Quiet, UnusedWatched } from '../activities/types';
import { commandsFor } from '../plan/model/render';
import { parseDuration } from '../plan/model/values';
import { insist } from './back';
import { failed, isCancellation } from './failure';
import { pairArgs, pairState } from './pairRun';
import type { Run } from './run';
import { nowIso } from './run';

const TARGET = 'blue';
/** After a look that failed for good. */
const REST_MS = 600_000;
const KNOWN_MAX = 200;

/**
 * Answers false when a person leaves blue as it is. @throws Back while the way back is there.
 * @param counted nothing of ours connects to blue any more: also who comes and goes is seen.
 */
export async function untilUnused(run: Run, counted: boolean): Promise<boolean> {
  const s = run.state;
  if ((parseDuration(pairState(run).control.unused ?? '0s') ?? 0) === 0) return true;
  const since = nowIso();
  let usedBy: string | null = null;
  let known: readonly string[] = [];
  let quiet: Quiet | null = pairState(run).quiet ?? null;
  run.awaiting = { target: TARGET, takes: ['retry', 'skip'] };
  s.inbox = { ...s.inbox, answer: null };
  run.lasting = counted;
  try {
    for (;;) {
      // An answer that comes in a pause is taken after it.
      await run.clear();
      tell(run, since, usedBy);
      const seen = await look(run, { counted, known, quiet });
      const { answer } = s.inbox;
      s.inbox = { ...s.inbox, answer: null };
      run.throwIfBack();
      if (answer?.kind === 'skip') return false;
      if (seen?.unused) return true;
      // What nobody saw the end of begins anew.
      quiet = seen?.quiet ?? null;
      if (answer !== null) [usedBy, known] = [null, []];
      else if (seen !== null) {
        usedBy = seen.usedBy;
        // Once told, told no more: who comes and goes all the time makes no history.
        const fresh = seen.who.filter((one) => !known.includes(one));
        known = fresh.length > 0 ? [...known, ...fresh].slice(-KNOWN_MAX) : seen.who;
      }
      pairState(run).evidence['blueUsedBy'] = usedBy ?? 'nobody seen';
      if (run.mustContinue()) {
        pairState(run).quiet = quiet;
        await run.renew();
      }
    }
  } finally {
    run.lasting = false;
    run.awaiting = null;
    s.inbox = { ...s.inbox, answer: null };
    s.waiting = null;
    delete pairState(run).evidence['blueUsedBy'];
    delete pairState(run).quiet;
  }
}

function tell(run: Run, since: string, usedBy: string | null): void {
  const { decommission, unused } = pairState(run).control;
  const then = decommission === 'drop' ? 'dropped' : 'renamed';
  run.state.waiting = {
    type: usedBy === null ? 'health' : 'person',
    gate: null,
    since,
    until: null,
    reason:
      usedBy === null
        ? `blue is watched: it is ${then} when nobody was there for ${unused ?? ''}`
        : `blue is still used by ${usedBy}; it is ${then} when nobody was there for ${unused ?? ''}`,
    evidence: { usedBy },
    commands: (['retry', 'skip'] as const).flatMap((verb) => commandsFor(run.state, verb, { target: TARGET })),
  };
  run.show('waiting');
}

/** null = a person, a pause or the way back came first, or it could not be looked at for now. */
async function look(
  run: Run,
  of: { readonly counted: boolean; readonly known: readonly string[]; readonly quiet: Quiet | null },
): Promise<UnusedWatched | null> {
  const { settings } = run.state;
  const quietMs = parseDuration(pairState(run).control.unused ?? '0s') ?? 0;
  const wake = (): boolean => run.state.inbox.answer !== null || run.wantsBack() !== null || run.isPaused();
  const scope = new CancellationScope();
  let ended = false;
  const stop = condition(() => ended || wake())
    .then(() => scope.cancel())
    .catch((error: unknown) => {
      if (!isCancellation(error)) throw error;
    });
  try {
    return await scope.run(() =>
      run.ask('watchUnused', { ...pairArgs(run), ...of, quietMs, maxMs: settings.watchMs }, 'is blue used by anybody?'),
    );
  } catch (error) {
    if (isCancellation(error)) {
      if (wake()) return null;
      throw error;
    }
    const { code, message } = failed(error);
    tell(run, nowIso(), `somebody, as far as is known (${code}: ${message})`);
    await run.until(wake, REST_MS, 'look at blue again');
    return null;
  } finally {
    ended = true;
    await stop;
  }
}

/** Of blue as it is now. Answers false when a person leaves blue as it is rather than without. */
export async function archiveBlue(run: Run): Promise<boolean> {
  const { archive } = pairState(run).control;
  if (archive === undefined || archive === 'none') return true;
  // Made before this history began.
  if (run.state.measured['archive'] !== undefined) return true;
  const made = await insist(run, TARGET, () => run.ask('archiveBlue', pairArgs(run), 'pg_dump of blue, read back'));
  if (made === null) return false;
  run.state.measured['archive'] = made;
  return true;
}
