/**
 * One transaction of a plan, under the ladder. Keeps true: the record that the step is done commits with the change and is its first write
 * (the fence); strong locks come first and in the plan's order, the first under lock_timeout, the later ones NOWAIT; the locks really held
 * are recorded in the same transaction.
 */
import type { LockTarget, TransactionRun } from '../plan/model/steps';
import { Problem } from '../plan/model/errors';
import { cancelOnAbort } from './cancel';
import { crashPoint } from './crashPoints';
import { fenceAndRecord } from './fence';
import { relation } from './ident';
import type { Rung } from './ladder';
import { climb, pushAutovacuumAside, setLocal, setLockTimeout } from './ladder';
import { addHeldMs, LockWatch, writeLocks } from './locks';
import { inTransaction } from './session';
import { QUERY_CANCELED, sqlstate } from './toProblem';
import type { Work, WorkResult } from './work';
import { checkSignal, NOTHING } from './work';

/** Which run of the way back a scope is; undefined = the step itself. */
export const undoIndexOf = (scope: string): number | undefined =>
  scope.startsWith('undo.') ? Number(scope.slice('undo.'.length)) : undefined;

/** Runs it once to its commit. Throws LockBudgetSpent, FenceBroken, StepFailed and what toProblem says. */
export async function runTransaction(work: Work, run: TransactionRun): Promise<WorkResult> {
  const targets = run.lockFirst.length > 0 ? run.lockFirst : await plannedTargets(work);
  return climb(work, targets, (rung) => once(work, run, rung));
}

/** Without `lockFirst` the plan's own list of locks says where to look for blockers. */
async function plannedTargets(work: Work): Promise<LockTarget[]> {
  const planned = work.context.step.locks.map(({ relation: name, mode }) => ({ name, mode }));
  if (planned.length === 0) return [];
  const rows = await work.observer.rows<LockTarget['relation'] & Pick<LockTarget, 'mode'> & Record<string, unknown>>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name, p.mode
       FROM jsonb_to_recordset($1::jsonb) AS p(name text, mode text)
       JOIN pg_catalog.pg_class AS c ON c.oid = to_regclass(p.name)
       JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')`,
    [JSON.stringify(planned)],
  );
  return rows.map(({ schema, name, mode }) => ({ relation: { schema, name }, mode }));
}

async function once(work: Work, run: TransactionRun, rung: Rung): Promise<WorkResult> {
  const { session, context, attempt } = work;
  const watch = new LockWatch(session, work.observer);
  const stop = cancelOnAbort(work, session.pid);
  let recorded: { ids: readonly string[]; at: number } = { ids: [], at: 0 };
  let locks: WorkResult['locks'] = [];
  let rows = 0;
  try {
    await inTransaction(session, async () => {
      await fenceAndRecord(session, attempt, undoIndexOf(work.scope));
      await pushAutovacuumAside(session, rung);
      await setLockTimeout(session, context.options.lockTimeoutMs);
      await session.run(guardsSql(run));
      await setLocal(session, run.settings);
      await lockTables(work, run.lockFirst, watch);
      for (const message of messagesOf(run)) {
        checkSignal(context.signal);
        rows += await watch.around(false, () => notForLong(run, () => session.run(message)));
      }
      locks = await watch.held();
      recorded = { ids: await writeLocks(session, work, locks), at: performance.now() };
      checkSignal(context.signal);
      crashPoint('transaction.before-commit', context.step.id);
    });
  } finally {
    stop();
  }
  crashPoint('transaction.after-commit', context.step.id);
  const commitMs = performance.now() - recorded.at;
  await addHeldMs(session, recorded.ids, commitMs);
  return {
    ...NOTHING,
    rows,
    locks: locks.map((lock) => ({ ...lock, heldMs: lock.heldMs + commitMs })),
    recorded: true,
  };
}

/** A process that freezes between two statements must not hold clients up for long, nor a statement that was thought to be quick. */
const FROZEN_MS = 5_000;
const QUICK_MS = 60_000;

/** Says by `details.limitMs` that our own limit ended it: trying again would make clients wait as long again. */
async function notForLong(run: TransactionRun, work: () => Promise<number>): Promise<number> {
  const began = performance.now();
  try {
    return await work();
  } catch (error) {
    if (run.long || sqlstate(error) !== QUERY_CANCELED || performance.now() - began < QUICK_MS) throw error;
    throw new Problem('StepFailed', `a statement that was thought to be quick took longer than ${QUICK_MS / 1000} s`, {
      details: { sqlstate: QUERY_CANCELED, limitMs: QUICK_MS },
    });
  }
}

/**
 * Once the strong locks are held clients wait: everything else goes to the server as one message, since each journey there and back
 * would be added to their wait. Without locks taken first each statement goes alone, so that its own locks and waits are seen.
 */
const messagesOf = (run: TransactionRun): readonly string[] =>
  run.lockFirst.length > 0 && !run.long ? [run.statements.join(';\n')] : run.statements;

const guardsSql = (run: TransactionRun): string =>
  `SET LOCAL idle_in_transaction_session_timeout = ${FROZEN_MS}; SET LOCAL statement_timeout = ${run.long ? 0 : QUICK_MS}`;

async function lockTables(work: Work, targets: readonly LockTarget[], watch: LockWatch): Promise<void> {
  for (const [index, target] of targets.entries()) {
    // lock_timeout counts per lock. Only the first may wait: while we wait for a second one, the first already stops clients.
    const nowait = index === 0 ? '' : ' NOWAIT';
    await watch.around(true, () =>
      work.session.run(`LOCK TABLE ${relation(target.relation)} IN ${target.mode} MODE${nowait}`),
    );
  }
}
