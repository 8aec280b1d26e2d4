/** Phase checks: what is compared beside rows. Each check reads both catalogues and answers in findings; it changes nothing. */
import type { CheckName, VerifyFinding } from '../../../plan/model/validation';
import { fenceBroken, finishAttempt } from '../../fence';
import { checkSignal } from '../../work';
import type { VerifyContext } from '../context';
import type { Phase } from '../prepared';
import { withPhase } from '../prepared';

export interface Checked {
  readonly errors: readonly VerifyFinding[];
  readonly warnings: readonly VerifyFinding[];
}

export type Check = (phase: Phase, context: VerifyContext) => Promise<Checked>;

const CHECK: Readonly<Partial<Record<CheckName, Check>>> = {};

/** A report stays small: what there is more of is counted. */
const FINDINGS_MAX = 500;

export async function runChecks(context: VerifyContext): Promise<void> {
  await withPhase(context, 'checks', async (phase) => {
    const errors: VerifyFinding[] = [];
    const warnings: VerifyFinding[] = [];
    for (const name of context.plan.checks) {
      checkSignal(context.signal);
      const found = await CHECK[name]?.(phase, context);
      errors.push(...(found?.errors ?? []));
      warnings.push(...(found?.warnings ?? []));
    }
    const result = { errors: few(errors), warnings: few(warnings) };
    const { state, attempt } = phase;
    if (!(await finishAttempt(state, attempt, { status: 'done', result }))) throw fenceBroken(attempt);
  });
}

function few(findings: readonly VerifyFinding[]): VerifyFinding[] {
  const left = findings.length - FINDINGS_MAX;
  const last = findings[FINDINGS_MAX];
  if (left <= 0 || !last) return [...findings];
  return [...findings.slice(0, FINDINGS_MAX), { ...last, table: null, message: `and ${left} more` }];
}
