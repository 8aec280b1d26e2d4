/**
 * The guard rows: one in each database, and together they say which side takes writes. Keeps true: never two writable rows (rule 7).
 * - A switch is armed in the row of the side it goes TO, under a new epoch, then in the row of the side it comes FROM.
 * - The fence sets FROM's row to not writable in the very transaction that puts up the wall.
 * - Lifting sets TO's row to writable if it is still armed with this epoch, after FROM's row was seen fenced with this epoch: the point of no return.
 * - Taking back first disarms TO's row (so that no late lift can come), then sets FROM's row to writable.
 * So both the lift and the way back are decided by ONE row, TO's; each write names the epoch it saw, and whoever comes second finds no row.
 */
import { Problem } from '../../plan/model/errors';
import type { Side } from '../../plan/model/traffic';
import { otherSide, SIDES } from '../../plan/model/traffic';
import { crashPoint } from '../crashPoints';
import type { Session } from '../session';
import { inTransaction } from '../session';
import type { Both } from './pair';

export interface ConnectGrant {
  /** null = PUBLIC. */
  readonly grantee: string | null;
  readonly grantor: string;
  readonly grantable: boolean;
}

export interface IdentityRecord {
  readonly schema: string;
  readonly name: string;
  /** As pg_class has it: d, n, f, i. */
  readonly was: string;
  readonly wasIndex: string | null;
}

export interface RouteRef {
  readonly route: string;
  /** What the route calls the two sides. */
  readonly sides: { readonly [side in Side]: string };
}

export interface Attempt {
  readonly from: Side;
  readonly to: Side;
  readonly epoch: number;
}

/** Everything that must be found again with Temporal gone. */
export interface GuardDetails {
  readonly side: Side;
  /** Connection names: where the other row lies. */
  readonly names: { readonly [side in Side]: string };
  readonly routes: readonly RouteRef[];
  readonly attempt: Attempt | null;
  /** CONNECT as it was before the fence; null = nothing is taken away. */
  readonly connect: readonly ConnectGrant[] | null;
  /** Roles that got CONNECT from us, so that they keep it. */
  readonly connectAdded: readonly string[];
  /** Role whose own sessions (application_name pgshift/...) pass the wall; null = none. */
  readonly pass: string | null;
  /** Replica identities as they were. */
  readonly identities: readonly IdentityRecord[];
  readonly position: { readonly lsn: string; readonly epoch: number } | null;
}

export interface GuardRow {
  readonly id: string;
  readonly writable: boolean;
  readonly epoch: number;
  readonly details: GuardDetails;
}

interface Raw extends Record<string, unknown> {
  readonly id: string;
  readonly writable: boolean;
  readonly epoch: string;
  readonly details: GuardDetails;
}

const read = (row: Raw): GuardRow => ({ ...row, epoch: Number(row.epoch) });
const COLUMNS = 'g.id, g.writable, g.epoch::text AS epoch, g.details';

/** null = there is no such switch here (or no schema pgshift). */
export async function readGuard(session: Session, id: string): Promise<GuardRow | null> {
  return (await guardsIn(session)).find((row) => row.id === id) ?? null;
}

