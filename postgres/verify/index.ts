/**
 * A verification from its claim to its result, without Temporal: what `pgshift verify --local` runs. The workflow runs the same phases, each as an
 * activity. Every phase may be run again: what is done is not done twice.
 */
import { createHash } from 'node:crypto';
import type { ValidationPlan, VerifyResult } from '../../plan/model/validation';
import { openSession } from '../session';
import { install } from '../state/install';
import { runChecks } from './checks';
import { claimValidation, endValidation, LOCAL } from './claim';
import { compareTables } from './compare';
import type { VerifyContext } from './context';
import { recheckRows } from './recheck';
import { readResult } from './result';

export type { VerifyContext, VerifyProgress } from './context';

/** The same plan, the same one: a run that died is taken up by it. */
export const validationChecksum = (plan: ValidationPlan): string =>
  createHash('sha256').update(JSON.stringify(plan)).digest('hex');

/** @throws Problem NameInUse, Unreachable, PrivilegeMissing, NoSuchObject, SameDatabase, ... */
export async function verifyLocally(context: VerifyContext): Promise<VerifyResult> {
  const { plan, target, signal } = context;
  // Held to the end: its lock says that this run lives.
  const session = await openSession(target, { purpose: 'verify', migration: plan.name });
  try {
    await install(session, signal);
    const checksum = validationChecksum(plan);
    await claimValidation(session, { plan, checksum, workflowId: LOCAL, runId: LOCAL });
    await compareTables(context);
    await recheckRows(context);
    await runChecks(context);
    const result = await readResult(session, plan);
    await endValidation(session, plan.name, result.passed);
    return result;
  } finally {
    await session.close();
  }
}
