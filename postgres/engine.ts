/**
 * The facade: runs a step, takes it back, or says what taking it back would lose. Keeps true: an attempt begins by bumping the epoch; what
 * is recorded as done is never sent again; cancelled, failed and killed attempts leave a row from which the next one goes on.
 */
import { ERRORS, isProblem, Problem } from '../plan/model/errors';
import type { LockHeld, Proof } from '../plan/model/status';
import type { StepRun } from '../plan/model/steps';
import { runArchive } from './archive';
import { runBackfill } from './backfill';
import { runAutocommit, runCreateIndex, runDropIndex } from './concurrently';
import { crashPoint } from './crashPoints';
import { runDml, runInsertSelect } from './dml';
import { runDuplicates } from './duplicates';
import type { Attempt, StepRow } from './fence';
import { beginAttempt, fenceAndRecord, fenceBroken, finishAttempt } from './fence';
import { previewProof, runProof } from './proof';
import type { Session } from './session';
import { openSession, withSession } from './session';
import { errorEntry, writeLog } from './state/journal';
import { QUERY_CANCELED, sqlstate } from './toProblem';
import { runTransaction } from './transaction';
import type { StepContext, StepOutcome } from './types';
import type { Work, WorkResult } from './work';
import { abortError, checkSignal, NOTHING } from './work';

/** One run, unless its own condition says that there is nothing to do. */
async function execute(work: Work, run: StepRun): Promise<WorkResult> {
  if ('onlyWhen' in run && run.onlyWhen !== undefined) {
    const row = await work.session.one<{ holds: boolean | null }>(`SELECT (${run.onlyWhen})::boolean AS holds`);
    if (row?.holds !== true) return NOTHING;
  }
  return executeKind(work, run);
}

/** Exhaustive: a new kind does not compile until it has its line here. */
function executeKind(work: Work, run: StepRun): Promise<WorkResult> {
  switch (run.kind) {
    case 'transaction':
      return runTransaction(work, run);
    case 'create-index':
      return runCreateIndex(work, run);
    case 'drop-index':
      return runDropIndex(work, run);
    case 'autocommit':
      return runAutocommit(work, run);
    case 'backfill':
      return runBackfill(work, run);
    case 'dml':
      return runDml(work, run);
    case 'insert-select':
      return runInsertSelect(work, run);
    case 'proof':
      return runProof(work, run);
    case 'duplicates':
      return runDuplicates(work, run);
    case 'archive':
      return runArchive(work, run);
    default:
      return run satisfies never;
  }
}

/**
 * Runs the step to its record. 'already' = it was done before, nothing was sent. Throws AbortError when `signal` comes (the step's row is
 * then `pending` and its checkpoints stay), and Problems; a non-retryable one leaves the row `failed`.
 */
export function runStep(context: StepContext): Promise<StepOutcome> {
  return attempt(context, 'do', (work) => execute(work, context.step.run));
}

/**
 * Takes the step back by its `undo`, each run recorded, so that a killed attempt goes on behind the last one. A step that never began is
 * only marked, so that a late attempt of it finds that it must not begin.
 */
export function undoStep(context: StepContext): Promise<StepOutcome> {
  return attempt(context, 'undo', async (work) => {
    let total: WorkResult | null = null;
    for (const [index, run] of context.step.undo.entries()) {
      if (index < work.attempt.undone) continue;
      checkSignal(context.signal);
      crashPoint('undo.before', context.step.id);
      const result = await execute({ ...work, scope: `undo.${index}` }, run);
      if (!result.recorded) await fenceAndRecord(work.session, work.attempt, index);
      crashPoint('undo.after', context.step.id);
      total = total === null ? result : merge(total, result);
    }
    return total ?? NOTHING;
  });
}

/** For each "rows that cannot go back" check of the way back: the counts. Keys go to pgshift.differences; nothing else is written. */
export async function previewUndo(context: StepContext): Promise<readonly Proof[]> {
  const options = { purpose: 'preview', migration: context.migration, searchPath: context.options.searchPath };
  return withSession(context.target, options, async (session) => {
    const proofs: Proof[] = [];
    const of = { migration: context.migration, stepId: context.step.id };
    for (const run of context.step.undo) {
      if (run.kind !== 'proof') continue;
      const holds = await session.one<{ holds: boolean | null }>(
        `SELECT (${run.onlyWhen ?? 'true'})::boolean AS holds`,
      );
      if (holds?.holds === true) proofs.push(...(await previewProof(session, of, run, context.signal)));
    }
    return proofs;
  });
}

const merge = (a: WorkResult, b: WorkResult): WorkResult => ({
  rows: a.rows + b.rows,
  batches: a.batches + b.batches,
  locks: [...a.locks, ...b.locks],
  proofs: [...a.proofs, ...b.proofs],
  throttledMs: Object.fromEntries(
    [...new Set([...Object.keys(a.throttledMs), ...Object.keys(b.throttledMs)])].map((name) => [
      name,
      (a.throttledMs[name] ?? 0) + (b.throttledMs[name] ?? 0),
    ]),
  ),
  recorded: false,
});

