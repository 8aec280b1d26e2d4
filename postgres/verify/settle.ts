/**
 * Rows that differed at first sight, on data that changes meanwhile: which of them really differ? Keeps true: a row is called different only when
 * the target, at a position of the source's log that it has, shows a version that the source did not have from that position on, while the
 * source's row was not written; or, where no log can be asked, when neither side was written for a while. A row that is seen equal once is equal.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { checkSignal } from '../work';
import type { Barrier } from './barrier';
import { positionOf } from './barrier';
import type { KeyValues, Version } from './lookup';
import { keyId, lookup, NO_ROW } from './lookup';
import type { Pair } from './pairs';
import type { SessionPair } from './session';
import { onBoth } from './tally';

export interface Settling {
  readonly sessions: SessionPair;
  readonly pair: Pair;
  readonly keys: readonly KeyValues[];
  readonly signal: AbortSignal;
  /** False: one look decides. */
  readonly live: boolean;
  readonly barrier: Barrier | null;
}

export interface Settled {
  readonly different: readonly KeyValues[];
  /** Written so often that they were never seen alike, nor seen apart for good. */
  readonly unsettled: readonly KeyValues[];
}

/** Looks that must agree before a row is called different. */
const STRIKES = { barrier: 2, time: 3 } as const;
/** Without a log to ask: neither side was written for so long. */
const QUIET_MS = 3_000;
/** The target's row stood still for so long while the source's was written again and again: it is not followed. */
const STALE_MS = 15_000;
const GIVE_UP_MS = 90_000;
/** So few rows are read again and again while the target catches up: hot rows have many versions. */
const HOT_ROWS = 200;
const PAUSE_MS = { first: 20, longest: 500 } as const;

interface Open {
  readonly key: KeyValues;
  strikes: number;
  /** The pair of versions that the strikes are about. */
  seen: string;
  since: number;
  targetHash: string;
  targetSince: number;
}

const at = (versions: ReadonlyMap<string, Version>, id: string): Version => versions.get(id) ?? NO_ROW;

export async function settle(settling: Settling): Promise<Settled> {
  const { sessions, pair, keys, live } = settling;
  if (!live) {
    const found = await onBoth((side) => lookup(sessions, pair, side, keys));
    const differ = (key: KeyValues): boolean => at(found.source, keyId(key)).hash !== at(found.target, keyId(key)).hash;
    return { different: keys.filter(differ), unsettled: [] };
  }
  const now = performance.now();
  const open = new Map<string, Open>(
    keys.map((key) => [keyId(key), { key, strikes: 0, seen: '', since: now, targetHash: '', targetSince: now }]),
  );
  const different: KeyValues[] = [];
  let pause: number = PAUSE_MS.first;
  for (const end = now + GIVE_UP_MS; open.size > 0 && performance.now() < end;) {
    checkSignal(settling.signal);
    for (const id of await round(settling, open)) {
      const row = open.get(id);
      if (row) different.push(row.key);
      open.delete(id);
    }
    if (open.size === 0) break;
    await sleep(pause, undefined, { signal: settling.signal });
    pause = Math.min(PAUSE_MS.longest, pause * 2);
  }
  return { different, unsettled: [...open.values()].map(({ key }) => key) };
}

/** One look at every open row. Takes what is equal out; answers the ids of what really differs. */
async function round(settling: Settling, open: Map<string, Open>): Promise<string[]> {
  const { sessions, pair, barrier, signal } = settling;
  const keys = [...open.values()].map(({ key }) => key);
  const history = new Map<string, Set<string>>(keys.map((key) => [keyId(key), new Set()]));
  const note = (versions: ReadonlyMap<string, Version>): void => {
    for (const [id, hashes] of history) hashes.add(at(versions, id).hash);
  };
  const readSource = async (): Promise<ReadonlyMap<string, Version>> => {
    const versions = await lookup(sessions, pair, 'source', keys);
    note(versions);
    return versions;
  };
  const before = await readSource();
  // After the read: every version that it saw was committed at or before this position.
  const position = barrier === null ? null : await positionOf(sessions.source);
  const again = async (): Promise<void> => void (keys.length <= HOT_ROWS ? await readSource() : undefined);
  const caughtUp = barrier !== null && position !== null ? await barrier.passed(position, signal, again) : false;
  const target = await lookup(sessions, pair, 'target', keys);
  const after = await readSource();
  const real: string[] = [];
  for (const [id, row] of open) {
    const [there, first, last] = [at(target, id), at(before, id), at(after, id)];
    if (history.get(id)?.has(there.hash)) open.delete(id);
    else if (judge(row, { there, first, last, log: barrier === null ? 'none' : caughtUp ? 'reached' : 'behind' }))
      real.push(id);
  }
  return real;
}

interface Look {
  readonly there: Version;
  readonly first: Version;
  readonly last: Version;
  /** Does the target have the source's log up to the first look? */
  readonly log: 'none' | 'reached' | 'behind';
}

/** Is this row different for good? */
function judge(row: Open, { there, first, last, log }: Look): boolean {
  const now = performance.now();
  // A target that has not caught up yet says nothing.
  if (log === 'behind') return false;
  if (there.hash !== row.targetHash) [row.targetHash, row.targetSince] = [there.hash, now];
  const still = first.hash === last.hash && first.writes === last.writes;
  if (!still) {
    row.strikes = 0;
    return log === 'none' && now - row.targetSince > STALE_MS;
  }
  const seen = `${last.hash}/${last.writes}/${there.hash}/${there.writes}`;
  if (seen !== row.seen) [row.seen, row.strikes, row.since] = [seen, 0, now];
  row.strikes += 1;
  if (log === 'reached') return row.strikes >= STRIKES.barrier;
  return row.strikes >= STRIKES.time && now - row.since >= QUIET_MS;
}
