/**
 * The facade of copies between databases: what activities call. Keeps true: every function opens its own connections and closes them, may be
 * killed anywhere and called again, and answers in counts.
 */
import type { ErrorCode } from '../../plan/model/errors';
import { Problem, isProblem } from '../../plan/model/errors';
import { beginAttempt, finishAttempt } from '../fence';
import type { Session } from '../session';
import { pause } from '../ladder';
import { errorEntry, writeLog } from '../state/journal';
import { isAbort } from '../toProblem';
import { dropStream, refuseUnpublished } from '../stream/begin';
import { jobOf } from '../stream/job';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import { openCopySession, readAt } from './context';
import type { Epoch } from './epoch';
import { currentEpoch, endEpochs, isHeld, openEpoch, touchEpoch } from './epoch';
import type { CopyProgress } from './progress';
import { copyProgress } from './progress';
import { applySection } from './items';
import { Pairs, openPair, withPair } from './pairs';
import { analyseParents, copyLargeObjects, moveOwnSequences, refreshViews, setSequences } from './rest';
import { listItems } from './schema';
import { copyTable } from './table';
import type { Listed, TableRow } from './tables';
import { piecesOf, chosenTables, readTables, shown, writeTables } from './tables';
import { alertsOf } from '../map/alerts';
import type { Counts } from '../map/load';
import { runCounts } from '../map/counts';
import type { Alert } from '../map/alerts';
import { putBack } from '../map/disable';
import { refuseOverRate } from '../map/quarantine';
import { dropAllTracking } from '../map/tracked';
import { undoCopy } from './undo';
import type { Verified } from './verifyTables';
import { verifyTables } from './verifyTables';

export interface Opened extends Listed {
  readonly epoch: number;
}

/** A snapshot that is held, and the list of tables as it sees them. Throws TimelineChanged, Unreachable. */
export function openSnapshot(context: CopyContext): Promise<Opened> {
  return withPair(openPair(context, 'snapshot'), async ({ source, target }) => {
    const epoch = await openEpoch(context, source, target);
    const found = await readAt(source, epoch.snapshot, () => chosenTables(source, context.control.tables));
    if (context.control.streaming)
      await refuseUnpublished(
        source,
        jobOf(context),
        found.filter(({ kind }) => kind === 'r'),
      );
    await writeTables(target, context.migration, epoch.epoch, found);
    return { epoch: epoch.epoch, ...(await piecesOf(target, context.migration, context.control)) };
  });
}

async function openOnly(context: CopyContext, target: Session): Promise<Epoch> {
  const epoch = await currentEpoch(target, context.migration);
  if (epoch === null) throw new Problem('SnapshotLost', 'no snapshot is open');
  return epoch;
}

/** Everything that must stand before rows can come. */
export function makeSchema(context: CopyContext): Promise<{ readonly items: number }> {
  return withPair(openPair(context, 'schema'), async ({ source, target }) => {
    const epoch = await openOnly(context, target);
    if (context.control.schema === 'existing') return { items: 0 };
    await listItems(context, source, target, epoch).catch(async (error: unknown) => {
      // pg_dump only says that it cannot import it.
      if (isProblem(error) && !(await isHeld(source, epoch)))
        throw new Problem('SnapshotLost', 'the snapshot was lost while the schema was read');
      throw error;
    });
    const ref = { migration: context.migration, stepId: 'schema.1', phase: 'schema' } as const;
    const begun = await beginAttempt(target, ref, 'do', context.signal);
    if (begun.state === 'already') return { items: Number(begun.row.result['items'] ?? 0) };
    const items = await applySection(context, target, begun.attempt, 'pre');
    await finishAttempt(target, begun.attempt, { status: 'done', result: { items } });
    return { items };
  });
}

export interface BatchDone {
  readonly copied: number;
  readonly rows: number;
  readonly bytes: number;
  readonly failed: readonly {
    readonly no: number;
    readonly table: string;
    readonly code: ErrorCode;
    readonly message: string;
  }[];
  /** What people should hear of: slow tables, many bad rows. */
  readonly alerts?: readonly Alert[];
}

/** Not a matter of one table: the whole batch stops, and is tried again or given up by its caller. */
const OF_ALL: readonly ErrorCode[] = [
  ...(['Unreachable', 'ServerRestarting', 'TlsFailed', 'LoginFailed', 'SnapshotLost', 'TimelineChanged'] as const),
  ...(['FenceBroken', 'LockTimeout', 'Deadlock', 'DiskFull', 'NotNow', 'Bug', 'ErrorBudgetSpent'] as const),
];