async function attempt(
  context: StepContext,
  direction: 'do' | 'undo',
  body: (work: Work) => Promise<WorkResult>,
): Promise<StepOutcome> {
  const started = performance.now();
  const sessions: Session[] = [];
  const open = async (purpose: string): Promise<Session> => {
    const session = await openSession(context.target, {
      purpose: `${context.step.id}${purpose === '' ? '' : ` ${purpose}`}`,
      migration: context.migration,
      searchPath: context.options.searchPath,
    });
    sessions.push(session);
    return session;
  };
  try {
    checkSignal(context.signal);
    const session = await open('');
    const ref = { migration: context.migration, stepId: context.step.id, phase: context.step.phase };
    const begun = await beginAttempt(session, ref, direction, context.signal);
    if (begun.state === 'already') return already(begun.row, await locksOf(session, context));
    const observer = await open('observer');
    const throttled = { ...begun.attempt.throttledMs };
    const work: Work = { context, session, observer, attempt: begun.attempt, scope: 'do', throttled, open };
    // Its first attempt ever is one to take it back: it never began.
    const never = direction === 'undo' && begun.attempt.number === 1;
    return await finish(work, direction, started, () => (never ? Promise.resolve(NOTHING) : body(work)));
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
  }
}

async function finish(
  work: Work,
  direction: 'do' | 'undo',
  started: number,
  body: () => Promise<WorkResult>,
): Promise<StepOutcome> {
  const { attempt: current, observer } = work;
  try {
    const { recorded: _, ...done } = await body();
    const result = { ...done, throttledMs: work.throttled };
    const seconds = (performance.now() - started) / 1000;
    const status = direction === 'do' ? 'done' : 'undone';
    const kept = direction === 'do' ? { ...result, seconds } : { undo: { ...result, seconds } };
    // Without a transaction of its own the step is done only now; fenced like everything else.
    const rows = direction === 'do' ? { rows: result.rows } : {};
    if (!(await finishAttempt(observer, current, { status, ...rows, result: kept }))) throw fenceBroken(current);
    return { status: 'done', attempts: current.number, seconds, ...result };
  } catch (error) {
    const thrown =
      work.context.signal.aborted && sqlstate(error) === QUERY_CANCELED ? abortError() : cancelled(error, current);
    await recordFailure(work, direction, thrown).catch(() => undefined);
    throw thrown;
  }
}

const MOST_CANCELLED = 10;

/** One that somebody cancelled is tried again, but not for ever: who cancels all of them does not want the step. */
function cancelled(error: unknown, { number }: Attempt): unknown {
  if (sqlstate(error) !== QUERY_CANCELED || !isProblem(error) || error.code !== 'StepFailed') return error;
  if (error.details.limitMs !== undefined || number >= MOST_CANCELLED) return error;
  return new Problem('StatementCancelled', error.message, { details: error.details });
}

async function recordFailure(work: Work, direction: 'do' | 'undo', error: unknown): Promise<void> {
  const { attempt: current, observer, context } = work;
  if (isProblem(error) && error.code === 'FenceBroken') return;
  const entry = errorEntry(error);
  const aborted = error instanceof Error && error.name === 'AbortError';
  const final = isProblem(error) && !ERRORS[error.code].retryable;
  const status = direction === 'undo' ? 'undoing' : aborted ? 'pending' : final ? 'failed' : null;
  if (status !== null)
    await finishAttempt(observer, current, {
      status,
      result: { throttledMs: work.throttled, ...(aborted ? {} : { error: entry.details ?? {} }) },
    });
  if (aborted) return;
  await writeLog(observer, {
    migration: context.migration,
    level: final ? 'error' : 'warning',
    phase: context.step.phase,
    step: context.step.id,
    ...entry,
  });
}

async function locksOf(session: Session, context: StepContext): Promise<LockHeld[]> {
  return session.rows<LockHeld & Record<string, unknown>>(
    `SELECT relation, mode, waited_ms::float8 AS "waitedMs", held_ms::float8 AS "heldMs" FROM pgshift.locks_held
      WHERE migration_name = $1 AND step_id = $2 ORDER BY id`,
    [context.migration, context.step.id],
  );
}

function already(row: StepRow, locks: readonly LockHeld[]): StepOutcome {
  const result = row.result as Partial<StepOutcome>;
  return {
    status: 'already',
    rows: row.rows,
    batches: result.batches ?? 0,
    attempts: row.attempt,
    seconds: result.seconds ?? 0,
    locks,
    proofs: result.proofs ?? [],
    throttledMs: result.throttledMs ?? {},
  };
}
