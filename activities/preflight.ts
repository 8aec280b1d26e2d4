/** The checks of preflight against the live database. Keeps true: it only reads, and says everything that is wrong at once. */
import type { Catalog } from '../plan/model/catalog';
import { Problem } from '../plan/model/errors';
import type { SchemaMigrationPlan } from '../plan/model/plan';
import type { PreCheck, SchemaPlan } from '../plan/model/steps';
import { formatCount } from '../plan/model/values';
import { preflight, requireChecks } from '../postgres/preflight';
import type { Session } from '../postgres/session';
import { withSession } from '../postgres/session';
import type { Target } from '../postgres/types';
import type { Tools } from './context';

export interface PreflightInput {
  readonly session: Session;
  readonly target: Target;
  readonly plan: SchemaPlan;
  readonly given: SchemaMigrationPlan;
  readonly catalog: Catalog;
  readonly tools: Tools;
}

/** Questions of the planner that only the data can answer. @throws Problem of the first one, with the others in details.checks. */
async function askData({ target, plan, given, tools }: PreflightInput): Promise<void> {
  const checks = plan.preChecks ?? [];
  if (checks.length === 0) return;
  const wrong: { check: PreCheck; message: string }[] = [];
  await withSession(target, { purpose: 'preflight', searchPath: given.searchPath }, async (session) => {
    for (const check of checks) {
      tools.signal.throwIfAborted();
      const row = await session.one<{ rows: number }>(`SELECT (${check.count})::float8 AS rows`);
      const rows = row?.rows ?? 0;
      if (rows > 0) wrong.push({ check, message: check.message.replaceAll('$COUNT', formatCount(rows)) });
    }
  });
  const [first] = wrong;
  if (!first) return;
  throw new Problem(first.check.code, first.message, {
    where: { line: first.check.line },
    hint: first.check.hint,
    details: { checks: wrong.map(({ check, message }) => ({ name: check.column, message })) },
  });
}

export async function runPreflight(input: PreflightInput): Promise<void> {
  const { session, target, plan, tools } = input;
  const checks = (await preflight(session, target, plan)).filter(({ level }) => level !== 'ok');
  for (const { check, evidence, level } of checks)
    tools.log.warn({ phase: 'preflight', check, status: level }, `${check}: ${evidence}`);
  requireChecks(checks);
  await askData(input);
}
