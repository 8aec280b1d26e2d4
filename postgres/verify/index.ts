/**
 * A verification from its claim to its result, without Temporal: what `pgshift verify --local` runs. The workflow runs the same phases, each as an
 * activity. Every phase may be run again: what is done is not done twice.
 */
import type { ValidationPlan, VerifyResult } from '../../plan/model/validation';
import { openSession } from '../session';
import { install } from '../state/install';
import { runChecks } from './checks';
import { validationChecksum } from './checksum';
import { claimValidation, endValidation, LOCAL } from './claim';
import { compareTables } from './compare';
import type { VerifyContext } from './context';
import { recheckRows } from './recheck';
import { repairRows } from './repair';
import { readResult } from './result';

export { validationChecksum } from './checksum';
export type { VerifyContext, VerifyProgress } from './context';

export type VerifyPhase = 'compare' | 'checks' | 'recheck' | 'repair';

export const phasesOf = (plan: ValidationPlan): VerifyPhase[] => [
  'compare',
  'checks',
  'recheck',
  ...(plan.repair === 'target' ? (['repair'] as const) : []),
];

/** Runs one phase, behind what is done of it. @throws Problem FenceBroken when another attempt has taken over. */
export async function runPhase(phase: VerifyPhase, context: VerifyContext): Promise<void> {
  if (phase === 'compare') await compareTables(context);
  else if (phase === 'recheck') await recheckRows(context);
  else if (phase === 'repair') await repairRows(context);
  else await runChecks(context);
}

/** @throws Problem NameInUse, Unreachable, PrivilegeMissing, NoSuchObject, SameDatabase, ... */
export async function verifyLocally(context: VerifyContext): Promise<VerifyResult> {
  const { plan, target, signal } = context;
  // Held to the end: its lock says that this run lives.
  const session = await openSession(target, { purpose: 'verify', migration: plan.name });
  try {
    await install(session, signal);
    const checksum = validationChecksum(plan);
    await claimValidation(session, { plan, checksum, workflowId: LOCAL, runId: LOCAL });
    for (const phase of phasesOf(plan)) await runPhase(phase, context);
    const result = await readResult(session, plan);
    await endValidation(session, plan.name, result);
    return result;
  } finally {
    await session.close();
  }
}
