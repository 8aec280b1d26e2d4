/** The order of a switch without Temporal, as tests need it: the sync of a pair, and one switch over. */
import { fence, settle, wallOff } from '../../postgres/switch/fence';
import type { FenceOptions } from '../../postgres/switch/fence';
import { arm, lift } from '../../postgres/switch/guard';
import { setIdentities } from '../../postgres/switch/identity';
import type { Side } from '../../plan/model/traffic';
import { otherSide } from '../../plan/model/traffic';
import type { Direction } from '../../postgres/switch/names';
import { directionFrom } from '../../postgres/switch/names';
import type { Both, Pair } from '../../postgres/switch/pair';
import type { Patience } from '../../postgres/switch/patience';
import { waitReached } from '../../postgres/switch/progress';
import { ensurePublication } from '../../postgres/switch/publication';
import { activate, deactivate, endsOf, namesOf, prepareWayBack, readyWayBack } from '../../postgres/switch/replicate';
import { setSequences } from '../../postgres/switch/sequences';
import { ensureSlot } from '../../postgres/switch/slot';
import { ensureSubscription } from '../../postgres/switch/subscription';
import { replicated, userTables } from '../../postgres/switch/tables';

export const signal = new AbortController().signal;
export const patience: Patience = { lockTimeoutMs: 200, budgetMs: 10_000, signal };
export const fencing: FenceOptions = { keepRoles: [], lockTimeoutMs: 200, deadlineMs: 3_000, signal };

export const tablesOf = async (both: Both, side: Side) => replicated(await userTables(both[side]));

/** Everything written to the publisher so far is on the other side. */
export async function caughtUp(both: Both, pair: Pair, direction: Direction): Promise<void> {
  const ends = endsOf(both, direction);
  const at = await ends.publisher.one<{ lsn: string }>(`SELECT pg_current_wal_insert_lsn()::text AS lsn`);
  await waitReached(ends, namesOf(pair, direction), at?.lsn ?? '', 20_000, signal);
}

/** Two databases of one (empty) schema are joined, blue to green. */
export async function syncEmpty(both: Both, pair: Pair): Promise<void> {
  const names = namesOf(pair, 'forward');
  await wallOff(both.green, pair.migration, fencing);
  for (const side of ['blue', 'green'] as const) await setIdentities(both[side], pair.migration, patience);
  await ensurePublication(both.blue, names.publication, await tablesOf(both, 'blue'), patience);
  await ensureSlot(both.blue, names.slot, 10_000);
  await ensureSubscription(both.green, { names, publisher: pair.blue, origin: 'any' });
  await activate(both, pair, 'forward');
  await caughtUp(both, pair, 'forward');
}

export interface Switched {
  readonly fenceMs: number;
  readonly reachedMs: number;
  readonly wayBackMs: number;
  /** From the first step that hurts clients to the lift. */
  readonly ms: number;
}

/** From `source` to the other side, up to and with the lift. */
export async function switchOver(both: Both, pair: Pair, source: Side): Promise<Switched> {
  const there = directionFrom(source);
  const dest = otherSide(source);
  const back = directionFrom(dest);
  await setIdentities(both[dest], pair.migration, patience);
  await prepareWayBack(both, pair, back, {
    tables: await tablesOf(both, dest),
    publisher: pair[dest],
    slotDeadlineMs: 5_000,
    patience,
  });
  const began = performance.now();
  const epoch = await arm(both, pair.migration, source);
  const attempt = { from: source, to: dest, epoch };
  const fenced = await fence(both[source], pair.migration, attempt, fencing);
  const reached = await waitReached(endsOf(both, there), namesOf(pair, there), fenced.position, 5_000, signal);
  await deactivate(both, pair, there);
  await setSequences(both[source], both[dest], 1_000);
  const before = performance.now();
  await readyWayBack(both, pair, back);
  const wayBackMs = performance.now() - before;
  await lift(both, pair.migration, attempt);
  return { fenceMs: fenced.ms, reachedMs: reached.ms, wayBackMs, ms: performance.now() - began };
}

export const settleSide = (both: Both, pair: Pair, side: Side) =>
  settle(both[side], pair.migration, { ...fencing, deadlineMs: 10_000 });
