/**
 * Preflight: from the plan as it was given to a claimed name and stored steps, or to one refusal that leaves nothing behind. Keeps true: everything
 * that may refuse comes before the first write; the claim is the last word, so that a run that was refused never holds a name.
 */
import { Context } from '@temporalio/activity';
import { Problem, isProblem } from '../plan/model/errors';
import type { SchemaMigrationPlan } from '../plan/model/plan';
import type { PlanFacts, StepFact } from '../plan/model/state';
import { controlOf } from '../plan/model/state';
import type { SchemaPlan, Step } from '../plan/model/steps';
import { isReference, validatePlan, validateStart } from '../plan/model/validate';
import { checksumOf, planMigration } from '../plan/sql/planner';
import { rollbackScript } from '../plan/sql/rollbackScript';
import type { Session } from '../postgres/session';
import { withSession } from '../postgres/session';
import { install, installedVersion } from '../postgres/state/install';
import { writeLog } from '../postgres/state/journal';
import type { Claim, MigrationRow } from '../postgres/state/migrations';
import { claimName, findMigration, loadPlan, storePlan } from '../postgres/state/migrations';
import type { Target } from '../postgres/types';
import { databaseConfig, environmentDefaults, resolveTarget } from '../worker/config';
import { catalogOf, fingerprintOf, keepBefore } from './catalogue';
import type { Tools } from './context';
import { runPreflight } from './preflight';
import type { Opened } from './types';

const FACTS_MAX = 48_000;

interface Given {
  readonly plan: SchemaMigrationPlan;
  readonly target: Target;
  readonly environment: string;
}

/** The plan with the configuration's defaults for its environment under its own keys. */
export async function givenPlan(start: unknown, { deps, signal }: Tools): Promise<Given> {
  const parsed = validateStart(start);
  const target = resolveTarget(deps.config, parsed.database);
  const { environment } = databaseConfig(deps.config, parsed.database);
  let raw = start as Record<string, unknown>;
  if (isReference(parsed)) {
    const { planRef } = parsed;
    raw = await withSession(target, { purpose: 'plan' }, async (session) => {
      signal.throwIfAborted();
      const row =
        (await installedVersion(session)) === null
          ? undefined
          : await session.one<{ body: Record<string, unknown> }>(`SELECT body FROM pgshift.plans WHERE id = $1`, [
              planRef,
            ]);
      if (!row) throw new Problem('InvalidPlan', 'planRef: no such plan is stored', { where: { path: 'planRef' } });
      return row.body;
    });
  }
  const { kind: _, ...keys } = raw;
  const plan = validatePlan({ ...environmentDefaults(deps.config, parsed.database), ...keys });
  if (plan.name !== parsed.name || plan.database !== parsed.database)
    throw new Problem('InvalidPlan', 'planRef: the stored plan is another one', { where: { path: 'planRef' } });
  return { plan, target, environment };
}

export async function open({ start }: { start: unknown }, tools: Tools): Promise<Opened> {
  const { plan, environment } = await givenPlan(start, tools);
  return { control: controlOf(plan), environment, settings: tools.deps.settings };
}

function tableOf(step: Step): string | null {
  const { run } = step;
  const name = (r: { schema: string; name: string }) => (r.schema === 'public' ? r.name : `${r.schema}.${r.name}`);
  if (run.kind === 'backfill') return run.column;
  if (run.kind === 'dml' || run.kind === 'proof' || run.kind === 'archive') return name(run.table);
  return run.kind === 'insert-select' ? name(run.target) : null;
}

const factOf = (step: Step): StepFact => ({
  id: step.id,
  phase: step.phase,
  action: step.action,
  title: step.title,
  work: step.work,
  seconds: step.estimate.seconds,
  rows: step.estimate.rows,
  table: tableOf(step),
  undo: step.undo.length > 0,
  lossless: step.wayBack?.lossless ?? true,
  because: step.because,
});

/** Small enough for a history: a plan with thousands of steps loses its titles, never its steps. */
export function factsOf(plan: SchemaPlan): PlanFacts {
  const facts: PlanFacts = {
    checksum: plan.checksum,
    serverVersion: plan.serverVersion,
    risk: plan.risk.overall,
    steps: plan.steps.map(factOf),
    keepsOld: plan.keepsOld,
    warnings: plan.findings.filter((f) => f.level === 'warning').length,
    estimate: plan.estimate,
  };
  if (JSON.stringify(facts).length <= FACTS_MAX) return facts;
  return { ...facts, steps: facts.steps.map((step) => ({ ...step, title: '' })) };
}

const DRY_MAX = 60_000;

function dryFacts(plan: SchemaPlan): PlanFacts {
  const { findings, dependents } = plan;
  const steps = plan.steps.map(({ run: _run, undo: _undo, ...step }) => step);
  const full = { ...factsOf(plan), plan: { steps, findings, dependents } };
  if (JSON.stringify(full).length <= DRY_MAX) return full;
  const short = steps.map((step) => ({ ...step, statement: step.statement.slice(0, 200) }));
  const clipped = { ...factsOf(plan), plan: { steps: short, findings, dependents } };
  return JSON.stringify(clipped).length <= 4 * DRY_MAX ? clipped : factsOf(plan);
}

