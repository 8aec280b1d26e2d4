/**
 * Finds the rows on which a batch fails, by halving ranges; every try is rolled back. Their keys go to pgshift.differences, the number into
 * the error. Goes on behind the failed batch for a while, so that a person sees all of them at once where that is cheap.
 */
import { Problem } from '../plan/model/errors';
import type { BatchJob, Refusal } from './batches';
import type { Difference } from './differences';
import { LISTED, writeDifferences } from './differences';
import { literal } from './ident';
import type { Lane } from './lanes';
import type { Bound, Range } from './ranges';
import { heap, keyJson, nextBound, rangeSql } from './ranges';
import type { Session } from './session';
import { inTransaction } from './session';
import { sqlstate } from './toProblem';
import type { Work } from './work';
import { checkSignal } from './work';

const LONGEST_MS = 60_000;
const AHEAD_ROWS = 5_000;
/** More line pointers than any block of 32 kB holds. */
const POINTERS = 4_096;

export interface Refused extends Refusal {
  readonly lanes: readonly Lane[];
  /** `table.column` for people. */
  readonly column: string;
}

interface Search {
  readonly work: Work;
  readonly job: BatchJob;
  readonly lane: Lane;
  readonly session: Session;
  readonly found: Difference[];
  readonly column: string;
  readonly until: number;
}

/** The Problem that names how many rows the transform fails on. */
export async function refusedRows(work: Work, job: BatchJob, refused: Refused): Promise<Problem> {
  const { lane, column, error } = refused;
  const session = await work.open('bisect');
  const found: Difference[] = [];
  const search = { work, job, lane, session, found, column, until: performance.now() + LONGEST_MS };
  await halve(search, refused.range, error);
  if (refused.range.high !== null) await ahead(search, refused.range.high);
  for (const other of refused.lanes)
    if (other !== lane && !other.done) await ahead({ ...search, lane: other }, other.position);
  const table = `${job.table.schema}.${job.table.name}`;
  const list = { migration: work.attempt.migration, step: work.attempt.stepId, table, rule: 'transform' };
  await writeDifferences(session, list, found);
  const count = `${full(search) ? 'at least ' : ''}${found.length}`;
  return new Problem('TransformFailed', `${column}: the transform fails on ${count} rows [${sqlstate(error) ?? ''}]`, {
    details: { ...error.details, table, column, rows: found.length, complete: !full(search) },
  });
}

/** Behind `from`, to the end of the lane. null = from its start. */
async function ahead(search: Search, from: Bound | null): Promise<void> {
  const { lane, session, job } = search;
  for (let low = from; !full(search);) {
    const at = { low, mark: lane.high, rows: AHEAD_ROWS, rowsPerBlock: lane.rowsPerBlock };
    const next = await nextBound(session, job, at);
    if (next === null) return;
    const range = { low, high: next.high };
    const problem = await fails(search, range);
    if (problem) await halve(search, range, problem);
    if (next.high.join('\u0000') === lane.high.join('\u0000')) return;
    low = next.high;
  }
}

const full = ({ found, until }: Search): boolean => found.length >= LISTED || performance.now() > until;

/** Tries the range and takes it back. null = nothing refused. */
async function fails(search: Search, range: Range): Promise<Problem | null> {
  const { session, job, lane } = search;
  checkSignal(search.work.context.signal);
  const back = new Error('taken back');
  try {
    await inTransaction(session, async () => {
      await session.run(`SET LOCAL lock_timeout = '2s'`);
      for (const setting of job.ours ?? []) await session.run(`SET LOCAL ${setting}`);
      for (const [name, value] of Object.entries(job.settings ?? {}))
        await session.run(`SELECT pg_catalog.set_config(${literal(name)}, ${literal(value)}, true)`);
      await job.execute(session, range, lane);
      throw back;
    });
  } catch (error) {
    if (error === back) return null;
    if (/^(22|23|P0)/.test(sqlstate(error) ?? '')) return error as Problem;
    throw error;
  }
  return null;
}

/** `range` is known to fail with `problem`. */
async function halve(search: Search, range: Range, problem: Problem): Promise<void> {
  if (full(search)) return;
  const middle = await middleOf(search, range);
  if (middle === null) {
    search.found.push(...(await keysOf(search, range, problem)));
    return;
  }
  for (const half of [
    { low: range.low, high: middle },
    { low: middle, high: range.high },
  ]) {
    const failed = await fails(search, half);
    if (failed) await halve(search, half, failed);
  }
}

/** A bound inside the range; null = it cannot be halved any more. */
async function middleOf({ session, job, lane }: Search, range: Range): Promise<Bound | null> {
  if (job.key === null) return middleOfBlocks(range, lane);
  const where = rangeSql('t', job.key, range);
  const row = await session.one<{ rows: string }>(
    `SELECT count(*)::text AS rows FROM ${heap({ table: lane.table, key: job.key })} AS t WHERE ${where.text}`,
    where.values,
  );
  const rows = Number(row?.rows ?? 0);
  if (rows <= 1) return null;
  const at = { low: range.low, mark: range.high ?? lane.high, rows: Math.floor(rows / 2), rowsPerBlock: 1 };
  const next = await nextBound(session, job, at);
  return next && !next.short ? next.high : null;
}

function middleOfBlocks(range: Range, lane: Lane): Bound | null {
  const [lowBlock = 0, lowPointer = 0] = (range.low ?? ['0']).map(Number);
  const [highBlock = 0, highPointer = 0] = (range.high ?? lane.high).map(Number);
  if (highBlock - lowBlock > 1) return [String(Math.floor((lowBlock + highBlock) / 2))];
  // One block, perhaps written as "up to pointer 0 of the next".
  const end = highBlock > lowBlock ? POINTERS : highPointer;
  if (end - lowPointer <= 1) return null;
  return [String(lowBlock), String(Math.floor((lowPointer + end) / 2))];
}

async function keysOf({ session, job, lane, column }: Search, range: Range, problem: Problem): Promise<Difference[]> {
  const where = rangeSql('t', job.key, range);
  const rows = await session.rows<{ key: Record<string, string> }>(
    `SELECT ${keyJson(job.key)} AS key FROM ${heap({ table: lane.table, key: job.key })} AS t WHERE ${where.text} LIMIT ${LISTED}`,
    where.values,
  );
  const reason = `SQLSTATE ${sqlstate(problem) ?? 'unknown'}`;
  return rows.map(({ key }) => ({ key, column: column.slice(column.lastIndexOf('.') + 1), reason }));
}