/** All guard rows of a database; empty without schema pgshift. */
export async function guardsIn(session: Session): Promise<GuardRow[]> {
  const there = await session.one<{ there: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                     WHERE n.nspname = 'pgshift' AND c.relname = 'guard') AS there`,
  );
  if (!there?.there) return [];
  return (await session.rows<Raw>(`SELECT ${COLUMNS} FROM pgshift.guard AS g ORDER BY g.id`)).map(read);
}

async function must(session: Session, id: string): Promise<GuardRow> {
  const row = await readGuard(session, id);
  if (row === null) throw new Problem('NoSuchRun', `${session.name}: there is no guard row of ${id}`);
  return row;
}

export const guardBroken = (session: Session, id: string): Problem =>
  new Problem('FenceBroken', `${session.name}: another attempt has changed the guard row of ${id}`);

export interface OpenGuards {
  readonly names: { readonly [side in Side]: string };
  readonly routes?: readonly RouteRef[];
  /** First epoch; above the tokens that earlier switches left in the routes, or theirs would outrank ours. Default 1. */
  readonly epoch?: number;
}

/**
 * Makes both rows: blue writable, green not. What is there of this migration stays as it is. Throws NotNow when another switch has a row in one of
 * the databases: its sides and ours would not know of each other.
 */
export async function openGuards(both: Both, id: string, { names, routes = [], epoch = 1 }: OpenGuards): Promise<void> {
  for (const side of SIDES) {
    const other = (await guardsIn(both[side])).find((row) => row.id !== id);
    if (other)
      throw new Problem('NotNow', `${both[side].name}: the switch ${other.id} is not finished there`, {
        hint: `finish it first, or look at it:  pgshift fence status --blue ${other.details.names.blue} --green ${other.details.names.green}`,
      });
  }
  // Green first: whatever dies in between, there is no green that is not known to be fenced.
  for (const side of ['green', 'blue'] as const) {
    const details: GuardDetails = {
      side,
      names,
      routes,
      attempt: null,
      connect: null,
      connectAdded: [],
      pass: null,
      identities: [],
      position: null,
    };
    await both[side].run(
      `INSERT INTO pgshift.guard (id, writable, epoch, details) VALUES ($1, $2, $4, $3::jsonb) ON CONFLICT (id) DO NOTHING`,
      [id, side === 'blue', JSON.stringify(details), epoch],
    );
    const row = await must(both[side], id);
    if (row.details.side !== side)
      throw new Problem('NotNow', `${both[side].name}: is ${row.details.side} of ${id}, not ${side}`);
  }
}

/** Takes both rows away: the switch is over. Only where one side is writable and nothing is left to put back. */
export async function closeGuard(session: Session, id: string): Promise<void> {
  const row = await readGuard(session, id);
  if (row === null) return;
  const open = row.details.connect !== null || row.details.identities.length > 0 || row.details.connectAdded.length > 0;
  if (open) throw new Problem('NotNow', `${session.name}: the guard row of ${id} still says what is to be put back`);
  await session.run(`DELETE FROM pgshift.guard WHERE id = $1`, [id]);
}

/**
 * Writes into a row that is as it was read; the first statement of a transaction that rests on it. `patch` replaces keys of details.
 * Throws FenceBroken when the row has changed.
 */
export async function updateGuard(
  session: Session,
  seen: Pick<GuardRow, 'id' | 'epoch' | 'writable'>,
  change: { readonly writable?: boolean; readonly epoch?: number; readonly patch?: Partial<GuardDetails> },
): Promise<GuardRow> {
  const [row] = await session.rows<Raw>(
    `UPDATE pgshift.guard AS g SET writable = $4, epoch = $5, details = g.details || $6::jsonb, updated_at = clock_timestamp()
      WHERE g.id = $1 AND g.epoch = $2 AND g.writable = $3 RETURNING ${COLUMNS}`,
    [
      seen.id,
      seen.epoch,
      seen.writable,
      change.writable ?? seen.writable,
      change.epoch ?? seen.epoch,
      JSON.stringify(change.patch ?? {}),
    ],
  );
  if (!row) throw guardBroken(session, seen.id);
  return read(row);
}

/** A row must not be lost with a crash of the server just after it was answered: these decide everything. */
async function durably<T>(session: Session, work: () => Promise<T>): Promise<T> {
  return inTransaction(session, async () => {
    await session.run(`SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '2s'`);
    return work();
  });
}

/**
 * Begins (or takes over) a switch from one side to the other. Answers its epoch; an attempt with a lower one can neither fence nor lift any more.
 * Throws NotNow when `from` is not the writable side, FenceBroken when somebody else began at the same moment.
 */
export async function arm(both: Both, id: string, from: Side): Promise<number> {
  const to = otherSide(from);
  const rows = { blue: await must(both.blue, id), green: await must(both.green, id) };
  if (rows[to].writable) throw new Problem('NotNow', `${to} takes the writes: it is past the point of no return`);
  const before = rows[from].details.attempt;
  if (!rows[from].writable && before?.to !== to)
    throw new Problem('NotNow', `${from} does not take the writes`, { hint: 'pgshift fence status says what does' });
  const epoch = Math.max(rows.blue.epoch, rows.green.epoch) + 1;
  const attempt: Attempt = { from, to, epoch };
  const patch = { attempt, position: null };
  await durably(both[to], () => updateGuard(both[to], rows[to], { epoch, patch }));
  crashPoint('switch.armed');
  await durably(both[from], () => updateGuard(both[from], rows[from], { epoch, patch }));
  return epoch;
}

/**
 * The point of no return: `to` takes writes from here on. Idempotent: answers 'already' when this attempt has lifted before. Throws FenceBroken when
 * `from` is not fenced by this attempt or the attempt was taken back. `more` runs in the same transaction, after the row.
 */
export async function lift(
  both: Both,
  id: string,
  attempt: Attempt,
  more: (session: Session) => Promise<void> = () => Promise.resolve(),
): Promise<'lifted' | 'already'> {
  const { from, to, epoch } = attempt;
  const target = await must(both[to], id);
  if (target.writable && target.epoch === epoch) return 'already';
  if (target.writable || target.epoch !== epoch || target.details.attempt?.epoch !== epoch)
    throw guardBroken(both[to], id);
  // Read AFTER the row above: whoever makes `from` writable again changes the row above first.
  const source = await must(both[from], id);
  if (source.writable || source.epoch !== epoch || source.details.position?.epoch !== epoch)
    throw new Problem('FenceBroken', `${both[from].name}: ${from} is not fenced by this attempt; nothing was lifted`);
  crashPoint('lift.before');
  await durably(both[to], async () => {
    await updateGuard(both[to], target, { writable: true, patch: { attempt: null } });
    await more(both[to]);
  });
  crashPoint('lift.after');
  return 'lifted';
}

/**
 * The first half of the way back: after it no attempt can lift `to` any more. Throws NotNow when `to` takes writes already (then the way back is a
 * switch of its own). Answers the epoch with which `from` may be opened.
 */
export async function disarm(session: Session, id: string): Promise<number> {
  const row = await must(session, id);
  if (row.writable)
    throw new Problem('NotNow', `${row.details.side} takes the writes: it is past the point of no return`, {
      hint: 'the way back from here is a switch in the other direction (pgshift rollback)',
    });
  const epoch = row.epoch + 1;
  await durably(session, () => updateGuard(session, row, { epoch, patch: { attempt: null } }));
  return epoch;
}

/** The second half: `from` takes writes again. Only after `disarm` of the other side, whose epoch it takes. Idempotent. */
export async function reopen(session: Session, id: string, epoch: number): Promise<GuardRow> {
  const row = await must(session, id);
  if (row.epoch > epoch) throw guardBroken(session, id);
  return durably(session, () => updateGuard(session, row, { writable: true, epoch, patch: { attempt: null } }));
}