function refuse(plan: SchemaPlan, given: SchemaMigrationPlan): void {
  const refused = plan.findings.filter((f) => f.level === 'error' && !f.allowed);
  const [first] = refused;
  if (first)
    throw new Problem(
      'Refused',
      `${first.rule}: ${first.message}${refused.length > 1 ? ` (and ${refused.length - 1} more)` : ''}`,
      {
        where: { line: first.line, column: first.column },
        ...(first.alternative === null ? {} : { hint: first.alternative }),
        details: {
          findings: refused
            .slice(0, 10)
            .map(({ rule, line, message, alternative }) => ({ rule, line, message, alternative })),
        },
      },
    );
  if (!plan.runnable) throw new Problem('Refused', 'the plan cannot be run');
  // A gate before a step that is not there would never be asked.
  const unknown = Object.keys(given.gates).find((name) => name.includes('.') && !plan.steps.some((s) => s.id === name));
  if (unknown !== undefined)
    throw new Problem('InvalidPlan', `gates.${unknown}: the plan has no such step`, {
      where: { path: `gates.${unknown}` },
    });
}

export async function prepare({ start }: { start: unknown }, tools: Tools): Promise<PlanFacts> {
  const { plan: given, target } = await givenPlan(start, tools);
  const { name } = given;
  const dry = given.mode === 'dry-run';
  return withSession(target, { purpose: 'preflight', migration: name }, async (session) => {
    const before = dry ? null : await claimedBefore(session, name, tools);
    if (before) return factsOf(before);
    await refuseUsedName(session, given, tools);
    // Beside the planning: both only read, and a person waits.
    const asItWas = dry ? null : fingerprintOf(target);
    asItWas?.catch(() => undefined); // told where it is awaited
    const catalog = await catalogOf(target);
    const plan = await planMigration(given, catalog);
    refuse(plan, given);
    await runPreflight({ session, target, plan, given, catalog, tools });
    if (dry) return dryFacts(plan);
    const lines = (await asItWas) ?? [];
    tools.signal.throwIfAborted();
    await install(session, tools.signal);
    await claim(session, given, plan, tools);
    await keepBefore(session, name, lines);
    const script = rollbackScript({ plan, begun: null, searchPath: given.searchPath });
    await storePlan(session, plan, script);
    await writeLog(session, {
      migration: name,
      level: 'info',
      phase: 'preflight',
      step: null,
      message: `claimed by ${tools.workflowId}`,
    });
    return factsOf(plan);
  });
}

const isMine = async (row: MigrationRow | undefined, tools: Tools): Promise<boolean> =>
  row?.status === 'running' && row.workflowId === tools.workflowId && row.runId === (await tools.chainId());

/** An attempt before this one may have claimed the name and stored the plan: that plan is the one that runs. */
async function claimedBefore(session: Session, name: string, tools: Tools): Promise<SchemaPlan | null> {
  if ((await installedVersion(session)) === null) return null;
  return (await isMine(await findMigration(session, name), tools)) ? loadPlan(session, name) : null;
}

/** Before planning: against a database that has the change already, the planner would only say that things exist. */
async function refuseUsedName(session: Session, given: SchemaMigrationPlan, tools: Tools): Promise<void> {
  if ((await installedVersion(session)) === null) {
    // Asked of the claim otherwise; here it would install the schema only to refuse.
    if (given.dependsOn.length === 0 || given.mode === 'dry-run') return;
    throw new Problem('DependencyMissing', `${given.name} depends on ${given.dependsOn.join(', ')} (never run)`, {
      details: { missing: given.dependsOn.map((name) => ({ name, status: null })) },
    });
  }
  const row = await findMigration(session, given.name);
  // Its own: an attempt that died between the claim and the stored plan.
  if (await isMine(row, tools)) return;
  if (row?.status === 'running' || row?.status === 'pending') {
    const { workflowId, runId } = row;
    throw await nameInUse(given, { workflowId: workflowId ?? '', runId: runId ?? '' });
  }
  if (row?.status !== 'completed') return;
  if (row.checksum === checksumOf(given.sql ?? ''))
    throw new Problem('AlreadyApplied', `${given.name} was completed at ${row.appliedAt ?? 'an unknown time'}`);
  throw new Problem('ChecksumMismatch', `${given.name} was completed with other text`, {
    details: { stored: row.checksum },
  });
}

interface Holder {
  readonly workflowId: string;
  readonly runId: string;
}

export async function nameInUse(
  given: Pick<SchemaMigrationPlan, 'name' | 'database'>,
  holder: Holder,
): Promise<Problem> {
  if (!(await isClosed(holder)))
    return new Problem('NameInUse', `${given.name} is running as ${holder.workflowId}`, { details: { ...holder } });
  // Terminated from outside, it could not clean up: what it left must be taken back before the name may run again.
  return new Problem('NameInUse', `${given.name} was begun by a run that was terminated`, {
    hint: `take back what it left, then start again: pgshift rollback ${given.database}/${given.name}`,
    details: { ...holder },
  });
}

async function claim(session: Session, given: SchemaMigrationPlan, plan: SchemaPlan, tools: Tools): Promise<void> {
  const request: Claim = {
    name: given.name,
    kind: 'schema-migration',
    checksum: plan.checksum,
    description: given.description ?? null,
    dependencies: given.dependsOn,
    workflowId: tools.workflowId,
    runId: await tools.chainId(),
    appliedBy: session.role,
  };
  try {
    await claimName(session, request);
  } catch (error) {
    if (!isProblem(error) || error.code !== 'NameInUse') throw error;
    const { workflowId, runId } = error.details;
    throw await nameInUse(given, { workflowId: String(workflowId ?? ''), runId: String(runId ?? '') });
  }
}

/** Is the chain of runs that holds the name over? Unknown is no. */
export async function isClosed(holder: Holder): Promise<boolean> {
  try {
    const { status, raw } = await Context.current().client.workflow.getHandle(holder.workflowId).describe();
    return status.name !== 'RUNNING' || raw.workflowExecutionInfo?.firstRunId !== holder.runId;
  } catch (error) {
    return error instanceof Error && error.name === 'WorkflowNotFoundError';
  }
}
