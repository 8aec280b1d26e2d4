/**
 * Two attempts of one step can never both commit. An attempt that was given up may still be running (a frozen worker, a slow network), so:
 * - every attempt bumps the epoch of the step's row, under a lock_timeout, and ends the backend of the one before;
 * - whatever commits in a transaction writes that row (or its lane's) FIRST, with `AND epoch = mine`: no row, no commit. Fence and
 *   checkpoint are one write;
 * - what cannot run in a transaction holds a session advisory lock, taken by try-lock on the very session that runs it; THEN it reads the
 *   epoch; then it runs. The next attempt bumps first, then gets the lock by ending the holder, then looks at what was left.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../plan/model/errors';
import type { RunPhase } from '../plan/model/steps';
import { crashPoint } from './crashPoints';
import type { Session } from './session';
import { inTransaction } from './session';
import { isLockProblem } from './toProblem';
import { checkSignal } from './work';

export interface StepRef {
  readonly migration: string;
  readonly stepId: string;
  readonly phase: RunPhase;
}

export interface Attempt extends StepRef {
  /** bigint as text. */
  readonly epoch: string;
  readonly number: number;
  /** Milliseconds spent since the first attempt, by the database's clock, when this attempt began. */
  readonly spentMs: number;
  /** performance.now() when this attempt began: with `spentMs` the age of the step. */
  readonly beganAt: number;
  /** How many runs of the way back are recorded as done. */
  readonly undone: number;
  /** Milliseconds by reason that interrupted attempts were held back. */
  readonly throttledMs: Readonly<Record<string, number>>;
}

export interface StepRow {
  readonly status: string;
  readonly attempt: number;
  readonly epoch: string;
  readonly rows: number;
  readonly result: Readonly<Record<string, unknown>>;
}

export type Begun =
  | { readonly state: 'begun'; readonly attempt: Attempt; readonly before: string }
  | { readonly state: 'already'; readonly row: StepRow };

const BUMP_LOCK_TIMEOUT_MS = 1_000;
const BUMP_TRIES = 30;
const END_POLL_MS = 50;
const END_TRIES = 100;

interface Locked extends Record<string, unknown> {
  readonly status: string;
  readonly attempt: number;
  readonly epoch: string;
  readonly rows: string;
  readonly result: Record<string, unknown>;
  readonly undone: number | null;
}

interface Backend extends Record<string, unknown> {
  readonly pid: number;
  readonly start: string;
}

/**
 * Begins an attempt on `session`, whose backend is recorded as the one to end. 'already' = done (or undone) before: nothing was bumped.
 * Throws NotNow when a step that is being taken back is asked to go forward, LockTimeout when the fence cannot be had.
 */
export async function beginAttempt(
  session: Session,
  ref: StepRef,
  direction: 'do' | 'undo',
  signal: AbortSignal,
): Promise<Begun> {
  for (let tried = 1; ; tried += 1) {
    checkSignal(signal);
    const old = await oldBackends(session, ref);
    try {
      const begun = await inTransaction(session, () => bump(session, ref, direction));
      // It may still be between two statements of something that no fence stops: end it before we look at what it left.
      if (begun.state === 'begun') for (const backend of old) await endBackend(session, backend);
      crashPoint('step.begin.after', ref.stepId);
      return begun;
    } catch (error) {
      if (!isLockProblem(error) || tried === BUMP_TRIES) throw error;
      // The old attempt sits in its transaction, perhaps frozen, and holds the row.
      for (const backend of old) await endBackend(session, backend);
    }
  }
}

/** Backends of earlier attempts: the step's own, and those of its lanes. */
const oldBackends = (session: Session, ref: StepRef): Promise<Backend[]> =>
  session.rows<Backend>(
    `SELECT backend_pid AS pid, backend_start::text AS start FROM pgshift.steps
      WHERE migration_name = $1 AND step_id = $2 AND backend_pid IS NOT NULL
     UNION SELECT backend_pid, backend_start::text FROM pgshift.lanes
      WHERE migration_name = $1 AND step_id = $2 AND backend_pid IS NOT NULL`,
    [ref.migration, ref.stepId],
  );

