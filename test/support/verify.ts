/** For tests of verification: two databases, one plan, one run without Temporal. */
import { validateValidation } from '../../plan/model/validate';
import type { VerifiedTable, VerifyResult } from '../../plan/model/validation';
import { withSession } from '../../postgres/session';
import { target } from '../../postgres/types';
import { verifyLocally } from '../../postgres/verify';
import type { VerifyProgress } from '../../postgres/verify';
import { withSamples } from '../../postgres/verify/samples';
import type { FreshDatabase } from './database';

export interface VerifyRun {
  readonly signal?: AbortSignal;
  readonly progress?: (progress: VerifyProgress) => void;
}

/** The result with samples and their values. */
export async function verify(
  source: FreshDatabase,
  into: FreshDatabase,
  plan: Readonly<Record<string, unknown>> = {},
  { signal = new AbortController().signal, progress = () => undefined }: VerifyRun = {},
): Promise<VerifyResult> {
  const valid = validateValidation({ name: 'v', source: 'a', target: 'b', live: 'static', checks: ['rows'], ...plan });
  const there = target('b', into.url);
  const context = {
    plan: valid,
    source: target('a', source.url),
    target: there,
    signal,
    progress,
    log: () => undefined,
  };
  const result = await verifyLocally(context);
  return withSession(there, { purpose: 'test' }, (session) =>
    withSamples(session, { name: valid.name, limit: 100, showValues: true }, result),
  );
}

/** @throws Error when the table was not compared. */
export function tableOf(result: VerifyResult, name: string): VerifiedTable {
  const found = result.tables.find(({ table }) => table === name);
  if (!found) throw new Error(`${name} was not compared: ${JSON.stringify(result)}`);
  return found;
}

/** `changed {"id":"7"} b: 1 -> 2` for each sample, sorted. */
export const samplesOf = ({ samples = [] }: VerifiedTable): string[] =>
  samples
    .map(
      ({ kind, key, columns }) =>
        `${kind} ${JSON.stringify(key)} ${columns.map((c) => `${c.name}: ${c.source} -> ${c.target}`).join(', ')}`,
    )
    .sort();
