/**
 * Watches a long statement from the observer's session: progress for people, locks really held, what it waits for. Ends it when the
 * caller's signal comes, or when it has waited for others longer than the lock budget allows. Keeps true: the observer never holds a
 * snapshot or a transaction between two looks, or a concurrent build would wait for it.
 */
import type { LockHeld } from '../plan/model/status';
import type { Blocker } from './blockers';
import { blockersOf, describeBlocker, lockMode } from './blockers';
import { cancelOnAbort } from './cancel';
import type { CrashPoint } from './crashPoints';
import { crashPoint } from './crashPoints';
import { budgetLeftMs, budgetSpent } from './ladder';
import type { Work } from './work';
import { abortError, tell } from './work';

const FIRST_LOOK_MS = 5;
const LOOK_MS = 200;

interface Look extends Record<string, unknown> {
  readonly phase: string | null;
  readonly done: number | null;
  readonly total: number | null;
  readonly waiting: boolean;
}

interface LockRow extends Record<string, unknown> {
  readonly name: string;
  readonly mode: string;
  readonly granted: boolean;
  readonly waitedMs: number | null;
}

/** Runs `statement` on the step's session. Throws what it throws, AbortError, LockBudgetSpent. */
export async function observed<T>(
  work: Work,
  statement: () => Promise<T>,
  whenBuilding?: CrashPoint,
): Promise<{ value: T; locks: LockHeld[] }> {
  const locks = new Map<string, { held: LockHeld; from: number }>();
  const stop = cancelOnAbort(work, work.session.pid);
  let over = false;
  let spent: readonly Blocker[] | null = null;
  const watching = (async () => {
    for (let delay = FIRST_LOOK_MS; !over; delay = Math.min(LOOK_MS, delay * 2)) {
      await new Promise((resolve) => setTimeout(resolve, delay));
      if (over) break;
      spent = (await look(work, locks, whenBuilding).catch(() => null)) ?? spent;
    }
  })();
  const started = performance.now();
  try {
    const value = await statement();
    // A small build may be over before it was ever seen.
    if (whenBuilding) crashPoint(whenBuilding, work.context.step.id);
    return { value, locks: finished(locks, started) };
  } catch (error) {
    // The look that cancelled it may not have said so yet.
    over = true;
    await watching;
    if (work.context.signal.aborted) throw abortError();
    throw spent === null ? error : budgetSpent(work, spent);
  } finally {
    over = true;
    stop();
    await watching;
  }
}

/** One look. Blockers = the budget was spent, and the statement has been cancelled. */
async function look(
  work: Work,
  locks: Map<string, { held: LockHeld; from: number }>,
  whenBuilding: CrashPoint | undefined,
): Promise<readonly Blocker[] | null> {
  const { observer, session } = work;
  for (const row of await lockRows(work)) note(locks, row);
  const now = await observer.one<Look>(
    `SELECT p.phase, coalesce(nullif(p.blocks_total, 0) * 0 + p.blocks_done, p.tuples_done)::float8 AS done,
            coalesce(nullif(p.blocks_total, 0), p.tuples_total)::float8 AS total,
            (SELECT a.wait_event_type = 'Lock' FROM pg_stat_activity AS a WHERE a.pid = $1) AS waiting
       FROM (SELECT $1::int AS pid) AS me LEFT JOIN pg_stat_progress_create_index AS p USING (pid)`,
    [session.pid],
  );
  if (whenBuilding && now?.phase) crashPoint(whenBuilding, work.context.step.id);
  const blockers = now?.waiting ? await blockersOf(observer, session.pid) : [];
  tell(work.context, {
    rowsDone: now?.done ?? 0,
    rowsTotal: now?.total ?? 0,
    waitingFor: blockers[0] ? describeBlocker(blockers[0]) : null,
  });
  if (!now?.waiting || budgetLeftMs(work) > 0) return null;
  await observer.run(`SELECT pg_catalog.pg_cancel_backend($1)`, [session.pid]);
  return blockers;
}

const lockRows = (work: Work): Promise<LockRow[]> =>
  work.observer.rows<LockRow>(
    `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, l.mode, l.granted,
            (extract(epoch FROM clock_timestamp() - l.waitstart) * 1000)::float8 AS "waitedMs"
       FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
       JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE l.locktype = 'relation' AND l.pid = $1
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgshift')`,
    [work.session.pid],
  );

function note(locks: Map<string, { held: LockHeld; from: number }>, row: LockRow): void {
  const mode = lockMode(row.mode);
  if (mode === undefined) return;
  const key = `${row.name} ${row.mode}`;
  const known = locks.get(key);
  const from = known?.from ?? performance.now();
  const waitedMs = Math.max(known?.held.waitedMs ?? 0, row.waitedMs ?? 0);
  const heldMs = row.granted ? performance.now() - from : 0;
  locks.set(key, {
    from: row.granted ? from : performance.now(),
    held: { relation: row.name, mode, waitedMs, heldMs },
  });
}

/** To within one look: a lock seen at all is taken to be held until its last sight plus one look. */
const finished = (locks: Map<string, { held: LockHeld; from: number }>, started: number): LockHeld[] => {
  const longest = performance.now() - started;
  return [...locks.values()]
    .filter(({ held }) => held.heldMs > 0 || held.waitedMs > 0)
    .map(({ held }) => ({ ...held, heldMs: Math.min(longest, held.heldMs + LOOK_MS) }));
};
