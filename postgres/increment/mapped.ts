/**
 * A slice of an increment whose rows a map changes, or that goes among rows of others: the same SELECT and the same stage as the copy's. Keeps true: a slice
 * is one transaction of the target with its bound, its counts and its bad rows; what fails on the source is found in the very snapshot that
 * the slice is read from.
 */
import type { ErrorBudget } from '../../plan/model/dataMigration';
import { COUNTED } from '../map/counts';
import type { Failing } from '../map/badRows';
import { findFailing } from '../map/badRows';
import type { Counts } from '../map/load';
import { NO_COUNTS, isOfRow, loadRange } from '../map/load';
import { budgetSpent, clearLane, quarantineRows } from '../map/quarantine';
import type { Part } from '../map/select';
import { fromOf, rangeOf } from '../map/select';
import type { Spec } from '../map/spec';
import { STAGE } from '../map/spec';
import { USERS_PATH } from '../map/table';
import { beginAt } from '../copy/context';
import type { Pair } from '../copy/pairs';
import { pipeCopy } from '../copy/stream';
import type { TableRow } from '../copy/tables';
import { shown } from '../copy/tables';
import { crashPoint } from '../crashPoints';
import type { Attempt } from '../fence';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { ident, relation } from '../ident';

const NO_ERRORS: ErrorBudget = { max: 0, rate: null };
/** Rows of one slice that are looked for one by one. */
const MOST_FAILING = 10_000;

export interface MappedSlice {
  /** Sessions that no rows pass through: a COPY that breaks takes its connections with it. */
  readonly ends: Pair;
  /** Those that they do. */
  readonly open: () => Promise<Pair>;
  readonly spec: Spec;
  readonly attempt: Attempt;
  readonly table: TableRow;
  /** Over ROW. */
  readonly condition: string;
  readonly budget: ErrorBudget | undefined;
  readonly signal: AbortSignal;
  /** First in the target's transaction: no row, no commit. */
  readonly fence: (target: Session) => Promise<void>;
  /** Last in it: the bound behind the slice. */
  readonly advance: (target: Session, rows: number) => Promise<void>;
}

/** @throws Problem ErrorBudgetSpent, FenceBroken, Unreachable, ... Answers the rows that were put, and those set aside. */
export async function loadMappedSlice(slice: MappedSlice): Promise<{ readonly rows: number; readonly bad: number }> {
  const { source } = slice.ends;
  const failing: Failing[] = [];
  const { max } = slice.budget ?? NO_ERRORS;
  // One snapshot for the slice, however often it is tried: the places of rows that fail mean nothing in another.
  await source.run('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    await source.run(USERS_PATH);
    const held = await source.one<{ snapshot: string }>(`SELECT pg_catalog.pg_export_snapshot() AS snapshot`);
    for (;;) {
      const pair = await slice.open();
      try {
        await beginAt(pair.source, held?.snapshot ?? '');
        await pair.source.run(USERS_PATH);
        return await put(slice, pair, failing);
      } catch (error) {
        if (!isOfRow(error)) throw error;
        const part: Part = { condition: slice.condition, bucket: null, except: failing.map(({ ctid }) => ctid) };
        const most = Math.min(MOST_FAILING, (max ?? MOST_FAILING) + 1);
        const more = await findFailing(source, { spec: slice.spec, part, most, signal: slice.signal });
        if (more.length === 0) throw error;
        failing.push(...more);
        if (max !== null && failing.length > max) throw await listed(slice, failing);
      } finally {
        await Promise.all([pair.source.close(), pair.target.close()]);
      }
    }
  } finally {
    if (!source.lost) await source.run('ROLLBACK').catch(() => undefined);
  }
}

/** Of a slice that is not committed: its number is that of no range that is. */
const placeOf = ({ attempt, table }: MappedSlice) => ({ attempt, lane: -table.no, table: shown(table) });

/** More fail already than the run takes. */
async function listed(slice: MappedSlice, failing: readonly Failing[]): Promise<Error> {
  const { target } = slice.ends;
  const place = placeOf(slice);
  await inTransaction(target, async () => {
    await slice.fence(target);
    await clearLane(target, place);
    await quarantineRows(target, place, failing);
  });
  return budgetSpent(slice.budget ?? NO_ERRORS, place.table, failing.length, failing.length);
}

