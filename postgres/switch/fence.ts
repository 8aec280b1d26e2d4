/**
 * The fence of one side, in the order that makes it one: nobody new comes in, nobody is left inside, nothing is prepared, the wall is up, and then the
 * position behind which nothing of a client's can lie. Keeps true: each step may run again; the way back is right when any of them never happened.
 */
import { Problem } from '../../plan/model/errors';
import type { Side } from '../../plan/model/traffic';
import { otherSide } from '../../plan/model/traffic';
import { crashPoint } from '../crashPoints';
import type { Session } from '../session';
import { inTransaction } from '../session';
import type { Client, Ended } from './clients';
import { endClients, refusePrepared } from './clients';
import { restoreConnect, revokeConnect, stillMayConnect } from './connect';
import type { Attempt, GuardRow } from './guard';
import { disarm, guardBroken, readGuard, reopen, updateGuard } from './guard';
import type { Both, Reachable } from './pair';
import type { WallDropped } from './wall';
import { dropWall, raiseWall, wallGaps } from './wall';

export interface FenceOptions {
  /** Roles besides ours that keep CONNECT: the one with which the other side's subscription comes in. */
  readonly keepRoles: readonly string[];
  /** For one lock. */
  readonly lockTimeoutMs: number;
  /** For the whole fence. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

export interface Fenced {
  readonly endedSessions: number;
  /** Still there, and harmless behind the wall. */
  readonly leftSessions: readonly Client[];
  /** Roles that can still come in (superusers): the wall is what stops them. */
  readonly mayConnect: readonly string[];
  readonly tables: number;
  readonly wallMs: number;
  readonly wallTries: number;
  /** Nothing of a client's lies behind it. */
  readonly position: string;
  readonly ms: number;
}

async function rowOf(session: Session, id: string, epoch: number): Promise<GuardRow> {
  const row = await readGuard(session, id);
  if (row === null || row.epoch !== epoch) throw guardBroken(session, id);
  return row;
}

/** Of a side that is to stay fenced while it is filled: only our own sessions and replication pass. Its row is not writable already. */
export async function wallOff(session: Session, id: string, options: Omit<FenceOptions, 'keepRoles'>): Promise<number> {
  const row = await readGuard(session, id);
  if (row === null) throw new Problem('NoSuchRun', `${session.name}: there is no guard row of ${id}`);
  if (row.writable) throw new Problem('NotNow', `${session.name}: takes writes; a switch fences it, not this`);
  return (await raiseWall(session, row, { ...options, pass: session.role, close: false })).tables;
}

/**
 * Fences the side that an attempt comes from. Throws PreflightFailed (prepared transactions), LockBudgetSpent (with who stood in the way), FenceBroken,
 * PrivilegeMissing; the caller then takes the attempt back.
 */
export async function fence(session: Session, id: string, attempt: Attempt, options: FenceOptions): Promise<Fenced> {
  const began = performance.now();
  const left = (): number => Math.max(1, options.deadlineMs - (performance.now() - began));
  let row = await rowOf(session, id, attempt.epoch);
  row = await revokeConnect(session, row, options.keepRoles);
  crashPoint('fence.revoked');
  const clients: Ended = await endClients(session, left() / 2, options.signal);
  await refusePrepared(session);
  const wall = await raiseWall(session, row, {
    pass: null,
    close: true,
    lockTimeoutMs: options.lockTimeoutMs,
    deadlineMs: left(),
    signal: options.signal,
  });
  crashPoint('fence.walled');
  // One that was prepared since the first look held its locks: had it written to a table, the wall would not be up. Still it is not ours to leave.
  await refusePrepared(session);
  const position = await fencePosition(session, wall.row);
  return {
    endedSessions: clients.ended,
    leftSessions: clients.left,
    mayConnect: await stillMayConnect(session, options.keepRoles),
    tables: wall.tables,
    wallMs: wall.ms,
    wallTries: wall.tries,
    position,
    ms: performance.now() - began,
  };
}

/**
 * The position of a fenced side: the end of a synchronous commit of our own, made when no client could write any more. What was flushed by then holds
 * that commit and everything before it, asynchronous commits of clients included. Recorded in the guard row, which the lift asks for.
 */
export async function fencePosition(session: Session, seen: GuardRow): Promise<string> {
  const gaps = await wallGaps(session, seen.id);
  if (seen.writable || gaps.length > 0)
    throw new Problem('FenceBroken', `${session.name}: the wall has gaps: ${gaps.slice(0, 5).join(', ')}`);
  await inTransaction(session, async () => {
    await session.run('SET LOCAL synchronous_commit = on');
    await updateGuard(session, seen, { patch: { position: null } });
  });
  const at = await session.one<{ lsn: string }>(`SELECT pg_catalog.pg_current_wal_flush_lsn()::text AS lsn`);
  if (!at) throw new Problem('Bug', 'the server did not say where its WAL ends');
  await updateGuard(session, seen, { patch: { position: { lsn: at.lsn, epoch: seen.epoch } } });
  return at.lsn;
}

export interface Settled extends WallDropped {
  readonly side: Side;
}

/**
 * Puts back what a fence took, on a side whose guard row says writable: CONNECT first, since the wall lets writes through from the moment the row says
 * so; then the triggers. Idempotent, and right when there never was a fence. Throws NotNow on a side that is fenced.
 */
export async function settle(
  session: Session,
  id: string,
  options: Omit<FenceOptions, 'keepRoles'>,
): Promise<Settled | null> {
  const row = await readGuard(session, id);
  if (row === null) return null;
  if (!row.writable) throw new Problem('NotNow', `${session.name}: is fenced; only a switch or a release opens it`);
  await restoreConnect(session, row);
  crashPoint('unfence.granted');
  return { side: row.details.side, ...(await dropWall(session, id, options)) };
}

/**
 * Takes an attempt back that has not lifted: the side that it came from takes writes again. Right when the fence is half done or never began, and when it
 * was taken back already. Throws NotNow past the point of no return.
 */
export async function takeBack(
  both: Both,
  id: string,
  from: Side,
  options: Omit<FenceOptions, 'keepRoles'>,
): Promise<Settled | null> {
  const epoch = await disarm(both[otherSide(from)], id);
  crashPoint('unfence.disarmed');
  await reopen(both[from], id, epoch);
  crashPoint('unfence.opened');
  return settle(both[from], id, options);
}

/** The rows of both sides, where they can be read. */
export const readBoth = async (
  sessions: Reachable,
  id: string,
): Promise<{ readonly [side in Side]: GuardRow | null | undefined }> => ({
  blue: sessions.blue === null ? undefined : await readGuard(sessions.blue, id),
  green: sessions.green === null ? undefined : await readGuard(sessions.green, id),
});
