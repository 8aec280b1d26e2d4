/**
 * Activities of the proof: every row of the two sides compared while both live, and what the other side's planner will make of the statements. State and
 * keys that differ lie in the side that is being filled; nothing but counts comes back.
 */
import { createHash } from 'node:crypto';
import { validateValidation } from '../plan/model/validate';
import type { ValidationPlan } from '../plan/model/validation';
import type { Live } from '../plan/model/state';
import type { Side } from '../plan/model/traffic';
import { otherSide } from '../plan/model/traffic';
import type { Session } from '../postgres/session';
import { withSession } from '../postgres/session';
import { shown } from '../plan/model/quote';
import { compareShapes } from '../postgres/switch/carried';
import { rememberChanges } from '../postgres/switch/changedSlot';
import type { Counters } from '../postgres/switch/quickVerify';
import { readCounters } from '../postgres/switch/quickVerify';
import type { VerifyContext, VerifyProgress } from '../postgres/verify';
import { runPhase, validationChecksum } from '../postgres/verify';
import { claimValidation, endValidation } from '../postgres/verify/claim';
import { readResult } from '../postgres/verify/result';
import { resolveTarget } from '../worker/config';
import { Reporter } from './context';
import type { Tools } from './context';
import { withPair } from './pairSessions';
import type { PairVerified, VerifyPairArgs } from './types';

const NAME_MAX = 80;
const nameOf = (migration: string, what: string): string =>
  migration.length <= NAME_MAX
    ? `${migration}.${what}`
    : `${migration.slice(0, NAME_MAX - 13)}.${createHash('sha256').update(migration).digest('hex').slice(0, 12)}.${what}`;

const liveOf = (step: string, attempt: number, p: VerifyProgress): Live => ({
  step,
  attempt,
  rowsDone: p.rowsDone,
  rowsTotal: p.rowsTotal,
  estimated: true,
  bytesDone: 0,
  bytesTotal: 0,
  rowsPerSecond: p.rowsPerSecond,
  etaSeconds: p.etaSeconds,
  batchRows: 0,
  throttledBy: null,
  lagBytes: null,
  lagMs: null,
  waitingFor: null,
});

/** What is compared with what: columns and tables that only one side has are left out by name. */
export async function proofPlan(args: Omit<VerifyPairArgs, 'number'>, tools: Tools): Promise<ValidationPlan> {
  const { from, what } = args;
  const to = otherSide(from);
  const differs = await withPair(args, tools, ({ both }) => compareShapes(both));
  const same = Object.keys(differs.addedColumns).length === 0 && differs.changedTypes.length === 0;
  const omitted = Object.fromEntries(
    Object.entries(differs.addedColumns).map(([table, columns]) => [table, { omit: columns.map(shown) }]),
  );
  return validateValidation({
    name: nameOf(args.migration, what),
    source: args.pair[from],
    target: args.pair[to],
    tables: { include: ['*.*'], exclude: differs.addedTables },
    map: omitted,
    checks:
      what === 'performance'
        ? ['performance']
        : same && differs.addedTables.length === 0
          ? ['rows', 'constraints']
          : ['rows'],
  });
}

const COUNTERS = 'verified/';

/** Before the first row is compared: what is written from here on is compared again, row by row, at the latest in the pause. */
const keepCounters = (args: VerifyPairArgs, tools: Tools): Promise<void> =>
  withPair(args, tools, async ({ both, pair }) => {
    await rememberChanges(both, pair, args.from);
    const counters = await readCounters(both[args.from]);
    await both.blue.run(
      `INSERT INTO pgshift.steps (migration_name, step_id, phase, status, result) VALUES ($1, $2, 'validate_green', 'done', $3::jsonb)
       ON CONFLICT (migration_name, step_id) DO UPDATE SET result = excluded.result`,
      [args.migration, `${COUNTERS}${args.from}`, JSON.stringify(counters)],
    );
  });

/** null = every row was never compared from this side. */
export const countersAt = async (blue: Session, migration: string, from: Side): Promise<Counters | null> =>
  (
    await blue.one<{ result: Counters }>(
      `SELECT s.result FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = $2`,
      [migration, `${COUNTERS}${from}`],
    )
  )?.result ?? null;

/** Throws nothing for what it finds: the workflow decides. */
export async function verifyPair(args: VerifyPairArgs, tools: Tools): Promise<PairVerified> {
  const plan = await proofPlan(args, tools);
  if (args.what === 'verify') await keepCounters(args, tools);
  const { config, metrics } = tools.deps;
  const target = resolveTarget(config, plan.target);
  const reporter = new Reporter();
  const context: VerifyContext = {
    plan,
    source: resolveTarget(config, plan.source),
    target,
    signal: tools.signal,
    progress: (progress) => {
      tools.beat(progress);
      reporter.report(
        liveOf(args.what === 'performance' ? 'performance_check' : 'validate_green', tools.attempt, progress),
      );
    },
    log: (level, message, fields) => tools.log[level]({ ...fields }, message),
  };
  return withSession(target, { purpose: 'verify', migration: plan.name }, async (session) => {
    await claimValidation(session, {
      plan,
      checksum: validationChecksum(plan),
      workflowId: tools.workflowId,
      runId: `${await tools.chainId()}/${args.number}`,
    });
    for (const phase of ['compare', 'checks', 'recheck'] as const) await runPhase(phase, context);
    const result = await readResult(session, plan);
    await endValidation(session, plan.name, result);
    const differing = result.tables.reduce((sum, table) => sum + table.differing, 0);
    if (differing > 0) metrics.differingRows.inc(differing);
    return {
      passed: result.passed,
      tables: result.tables.length,
      rows: result.statistics.rows,
      differing,
      seconds: result.statistics.seconds,
      errors: result.errors
        .slice(0, 10)
        .map(({ table, message }) => (table === null ? message : `${table}: ${message}`)),
      warnings: result.warnings
        .slice(0, 20)
        .map(({ table, message }) => (table === null ? message : `${table}: ${message}`)),
    };
  });
}
