/**
 * Phase copy: children for tables, a few at a time, and beside them one activity that watches the snapshot. Keeps true: a table that fails never
 * stops the others; what was interrupted goes back to the queue; nothing is begun from a snapshot that is known to be lost.
 */
import {
  CancellationScope,
  ChildWorkflowCancellationType,
  ParentClosePolicy,
  condition,
  executeChild,
  workflowInfo,
} from '@temporalio/workflow';
import { defineSearchAttributeKey } from '@temporalio/common';
import type { CopyAlert, CopyArgs, PieceDone } from '../activities/types';
import { clampSummary, commandsFor } from '../plan/model/render';
import type { CopyState, Piece } from '../plan/model/state';
import type { dataMigrationTables } from './dataTables';
import { failed, isCancellation } from './failure';
import { interruptible } from './interruptible';
import { persist } from './phases';
import type { Run } from './run';
import { nowIso } from './run';

/** The snapshot is gone: thrown through the phase, answered with a new one. */
export class Lost extends Error {
  override readonly name = 'Lost';
}

export function copyState(run: Run): CopyState {
  if (!run.state.copy) throw new Error('a data migration without its copy');
  return run.state.copy;
}

export function copyArgs(run: Run): CopyArgs {
  const { throttle, lockTimeout, lockBudget, searchPath } = run.options();
  return {
    database: run.state.database,
    migration: run.state.name,
    copy: { ...copyState(run).control, parallel: parallelOf(run) },
    options: { throttle, lockTimeout, lockBudget, searchPath },
  };
}

/** As the plan has it, and as it was tuned since: `throttle.parallel` is a word for the tables at once. */
function parallelOf(run: Run): CopyState['control']['parallel'] {
  const { throttle, parallel } = run.state.inbox.tuning;
  const tables = throttle === undefined || throttle === 'none' ? undefined : throttle.parallel;
  const given = Object.fromEntries(Object.entries(parallel ?? {}).filter(([, value]) => value !== undefined));
  return { ...copyState(run).control.parallel, ...(tables === undefined ? {} : { tables }), ...given };
}

const ID_MAX = 200;

/** Parent's id and the table; a long one ends in a hash of the whole. */
function childId(label: string): string {
  const id = `${workflowInfo().workflowId}/${label}`;
  if (id.length <= ID_MAX) return id;
  let hash = 0xcbf29ce484222325n;
  for (const char of id) hash = BigInt.asUintN(64, (hash ^ BigInt(char.codePointAt(0) ?? 0)) * 0x100000001b3n);
  return `${id.slice(0, ID_MAX - 17)}.${hash.toString(16).padStart(16, '0')}`;
}

const runPiece = (run: Run, piece: Piece): Promise<PieceDone> =>
  executeChild<typeof dataMigrationTables>('dataMigrationTables', {
    workflowId: childId(piece.label),
    args: [
      {
        settings: run.state.settings,
        label: piece.label,
        work: { ...copyArgs(run), from: piece.from, to: piece.to },
      },
    ],
    cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
    staticSummary: clampSummary(`${piece.label} of ${run.state.name}`),
    typedSearchAttributes: [
      { key: defineSearchAttributeKey('MigrationName', 'KEYWORD'), value: run.state.name },
      { key: defineSearchAttributeKey('MigrationDatabase', 'KEYWORD'), value: run.state.database },
      { key: defineSearchAttributeKey('MigrationKind', 'KEYWORD'), value: run.state.kind },
    ],
  });

const HEALTH_MAX = 200;

/** Once for each table, whichever activity told it first. */
export function hear(run: Run, { kind, table, value, at }: CopyAlert): void {
  const s = run.state;
  const name = `${kind === 'throughput' ? 'rows per second' : 'bad rows'} of ${table}`;
  if (s.health.length >= HEALTH_MAX || s.health.some((event) => event.name === name)) return;
  s.health = [...s.health, { name, verdict: 'alert', at, value }];
}

function keep(run: Run, done: PieceDone): void {
  const c = copyState(run);
  c.copied += done.copied;
  c.rows += done.rows;
  c.bytesDone += done.bytes;
  for (const alert of done.alerts ?? []) hear(run, alert);
  const known = new Set(c.quarantined.map(({ no }) => no));
  for (const { no, table, code, message } of done.failed)
    if (!known.has(no)) c.quarantined.push({ no, table, code, message, skipped: false });
  run.show();
}

const undecided = (c: CopyState) => c.quarantined.filter(({ skipped }) => !skipped);

/** What people said about tables that were set aside. */
async function takeAnswers(run: Run): Promise<void> {
  const c = copyState(run);
  for (const [table, verdict] of Object.entries(run.state.inbox.answers ?? {})) {
    const found = undecided(c).find((one) => one.table === table);
    const { [table]: _, ...rest } = run.state.inbox.answers ?? {};
    run.state.inbox = { ...run.state.inbox, answers: rest };
    if (!found) continue;
    await run.ask('settleTable', { ...copyArgs(run), no: found.no, verdict }, `${verdict} ${table}`);
    if (verdict === 'skip')
      c.quarantined = c.quarantined.map((one) => (one === found ? { ...one, skipped: true } : one));
    else {
      c.quarantined = c.quarantined.filter((one) => one !== found);
      c.queue.unshift({ from: found.no, to: found.no, label: table });
      // Its rows cannot be seen from the old snapshot any more.
      if (found.code === 'Drift') throw new Lost(`${table} is read again`);
    }
  }
}

