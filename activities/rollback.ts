/** Workflow `rollback`: what stands of a migration whose run has ended, and may it be taken back at all? Reads only. */
import { Problem } from '../plan/model/errors';
import { controlOf } from '../plan/model/state';
import type { StepFact } from '../plan/model/state';
import { validatePlan } from '../plan/model/validate';
import type { Session } from '../postgres/session';
import { withSession } from '../postgres/session';
import { installedVersion } from '../postgres/state/install';
import type { MigrationRow } from '../postgres/state/migrations';
import { findMigration, loadPlan, standingDependents } from '../postgres/state/migrations';
import { databaseConfig, resolveTarget } from '../worker/config';
import type { Tools } from './context';
import { factsOf, isClosed } from './prepare';
import type { RollbackFacts, Subject } from './types';

async function mayGoBack(session: Session, row: MigrationRow, name: string): Promise<void> {
  if (row.status === 'rolled_back') throw new Problem('NotNow', `${name} is rolled back already`);
  const open = row.workflowId !== null && row.runId !== null;
  if (open && !(await isClosed({ workflowId: row.workflowId ?? '', runId: row.runId ?? '' })))
    throw new Problem('NotNow', `${name} is still open`, { hint: `send rollback to its run: ${row.workflowId ?? ''}` });
  const standing = await standingDependents(session, name);
  if (standing.length > 0)
    throw new Problem('NotNow', `${standing.join(', ')} depends on ${name} and stands`, {
      hint: 'take the later ones back first',
    });
}

/** Ids of steps that were begun and not taken back. */
async function begun(session: Session, name: string): Promise<ReadonlySet<string>> {
  const rows = await session.rows<{ id: string }>(
    `SELECT s.step_id AS id FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.status NOT IN ('undone')`,
    [name],
  );
  return new Set(rows.map((row) => row.id));
}

export async function prepareRollback(args: Subject, tools: Tools): Promise<RollbackFacts> {
  const { database, migration: name } = args;
  const target = resolveTarget(tools.deps.config, database);
  return withSession(target, { purpose: 'rollback', migration: name }, async (session) => {
    const row = (await installedVersion(session)) === null ? undefined : await findMigration(session, name);
    if (!row) throw new Problem('NoSuchRun', `${database} knows no migration ${name}`);
    await mayGoBack(session, row, name);
    const plan = await loadPlan(session, name);
    if (!plan) throw new Problem('NotNow', `${name} has no stored plan: nothing was changed`);
    const facts = factsOf(plan);
    const done = await begun(session, name);
    const steps: StepFact[] = facts.steps.filter((step) => done.has(step.id));
    const gone = steps.find((step) => step.because !== null);
    if (gone)
      throw new Problem('NotNow', `${gone.id} cannot be taken back: ${gone.because ?? ''}`, {
        hint: 'restore what is needed from the backup or the archive',
      });
    const control = controlOf(validatePlan({ name, database, sql: '-', gates: {} }));
    const { environment } = databaseConfig(tools.deps.config, database);
    return { facts: { ...facts, steps }, control, environment, settings: tools.deps.settings };
  });
}
