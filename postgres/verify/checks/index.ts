/** Phase checks: what is compared beside rows. Each check reads both catalogues and answers in findings; it changes nothing. */
import type { CheckName, VerifyFinding } from '../../../plan/model/validation';
import { fenceBroken, finishAttempt } from '../../fence';
import { checkSignal } from '../../work';
import type { VerifyContext } from '../context';
import type { Phase } from '../prepared';
import { withPhase } from '../prepared';
import { checkOrphans } from './orphans';
import { checkPerformance } from './performance';
import { checkConstraints, checkPrivileges, checkRls, checkSchema } from './schema';
import { checkSequences } from './sequences';

export interface Checked {
  readonly errors: readonly VerifyFinding[];
  readonly warnings: readonly VerifyFinding[];
}

type Check = (phase: Phase) => Promise<Checked>;

/** `rows` is a phase of its own. */
const CHECK: Readonly<Record<Exclude<CheckName, 'rows'>, Check>> = {
  schema: checkSchema,
  constraints: checkConstraints,
  sequences: checkSequences,
  privileges: checkPrivileges,
  rls: checkRls,
  orphans: checkOrphans,
  performance: checkPerformance,
};

/** A report stays small: what there is more of is counted. */
const FINDINGS_MAX = 500;

export async function runChecks(context: VerifyContext): Promise<void> {
  const any = (): Promise<boolean> => Promise.resolve(context.plan.checks.some((name) => name !== 'rows'));
  const run = async (phase: Phase): Promise<void> => {
    const errors: VerifyFinding[] = [];
    const warnings: VerifyFinding[] = [];
    for (const name of context.plan.checks) {
      checkSignal(context.signal);
      if (name === 'rows') continue;
      const found = await CHECK[name](phase);
      errors.push(...found.errors);
      warnings.push(...found.warnings);
    }
    const result = { errors: few(errors), warnings: few(warnings) };
    const { state, attempt } = phase;
    if (!(await finishAttempt(state, attempt, { status: 'done', result }))) throw fenceBroken(attempt);
  };
  await withPhase(context, 'checks', run, any);
}

function few(findings: readonly VerifyFinding[]): VerifyFinding[] {
  const left = findings.length - FINDINGS_MAX;
  const last = findings[FINDINGS_MAX];
  if (left <= 0 || !last) return [...findings];
  return [...findings.slice(0, FINDINGS_MAX), { ...last, table: null, message: `and ${left} more` }];
}