const hasAnswers = (run: Run): boolean => Object.keys(run.state.inbox.answers ?? {}).length > 0;

/** Everything else is done: what failed waits for a person. */
async function waitForPerson(run: Run): Promise<void> {
  const c = copyState(run);
  const open = undecided(c);
  await run.wait({
    status: 'paused',
    waiting: {
      type: 'person',
      gate: null,
      since: nowIso(),
      until: null,
      reason: `${open.length} tables are set aside: ${open
        .slice(0, 5)
        .map(({ table, code, message }) => `${table}: ${code}: ${message}`)
        .join('; ')}`,
      evidence: { tables: open.slice(0, 20).map(({ table, code }) => ({ table, code })), copied: c.copied },
      commands: open
        .slice(0, 3)
        .flatMap(({ table }) => ['retry', 'skip'].flatMap((verb) => commandsFor(run.state, verb, { target: table }))),
    },
    until: () => hasAnswers(run),
  });
  run.show('running');
}

/** One stretch of copying without interruption. @throws Lost, a child's failure, cancellation; the queue then holds what is left. */
async function round(run: Run): Promise<void> {
  const c = copyState(run);
  const children = new CancellationScope();
  const watch = new CancellationScope();
  let running = 0;
  let ended = 0;
  let failure: unknown = null;
  let over = false;
  const fail = (error: unknown): void => {
    // The first real reason counts, not the cancels that follow from it.
    if (failure === null || (isCancellation(failure) && !isCancellation(error))) failure = error;
    children.cancel();
  };
  const begin = (piece: Piece): void => {
    running += 1;
    void children
      .run(() => runPiece(run, piece))
      .then(
        (done) => keep(run, done),
        (error: unknown) => {
          c.queue.unshift(piece);
          fail(error);
        },
      )
      .finally(() => {
        running -= 1;
        ended += 1;
      });
  };
  const watching = watch
    .run(async () => {
      for (;;) {
        const {
          lost,
          done = false,
          alerts = [],
        } = await run.ask(
          'watchCopy',
          { ...copyArgs(run), epoch: c.epoch, maxMs: run.state.settings.watchMs },
          'watch the snapshot and the progress',
        );
        for (const alert of alerts) hear(run, alert);
        if (lost) return fail(new Lost('its holder or the source died'));
        if (done) return;
      }
    })
    .catch((error: unknown) => {
      if (!isCancellation(error) && !over) fail(error);
    });
  try {
    while (failure === null) {
      await takeAnswers(run);
      while (failure === null && running < parallelOf(run).tables && c.queue.length > 0 && !run.mustContinue()) {
        const piece = c.queue.shift();
        if (piece) begin(piece);
      }
      if (running === 0 && run.mustContinue()) break;
      if (running === 0 && c.queue.length === 0) {
        if (undecided(c).length === 0) break;
        // A snapshot that is lost meanwhile is found so by whoever needs it next.
        await waitForPerson(run);
        continue;
      }
      const before = ended;
      await condition(() => ended > before || failure !== null || hasAnswers(run));
    }
  } catch (error) {
    fail(error);
  } finally {
    over = true;
    children.cancel();
    watch.cancel();
    await CancellationScope.nonCancellable(() => Promise.all([watching, condition(() => running === 0)]));
  }
  if (failure !== null) throw failure;
}

const isLost = (error: unknown): boolean =>
  error instanceof Lost || (error instanceof Error && !isCancellation(error) && codeOf(error) === 'SnapshotLost');

function codeOf(error: Error): string | null {
  try {
    return failed(error).code;
  } catch {
    return null;
  }
}

/** A new snapshot for what is not done; said in the report. */
export async function openSnapshot(run: Run, why: string | null): Promise<void> {
  const c = copyState(run);
  if (why !== null) {
    c.lost.push(`epoch ${c.epoch}: ${why}`);
    await run.ask('closeSnapshot', copyArgs(run), 'let the old snapshot go');
  }
  const opened = await run.ask('openSnapshot', copyArgs(run), 'take a snapshot and list the tables');
  c.epoch = opened.epoch;
  c.tables = opened.tables;
  c.bytes = opened.bytes;
  const decided = new Set(c.quarantined.map(({ no }) => no));
  c.queue = opened.pieces.filter(({ from, to }) => from !== to || !decided.has(from));
  run.state.measured['epochs'] = c.epoch;
  if (c.lost.length > 0) run.state.measured['snapshotsLost'] = c.lost.slice(-10);
  run.show();
}

/** Work that reads from the snapshot: when it is lost, a new one is opened and the work begins again. */
export async function withSnapshot<T>(run: Run, work: () => Promise<T>, reopen = openSnapshot): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isLost(error)) throw error;
      await reopen(run, error instanceof Lost ? error.message : 'its holder or the source died');
    }
  }
}

/** Until every table is copied or left out by a person. */
export async function copyTables(run: Run, reopen = openSnapshot): Promise<void> {
  const c = copyState(run);
  for (;;) {
    await persist(run, 'copy', () => interruptible(run, () => withSnapshot(run, () => round(run), reopen)));
    if (c.queue.length === 0 && undecided(c).length === 0) return;
    if (run.mustContinue()) await run.renew();
  }
}