async function put(
  slice: MappedSlice,
  pair: Pair,
  failing: readonly Failing[],
): Promise<{ rows: number; bad: number }> {
  const { spec, table, attempt } = slice;
  const { target } = pair;
  const place = placeOf(slice);
  const done = await inTransaction(target, async () => {
    await slice.fence(target);
    const loaded = await loadRange({
      pair,
      spec,
      part: { condition: slice.condition, bucket: null, except: failing.map(({ ctid }) => ctid) },
      place,
      no: table.no,
      failing,
      budget: slice.budget ?? NO_ERRORS,
      signal: slice.signal,
    });
    if (loaded.stop) return loaded;
    const counts = (loaded.state?.['counts'] ?? NO_COUNTS) as Counts;
    await dropLeft(slice, pair, failing);
    await forgetMended(target, attempt.migration, place.table);
    await target.run(
      `UPDATE pgshift.quarantine SET lane = $3 WHERE migration_name = $1 AND step_id = $2 AND lane = $4`,
      [attempt.migration, attempt.stepId, table.no, place.lane],
    );
    await addCounts(target, attempt, table, counts);
    await slice.advance(target, loaded.rows);
    crashPoint('increment.before-commit');
    return loaded;
  });
  if (done.stop) throw done.stop;
  crashPoint('increment.after-commit');
  return { rows: done.rows, bad: ((done.state?.['counts'] ?? NO_COUNTS) as Counts).bad };
}

const LEFT = 'pg_temp.pgshift_left';

/**
 * Rows that were let through when they came first and are not any more. Of tables that are ours alone: among rows of others nobody knows what stood
 * there before.
 */
async function dropLeft(
  { spec, condition, signal }: MappedSlice,
  pair: Pair,
  failing: readonly Failing[],
): Promise<void> {
  if (spec.where === null || spec.conflict === null || spec.tracked) return;
  const keys = spec.columns.flatMap((column, n) => (spec.conflict?.includes(column.name) ? [{ column, n }] : []));
  // A key that has to be computed may not be there for a row that the filter refuses.
  if (keys.some(({ column }) => !column.plain)) return;
  const part: Part = { condition, bucket: null, except: failing.map(({ ctid }) => ctid) };
  const refused = `(${spec.where}) IS NOT TRUE`;
  const meant =
    failing.length === 0
      ? `${rangeOf(spec, part)} AND ${refused}`
      : `(${condition}) AND CASE WHEN ${rangeOf(spec, part)} THEN ${refused} ELSE false END`;
  const names = keys.map(({ n }) => `c${n}`).join(', ');
  await pair.target.run(
    `CREATE TEMPORARY TABLE pgshift_left (${keys.map(({ column, n }) => `c${n} ${column.stage}`).join(', ')}) ON COMMIT DROP`,
  );
  const out = `COPY (SELECT ${keys.map(({ column }) => column.sql).join(', ')} FROM ${fromOf(spec)} WHERE ${meant}) TO STDOUT`;
  await pipeCopy(pair.source, pair.target, { out, into: `COPY ${LEFT} (${names}) FROM STDIN` }, signal);
  await pair.target.run(
    `DELETE FROM ${spec.targetPartitioned ? '' : 'ONLY '}${relation(spec.target)} AS t USING ${LEFT} AS s
      WHERE ${keys.map(({ column }) => `t.${ident(column.name)} = ${column.put}`).join(' AND ')}`,
  );
}

/** Rows that were set aside before and are loaded now. */
async function forgetMended(target: Session, migration: string, table: string): Promise<void> {
  const any = await target.one(
    `SELECT 1 AS one FROM pgshift.quarantine AS q WHERE q.migration_name = $1 AND q.table_name = $2 LIMIT 1`,
    [migration, table],
  );
  if (!any) return;
  await target.run(
    `DELETE FROM pgshift.quarantine AS q USING ${STAGE} AS s
      WHERE q.migration_name = $1 AND q.table_name = $2 AND s.r IS NULL AND q.key = s.k::jsonb`,
    [migration, table],
  );
}

/** What the limit of bad rows counts: the sum over all slices of the table. */
async function addCounts(target: Session, attempt: Attempt, table: TableRow, counts: Counts): Promise<void> {
  const key = [attempt.migration, attempt.stepId, table.no];
  const before = await target.one<{ counts: Counts | null }>(
    `SELECT l.state->'counts' AS counts FROM pgshift.lanes AS l WHERE l.migration_name = $1 AND l.step_id = $2 AND l.scope = 'do' AND l.lane = $3`,
    key,
  );
  const sum = Object.fromEntries(COUNTED.map((name) => [name, (before?.counts?.[name] ?? 0) + counts[name]]));
  await target.run(
    `INSERT INTO pgshift.lanes AS l (migration_name, step_id, scope, lane, epoch, table_name, relation, done, rows, state)
     VALUES ($1, $2, 'do', $3, $4, $5, 0, true, $6, jsonb_build_object('counts', $7::jsonb))
     ON CONFLICT (migration_name, step_id, scope, lane) DO UPDATE SET rows = l.rows + excluded.rows, state = excluded.state, updated_at = clock_timestamp()`,
    [...key, attempt.epoch, shown(table), counts.loaded, JSON.stringify(sum)],
  );
}
