/**
 * Everything that is looked at before anything is made, and again before clients are made to wait. Keeps true: a check that cannot find out says
 * 'unknown', and that stops the switch as a failure does; only what a person has acknowledged by name is let through.
 */
import { isProblem, Problem } from '../../../plan/model/errors';
import { ACCESS } from './access';
import { ALIKE } from './alike';
import { DATA } from './data';
import { LIVE } from './live';
import { SERVERS } from './servers';
import type { Check, Guardrail, GuardrailInput } from './types';

export type { Guardrail, GuardrailInput, Limits, Severity } from './types';

export const CHECKS: readonly Check[] = [...SERVERS, ...ALIKE, ...ACCESS, ...DATA, ...LIVE];

async function runOne(check: Check, input: GuardrailInput): Promise<Guardrail[]> {
  const about = { check: check.id, severity: check.severity };
  try {
    return (await check.look(input)).map(({ side, ok, evidence, remedy }) => ({
      ...about,
      side,
      verdict: ok ? 'pass' : 'fail',
      evidence,
      remedy: ok ? '' : (remedy ?? check.remedy),
    }));
  } catch (error) {
    // Not the sentence of the error: only what we know to be ours.
    const why = isProblem(error) ? `${error.code}: ${error.message}` : 'it could not be read';
    return [{ ...about, side: 'both', verdict: 'unknown', evidence: why, remedy: check.remedy }];
  }
}

/** One after the other, on the sessions given. Never throws for what it finds. */
export async function runGuardrails(input: GuardrailInput): Promise<Guardrail[]> {
  const found: Guardrail[] = [];
  for (const check of CHECKS.filter(({ stages }) => stages.includes(input.stage)))
    found.push(...(await runOne(check, input)));
  return found;
}

/** Those that stop it: failed errors, and whatever is unknown; `acknowledged` = ids of checks that a person answers for. */
export const stopping = (found: readonly Guardrail[], acknowledged: readonly string[] = []): Guardrail[] =>
  found.filter(
    ({ check, verdict, severity }) =>
      !acknowledged.includes(check) &&
      (verdict === 'unknown' ? severity !== 'info' : verdict === 'fail' && severity === 'error'),
  );

/** Throws GuardrailFailed with details.checks. */
export function refuseUnsafe(found: readonly Guardrail[], acknowledged: readonly string[] = []): void {
  const bad = stopping(found, acknowledged);
  const [first] = bad;
  if (!first) return;
  throw new Problem(
    'GuardrailFailed',
    `${first.check} (${first.side}): ${first.evidence}${bad.length > 1 ? `; and ${bad.length - 1} more` : ''}`,
    { hint: first.remedy, details: { checks: bad.slice(0, 30) } },
  );
}
