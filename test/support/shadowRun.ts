/**
 * Runs the steps of a type change the plain way, one after the other on one connection, without ladder, fence or throttle: what is tested
 * is the SQL. Catalogue snapshots are compared as readCatalog() gives them, without sizes, statistics and column numbers.
 */
import type { Client } from 'pg';
import type { Catalog } from '../../plan/model/catalog';
import { schemaMigrationSchema } from '../../plan/model/plan';
import type { SchemaMigrationInput } from '../../plan/model/plan';
import type { ProofRun, Step, StepRun } from '../../plan/model/steps';
import { as, expressionSql, typeText } from '../../plan/sql/ast';
import { PlanBuilder } from '../../plan/sql/context';
import { loadParser, parseSql } from '../../plan/sql/parse';
import { planTypeChange } from '../../plan/sql/shadow';
import { diffCatalog, fingerprintCatalog } from '../../postgres/catalog/diff';
import { ident, relation } from '../../postgres/ident';

export interface ShadowPlan {
  readonly steps: readonly Step[];
  readonly builder: PlanBuilder;
}

type Extra = Partial<Omit<SchemaMigrationInput, 'kind' | 'name' | 'database' | 'sql' | 'sqlFile'>>;

/** Every ALTER COLUMN TYPE of `sql` as a shadow, whatever Postgres could do without one. */
export function planShadow(catalog: Catalog, sql: string, extra: Extra = {}): ShadowPlan {
  const plan = schemaMigrationSchema.parse({
    kind: 'schema-migration',
    name: 'test_change',
    database: 'app',
    sql,
    ...extra,
  });
  const parsed = parseSql(sql);
  const builder = new PlanBuilder({
    plan,
    catalog,
    file: null,
    source: sql,
    allow: plan.allow,
    retypes: [],
    place: parsed.place,
  });
  for (const statement of parsed.statements) {
    const ctx = builder.context(statement);
    const alter = as(statement.ast, 'AlterTableStmt');
    const table = ctx.overlay.need(alter?.relation ?? {});
    for (const node of alter?.cmds ?? []) {
      const command = as(node, 'AlterTableCmd');
      const def = command?.def ? as(command.def, 'ColumnDef') : null;
      if (command?.subtype !== 'AT_AlterColumnType' || !def?.typeName) throw new Error('not a type change');
      planTypeChange(ctx, table, ctx.overlay.needColumn(table, command.name ?? ''), {
        newType: typeText(def.typeName).text,
        using: def.raw_default ? expressionSql(def.raw_default) : null,
        collation: null,
      });
    }
  }
  return { steps: builder.steps(), builder };
}

export const loadPlanner = loadParser;

/** Rows that a proof with onDiffer 'report' listed, by the proof's column. */
export type Reported = { column: string; differing: number }[];

export async function runOne(client: Client, run: StepRun, reported: Reported = []): Promise<void> {
  if ('onlyWhen' in run && run.onlyWhen !== undefined) {
    const { rows } = await client.query<{ yes: boolean }>(`SELECT ${run.onlyWhen} AS yes`);
    if (rows[0]?.yes !== true) return;
  }
  switch (run.kind) {
    case 'transaction':
      return inside(client, run.settings, async () => {
        for (const [i, lock] of run.lockFirst.entries())
          await client.query(`LOCK TABLE ${relation(lock.relation)} IN ${lock.mode} MODE${i === 0 ? '' : ' NOWAIT'}`);
        for (const statement of run.statements) await sent(client, statement);
      });
    case 'create-index': {
      const { rows } = await client.query(
        'SELECT FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relname = $1 AND i.indisvalid',
        [run.index.name],
      );
      if (rows.length === 0) await sent(client, run.statement);
      return;
    }
    case 'drop-index':
      await sent(client, `DROP INDEX CONCURRENTLY IF EXISTS ${relation(run.index)}`);
      return;
    case 'backfill':
      return inside(
        client,
        { ...run.settings, ...(run.quiet ? { session_replication_role: 'replica' } : {}) },
        async () => {
          await sent(client, `UPDATE ${relation(run.table)} AS t SET ${run.set.join(', ')} WHERE ${run.pending}`);
          const left = await client.query(`SELECT FROM ${relation(run.table)} AS t WHERE ${run.pending} LIMIT 1`);
          if (left.rows.length > 0) throw new Error('the backfill leaves rows pending');
        },
      );
    case 'proof':
      return inside(client, run.settings, () => prove(client, run, reported));
    default:
      throw new Error(`a type change has no ${run.kind}`);
  }
}

async function sent(client: Client, statement: string): Promise<void> {
  try {
    await client.query(statement);
  } catch (error) {
    throw new Error(`${(error as Error).message} in: ${statement}`, { cause: error });
  }
}

async function inside(
  client: Client,
  settings: Readonly<Record<string, string>> = {},
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

async function prove(client: Client, run: ProofRun, reported: Reported): Promise<void> {
  for (const check of run.checks) {
    const { rows } = await client.query<{ remaining: string; differing: string; old: string; new: string }>(
      `SELECT count(*) FILTER (WHERE ${check.remaining}) AS remaining, count(*) FILTER (WHERE ${check.differing}) AS differing,
         sum(hashtextextended((${check.oldImage})::text, 0)) AS old, sum(hashtextextended((${check.newImage})::text, 0)) AS new
       FROM ${relation(run.table)} AS t`,
    );
    const [row] = rows;
    const differing = Number(row?.differing) + Number(row?.remaining);
    if (differing > 0 && run.onDiffer === 'refuse') throw new Error(`ProofFailed ${check.column}: ${differing}`);
    if (differing === 0 && row?.old !== row?.new) throw new Error(`fingerprints of ${check.column} differ`);
    if (differing > 0) reported.push({ column: check.column, differing });
  }
}

/** From the last to the first, as a rollback does. */
export async function undo(client: Client, steps: readonly Step[], reported: Reported = []): Promise<void> {
  for (const step of [...steps].reverse()) for (const run of step.undo) await runOne(client, run, reported);
}

/** Every row of every catalogue, schema pgshift aside. */
export const snapshot = (client: Client): Promise<string[]> => fingerprintCatalog(client);
export { diffCatalog };
export const SAME = { added: [], removed: [] };

/** Every row as text, columns by name. */
export async function rowsOf(
  client: Client,
  table: string,
  columns: readonly string[],
  order: string,
): Promise<string[]> {
  const list = columns.map((c) => `${ident(c)}::text`).join(', ');
  const { rows } = await client.query<{ r: string }>(`SELECT ROW(${list})::text AS r FROM ${table} ORDER BY ${order}`);
  return rows.map((row) => row.r);
}
