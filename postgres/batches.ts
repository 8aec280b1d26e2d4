/**
 * Walks a table in batches. Keeps true: a batch and its checkpoint are one transaction, the checkpoint first; a batch that fails for lack
 * of time or locks is halved and tried again, alone; memory does not grow with the table; the work ends under constant inserts, because
 * the end was fixed when it began.
 */
import type { KeyColumn, RelationName } from '../plan/model/steps';
import type { Problem } from '../plan/model/errors';
import { BatchLocks } from './batchLocks';
import { BatchSize } from './batchSize';
import { blockersOf } from './blockers';
import { cancelOnAbort } from './cancel';
import { crashPoint } from './crashPoints';
import { literal } from './ident';
import { budgetSpent, pause } from './ladder';
import type { Counted, Lane } from './lanes';
import { countLane, dropLanes, fenceLane, openLanes } from './lanes';
import { Meter } from './meter';
import type { Bound, NextRange, Range } from './ranges';
import { nextBound } from './ranges';
import type { Session } from './session';
import { rollBack } from './session';
import type { Throttle } from './throttle';
import { startThrottle } from './throttle';
import { isAbort, isLockProblem, QUERY_CANCELED, sqlstate } from './toProblem';
import type { Work, WorkResult } from './work';
import { abortError, checkSignal, NOTHING } from './work';

/** What one batch does inside its transaction. */
export interface BatchDone {
  readonly rows: number;
  /** Kept with the checkpoint; default: as it was. */
  readonly state?: Readonly<Record<string, unknown>>;
}

export interface BatchJob {
  readonly table: RelationName;
  readonly key: readonly KeyColumn[] | null;
  readonly settings?: Readonly<Record<string, string>> | undefined;
  /** Settings of ours, as `name = value` in SQL's own words. */
  readonly ours?: readonly string[];
  /** As BEGIN takes it. */
  readonly isolation?: string;
  /** Only reads, so its last range may run past the mark to the very end: of its last lane, or rows of the next one count twice. */
  readonly openEnd: boolean;
  /** The whole table is one batch: what has no key and must not see a row twice. */
  readonly whole?: boolean;
  execute(session: Session, range: Range, lane: Lane): Promise<BatchDone>;
  /** A row refuses what the batch does (SQLSTATE 22, 23): finds out which, in every lane, and gives the Problem to throw. Nobody else works meanwhile. */
  rowsRefused?(refusal: Refusal, lanes: readonly Lane[]): Promise<Problem>;
}

interface Loop {
  readonly work: Work;
  readonly job: BatchJob;
  readonly throttle: Throttle;
  readonly size: BatchSize;
  readonly meter: Meter;
  readonly locks: BatchLocks;
}

/** Of `throttle: none`. Two lanes, because one batch after the other waits for its checkpoints half as long again as a plain UPDATE takes. */
const FALLBACK = { batchTargetMs: 500, batchMin: 100, batchMax: 100_000, parallel: 2 };
const RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;
const TIMEOUT_TARGETS = 20;
const LEAST_TIMEOUT_MS = 30_000;
/** A process that freezes inside a batch must not keep rows locked for long. */
const FROZEN_MS = 10_000;

export interface Refusal {
  readonly range: Range;
  readonly lane: Lane;
  readonly error: Problem;
}

/** Passed up from a lane to where all of them have stopped. */
class RowsRefused extends Error {
  constructor(readonly refusal: Refusal) {
    super('rows are refused');
  }
}

/** Thrown by a batch whose checkpoints mean nothing any more (the table was rewritten): the lanes are made again. */
export class StartOver extends Error {}

/** Runs the job to its end. Throws FenceBroken, TransformFailed, LockBudgetSpent, AbortError. */
export async function runBatches(work: Work, job: BatchJob): Promise<WorkResult & { lanes: readonly Lane[] }> {
  const limits = work.context.options.throttle ?? FALLBACK;
  const throttle = await startThrottle(work, [job.table]);
  try {
    for (;;) {
      const lanes = await openLanes(work, job, limits.parallel);
      const size = new BatchSize({
        targetMs: limits.batchTargetMs,
        min: limits.batchMin,
        max: Math.min(limits.batchMax, mostRows(work, job, lanes)),
      });
      size.within(throttle.short);
      const meter = new Meter(work, throttle, lanes, size);
      const locks = new BatchLocks(work);
      try {
        await walk({ work, job, throttle, size, meter, locks }, lanes, limits.parallel);
        const sum = (of: (lane: Lane) => number): number => lanes.reduce((total, lane) => total + of(lane), 0);
        const rows = sum((lane) => lane.rows);
        meter.end();
        const held = await locks.write();
        return {
          ...NOTHING,
          rows,
          batches: sum((lane) => lane.batches),
          locks: held,
          throttledMs: throttle.throttledMs,
          lanes,
        };
      } catch (error) {
        if (!(error instanceof StartOver)) throw error;
        // Rows that are done are no longer pending, so nothing is done twice.
        work.context.log('warn', error.message, { step: work.context.step.id });
        await dropLanes(work);
      }
    }
  } finally {
    await throttle.close();
  }
}

