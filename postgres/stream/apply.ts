/**
 * Puts changes into the target inside a transaction of the caller's. Keeps true: their outcome is that of the source's order; a row that should be
 * there and is not is an error, never passed over; when a set of changes is refused it is halved until the one that cannot be applied is known,
 * and nothing of it stays.
 */
import { Problem, isProblem } from '../../plan/model/errors';
import type { Session } from '../session';
import { isLockProblem, sqlstate } from '../toProblem';
import { checkSignal } from '../work';
import type { Net, PlanOf, Step } from './net';
import { sorted, stepsOf } from './net';
import type { Tuple } from './decode';
import { UNCHANGED } from './decode';
import type { TablePlan } from './plan';
import type { Statement } from './statements';
import {
  deleteLike,
  deleteRows,
  insertFiltered,
  insertRows,
  keyJson,
  moveRow,
  updateLike,
  updateRows,
} from './statements';
import type { Change } from './types';

/** A change that the target refuses. Holds no value; its key goes to pgshift.quarantine by `key`. */
export interface Culprit {
  readonly change: Change;
  readonly table: string;
  readonly key: Record<string, string | null>;
  readonly column: string | null;
  readonly code: Problem['code'];
  readonly message: string;
}

export class Unapplied extends Error {
  override readonly name = 'Unapplied';
  constructor(readonly culprit: Culprit) {
    super(`${culprit.table}: ${culprit.message}`);
  }
}

/** The target's rows are not what the source's were. */
class RowMissing extends Error {
  override readonly name = 'RowMissing';
}

export interface Applying {
  readonly session: Session;
  readonly planOf: PlanOf;
  readonly signal: AbortSignal;
  /** May this one be left out? Throws Unapplied when it may not; else it has been written down. */
  readonly onCulprit: (culprit: Culprit) => Promise<void>;
}

/** Inside a transaction. Throws Unapplied, AbortError, and what concerns the server and no row. */
export async function applyChanges(applying: Applying, changes: readonly Change[]): Promise<void> {
  if (changes.length === 0) return;
  checkSignal(applying.signal);
  const { session } = applying;
  const steps = stepsOf(changes, applying.planOf);
  if (steps.length === 0) return;
  await session.run('SAVEPOINT changes');
  try {
    for (const step of steps) await applyStep(applying, step);
    await session.run('RELEASE changes');
  } catch (error) {
    if (session.lost || !isOfRows(error)) throw error;
    await session.run('ROLLBACK TO changes');
    await session.run('RELEASE changes');
    const [only, ...more] = changes;
    if (only && more.length === 0) return applying.onCulprit(culpritOf(only, steps[0], error));
    const middle = Math.ceil(changes.length / 2);
    await applyChanges(applying, changes.slice(0, middle));
    await applyChanges(applying, changes.slice(middle));
  }
}

/** Does it say something about the rows (or the table's shape), and nothing about the server or a lock? */
function isOfRows(error: unknown): error is Error {
  if (error instanceof RowMissing) return true;
  // A missing privilege is no matter of one row.
  if (!isProblem(error) || isLockProblem(error) || error.code === 'PrivilegeMissing') return false;
  return ['22', '23', '42', '44', 'P0', '54', '0A', '21', '2F', '55'].includes((sqlstate(error) ?? '').slice(0, 2));
}

function planIn(step: Step | undefined): TablePlan | null {
  if (!step) return null;
  if (step.kind === 'net') return step.nets[0]?.plan ?? null;
  return step.kind === 'truncate' ? (step.plans[0] ?? null) : step.plan;
}

function culpritOf(change: Change, step: Step | undefined, error: Error): Culprit {
  const plan = planIn(step);
  const { message } = change;
  const now = message.kind === 'insert' || message.kind === 'update' ? message.row : null;
  const row = message.kind === 'update' || message.kind === 'delete' ? (message.old ?? now) : now;
  const column = isProblem(error) && typeof error.details.column === 'string' ? error.details.column : null;
  return {
    change,
    table: plan?.label ?? '',
    key: plan === null || row === null ? {} : keyJson(plan, row),
    column,
    code: isProblem(error) ? error.code : 'Drift',
    message: error.message,
  };
}

async function run(session: Session, statement: Statement | null): Promise<void> {
  if (statement === null) return;
  const touched = await session.run(statement.sql, statement.values);
  if (statement.rows !== null && touched !== statement.rows)
    throw new RowMissing(`${statement.rows - touched} rows that change are not there on the target`);
}

async function applyStep({ session }: Applying, step: Step): Promise<void> {
  switch (step.kind) {
    case 'net':
      for (const net of step.nets) await applyNet(session, net);
      return;
    case 'move':
      return run(session, moveRow(step.plan, step.old, step.row));
    case 'updateLike':
      return run(session, updateLike(step.plan, step.old, step.row));
    case 'deleteLike':
      return run(session, deleteLike(step.plan, step.old));
    case 'truncate':
      return truncate(session, step.plans, step.restart);
  }
}

async function applyNet(session: Session, net: Net): Promise<void> {
  const { gone, changed, come } = sorted(net);
  if (net.plan.filter !== null) return applyFiltered(session, net.plan, gone, [...changed.flat(), ...come]);
  if (gone.length > 0) await run(session, deleteRows(net.plan, gone));
  for (const rows of changed) await run(session, updateRows(net.plan, rows));
  if (come.length > 0) await run(session, insertRows(net.plan, come));
}

/** Whether a row was let through before is not known: it goes, and comes again where the filter lets it through now. */
async function applyFiltered(
  session: Session,
  plan: TablePlan,
  gone: readonly Tuple[],
  rows: readonly Tuple[],
): Promise<void> {
  const inputs = [...plan.columns, ...(plan.filter === null ? [] : [plan.filter])].flatMap((one) => one.inputs);
  // Preflight saw to it; the table's replica identity may have been changed since.
  if (rows.some((row) => inputs.some((at) => row[at] === UNCHANGED)))
    throw new Problem('Drift', `${plan.label}: a change came without all of its values, which the filter asks for`, {
      hint: `ALTER TABLE ... REPLICA IDENTITY FULL on the source, then start again`,
    });
  const all = [...gone, ...rows];
  if (all.length > 0) await run(session, { ...deleteRows(plan, all), rows: null });
  if (rows.length > 0) await run(session, insertFiltered(plan, rows));
}

const TRUNCATE_LOCK_MS = 200;
/** Of the session that applies: somebody who holds rows or tables for longer makes the transaction begin again. */
export const ROW_LOCK_MS = 10_000;

/** ACCESS EXCLUSIVE is not queued for: while others read, or foreign keys point here, the rows are deleted instead. */
async function truncate(session: Session, plans: readonly TablePlan[], restart: boolean): Promise<void> {
  const tables = plans.map(({ only }) => only);
  await session.run('SAVEPOINT emptied');
  try {
    await session.run(`SET LOCAL lock_timeout = ${TRUNCATE_LOCK_MS}`);
    await session.run(`TRUNCATE ${tables.join(', ')} ${restart ? 'RESTART' : 'CONTINUE'} IDENTITY`);
    await session.run('RELEASE emptied');
    await session.run(`SET LOCAL lock_timeout = ${ROW_LOCK_MS}`);
  } catch (error) {
    if (session.lost || !isProblem(error)) throw error;
    await session.run('ROLLBACK TO emptied');
    await session.run('RELEASE emptied');
    for (const table of tables) await session.run(`DELETE FROM ${table}`);
  }
}
