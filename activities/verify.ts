/**
 * Activities of workflow `validation`. The plan is stored with the claim, in the target; every later call carries the name alone. Phases go on behind
 * their checkpoints, so that a worker that dies costs a range.
 */
import { Problem, isProblem } from '../plan/model/errors';
import { validateValidation } from '../plan/model/validate';
import type { ValidationPlan } from '../plan/model/validation';
import { smallResult } from '../plan/model/validationState';
import { withSession } from '../postgres/session';
import { install, installedVersion } from '../postgres/state/install';
import { writeLog } from '../postgres/state/journal';
import { findMigration } from '../postgres/state/migrations';
import type { VerifyContext } from '../postgres/verify';
import { runPhase, validationChecksum } from '../postgres/verify';
import { abandonValidation, claimValidation, endValidation, findPlan } from '../postgres/verify/claim';
import { readResult } from '../postgres/verify/result';
import { databaseConfig, resolveTarget } from '../worker/config';
import { Reporter } from './context';
import type { Tools } from './context';
import { isClosed } from './prepare';
import type { Activities, ValidationFinished, ValidationOpened, ValidationSubject } from './types';

export async function openValidation({ start }: { start: unknown }, tools: Tools): Promise<ValidationOpened> {
  const plan = validateValidation(start);
  const { config, settings } = tools.deps;
  const target = resolveTarget(config, plan.target);
  // Not reached is an answer before anything is written.
  await withSession(
    resolveTarget(config, plan.source),
    { purpose: 'verify', migration: plan.name },
    async () => undefined,
  );
  const checksum = validationChecksum(plan);
  return withSession(target, { purpose: 'verify', migration: plan.name }, async (session) => {
    await install(session, tools.signal);
    const claim = { plan, checksum, workflowId: tools.workflowId, runId: await tools.chainId() };
    await claimValidation(session, claim).catch(async (error: unknown) => {
      if (!isProblem(error) || error.code !== 'NameInUse') throw error;
      const { workflowId, runId } = error.details;
      const holder = { workflowId: String(workflowId ?? ''), runId: String(runId ?? '') };
      // A run that was terminated from outside left nothing but its claim.
      if (holder.runId === '' || !(await isClosed(holder))) throw error;
      return claimValidation(session, { ...claim, takeOverFrom: holder.runId });
    });
    const message = `claimed by ${tools.workflowId}`;
    await writeLog(session, { migration: plan.name, level: 'info', phase: 'preflight', step: null, message });
    const { environment } = databaseConfig(config, plan.target);
    return { checksum, repair: plan.repair === 'target', environment, settings };
  });
}

const storedPlan = async ({ target, validation }: ValidationSubject, tools: Tools): Promise<ValidationPlan> => {
  const plan = await withSession(
    resolveTarget(tools.deps.config, target),
    { purpose: 'verify', migration: validation },
    (session) => findPlan(session, validation),
  );
  if (!plan) throw new Problem('Bug', `validation ${validation} has no stored plan`);
  return plan;
};

export async function verifyPhase(args: Parameters<Activities['verifyPhase']>[0], tools: Tools): Promise<void> {
  const plan = await storedPlan(args, tools);
  const { config, metrics } = tools.deps;
  const reporter = new Reporter();
  let rows = 0;
  const context: VerifyContext = {
    plan,
    source: resolveTarget(config, plan.source),
    target: resolveTarget(config, plan.target),
    signal: tools.signal,
    progress: (progress) => {
      tools.beat(progress);
      reporter.report(progress);
      if (progress.phase === 'compare' && progress.rowsDone > rows) {
        metrics.rows.inc({ operation: 'verify' }, rows === 0 ? 0 : progress.rowsDone - rows);
        rows = progress.rowsDone;
      }
    },
    log: (level, message, fields) => tools.log[level]({ ...fields, phase: args.phase }, message),
  };
  const began = performance.now();
  await runPhase(args.phase, context);
  metrics.stepDuration.observe({ phase: args.phase, action: 'verify' }, (performance.now() - began) / 1_000);
}

export async function finishValidation(
  { target, validation, ended }: Parameters<Activities['finishValidation']>[0],
  tools: Tools,
): Promise<ValidationFinished> {
  const options = { purpose: 'finish', migration: validation };
  return withSession(resolveTarget(tools.deps.config, target), options, async (session) => {
    const row = (await installedVersion(session)) === null ? undefined : await findMigration(session, validation);
    const runId = await tools.chainId();
    if (row?.kind !== 'validation' || row.runId !== runId) return { result: null, whole: true };
    if (ended === 'given-up') {
      await abandonValidation(session, validation, runId);
      return { result: null, whole: true };
    }
    const plan = await findPlan(session, validation);
    if (!plan) throw new Problem('Bug', `validation ${validation} has no stored plan`);
    const result = await readResult(session, plan);
    await endValidation(session, validation, result);
    const differing = result.tables.reduce((sum, table) => sum + table.differing, 0);
    if (differing > 0) tools.deps.metrics.differingRows.inc(differing);
    tools.deps.metrics.migrations.inc({ kind: 'validation', status: result.passed ? 'completed' : 'failed' });
    return smallResult(result);
  });
}
