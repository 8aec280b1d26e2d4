/**
 * The row of a migration in pgshift.migrations: who may use a name, what was planned, how it ended. Keeps true: a name is used by one run
 * at a time and never again once it is completed; a claim is never waited for in a lock queue.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../../plan/model/errors';
import type { Kind } from '../../plan/model/plan';
import type { SchemaPlan, Step } from '../../plan/model/steps';
import { crashPoint } from '../crashPoints';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { isLockProblem } from '../toProblem';

export const MIGRATION_STATUSES = ['pending', 'running', 'completed', 'failed', 'rolled_back'] as const;
export type MigrationStatus = (typeof MIGRATION_STATUSES)[number];

export interface Claim {
  readonly name: string;
  readonly kind: Kind;
  readonly checksum: string;
  readonly description?: string | null;
  readonly sqlFile?: string | null;
  readonly dependencies: readonly string[];
  readonly workflowId: string;
  /** First run id of the workflow's chain: the same through continue-as-new, another for another start. */
  readonly runId: string;
  readonly appliedBy: string | null;
  /** Run id of a holder that the caller knows to be closed (terminated): its claim is taken over. */
  readonly takeOverFrom?: string;
}

export interface MigrationRow {
  readonly name: string;
  readonly kind: string;
  readonly status: MigrationStatus;
  readonly checksum: string;
  readonly dependencies: readonly string[];
  readonly workflowId: string | null;
  readonly runId: string | null;
  readonly appliedAt: string | null;
  readonly rollbackSql: string | null;
}

const COLUMNS = `m.name, m.kind, m.status, m.checksum, m.dependencies, m.workflow_id AS "workflowId", m.run_id AS "runId",
  m.applied_at::text AS "appliedAt", m.rollback_sql AS "rollbackSql"`;
const FORGOTTEN = [
  ...['steps', 'lanes', 'chunks', 'locks_held', 'differences', 'quarantine'],
  ...['copy_epochs', 'copy_tables', 'copy_items', 'copy_maps', 'copy_disabled', 'streams', 'increments'],
];
const CLAIM_TRIES = 20;
const CLAIM_POLL_MS = 50;

/** The row of that name; undefined = never used (or schema pgshift is there without it). */
export const findMigration = (session: Session, name: string): Promise<MigrationRow | undefined> =>
  session.one<MigrationRow & Record<string, unknown>>(
    `SELECT ${COLUMNS} FROM pgshift.migrations AS m WHERE m.name = $1`,
    [name],
  );

/**
 * Claims the name for this run. 'claimed' = new or free again; 'adopted' = this run had it already.
 * Throws NameInUse (details.workflowId, details.runId), AlreadyApplied, ChecksumMismatch, DependencyMissing, DependencyCycle.
 */
export async function claimName(session: Session, claim: Claim): Promise<'claimed' | 'adopted'> {
  crashPoint('claim.before');
  for (let tried = 1; ; tried += 1) {
    try {
      const outcome = await inTransaction(session, () => claimOnce(session, claim));
      crashPoint('claim.after');
      return outcome;
    } catch (error) {
      // Somebody is claiming it at this very moment: look again, do not queue.
      if (!isLockProblem(error) || tried === CLAIM_TRIES) throw error;
      await sleep(CLAIM_POLL_MS);
    }
  }
}

async function claimOnce(session: Session, claim: Claim): Promise<'claimed' | 'adopted'> {
  await session.run(`SET LOCAL lock_timeout = '100ms'`);
  const found = await session.one<MigrationRow & Record<string, unknown>>(
    `SELECT ${COLUMNS} FROM pgshift.migrations AS m WHERE m.name = $1 FOR UPDATE NOWAIT`,
    [claim.name],
  );
  if (found?.status === 'running' || found?.status === 'pending') {
    if (found.workflowId === claim.workflowId && found.runId === claim.runId) return 'adopted';
    if (claim.takeOverFrom === undefined || claim.takeOverFrom !== found.runId)
      throw new Problem('NameInUse', `${claim.name} is running as ${found.workflowId ?? 'an unknown workflow'}`, {
        details: { workflowId: found.workflowId, runId: found.runId },
      });
  }
  if (found?.status === 'completed') {
    // A completed row of this very run: contract committed, then the worker died before it could say so.
    if (found.workflowId === claim.workflowId && found.runId === claim.runId) return 'adopted';
    if (found.checksum === claim.checksum)
      throw new Problem('AlreadyApplied', `${claim.name} was completed at ${found.appliedAt ?? 'an unknown time'}`);
    throw new Problem('ChecksumMismatch', `${claim.name} was completed with other text`, {
      details: { stored: found.checksum, given: claim.checksum },
    });
  }
  await refuseCycle(session, claim);
  await requireDependencies(session, claim);
  if (found) await forget(session, claim.name);
  await session.run(
    `INSERT INTO pgshift.migrations AS m
       (name, kind, description, sql_file, checksum, applied_by, status, dependencies, workflow_id, run_id)
     VALUES ($1, $2, $3, $4, $5, $6, 'running', $7::text[], $8, $9)
     ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, version = m.version + 1, description = excluded.description,
       sql_file = excluded.sql_file, checksum = excluded.checksum, applied_by = excluded.applied_by, status = 'running',
       dependencies = excluded.dependencies, workflow_id = excluded.workflow_id, run_id = excluded.run_id, plan = NULL,
       rollback_sql = NULL, applied_at = NULL, execution_time = NULL, started_at = now(), updated_at = now()
     WHERE m.status IN ('failed', 'rolled_back') OR m.run_id = $10`,
    [
      claim.name,
      claim.kind,
      claim.description ?? null,
      claim.sqlFile ?? null,
      claim.checksum,
      claim.appliedBy,
      [...claim.dependencies],
      claim.workflowId,
      claim.runId,
      claim.takeOverFrom ?? null,
    ],
  );
  const mine = await findMigration(session, claim.name);
  // Two first claims at once: the unique name let one of them through.
  if (mine?.workflowId !== claim.workflowId || mine.runId !== claim.runId)
    throw new Problem('NameInUse', `${claim.name} is running as ${mine?.workflowId ?? 'an unknown workflow'}`, {
      details: { workflowId: mine?.workflowId ?? null, runId: mine?.runId ?? null },
    });
  return 'claimed';
}