/** Copies the tables from number `from` to `to`. One that fails is set aside with its reason, and the others go on. */
export async function copyBatch(
  context: CopyContext,
  from: number,
  to: number,
  onTable: (done: number) => void = () => undefined,
): Promise<BatchDone> {
  const control = await openCopySession(context, context.target, 'copy');
  const pairs = new Pairs(context);
  try {
    const epoch = await openOnly(context, control);
    const done = { copied: 0, rows: 0, bytes: 0, alerts: [] as Alert[] };
    for (const table of await readTables(control, context.migration, from, to)) {
      checkSignal(context.signal);
      if (table.state === 'quarantined' || table.state === 'skipped') continue;
      try {
        const copying = { context, epoch, control, pairs, targetVersion: control.serverVersion };
        const { rows, bytes } = await copyTable(copying, table);
        done.copied += 1;
        done.rows += rows;
        done.bytes += bytes;
        done.alerts.push(...(await alertsOf(control, context.migration, table.no)));
      } catch (error) {
        if (isAbort(error) || !isProblem(error) || OF_ALL.includes(error.code) || control.lost) throw error;
        await quarantine(context, control, table, error);
      }
      onTable(done.copied);
    }
    return { ...done, failed: await quarantined(control, context.migration, from, to) };
  } finally {
    await Promise.all([pairs.close(), control.close()]);
  }
}

async function quarantine(context: CopyContext, control: Session, table: TableRow, problem: Problem): Promise<void> {
  await control.run(
    `UPDATE pgshift.copy_tables SET state = 'quarantined', code = $3, reason = $4, finished_at = clock_timestamp()
      WHERE migration_name = $1 AND table_no = $2 AND state <> 'done'`,
    [context.migration, table.no, problem.code, problem.message],
  );
  const { message, details = null } = errorEntry(problem);
  await writeLog(control, {
    migration: context.migration,
    level: 'error',
    phase: 'copy',
    step: `copy.${table.no}`,
    message: `${shown(table)} is set aside: ${message}`,
    details,
  });
  context.log('warn', `${shown(table)} is set aside: ${problem.code}`, { step: `copy.${table.no}` });
}

const LISTED = 100;

/** What is set aside among these numbers, a hundred at most. */
const quarantined = async (
  control: Session,
  migration: string,
  from: number,
  to: number,
): Promise<BatchDone['failed']> => {
  const rows = await control.rows<{ no: number; schema: string; name: string; code: ErrorCode; message: string }>(
    `SELECT t.table_no AS no, t.schema_name AS schema, t.table_name AS name, t.code, left(t.reason, 300) AS message
       FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND t.table_no BETWEEN $2 AND $3 AND t.state = 'quarantined'
      ORDER BY t.table_no LIMIT ${LISTED}`,
    [migration, from, to],
  );
  return rows.map(({ no, schema, name, code, message }) => ({ no, table: shown({ schema, name }), code, message }));
};

/** A person decided about a table that was set aside: `retry` copies it again, `skip` leaves it out for good. */
export async function settleTable(context: CopyContext, no: number, verdict: 'retry' | 'skip'): Promise<void> {
  const target = await openCopySession(context, context.target, 'settle');
  try {
    await target.run(
      `UPDATE pgshift.copy_tables SET state = $3 WHERE migration_name = $1 AND table_no = $2 AND state = 'quarantined'`,
      [context.migration, no, verdict === 'skip' ? 'skipped' : 'waiting'],
    );
  } finally {
    await target.close();
  }
}

export interface Built {
  readonly items: number;
  readonly sequences: number;
  readonly views: number;
  readonly largeObjects: number;
  /** Sums over mapped and merged tables. */
  readonly counts?: Counts;
}

