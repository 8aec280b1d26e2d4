/**
 * The slot by which rows that changed are compared again, and what its keys do not tell. Keeps true: it is made before the first row is compared (or
 * while both sides are known to be equal); one that is lost or was never made is said so, and never stands for "nothing changed".
 */
import type { Side } from '../../plan/model/traffic';
import type { Session } from '../session';
import { withSession } from '../session';
import { ChangedRows } from './changedRows';
import { directionFrom } from './names';
import type { Both, Pair } from './pair';
import type { OpenPairs } from './quickVerify';
import { namesOf } from './replicate';
import { ensureSlot, freeSlot, slotState } from './slot';

/** Making a slot waits for every transaction that is open in the server. */
const SLOT_MS = 600_000;

const stepOf = (from: Side): string => `unkeyed/${from}`;

async function readUnkeyed(blue: Session, migration: string, from: Side): Promise<readonly string[]> {
  const row = await blue.one<{ result: readonly string[] }>(
    `SELECT s.result FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = $2`,
    [migration, stepOf(from)],
  );
  return row?.result ?? [];
}

const keepUnkeyed = (blue: Session, migration: string, from: Side, labels: readonly string[]): Promise<number> =>
  blue.run(
    `INSERT INTO pgshift.steps (migration_name, step_id, phase, status, result) VALUES ($1, $2, 'validate_green', 'done', $3::jsonb)
     ON CONFLICT (migration_name, step_id) DO UPDATE SET result = excluded.result`,
    [migration, stepOf(from), JSON.stringify(labels)],
  );

/** From here on every change of this side is known. Idempotent. Throws Timeout. */
export async function rememberChanges(both: Both, pair: Pair, from: Side): Promise<void> {
  await ensureSlot(both[from], namesOf(pair, directionFrom(from)).checkSlot, SLOT_MS);
  await keepUnkeyed(both.blue, pair.migration, from, []);
}

/**
 * null = the changes are not known by their keys (the slot was never made, or has lost its WAL); or somebody reads it, and it is not taken over.
 * `prepared` stays the caller's. Throws what a connection throws.
 */
export async function openChanged(
  both: Both,
  pair: Pair,
  from: Side,
  { sessions, pairs }: OpenPairs,
  how: 'take over' | 'if free',
): Promise<ChangedRows | null> {
  const { checkSlot: slot, publication } = namesOf(pair, directionFrom(from));
  const state = await slotState(both[from], slot);
  if (state === null || state.walStatus === 'lost' || (state.active && how === 'if free')) return null;
  await freeSlot(both[from], slot);
  const { migration } = pair;
  return ChangedRows.open({
    ...{ source: pair[from], sessions, pairs, slot, publication },
    unkeyed: await readUnkeyed(both.blue, migration, from),
    async keepUnkeyed(labels) {
      await withSession(pair.blue, { purpose: 'switch', migration }, (blue) =>
        keepUnkeyed(blue, migration, from, labels),
      );
    },
  });
}
