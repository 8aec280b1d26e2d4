/**
 * Runs the steps of a plan the plain way, one after the other on one connection, without ladder, fence, ranges or throttle: what is tested
 * is the SQL. A batch step is one statement over the whole table.
 */
import type { Client } from 'pg';
import { readCatalog } from '../../postgres/catalog/read';
import { archiveSql, dmlSql } from '../../postgres/dml';
import { ident, relation } from '../../postgres/ident';
import { fillSql } from '../../plan/model/fillSql';
import { planMigration } from '../../plan/sql/planner';
import { schemaMigrationSchema } from '../../plan/model/plan';
import type { SchemaMigrationInput } from '../../plan/model/plan';
import type { SchemaPlan, Step, StepRun } from '../../plan/model/steps';

type Extra = Partial<Omit<SchemaMigrationInput, 'kind' | 'name' | 'database' | 'sql' | 'sqlFile'>>;

/** `big` makes every table look like 10,000,000 rows, so that nothing is small enough for a short cut. */
export async function planOn(client: Client, sql: string, extra: Extra = {}, big = false): Promise<SchemaPlan> {
  const plan = schemaMigrationSchema.parse({ kind: 'schema-migration', name: 'naive', database: 'app', sql, ...extra });
  const catalog = await readCatalog(client);
  const tables = catalog.tables.map((t) => ({
    ...t,
    rows: 10_000_000,
    heapBytes: 1_000_000_000,
    totalBytes: 2_000_000_000,
  }));
  return planMigration(plan, big ? { ...catalog, tables } : catalog);
}

export interface Naive {
  /** Rows that a proof with onDiffer 'report' counted. */
  readonly reported: string[];
}

async function send(client: Client, sql: string): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    throw new Error(`${(error as Error).message} in: ${sql}`, { cause: error });
  }
}

async function inside(
  client: Client,
  settings: Readonly<Record<string, string>>,
  work: () => Promise<void>,
): Promise<void> {
  await client.query('BEGIN');
  try {
    for (const [name, value] of Object.entries(settings))
      await client.query('SELECT set_config($1, $2, true)', [name, value]);
    await work();
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
}

export async function runNaively(client: Client, run: StepRun, naive: Naive = { reported: [] }): Promise<void> {
  if ('onlyWhen' in run && run.onlyWhen !== undefined) {
    const { rows } = await client.query<{ yes: boolean }>(`SELECT ${run.onlyWhen} AS yes`);
    if (rows[0]?.yes !== true) return;
  }
  switch (run.kind) {
    case 'transaction':
      return inside(client, run.settings ?? {}, async () => {
        for (const [i, lock] of run.lockFirst.entries())
          await send(client, `LOCK TABLE ${relation(lock.relation)} IN ${lock.mode} MODE${i === 0 ? '' : ' NOWAIT'}`);
        for (const statement of run.statements) await send(client, statement);
      });
    case 'create-index': {
      const there = await client.query(
        'SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2',
        [run.index.schema, run.index.name],
      );
      return there.rows.length > 0 ? undefined : send(client, run.statement);
    }
    case 'drop-index':
      return send(client, `DROP INDEX CONCURRENTLY IF EXISTS ${relation(run.index)}`);
    case 'autocommit':
      return send(client, run.statement);
    case 'backfill':
      return inside(client, { ...run.settings, ...(run.quiet ? { session_replication_role: 'replica' } : {}) }, () =>
        send(client, fillSql(run, relation(run.table), 'true')),
      );
    case 'dml':
      return inside(client, run.settings ?? {}, async () => {
        if (run.archive && run.verb === 'update') await send(client, archiveSql(run, run.archive, 'true'));
        await send(client, dmlSql(run, run.statement.replaceAll('$RANGE', 'true')));
      });
    case 'insert-select':
      return inside(client, run.settings ?? {}, () => send(client, run.statement.replaceAll('$RANGE', 'true')));
    case 'proof':
      for (const check of run.checks) {
        const { rows } = await client.query<{ bad: string }>(
          `SELECT count(*) FILTER (WHERE (${check.remaining}) OR (${check.differing})) AS bad, count(${check.oldImage}), count(${check.newImage}) FROM ${relation(run.table)} AS t`,
        );
        const bad = Number(rows[0]?.bad);
        if (bad > 0 && run.onDiffer === 'refuse') throw new Error(`ProofFailed ${check.column}: ${bad}`);
        if (bad > 0) naive.reported.push(`${check.column}: ${bad}`);
      }
      return;
    case 'duplicates': {
      const { rows } = await client.query(
        `SELECT FROM ${relation(run.table)} AS t WHERE ${run.where ?? 'true'} GROUP BY ${run.columns.join(', ')} HAVING count(*) > 1 AND (${run.nullsNotDistinct} OR (${run.columns.map((c) => `(${c}) IS NOT NULL`).join(' AND ')}))`,
      );
      if (rows.length > 0) throw new Error('DuplicateRows');
      return;
    }
    case 'archive':
      if ('directory' in run.to) return;
      return send(
        client,
        `CREATE TABLE ${relation(run.to.table)} AS SELECT ${run.column === null ? '*' : [...(run.key ?? []).map((k) => ident(k.name)), ident(run.column)].join(', ')} FROM ${relation(run.table)}`,
      );
  }
}

export async function runSteps(client: Client, steps: readonly Step[]): Promise<void> {
  await client.query('CREATE SCHEMA IF NOT EXISTS pgshift');
  for (const step of steps)
    try {
      await runNaively(client, step.run);
    } catch (error) {
      throw new Error(`${step.id} ${step.action}: ${(error as Error).message}`, { cause: error });
    }
}

/** From the last step to the first, as a rollback does; `twice` runs each way back again (it must be idempotent). */
export async function undoSteps(
  client: Client,
  steps: readonly Step[],
  naive: Naive = { reported: [] },
  twice = false,
): Promise<void> {
  for (const step of [...steps].reverse())
    for (let pass = 0; pass < (twice ? 2 : 1); pass += 1)
      for (const run of step.undo)
        try {
          await runNaively(client, run, naive);
        } catch (error) {
          throw new Error(`undo of ${step.id} ${step.action}: ${(error as Error).message}`, { cause: error });
        }
}