const LOCKED_SHARE = 1 / 500;
const LEAST_MOST_ROWS = 1_000;

/**
 * A client that writes to a row of the running batch waits for its end. While a batch holds at most this share of the rows, that is the lot of so few
 * that the p99 of those who write evenly does not see it, however long a batch takes. What only reads, or has no brakes, needs no such limit.
 */
function mostRows(work: Work, job: BatchJob, lanes: readonly Lane[]): number {
  if (job.openEnd || work.context.options.throttle === null) return Infinity;
  const rows = lanes.reduce((total, lane) => total + lane.rowsTotal, 0);
  return Math.max(LEAST_MOST_ROWS, Math.ceil(rows * LOCKED_SHARE));
}

async function walk(loop: Loop, lanes: readonly Lane[], parallel: number): Promise<void> {
  const waiting = lanes.filter(({ done }) => !done);
  const stop = new AbortController();
  const walkers = Array.from({ length: Math.max(1, Math.min(parallel, waiting.length)) }, async (_, index) => {
    const session = index === 0 ? loop.work.session : await loop.work.open(`lane ${index}`);
    try {
      for (let lane = waiting.shift(); lane !== undefined; lane = waiting.shift())
        await walkLane(loop, session, lane, stop.signal);
    } catch (error) {
      stop.abort();
      throw error;
    }
  });
  const results = await Promise.allSettled(walkers);
  const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  // Anything else than rows comes first: the search would only run into it again.
  const [reason] = reasons.sort((a, b) => Number(a instanceof RowsRefused) - Number(b instanceof RowsRefused));
  if (reason instanceof RowsRefused && loop.job.rowsRefused) throw await loop.job.rowsRefused(reason.refusal, lanes);
  if (reason !== undefined) throw reason;
}

async function walkLane(loop: Loop, session: Session, lane: Lane, stop: AbortSignal): Promise<void> {
  const { work, job, throttle, size, meter } = loop;
  const { signal } = work.context;
  let failures = { count: 0, since: 0 };
  while (!lane.done) {
    checkSignal(signal);
    if (stop.aborted) return;
    await throttle.admit();
    size.within(throttle.short);
    const at = { low: lane.position, mark: lane.high, rows: size.rows, rowsPerBlock: lane.rowsPerBlock };
    let { high } = lane;
    try {
      const next = job.whole || lane.high.length === 0 ? null : await nextBound(session, job, at);
      high = next?.high ?? lane.high;
      const began = performance.now();
      const counted = await throttle.guard(session.pid, () => oneBatch(loop, session, lane, { high, next }));
      const tookMs = performance.now() - began;
      failures = { count: 0, since: 0 };
      if (next && !next.short) size.took(counted.scanned, tookMs);
      meter.batch(counted);
      crashPoint('batch.after-commit', work.context.step.id);
      if (!lane.done) await throttle.rest(tookMs, !job.openEnd);
    } catch (error) {
      failures = await afterFailure(loop, session, lane, { error, high, failures });
    }
  }
}

interface Bounds {
  readonly high: Bound;
  readonly next: NextRange | null;
}

