/**
 * Who runs a validation of this name. Its row in the target's pgshift.migrations is claimed like a migration's, with one difference: a validation
 * may run again, however it ended. Keeps true: one run at a time; a run that died is taken up where its checkpoints stand when it is the same run, or
 * the same plan run locally again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../../plan/model/errors';
import type { ValidationPlan, VerifyResult } from '../../plan/model/validation';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { findMigration } from '../state/migrations';
import { isLockProblem } from '../toProblem';

/** Workflow id of a run without Temporal. */
export const LOCAL = 'local';

export interface ValidationClaim {
  readonly plan: ValidationPlan;
  readonly checksum: string;
  readonly workflowId: string;
  readonly runId: string;
  /** Run id of a holder that the caller knows to be over. */
  readonly takeOverFrom?: string;
}

const TRIES = 20;
const POLL_MS = 50;
const LOCAL_LOCK = `pg_catalog.hashtextextended('pgshift/verify/' || $1, 0)`;

/** 'resumed' = checkpoints of this run stand. @throws Problem NameInUse (details.workflowId, details.runId). */
export async function claimValidation(session: Session, claim: ValidationClaim): Promise<'claimed' | 'resumed'> {
  if (claim.workflowId === LOCAL) await lockLocally(session, claim.plan.name);
  for (let tried = 1; ; tried += 1) {
    try {
      return await inTransaction(session, () => claimOnce(session, claim));
    } catch (error) {
      if (!isLockProblem(error) || tried === TRIES) throw error;
      await sleep(POLL_MS);
    }
  }
}

/** A local run holds a lock for as long as it lives: nothing else tells whether it does. */
async function lockLocally(session: Session, name: string): Promise<void> {
  const got = await session.one<{ got: boolean }>(`SELECT pg_catalog.pg_try_advisory_lock(${LOCAL_LOCK}) AS got`, [
    name,
  ]);
  if (!got?.got) throw new Problem('NameInUse', `${name} is being verified by another local run`);
}

async function claimOnce(session: Session, claim: ValidationClaim): Promise<'claimed' | 'resumed'> {
  const { plan, checksum, workflowId, runId } = claim;
  const { name } = plan;
  await session.run(`SET LOCAL lock_timeout = '100ms'`);
  await session.run(`SELECT 1 FROM pgshift.migrations WHERE name = $1 FOR UPDATE NOWAIT`, [name]);
  const found = await findMigration(session, name);
  if (found && found.kind !== 'validation')
    throw new Problem('NameInUse', `${name} is the name of a ${found.kind} in this database`, {
      hint: 'give the validation a name of its own',
      details: { workflowId: found.workflowId, runId: found.runId },
    });
  const running = found?.status === 'running';
  const mine = running && found.workflowId === workflowId && (workflowId === LOCAL || found.runId === runId);
  if (mine && found.checksum === checksum) return 'resumed';
  if (running && !mine && (claim.takeOverFrom === undefined || claim.takeOverFrom !== found.runId))
    throw new Problem('NameInUse', `${name} is running as ${found.workflowId ?? 'an unknown workflow'}`, {
      details: { workflowId: found.workflowId, runId: found.runId },
    });
  for (const table of ['steps', 'lanes', 'differences'])
    await session.run(`DELETE FROM pgshift.${table} WHERE migration_name = $1`, [name]);
  const rows = await session.run(
    `INSERT INTO pgshift.migrations AS m (name, kind, description, checksum, applied_by, status, workflow_id, run_id, plan)
     VALUES ($1, 'validation', $2, $3, $4, 'running', $5, $6, $7::jsonb)
     ON CONFLICT (name) DO UPDATE SET version = m.version + 1, description = excluded.description, checksum = excluded.checksum,
       applied_by = excluded.applied_by, status = 'running', workflow_id = excluded.workflow_id, run_id = excluded.run_id,
       plan = excluded.plan, applied_at = NULL, execution_time = NULL, started_at = now(), updated_at = now()
     WHERE m.kind = 'validation' AND (m.status <> 'running' OR m.run_id IS NOT DISTINCT FROM $8)`,
    [
      name,
      plan.description ?? null,
      checksum,
      session.role,
      workflowId,
      runId,
      JSON.stringify(plan),
      running ? found.runId : null,
    ],
  );
  if (rows === 0) throw new Problem('NameInUse', `${name} was claimed by another run this very moment`);
  return 'claimed';
}

/** The plan as it was claimed; null = no validation of that name. */
export async function findPlan(session: Session, name: string): Promise<ValidationPlan | null> {
  const row = await session.one<{ plan: ValidationPlan | null }>(
    `SELECT m.plan FROM pgshift.migrations AS m WHERE m.name = $1 AND m.kind = 'validation'`,
    [name],
  );
  return row?.plan ?? null;
}

/** Keeps the result; `passed` completes it, anything else fails it, so that nothing that depends on it goes on. */
export async function endValidation(session: Session, name: string, result: VerifyResult): Promise<void> {
  await inTransaction(session, async () => {
    await session.run(
      `INSERT INTO pgshift.steps (migration_name, step_id, phase, status, started_at, finished_at, rows, result)
       VALUES ($1, 'finish', 'validate', 'done', now(), now(), $2, $3::jsonb)
       ON CONFLICT (migration_name, step_id) DO UPDATE SET result = excluded.result, finished_at = now(), rows = excluded.rows`,
      [name, result.statistics.rows, JSON.stringify({ verified: result })],
    );
    await session.run(
      `UPDATE pgshift.migrations SET status = $2, applied_at = CASE WHEN $2 = 'completed' THEN now() END,
              execution_time = now() - started_at, updated_at = now() WHERE name = $1 AND kind = 'validation'`,
      [name, result.passed ? 'completed' : 'failed'],
    );
  });
}

/** The result of the last run that came to its end; null = none did. */
export async function findResult(session: Session, name: string): Promise<VerifyResult | null> {
  const row = await session.one<{ result: { verified?: VerifyResult } }>(
    `SELECT s.result FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = 'finish'`,
    [name],
  );
  return row?.result.verified ?? null;
}

/** Ended without a result (cancelled, refused): only this run's own row. */
export async function abandonValidation(session: Session, name: string, runId: string): Promise<void> {
  await session.run(
    `UPDATE pgshift.migrations SET status = 'rolled_back', updated_at = now()
      WHERE name = $1 AND kind = 'validation' AND status = 'running' AND run_id = $2`,
    [name, runId],
  );
}
