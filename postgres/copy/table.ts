/**
 * Copies one table: its ranges, then its fingerprint on the source, its indexes and its statistics. Keeps true: every range is copied once
 * from one snapshot; a table that was half copied from an older snapshot starts again, empty; what is done is never done again.
 */
import { Problem } from '../../plan/model/errors';
import { rangeBytes } from '../../plan/model/dataMigration';
import type { Attempt } from '../fence';
import { beginAttempt, fenceBroken, finishAttempt } from '../fence';
import { ident, relation } from '../ident';
import { pause } from '../ladder';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { isLockProblem } from '../toProblem';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import { beginAt } from './context';
import type { Epoch } from './epoch';
import { fingerprintOf } from './fingerprint';
import type { FingerprintForm } from './fingerprint';
import { applyTableItems } from './items';
import type { Pair, Pairs } from './pairs';
import { atOnce } from './pairs';
import { conditionOf, cut, rangesFor } from './ranges';
import type { Shape } from './shape';
import { columnList, refuseRewritten, sameTypes, shapeOf } from './shape';
import { pipeCopy } from './stream';
import type { TableRow } from './tables';
import { shown } from './tables';
import type { OpenUnit } from './unit';
import { makeUnits, runUnit, unitsOf } from './unit';

/** FREEZE spares the later vacuum; below this it is not worth a new file. */
const FREEZE_FROM = 8 * 1024 ** 2;

export interface Copying {
  readonly context: CopyContext;
  readonly epoch: Epoch;
  /** On the target; belongs to the activity and is used by one table at a time. */
  readonly control: Session;
  readonly pairs: Pairs;
  readonly targetVersion: number;
}

export interface TableDone {
  readonly rows: number;
  readonly bytes: number;
}

/** Reads the table at the snapshot, its ACCESS SHARE lock taken without queueing for long behind somebody's DDL. */
async function readTable<T>(
  { context, epoch }: Copying,
  source: Session,
  table: TableRow,
  work: () => Promise<T>,
): Promise<T> {
  const until = Date.now() + context.lockBudgetMs;
  for (let timeout = Math.max(50, context.lockTimeoutMs); ; timeout = Math.min(timeout * 2, 5_000)) {
    checkSignal(context.signal);
    await beginAt(source, epoch.snapshot);
    try {
      try {
        await source.run(`SET LOCAL lock_timeout = ${Math.round(timeout)}`);
        await source.run(`LOCK TABLE ONLY ${relation(table)} IN ACCESS SHARE MODE`);
        await source.run(`SET LOCAL lock_timeout = 0`);
      } catch (error) {
        if (!isLockProblem(error)) throw error;
        if (Date.now() > until)
          throw new Problem(
            'LockBudgetSpent',
            `${shown(table)}: somebody held ACCESS EXCLUSIVE on the source for the whole budget`,
          );
        await source.run('ROLLBACK');
        await pause(timeout, context.signal);
        continue;
      }
      return await work();
    } finally {
      if (!source.lost) await source.run('ROLLBACK').catch(() => undefined);
    }
  }
}

/** Empties what an older snapshot left, and forgets its ranges. One transaction, fenced by the step's row. */
async function startAgain({ context, epoch, control }: Copying, attempt: Attempt, table: TableRow): Promise<void> {
  const key = [context.migration, attempt.stepId];
  await inTransaction(control, async () => {
    const mine = await control.run(
      `UPDATE pgshift.steps SET rows = 0 WHERE migration_name = $1 AND step_id = $2 AND epoch = $3`,
      [...key, attempt.epoch],
    );
    if (mine === 0) throw fenceBroken(attempt);
    if (table.epoch !== 0)
      await control.run(
        context.control.schema === 'create'
          ? `TRUNCATE ONLY ${relation(table)}`
          : `DELETE FROM ONLY ${relation(table)}`,
      );
    await control.run(`DELETE FROM pgshift.lanes WHERE migration_name = $1 AND step_id = $2 AND scope = 'do'`, key);
    await control.run(`DELETE FROM pgshift.chunks WHERE migration_name = $1 AND step_id = $2`, key);
    await control.run(
      `UPDATE pgshift.copy_tables SET epoch = $3, state = 'running', rows = 0, source_rows = NULL, source_fingerprint = NULL,
              code = NULL, reason = NULL, started_at = clock_timestamp(), finished_at = NULL WHERE migration_name = $1 AND table_no = $2`,
      [context.migration, table.no, epoch.epoch],
    );
  });
}

function statements(shape: Shape, unit: OpenUnit, binary: boolean, freeze: boolean): { out: string; into: string } {
  const format = binary ? 'FORMAT binary' : 'FORMAT text';
  const condition = conditionOf(shape, unit);
  const list = columnList(shape);
  const what =
    condition === null
      ? `${relation(shape.table)} ${list}`
      : `(SELECT ${shape.columns.map((name) => `t.${ident(name)}`).join(', ')} FROM ONLY ${relation(shape.table)} AS t WHERE ${condition})`;
  return {
    out: `COPY ${what} TO STDOUT (${format})`,
    into: `COPY ${relation(shape.table)} ${list} FROM STDIN (${format}${freeze ? ', FREEZE' : ''})`,
  };
}

interface Planned {
  readonly shape: Shape;
  readonly binary: boolean;
  readonly units: readonly OpenUnit[];
}