async function oneBatch(loop: Loop, session: Session, lane: Lane, bounds: Bounds): Promise<Counted> {
  const { work, job } = loop;
  const done = bounds.next === null || same(bounds.high, lane.high);
  const range = job.whole
    ? { low: null, high: null }
    : { low: lane.position, high: done && lane.last && job.openEnd ? null : bounds.high };
  const stop = cancelOnAbort(work, session.pid);
  try {
    try {
      await session.run(beginSql(loop));
      const to = { high: bounds.high, done, session };
      await fenceLane(work, lane, to);
      const from = performance.now();
      const made = await job.execute(session, range, lane);
      if (lane.filenode !== null) await checkFilenode(session, lane);
      const counted = {
        rows: made.rows,
        scanned: bounds.next === null || bounds.next.short ? made.rows : bounds.next.about,
        state: made.state ?? lane.state,
      };
      await countLane(work, lane, to, counted);
      checkSignal(work.context.signal);
      await loop.locks.look(session, performance.now() - from);
      crashPoint('batch.before-commit', work.context.step.id);
      await session.run('COMMIT');
      lane.position = bounds.high;
      lane.done = done;
      lane.rows += counted.rows;
      lane.scanned += counted.scanned;
      lane.batches += 1;
      lane.state = counted.state;
      return counted;
    } catch (error) {
      await rollBack(session);
      throw error;
    }
  } finally {
    stop();
  }
}

const same = (a: Bound, b: Bound): boolean => a.length === b.length && a.every((value, index) => value === b[index]);

/** BEGIN and every setting in one message. statement_timeout hits this batch alone; lock_timeout bounds how long others wait behind it. */
function beginSql({ work, job }: Loop): string {
  const { options } = work.context;
  const targetMs = options.throttle?.batchTargetMs ?? FALLBACK.batchTargetMs;
  const settings = [
    `SET LOCAL lock_timeout = ${Math.max(1, Math.round(options.lockTimeoutMs))}`,
    `SET LOCAL idle_in_transaction_session_timeout = ${FROZEN_MS}`,
    `SET LOCAL statement_timeout = ${Math.max(LEAST_TIMEOUT_MS, TIMEOUT_TARGETS * targetMs)}`,
    ...(job.ours ?? []).map((setting) => `SET LOCAL ${setting}`),
    ...Object.entries(job.settings ?? {}).map(
      ([name, value]) => `SELECT pg_catalog.set_config(${literal(name)}, ${literal(value)}, true)`,
    ),
  ];
  return [`BEGIN ${job.isolation ?? ''}`, ...settings].join('; ');
}

/** After the batch has its lock: from here to COMMIT nobody can rewrite the table. */
async function checkFilenode(session: Session, lane: Lane): Promise<void> {
  const row = await session.one<{ filenode: string | null }>(
    `SELECT pg_catalog.pg_relation_filenode($1::oid)::text AS filenode`,
    [lane.oid],
  );
  if (row?.filenode !== lane.filenode) throw new StartOver('the table was rewritten: its blocks are walked again');
}

interface Failure {
  readonly error: unknown;
  readonly high: Bound;
  readonly failures: { readonly count: number; readonly since: number };
}

/** Decides what a failed batch means: thrown on, or halved and tried again after a while. */
async function afterFailure(
  loop: Loop,
  session: Session,
  lane: Lane,
  failure: Failure,
): Promise<{ count: number; since: number }> {
  const { work, job, throttle, size } = loop;
  const { error } = failure;
  if (work.context.signal.aborted) throw abortError();
  if (isAbort(error) || error instanceof StartOver) throw error;
  const state = sqlstate(error) ?? '';
  const cancelled = throttle.wasCancelled(session.pid);
  if (/^(22|23|P0)/.test(state) && job.rowsRefused)
    throw new RowsRefused({
      range: job.whole ? { low: null, high: null } : { low: lane.position, high: failure.high },
      lane,
      error: error as Problem,
    });
  if (!isLockProblem(error) && state !== QUERY_CANCELED) throw error;
  if (cancelled) size.shorten(work.context.options.throttle?.maxLockWaitMs ?? FALLBACK.batchTargetMs);
  else size.halve();
  const since = failure.failures.count === 0 ? performance.now() : failure.failures.since;
  const count = failure.failures.count + 1;
  if (performance.now() - since > work.context.options.lockBudgetMs)
    throw budgetSpent(work, await blockersOf(work.observer, session.pid));
  work.context.log('debug', 'a batch is tried again', { step: work.context.step.id, sqlstate: state, rows: size.rows });
  loop.meter.waiting(cancelled ? 'clients that wait behind a batch' : 'locks of others');
  await pause(
    Math.min(LONGEST_RETRY_MS, RETRY_MS * 2 ** Math.min(count - 1, 6)) * (0.5 + Math.random()),
    work.context.signal,
  );
  return { count, since };
}
