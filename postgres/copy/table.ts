/**
 * Copies one table: its ranges, then its fingerprint on the source, its indexes and its statistics. Keeps true: every range is copied once
 * from one snapshot; a table that was half copied from an older snapshot starts again, empty; what is done is never done again.
 */
import type { Attempt } from '../fence';
import { beginAttempt, fenceBroken, finishAttempt } from '../fence';
import { ident, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import type { Epoch } from './epoch';
import { fingerprintOf } from './fingerprint';
import type { FingerprintForm } from './fingerprint';
import { applyTableItems } from './items';
import { putBack, takeOff } from '../map/disable';
import { isStaged, targetOf } from '../map/store';
import { copyStaged, partsOf } from '../map/table';
import type { StoredProof } from '../map/table';
import { undoTracked } from '../map/tracked';
import type { Pair, Pairs } from './pairs';
import { atOnce } from './pairs';
import { conditionOf, cut } from './ranges';
import { readTable } from './readTable';
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

const proofOf = async (control: Session, migration: string, table: TableRow): Promise<StoredProof | null> =>
  (
    await control.one<{ proof: StoredProof | null }>(
      `SELECT t.proof FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND t.table_no = $2`,
      [migration, table.no],
    )
  )?.proof ?? null;

/** Empties what an older snapshot left, and forgets its ranges. One transaction, fenced by the step's row. */
async function startAgain({ context, epoch, control }: Copying, attempt: Attempt, table: TableRow): Promise<void> {
  const key = [context.migration, attempt.stepId];
  const proof = await proofOf(control, context.migration, table);
  if (proof?.tracked === true) await undoTracked(control, context.migration, proof, table.no);
  await inTransaction(control, async () => {
    const mine = await control.run(
      `UPDATE pgshift.steps SET rows = 0 WHERE migration_name = $1 AND step_id = $2 AND epoch = $3`,
      [...key, attempt.epoch],
    );
    if (mine === 0) throw fenceBroken(attempt);
    const to = relation(targetOf(table, table.map));
    // Never of a table that may hold rows of others: there what was merged is known row by row.
    const ours = context.control.schema === 'create' || (context.control.load?.method ?? 'copy') === 'copy';
    if (table.epoch !== 0 && ours && proof?.tracked !== true)
      await control.run(
        context.control.schema === 'create'
          ? `TRUNCATE ONLY ${to}`
          : `DELETE FROM ${proof?.partitioned ? '' : 'ONLY '}${to}`,
      );
    await control.run(`DELETE FROM pgshift.quarantine WHERE migration_name = $1 AND step_id = $2`, key);
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
  return readTable(copying, pair.source, table, async () => {
    const shape = await shapeOf(pair.source, table);
    const sameMajor = Math.floor(pair.source.serverVersion / 10_000) === Math.floor(copying.targetVersion / 10_000);
    const binary = shape.binary && sameMajor && (await sameTypes(pair.source, pair.target, table));
    let units = await unitsOf(control, attempt, 'do');
    if (units.length === 0) {
      const made = await cut(pair.source, shape, partsOf(table, context.control), table.rowsEstimate);
      await makeUnits(control, attempt, 'do', { shown: shown(table), oid: '0' }, made);
      units = await unitsOf(control, attempt, 'do');
    }
    const fingerprint: FingerprintForm =
      binary && !shape.userTypes && pair.source.serverVersion >= 140000 ? 'binary' : 'text';
    await control.run(
      `UPDATE pgshift.copy_tables SET format = $3, fingerprint = $4, proof = $5::jsonb WHERE migration_name = $1 AND table_no = $2`,
      [
        context.migration,
        table.no,
        binary ? 'binary' : 'text',
        fingerprint,
        JSON.stringify({ sample: sampleKey(context.control.verify, shape), columns: shape.all }),
      ],
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
  const existing = context.control.schema === 'existing';
  // A merge finds rows by the target's keys: those are there before the rows come.
  const first = !existing && context.control.load !== undefined && context.control.load.method !== 'copy';
  // Of a table that is followed the rows of the snapshot say nothing about the end.
  const followed = context.control.streaming ?? context.control.incremental;
  if (first) await applyTableItems(copying, attempt, table);
  if (existing) await takeOff(context, control, table);
  if (isStaged(context.control, table.map)) await copyStaged(copying, attempt, table);
  else {
    const planned = await pairs.use((pair) => planTable(copying, attempt, table, pair));
    await copyRanges(copying, attempt, table, planned);
    if (context.control.verify !== 'none' && !followed) await keepFingerprint(copying, attempt, table, planned.shape);
  }
  if (existing) await putBack(context, control, table.no);
  if (!first) await applyTableItems(copying, attempt, table);
  await context.admit();
  await pairs.use(({ target }) => target.run(`ANALYZE ${relation(targetOf(table, table.map))}`));
  return finishTable(copying, attempt, table);
}

/** Of `verify: sample` the columns by which rows are picked: null = all rows are compared. */
const sampleKey = (verify: string, { key }: Shape): readonly string[] | null =>
  verify === 'sample' ? (key ?? []).map(({ name }) => name) : null;

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
      return fingerprintOf(pair.source, table, shape.all, stored.form, sampleKey(context.control.verify, shape));
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