async function bump(session: Session, ref: StepRef, direction: 'do' | 'undo'): Promise<Begun> {
  const key = [ref.migration, ref.stepId];
  await session.run(`SET LOCAL lock_timeout = ${BUMP_LOCK_TIMEOUT_MS}`);
  await session.run(
    `INSERT INTO pgshift.steps (migration_name, step_id, phase) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
    [...key, ref.phase],
  );
  const row = await session.one<Locked>(
    `SELECT status, attempt, epoch, rows, result, (checkpoint->>'undone')::int AS undone
       FROM pgshift.steps WHERE migration_name = $1 AND step_id = $2 FOR UPDATE`,
    key,
  );
  if (!row) throw new Problem('Bug', `the row of step ${ref.stepId} vanished`);
  if (row.status === (direction === 'do' ? 'done' : 'undone'))
    return { state: 'already', row: { ...row, rows: Number(row.rows) } };
  if (direction === 'do' && (row.status === 'undoing' || row.status === 'undone'))
    throw new Problem('NotNow', `step ${ref.stepId} is being taken back`);
  const bumped = await session.one<{ epoch: string; attempt: number; spent: number }>(
    `UPDATE pgshift.steps SET epoch = epoch + 1, attempt = attempt + 1, status = $3,
            started_at = coalesce(started_at, clock_timestamp()), finished_at = NULL,
            budget_from = CASE WHEN status IN ('running', 'undoing') THEN coalesce(budget_from, clock_timestamp())
                               ELSE clock_timestamp() END,
            backend_pid = $4, backend_start = $5::timestamptz
      WHERE migration_name = $1 AND step_id = $2
      RETURNING epoch, attempt, extract(epoch FROM clock_timestamp() - budget_from)::float8 * 1000 AS spent`,
    [...key, direction === 'do' ? 'running' : 'undoing', session.pid, session.backendStart],
  );
  if (!bumped) throw new Problem('Bug', `the row of step ${ref.stepId} vanished`);
  await session.run(
    `UPDATE pgshift.lanes SET epoch = $3, backend_pid = NULL, backend_start = NULL WHERE migration_name = $1 AND step_id = $2`,
    [...key, bumped.epoch],
  );
  return {
    state: 'begun',
    before: row.status,
    attempt: {
      ...ref,
      epoch: bumped.epoch,
      number: bumped.attempt,
      spentMs: bumped.spent,
      beganAt: performance.now(),
      undone: row.undone ?? 0,
      throttledMs: (row.result['throttledMs'] ?? {}) as Record<string, number>,
    },
  };
}

/** Ends a backend if it still is the one that was recorded, and waits until it is gone (5 s at most). */
async function endBackend(session: Session, backend: Backend): Promise<void> {
  if (backend.pid === session.pid) return;
  const still = `FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = $1 AND a.backend_start = $2::timestamptz`;
  const identity = [backend.pid, backend.start];
  // Same role: always allowed. Another role's (the URL changed since): needs pg_signal_backend; the epoch holds without it.
  await session.run(`SELECT pg_catalog.pg_terminate_backend(a.pid) ${still}`, identity).catch(() => undefined);
  for (let tried = 0; tried < END_TRIES; tried += 1) {
    if (!(await session.one(`SELECT 1 AS one ${still}`, identity))) return;
    await sleep(END_POLL_MS);
  }
}

export const fenceBroken = (attempt: Attempt): Problem =>
  new Problem('FenceBroken', `another attempt of step ${attempt.stepId} has taken over from attempt ${attempt.number}`);

/**
 * The first write of a transaction that finishes the step or one run of its way back: fence and record in one. `undoIndex` = which run
 * of the way back; undefined = the step itself. Throws FenceBroken.
 */
export async function fenceAndRecord(session: Session, attempt: Attempt, undoIndex: number | undefined): Promise<void> {
  const set =
    undoIndex === undefined
      ? `status = 'done', finished_at = clock_timestamp()`
      : `checkpoint = checkpoint || jsonb_build_object('undone', ${Math.round(undoIndex) + 1})`;
  const rows = await session.run(
    `UPDATE pgshift.steps SET ${set} WHERE migration_name = $1 AND step_id = $2 AND epoch = $3`,
    [attempt.migration, attempt.stepId, attempt.epoch],
  );
  if (rows === 0) throw fenceBroken(attempt);
}

export interface Finish {
  readonly status: 'done' | 'undone' | 'failed' | 'pending' | 'undoing';
  readonly rows?: number;
  readonly result: Readonly<Record<string, unknown>>;
}

/** Writes the step's end. false = another attempt has taken over, nothing was written. */
export async function finishAttempt(session: Session, attempt: Attempt, finish: Finish): Promise<boolean> {
  const over = finish.status === 'done' || finish.status === 'undone' || finish.status === 'failed';
  const rows = await session.run(
    `UPDATE pgshift.steps SET status = $4, rows = coalesce($5::bigint, rows), result = result || $6::jsonb,
            finished_at = CASE WHEN ${over} THEN clock_timestamp() END, backend_pid = NULL, backend_start = NULL
      WHERE migration_name = $1 AND step_id = $2 AND epoch = $3`,
    [
      attempt.migration,
      attempt.stepId,
      attempt.epoch,
      finish.status,
      finish.rows ?? null,
      JSON.stringify(finish.result),
    ],
  );
  return rows > 0;
}

const LOCK_KEY = `pg_catalog.hashtextextended('pgshift/step/' || $1 || '/' || $2, 0)`;

/**
 * Runs work that no transaction can hold, on `session`, so that no two attempts ever run it at once. Throws FenceBroken when another
 * attempt began meanwhile.
 */
export async function underStepLock<T>(
  session: Session,
  attempt: Attempt,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const key = [attempt.migration, attempt.stepId];
  for (;;) {
    checkSignal(signal);
    const got = await session.one<{ got: boolean }>(`SELECT pg_catalog.pg_try_advisory_lock(${LOCK_KEY}) AS got`, key);
    if (got?.got) break;
    await checkEpoch(session, attempt);
    // Only an attempt of this very step holds it, and our bump has outdated that attempt.
    const holder = await session.one<Backend>(
      `SELECT l.pid, a.backend_start::text AS start FROM pg_catalog.pg_locks AS l
         JOIN pg_catalog.pg_stat_activity AS a USING (pid)
         JOIN pg_catalog.pg_database AS d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
          AND ((l.classid::bigint << 32) | l.objid::bigint) = ${LOCK_KEY}`,
      key,
    );
    if (holder) await endBackend(session, holder);
    else await sleep(END_POLL_MS);
  }
  try {
    await checkEpoch(session, attempt);
    return await work();
  } finally {
    if (!session.lost)
      await session.run(`SELECT pg_catalog.pg_advisory_unlock(${LOCK_KEY})`, key).catch(() => undefined);
  }
}

/** Throws FenceBroken unless the epoch is still ours. */
export async function checkEpoch(session: Session, attempt: Attempt): Promise<void> {
  const mine = await session.one(
    `SELECT 1 AS one FROM pgshift.steps WHERE migration_name = $1 AND step_id = $2 AND epoch = $3`,
    [attempt.migration, attempt.stepId, attempt.epoch],
  );
  if (!mine) throw fenceBroken(attempt);
}
