/**
 * The user's own UPDATE, DELETE and INSERT ... SELECT in batches. Nothing makes these idempotent but the checkpoint, which commits with the
 * rows: each range is done exactly once. Without a key there are no ranges that concurrent writes cannot move rows between, so the whole
 * table is one batch.
 */
import type { DmlRun, InsertSelectRun, KeyColumn, RelationName } from '../plan/model/steps';
import type { BatchJob } from './batches';
import { runBatches } from './batches';
import { refusedRows } from './bisect';
import { ident, identList, relation } from './ident';
import type { Range, RangeSql } from './ranges';
import { rangeSql } from './ranges';
import type { Work, WorkResult } from './work';

const withRange = (statement: string, range: RangeSql): string =>
  statement.replaceAll('$RANGE', () => `(${range.text})`);

const predicate = (alias: string, key: readonly KeyColumn[] | null, range: Range): RangeSql =>
  range.low === null && range.high === null ? { text: 'true', values: [] } : rangeSql(ident(alias), key, range);

const into = (table: RelationName, run: DmlRun): string =>
  `INSERT INTO ${relation(table)}${run.columns ? ` (${identList(run.columns)})` : ''}`;
const kept = (run: DmlRun): string =>
  run.columns ? run.columns.map((c) => `${ident(run.alias)}.${ident(c)}`).join(', ') : `${ident(run.alias)}.*`;

/** With `written` the rows as the statement left them go there; what a DELETE removes goes into the archive. */
export function dmlSql(run: DmlRun, statement: string): string {
  const table = run.verb === 'delete' ? run.archive : (run.written ?? null);
  if (table === null) return statement;
  return `WITH pgshift_kept AS (${statement} RETURNING ${kept(run)}) ${into(table, run)} SELECT * FROM pgshift_kept`;
}

/** The rows that an UPDATE is going to change, as they are. */
export const archiveSql = (run: DmlRun, archive: RelationName, range: string): string =>
  `${into(archive, run)} SELECT ${kept(run)} FROM ${relation(run.table)} AS ${ident(run.alias)} WHERE (${range}) AND (${run.where})`;

/** UPDATE or DELETE; with `archive` the old rows are kept in the same transaction. */
export async function runDml(work: Work, run: DmlRun): Promise<WorkResult> {
  const { archive } = run;
  const job: BatchJob = {
    table: run.table,
    key: run.key,
    settings: run.settings,
    openEnd: false,
    whole: run.key === null,
    // Archive and change must see the same rows: one statement, or one snapshot for both (a row that changed in between is a serialization failure).
    isolation: archive === null || run.verb === 'delete' ? '' : 'ISOLATION LEVEL REPEATABLE READ',
    execute: async (session, range) => {
      const where = predicate(run.alias, run.key, range);
      if (archive !== null && run.verb === 'update')
        await session.run(archiveSql(run, archive, where.text), where.values);
      return { rows: await session.run(dmlSql(run, withRange(run.statement, where)), where.values) };
    },
    rowsRefused: (refusal, lanes) =>
      run.key === null
        ? Promise.resolve(refusal.error)
        : refusedRows(work, job, { ...refusal, lanes, column: `${run.table.name} (${run.verb})` }),
  };
  return runBatches(work, job);
}

/** INSERT ... SELECT by ranges of the source. Rows that come into the source behind the mark are not copied. */
export async function runInsertSelect(work: Work, run: InsertSelectRun): Promise<WorkResult> {
  return runBatches(work, {
    table: run.source,
    key: run.key,
    settings: run.settings,
    openEnd: false,
    whole: run.key === null,
    execute: async (session, range) => {
      const where = predicate(run.alias, run.key, range);
      return { rows: await session.run(withRange(run.statement, where), where.values) };
    },
  });
}