/** Shape and ranges; the ranges of an earlier attempt in this epoch stay as they are. */
async function planTable(copying: Copying, attempt: Attempt, table: TableRow, pair: Pair): Promise<Planned> {
  const { context, control } = copying;
  const { parallel } = context.control;
  return readTable(copying, pair.source, table, async () => {
    const shape = await shapeOf(pair.source, table);
    const sameMajor = Math.floor(pair.source.serverVersion / 10_000) === Math.floor(copying.targetVersion / 10_000);
    const binary = shape.binary && sameMajor && (await sameTypes(pair.source, pair.target, table));
    let units = await unitsOf(control, attempt, 'do');
    if (units.length === 0) {
      const parts = rangesFor(table.bytes, rangeBytes(context.control), parallel.rangesPerTable);
      const made = await cut(pair.source, shape, parts, table.rowsEstimate);
      await makeUnits(control, attempt, 'do', { shown: shown(table), oid: '0' }, made);
      units = await unitsOf(control, attempt, 'do');
    }
    const fingerprint: FingerprintForm =
      binary && !shape.userTypes && pair.source.serverVersion >= 140000 ? 'binary' : 'text';
    await control.run(
      `UPDATE pgshift.copy_tables SET format = $3, fingerprint = $4 WHERE migration_name = $1 AND table_no = $2`,
      [context.migration, table.no, binary ? 'binary' : 'text', fingerprint],
    );
    return { shape, binary, units };
  });
}

async function copyRanges(copying: Copying, attempt: Attempt, table: TableRow, planned: Planned): Promise<void> {
  const { context, pairs } = copying;
  const { shape, binary, units } = planned;
  const open = units.filter(({ done }) => !done);
  const freeze = units.length === 1 && table.bytes >= FREEZE_FROM && context.control.schema === 'create';
  await atOnce(context.control.parallel.rangesPerTable, open, async (unit) => {
    await context.admit();
    checkSignal(context.signal);
    await pairs.use((pair) =>
      readTable(copying, pair.source, table, async () => {
        await refuseRewritten(pair.source, table);
        await runUnit(pair.target, { ...unit, attempt, scope: 'do', point: 'range' }, async () => {
          // FREEZE asks for a table that this very transaction has emptied.
          if (freeze) await pair.target.run(`TRUNCATE ONLY ${relation(table)}`);
          return pipeCopy(pair.source, pair.target, statements(shape, unit, binary, freeze), context.signal);
        });
      }),
    );
  });
}

/** Runs the table to its end. Throws Problems of the table, and those of servers and snapshots; the caller knows which are which. */
export async function copyTable(copying: Copying, table: TableRow): Promise<TableDone> {
  const { context, control, epoch, pairs } = copying;
  const stepId = `copy.${table.no}`;
  const begun = await beginAttempt(
    control,
    { migration: context.migration, stepId, phase: 'copy' },
    'do',
    context.signal,
  );
  if (begun.state === 'already') return { rows: begun.row.rows, bytes: 0 };
  const { attempt } = begun;
  if (table.epoch !== epoch.epoch) await startAgain(copying, attempt, table);
  const planned = await pairs.use((pair) => planTable(copying, attempt, table, pair));
  await copyRanges(copying, attempt, table, planned);
  // Of a table that is followed the rows of the snapshot say nothing about the end.
  const followed = context.control.streaming ?? context.control.incremental;
  if (context.control.verify !== 'none' && !followed) await keepFingerprint(copying, attempt, table, planned.shape);
  await applyTableItems(copying, attempt, table);
  await context.admit();
  await pairs.use(({ target }) => target.run(`ANALYZE ${relation(table)}`));
  return finishTable(copying, attempt, table);
}

/** The source's side, read while its snapshot is there; the target's comes when everything is built. */
async function keepFingerprint(copying: Copying, attempt: Attempt, table: TableRow, shape: Shape): Promise<void> {
  const { context, control, pairs } = copying;
  const stored = await control.one<{ form: FingerprintForm; rows: string | null }>(
    `SELECT t.fingerprint AS form, t.source_rows AS rows FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND t.table_no = $2`,
    [context.migration, table.no],
  );
  if (stored === undefined || stored.rows !== null) return;
  const found = await pairs.use((pair) =>
    readTable(copying, pair.source, table, async () => {
      await refuseRewritten(pair.source, table);
      return fingerprintOf(pair.source, table, shape.all, stored.form);
    }),
  );
  await control.run(
    `UPDATE pgshift.copy_tables SET source_rows = $3, source_fingerprint = $4 WHERE migration_name = $1 AND table_no = $2
        AND EXISTS (SELECT 1 FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = $5 AND s.epoch = $6)`,
    [context.migration, table.no, found.rows, found.sum, attempt.stepId, attempt.epoch],
  );
}

async function finishTable({ context, control }: Copying, attempt: Attempt, table: TableRow): Promise<TableDone> {
  const key = [context.migration, attempt.stepId];
  return inTransaction(control, async () => {
    const sum = await control.one<{ rows: number; bytes: number }>(
      `SELECT coalesce(sum(l.rows), 0)::float8 AS rows, coalesce(sum((l.state->>'bytes')::float8), 0)::float8 AS bytes
         FROM pgshift.lanes AS l WHERE l.migration_name = $1 AND l.step_id = $2 AND l.scope = 'do'`,
      key,
    );
    const rows = sum?.rows ?? 0;
    if (!(await finishAttempt(control, attempt, { status: 'done', rows, result: { bytes: sum?.bytes ?? 0 } })))
      throw fenceBroken(attempt);
    await control.run(
      `UPDATE pgshift.copy_tables SET state = 'done', rows = $3, finished_at = clock_timestamp(), code = NULL, reason = NULL
        WHERE migration_name = $1 AND table_no = $2`,
      [context.migration, table.no, rows],
    );
    return { rows, bytes: sum?.bytes ?? 0 };
  });
}