/** What an earlier run under the name left in our tables. The log stays. */
async function forget(session: Session, name: string): Promise<void> {
  for (const table of FORGOTTEN) await session.run(`DELETE FROM pgshift.${table} WHERE migration_name = $1`, [name]);
}

async function refuseCycle(session: Session, claim: Claim): Promise<void> {
  if (claim.dependencies.includes(claim.name))
    throw new Problem('DependencyCycle', `${claim.name} depends on itself`, {
      details: { path: [claim.name, claim.name] },
    });
  const back = await session.one<{ path: string[] }>(
    `WITH RECURSIVE down(name, path) AS (
       SELECT d, ARRAY[$1::text, d] FROM unnest($2::text[]) AS d
       UNION ALL
       SELECT d, down.path || d FROM down JOIN pgshift.migrations AS m ON m.name = down.name, unnest(m.dependencies) AS d
        WHERE down.name <> $1 AND NOT d = ANY (down.path[2:]))
     SELECT path FROM down WHERE name = $1 LIMIT 1`,
    [claim.name, [...claim.dependencies]],
  );
  if (back)
    throw new Problem('DependencyCycle', `dependencies run in a circle: ${back.path.join(' -> ')}`, {
      details: { path: back.path },
    });
}

async function requireDependencies(session: Session, claim: Claim): Promise<void> {
  const missing = await session.rows<{ name: string; status: string | null }>(
    `SELECT d AS name, m.status FROM unnest($1::text[]) AS d LEFT JOIN pgshift.migrations AS m ON m.name = d
      WHERE m.status IS DISTINCT FROM 'completed' ORDER BY d`,
    [[...claim.dependencies]],
  );
  if (missing.length === 0) return;
  const list = missing.map(({ name, status }) => `${name} (${status ?? 'never run'})`).join(', ');
  throw new Problem('DependencyMissing', `${claim.name} depends on ${list}`, { details: { missing } });
}

/** Completed migrations that depend on this one: while there are any, it is not rolled back. */
export async function standingDependents(session: Session, name: string): Promise<readonly string[]> {
  const rows = await session.rows<{ name: string }>(
    `SELECT m.name FROM pgshift.migrations AS m
      WHERE $1 = ANY (m.dependencies) AND m.status IN ('completed', 'running') ORDER BY m.name`,
    [name],
  );
  return rows.map((row) => row.name);
}

/** Keeps the plan that is run; `rollbackSql` = the way back as a psql script. A plan that is stored already stays (idempotent). */
export async function storePlan(session: Session, plan: SchemaPlan, rollbackSql: string | null): Promise<void> {
  await session.run(
    `UPDATE pgshift.migrations SET plan = $2::jsonb, rollback_sql = $3, updated_at = now() WHERE name = $1 AND plan IS NULL`,
    [plan.name, JSON.stringify(plan), rollbackSql],
  );
}

/** The stored plan; null = none stored yet. */
export async function loadPlan(session: Session, name: string): Promise<SchemaPlan | null> {
  const row = await session.one<{ plan: SchemaPlan | null }>(
    `SELECT m.plan FROM pgshift.migrations AS m WHERE m.name = $1`,
    [name],
  );
  return row?.plan ?? null;
}

/** One step of the stored plan. A step that is not there is a Bug: ids come from the plan itself. */
export async function loadStep(session: Session, name: string, stepId: string): Promise<Step> {
  const row = await session.one<{ step: Step | null }>(
    `SELECT pg_catalog.jsonb_path_query_first(m.plan, '$.steps[*] ? (@.id == $id)', pg_catalog.jsonb_build_object('id', $2::text)) AS step
       FROM pgshift.migrations AS m WHERE m.name = $1`,
    [name, stepId],
  );
  if (!row?.step) throw new Problem('Bug', `${name} has no step ${stepId}`);
  return row.step;
}

/** Writes the status; `completed` only through `completeAtContract`. */
export async function setStatus(
  session: Session,
  name: string,
  status: Exclude<MigrationStatus, 'completed'>,
): Promise<void> {
  crashPoint('finish.before');
  await session.run(
    `UPDATE pgshift.migrations SET status = $2, updated_at = now(),
            applied_at = CASE WHEN $2 = 'rolled_back' THEN NULL ELSE applied_at END WHERE name = $1`,
    [name, status],
  );
}

/** Contract has committed: from here on the name is used. Idempotent; times are of the first call. */
export async function completeAtContract(session: Session, name: string): Promise<void> {
  crashPoint('finish.before');
  await session.run(
    `UPDATE pgshift.migrations SET status = 'completed', applied_at = now(), execution_time = now() - started_at,
            updated_at = now() WHERE name = $1 AND status <> 'completed'`,
    [name],
  );
}
