/**
 * Follows a run until it arrives where watching ends. It only looks: queries while a worker answers, visibility while none does. What it sees comes out as
 * snapshots; how they are shown is another file's matter.
 */
import type { Progress, Status, WaitingFor } from '../plan/model/status';
import { PHASES } from '../plan/model/steps';
import { readStatus } from './commands/status';
import type { StatusView } from './render/status';
import type { Temporal } from './temporal';

export type Until = 'contract' | 'hold' | 'end' | 'rest';

export interface Snapshot {
  readonly status: StatusView;
  readonly progress: Progress | null;
}

const FAST_MS = 300;
const SLOW_MS = 1_000;
/** After so many looks a run is no matter of seconds any more. */
const FAST_LOOKS = 40;

const ENDED: readonly Status['status'][] = ['completed', 'failed', 'rolled_back', 'cancelled'];
export const hasEnded = (status: Status): boolean => ENDED.includes(status.status);

/** Somebody must act before anything goes on. */
const waitsForPerson = ({ status, waitingFor }: Status): boolean =>
  status === 'paused' || (status === 'waiting' && (waitingFor?.type === 'gate' || waitingFor?.type === 'person'));

const isAtContract = (status: Status): boolean =>
  (PHASES as readonly string[]).indexOf(status.phase) >= PHASES.indexOf('contract') ||
  (status.waitingFor?.type === 'gate' && ['contract', 'switch_traffic'].includes(status.waitingFor.gate ?? ''));

function arrived(status: Status, until: Until): boolean {
  if (hasEnded(status)) return true;
  if (until === 'end') return false;
  if (status.status === 'holding') return true;
  if (until === 'rest') return waitsForPerson(status);
  return until === 'contract' && status.status !== 'rolling_back' && isAtContract(status);
}

const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done);
  });

/** How long a message may take to move the run away from what it waited for before. */
const MOVES_MS = 10_000;

const sameWait = (a: WaitingFor | null, b: WaitingFor | null): boolean =>
  a !== null && b !== null && a.type === b.type && a.gate === b.gate && a.since === b.since;

export interface FollowOptions {
  /** What it waited for when a message was sent: still waiting for the same is no arrival yet. */
  readonly before?: WaitingFor | null;
  readonly until: Until;
  readonly signal: AbortSignal;
  readonly onSnapshot: (snapshot: Snapshot) => void;
}

/** @returns the last status; of an aborted watch the last one that was seen. @throws Problem NoSuchRun, Unreachable. */
export async function follow(
  temporal: Temporal,
  id: string,
  { until, signal, onSnapshot, before = null }: FollowOptions,
): Promise<StatusView> {
  const begun = Date.now();
  for (let looks = 0; ; looks += 1) {
    const seen = await temporal.describe(id);
    if (seen === null) throw (await import('./resolveRun.js')).noSuchRun(id);
    const status = await readStatus(temporal, seen);
    const ended = hasEnded(status);
    const progress = status.live && !ended ? await temporal.query<Progress>(id, 'progress') : null;
    onSnapshot({ status, progress });
    // A workflow that says it ended is not closed yet: the failure that tells why comes a moment later.
    const unmoved = sameWait(status.waitingFor, before) && Date.now() - begun < MOVES_MS;
    if ((arrived(status, until) && !unmoved && (!ended || seen.endedAt !== null)) || signal.aborted) return status;
    await pause(looks < FAST_LOOKS ? FAST_MS : SLOW_MS, signal);
    if (signal.aborted) return status;
  }
}
