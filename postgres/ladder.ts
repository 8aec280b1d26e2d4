/**
 * Never wait in the lock queue (rule 3). A try is made only when nobody who will not go away soon stands in the way; it waits at most
 * lock_timeout; then we step back and sleep, longer each time. lock_timeout itself does NOT grow: it is the longest that a client can be
 * made to wait behind us, and that promise does not fade with the number of tries. There is no last try without a timeout: when the budget,
 * counted from the step's first attempt as the database has it, is spent, the step fails and names who stood in the way.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../plan/model/errors';
import type { LockTarget } from '../plan/model/steps';
import { lockRank } from '../plan/model/steps';
import type { Blocker } from './blockers';
import { describeBlocker, findBlockers } from './blockers';
import { relation } from './ident';
import type { Session } from './session';
import { isLockProblem } from './toProblem';
import type { Work } from './work';
import { abortError, checkSignal, tell } from './work';

const FIRST_SLEEP_MS = 50;
const LONGEST_SLEEP_MS = 60_000;
/** While somebody is known to stand in the way we look often: looking costs nobody anything. */
const LONGEST_LOOK_MS = 2_000;
/** A transaction that has lasted for this many lock_timeouts is not expected to end within the next one. */
const OLD = 5;
/** deadlock_timeout is 1 s by default: only a wait longer than it makes an ordinary autovacuum give way. */
const AUTOVACUUM_TIMEOUT_MS = 2_000;

export interface Rung {
  readonly number: number;
  /** Tables on which an ordinary autovacuum was seen: see `pushAutovacuumAside`. */
  readonly autovacuumOn: readonly LockTarget[];
}

/** Sleeps, and ends with AbortError at once when the signal comes. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  checkSignal(signal);
  await sleep(ms, undefined, { signal }).catch(() => {
    throw abortError();
  });
}

/** Milliseconds of the lock budget that are left. */
export const budgetLeftMs = (work: Work): number =>
  work.context.options.lockBudgetMs - work.attempt.spentMs - (performance.now() - work.attempt.beganAt);

/**
 * Tries `once` until it succeeds; LockTimeout and Deadlock go on, everything else passes. `targets` are the locks it will ask for.
 * Throws LockBudgetSpent (details.blockers), AbortError.
 */
export async function climb<T>(
  work: Work,
  targets: readonly LockTarget[],
  once: (rung: Rung) => Promise<T>,
): Promise<T> {
  const { signal } = work.context;
  const seen = new Map<string, number>();
  let sleepMs = FIRST_SLEEP_MS;
  let last: readonly Blocker[] = [];
  for (let number = 1; ; number += 1) {
    checkSignal(signal);
    const blockers = await findBlockers(work.observer, targets, [work.session.pid, work.observer.pid]);
    const stuck = blockers.filter((blocker) => staysForLong(blocker, seen, work.context.options.lockTimeoutMs));
    last = stuck.length > 0 ? stuck : blockers.length > 0 ? blockers : last;
    if (stuck.length === 0) {
      try {
        const vacuumed = blockers.filter((blocker) => blocker.kind === 'autovacuum').map((b) => b.relation);
        return await once({
          number,
          autovacuumOn: vacuumed.length > 0 ? targets.filter((t) => lockRank(t.mode) >= lockRank('SHARE')) : [],
        });
      } catch (error) {
        if (!isLockProblem(error)) throw error;
        work.context.log('debug', 'a try for the locks timed out', { step: work.context.step.id, rung: number });
      }
    }
    tell(work.context, { waitingFor: last[0] ? describeBlocker(last[0]) : 'a lock' });
    if (budgetLeftMs(work) <= 0) throw budgetSpent(work, last);
    const longest = stuck.length > 0 ? LONGEST_LOOK_MS : LONGEST_SLEEP_MS;
    const jittered = Math.min(sleepMs, longest) * (0.5 + Math.random());
    await pause(Math.max(10, Math.min(jittered, budgetLeftMs(work) + 10)), signal);
    sleepMs = Math.min(sleepMs * 2, LONGEST_SLEEP_MS);
  }
}

function staysForLong(blocker: Blocker, seen: Map<string, number>, lockTimeoutMs: number): boolean {
  // Ordinary autovacuum gives way when asked; one against wraparound does not.
  if (blocker.kind === 'autovacuum') return false;
  if (blocker.kind !== 'session') return true;
  const key = `${blocker.pid} ${blocker.relation}`;
  const first = seen.get(key) ?? performance.now();
  seen.set(key, first);
  const age = blocker.ageMs ?? performance.now() - first;
  return age > (blocker.state?.startsWith('idle in transaction') ? 1 : OLD) * lockTimeoutMs;
}

export function budgetSpent(work: Work, blockers: readonly Blocker[]): Problem {
  const names = blockers.slice(0, 3).map(describeBlocker).join('; ');
  return new Problem(
    'LockBudgetSpent',
    `step ${work.context.step.id}: the lock could not be had within ${Math.round(work.context.options.lockBudgetMs / 1000)} s` +
      (names === '' ? '' : `: ${names}`),
    { details: { step: work.context.step.id, blockers: blockers.slice(0, 10) } },
  );
}

/** SET LOCAL lock_timeout, proven by reading it back: without it a try would queue for ever. Milliseconds. */
export async function setLockTimeout(session: Session, ms: number): Promise<void> {
  const wanted = Math.max(1, Math.round(ms));
  await session.run(`SET LOCAL lock_timeout = ${wanted}`);
  const row = await session.one<{ setting: string }>(
    `SELECT s.setting FROM pg_catalog.pg_settings AS s WHERE s.name = 'lock_timeout'`,
  );
  if (row?.setting !== String(wanted)) throw new Problem('Bug', `lock_timeout is ${row?.setting}, not ${wanted} ms`);
}

/**
 * Lets an ordinary autovacuum give way without making clients wait: SHARE UPDATE EXCLUSIVE stops neither readers nor writers, so we may
 * wait for it for longer than deadlock_timeout, which is when Postgres cancels the autovacuum. The strong lock then follows as usual.
 */
export async function pushAutovacuumAside(session: Session, rung: Rung): Promise<void> {
  if (rung.autovacuumOn.length === 0) return;
  await setLockTimeout(session, AUTOVACUUM_TIMEOUT_MS);
  for (const target of rung.autovacuumOn)
    await session.run(`LOCK TABLE ${relation(target.relation)} IN SHARE UPDATE EXCLUSIVE MODE`);
}

/** SET LOCAL for a plan's own settings. */
export async function setLocal(
  session: Session,
  settings: Readonly<Record<string, string>> | undefined,
): Promise<void> {
  for (const [name, value] of Object.entries(settings ?? {})) {
    await session.run(`SELECT pg_catalog.set_config($1, $2, true)`, [name, value]);
  }
}
