/** What a guardrail is and what it answers. Keeps true: what could not be found out is 'unknown' and stops the switch like a failure. */
import type { Both, Pair } from '../pair';
import type { Session } from '../../session';
import type { Target } from '../../types';
import type { Side } from '../../../plan/model/traffic';
import { SIDES } from '../../../plan/model/traffic';
import type { Direction } from '../names';

export const SEVERITIES = ['error', 'warning', 'info'] as const;
export type Severity = (typeof SEVERITIES)[number];

export interface Limits {
  readonly maxTransactionAgeMs: number;
  readonly maxLagBytes: number;
}

export interface GuardrailInput {
  readonly both: Both;
  readonly pair: Pair;
  /** Each side as the OTHER side's server reaches it. */
  readonly peers: { readonly [side in Side]: Target };
  /** before = nothing is made yet; switch = replication runs `direction`, and the next thing is the pause. */
  readonly stage: 'before' | 'switch';
  readonly direction: Direction;
  readonly limits: Limits;
  /** Roles of the applications. Empty = unknown. */
  readonly applicationRoles: readonly string[];
}

export interface Finding {
  readonly side: Side | 'both';
  readonly ok: boolean;
  /** What was seen: counts and names of objects, never values of rows. */
  readonly evidence: string;
  /** Instead of the check's own. */
  readonly remedy?: string;
}

export interface Check {
  readonly id: string;
  readonly stages: readonly GuardrailInput['stage'][];
  readonly severity: Severity;
  readonly remedy: string;
  /** Only reads, except what rolls back. */
  readonly look: (input: GuardrailInput) => Promise<readonly Finding[]>;
}

export interface Guardrail {
  readonly check: string;
  readonly side: Side | 'both';
  readonly severity: Severity;
  readonly verdict: 'pass' | 'fail' | 'unknown';
  readonly evidence: string;
  /** Empty when it passes. */
  readonly remedy: string;
}

export const BEFORE: readonly GuardrailInput['stage'][] = ['before'];
export const AT_SWITCH: readonly GuardrailInput['stage'][] = ['switch'];
export const ALWAYS: readonly GuardrailInput['stage'][] = ['before', 'switch'];

/** The same question to each side. */
export const ofEach = async (
  input: GuardrailInput,
  ask: (session: Session, side: Side) => Promise<Omit<Finding, 'side'>>,
): Promise<Finding[]> => {
  const found: Finding[] = [];
  for (const side of SIDES) found.push({ side, ...(await ask(input.both[side], side)) });
  return found;
};

const SHOWN = 10;

/** `a, b and 3 more` */
export const listed = (names: readonly string[]): string =>
  names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '');

/** Passes when a query that lists offenders (column `name`) answers none. */
export async function none(
  session: Session,
  sql: string,
  what: string,
  values: readonly unknown[] = [],
): Promise<Omit<Finding, 'side'>> {
  const names = (await session.rows<{ name: string }>(sql, values)).map(({ name }) => name);
  return { ok: names.length === 0, evidence: names.length === 0 ? `no ${what}` : `${what}: ${listed(names)}` };
}