/** What comes when all tables are there: foreign keys, triggers, rules, policies, publications, large objects, positions, views. */
export function buildRest(context: CopyContext): Promise<Built> {
  return withPair(openPair(context, 'build'), async ({ source, target }) => {
    const ref = { migration: context.migration, stepId: 'build.1', phase: 'build' } as const;
    const begun = await beginAttempt(target, ref, 'do', context.signal);
    if (begun.state === 'already') return begun.row.result as unknown as Built;
    const epoch = await openOnly(context, target);
    const largeObjects =
      context.control.schema === 'create' ? await copyLargeObjects(context, source, target, epoch) : 0;
    const items = context.control.schema === 'create' ? await applySection(context, target, begun.attempt, 'post') : 0;
    // Tables that were left out by a person may still have theirs off.
    if (context.control.schema === 'existing') await putBack(context, target, null);
    const sequences = await setSequences(context, source, target);
    await moveOwnSequences(target, context.migration);
    const views = await refreshViews(context, source, target);
    await analyseParents(target, context.migration);
    const counts = await runCounts(target, context.migration);
    const result = { items, sequences, views, largeObjects, ...(counts === null ? {} : { counts }) };
    await finishAttempt(target, begun.attempt, { status: 'done', result });
    return result;
  });
}

/** Count and fingerprint of every table that is done. */
export async function verifyCopy(context: CopyContext): Promise<Verified> {
  const control = await openCopySession(context, context.target, 'verify');
  const pairs = new Pairs(context);
  try {
    await refuseOverRate(control, context.migration, context.control.errors);
    return await verifyTables(context, control, pairs);
  } finally {
    await Promise.all([pairs.close(), control.close()]);
  }
}

/** Lets the snapshot go. Idempotent; works when the source is gone. */
export async function closeSnapshot(context: CopyContext, reason: string): Promise<void> {
  await withMaybeSource(context, 'close', (source, target) => endEpochs(context, source, target, reason));
}

/** The last thing of a copy that went well: what was kept for its way back among other rows goes. Idempotent. */
export async function finishCopy(context: CopyContext, reason: string): Promise<void> {
  await withMaybeSource(context, 'close', async (source, target) => {
    await endEpochs(context, source, target, reason);
    await dropAllTracking(target, context.migration);
  });
}

/** Takes everything back. */
export const takeBackCopy = (context: CopyContext): Promise<void> =>
  withMaybeSource(context, 'undo', async (source, target) => {
    await undoCopy(context, source, target);
    if (context.control.streaming) await dropStream(jobOf(context), source, target);
  });

async function withMaybeSource(
  context: CopyContext,
  purpose: string,
  work: (source: Session | null, target: Session) => Promise<void>,
): Promise<void> {
  const target = await openCopySession(context, context.target, purpose);
  const source = await openCopySession(context, context.source, purpose).catch(() => null);
  try {
    await work(source, target);
  } finally {
    await Promise.all([source?.close(), target.close()]);
  }
}

export interface Watched {
  readonly held: boolean;
  /** Every table is copied or left out by a person: there is nothing more to watch. */
  readonly over: boolean;
  readonly progress: CopyProgress;
  /** New ones. */
  readonly alerts: readonly Alert[];
}

const END_MS = 200;

const isOver = async (target: Session, migration: string): Promise<boolean> =>
  (
    await target.one<{ over: boolean }>(
      `SELECT count(*) > 0 AND count(*) FILTER (WHERE t.state NOT IN ('done', 'skipped')) = 0 AS over
         FROM pgshift.copy_tables AS t WHERE t.migration_name = $1`,
      [migration],
    )
  )?.over === true;

/** Looks again and again until `stop`: says how far it is and whether the snapshot is still held. Servers that are away are looked for again. */
export async function watchCopy(
  context: CopyContext,
  epoch: number,
  onLook: (look: Watched) => 'go on' | 'stop',
  everyMs = 1_000,
): Promise<void> {
  for (;;) {
    try {
      await withPair(openPair(context, 'watch'), async ({ source, target }) => {
        for (;;) {
          checkSignal(context.signal);
          const open = await currentEpoch(target, context.migration);
          const held = open !== null && open.epoch === epoch && (await isHeld(source, open));
          await touchEpoch(target, context.migration, epoch);
          const alerts = await alertsOf(target, context.migration, null);
          const over = await isOver(target, context.migration);
          const progress = await copyProgress(target, context.migration);
          if (onLook({ held, over, progress, alerts }) === 'stop') return;
          // The end is looked for more often than the rest: whoever asked for the copy waits for it.
          for (let waited = 0; waited < everyMs && !(await isOver(target, context.migration)); waited += END_MS)
            await pause(Math.min(END_MS, everyMs), context.signal);
        }
      });
      return;
    } catch (error) {
      if (!isProblem(error) || !['Unreachable', 'ServerRestarting'].includes(error.code)) throw error;
      await pause(everyMs, context.signal);
    }
  }
}
