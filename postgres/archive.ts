/** Keeps what is about to be dropped: a column with its key, or a whole table, in a table elsewhere or in a file made by pg_dump. */
import { Problem } from '../plan/model/errors';
import type { ArchiveRun, RelationName } from '../plan/model/steps';
import { backUp } from './backup';
import { runBatches } from './batches';
import { ident, identList, literal, relation } from './ident';
import { inTransaction } from './session';
import { heap, rangeSql } from './ranges';
import type { Work, WorkResult } from './work';
import { NOTHING } from './work';

/** Throws Drift when the archive table is there and is not ours, BackupFailed. */
export async function runArchive(work: Work, run: ArchiveRun): Promise<WorkResult> {
  if ('directory' in run.to) {
    const name = `${work.attempt.migration}.${work.attempt.stepId}.${run.table.name}`;
    const request = { target: work.context.target, directory: run.to.directory, name, tables: [run.table] };
    await backUp({ ...request, signal: work.context.signal });
    return NOTHING;
  }
  const to = run.to.table;
  const kept = await columnsOf(work, run);
  await makeTable(work, run, to, kept);
  const targets = identList(kept.map(({ name }) => name));
  const sources = kept.map(({ from }) => `t.${ident(from)}`).join(', ');
  return runBatches(work, {
    table: run.table,
    key: run.key,
    openEnd: false,
    whole: run.key === null,
    execute: async (session, range, lane) => {
      const where = run.key === null ? { text: 'true', values: [] } : rangeSql('t', run.key, range);
      const from = run.key === null ? relation(run.table) : heap({ table: lane.table, key: run.key });
      const rows = await session.run(
        `INSERT INTO ${relation(to)} (${targets}) SELECT ${sources} FROM ${from} AS t WHERE ${where.text}`,
        where.values,
      );
      return { rows };
    },
  });
}

interface Kept {
  readonly name: string;
  readonly from: string;
}

/** By name: a partition may have its columns in another order. */
async function columnsOf(work: Work, run: ArchiveRun): Promise<readonly Kept[]> {
  if (run.column !== null) {
    const key = (run.key ?? []).map(({ name }) => ({ name, from: name }));
    const own = run.as ?? run.column;
    return [...key, { name: key.some(({ name }) => name === own) ? run.column : own, from: run.column }];
  }
  const rows = await work.session.rows<{ name: string }>(
    `SELECT attname AS name FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [relation(run.table)],
  );
  return rows.map(({ name }) => ({ name, from: name }));
}

/** Made once, with a mark that it is ours: a repeated attempt finds it, somebody else's table of that name is left alone. */
async function makeTable(work: Work, run: ArchiveRun, to: RelationName, kept: readonly Kept[]): Promise<void> {
  const mark = `pgshift archive: ${work.attempt.migration} ${work.attempt.stepId}`;
  const found = await work.session.one<{ mark: string | null }>(
    `SELECT obj_description(to_regclass($1), 'pg_class') AS mark WHERE to_regclass($1) IS NOT NULL`,
    [relation(to)],
  );
  if (found?.mark === mark) return;
  if (found) throw new Problem('Drift', `${relation(to)} exists already and is not this step's archive`);
  await inTransaction(work.session, async () => {
    await work.session.run(`SET LOCAL lock_timeout = '2s'`);
    await work.session.run(`CREATE SCHEMA IF NOT EXISTS ${ident(to.schema)}`);
    await work.session.run(
      `CREATE TABLE ${relation(to)} AS SELECT ${kept.map(({ name, from }) => `${ident(from)} AS ${ident(name)}`).join(', ')} FROM ${relation(run.table)} WITH NO DATA`,
    );
    await work.session.run(`COMMENT ON TABLE ${relation(to)} IS ${literal(mark)}`);
  });
}
