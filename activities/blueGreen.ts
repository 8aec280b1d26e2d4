/**
 * Activities of workflow `blueGreen`: opening, guardrails, green's schema, the plan's change. Keeps true: whatever may refuse comes before the first
 * write; the guard rows stand before green has its first table, so that there is no green that is not known to be fenced.
 */
import { createHash } from 'node:crypto';
import { Problem, isProblem } from '../plan/model/errors';
import type { PairControl } from '../plan/model/blueGreen';
import { blueGreenControlOf, pairControlOf, switchLimits, syncControlOf } from '../plan/model/blueGreen';
import { canaryControlOf, canaryPartOf } from '../plan/model/canary';
import { parseDuration } from '../plan/model/values';
import { readsRoute, readsSides } from '../plan/model/readsCheck';
import type { AnyPairPlan } from '../plan/model/validateCanary';
import { validatePair } from '../plan/model/validateCanary';
import { beginAttempt, fenceBroken, finishAttempt } from '../postgres/fence';
import type { Session } from '../postgres/session';
import { inTransaction, openSession, withSession } from '../postgres/session';
import { install, installedVersion } from '../postgres/state/install';
import type { Claim, MigrationRow } from '../postgres/state/migrations';
import { claimName, findMigration, setStatus } from '../postgres/state/migrations';
import { compareShapes } from '../postgres/switch/carried';
import type { ShapeDifference } from '../postgres/switch/carried';
import { wallOff } from '../postgres/switch/fence';
import type { RouteRef } from '../postgres/switch/guard';
import { closeGuard, openGuards } from '../postgres/switch/guard';
import type { Guardrail } from '../postgres/switch/guardrails';
import { refuseUnsafe, runGuardrails } from '../postgres/switch/guardrails';
import type { Both } from '../postgres/switch/pair';
import type { SchemaState } from '../postgres/switch/schemaState';
import { schemaState } from '../postgres/switch/schemaState';
import { replicated, userTables } from '../postgres/switch/tables';
import { databaseConfig, environmentDefaults, resolveTarget } from '../worker/config';
import type { Tools } from './context';
import type { OpenPair } from './pairSessions';
import { summaryOf, withPair } from './pairSessions';
import { nameInUse } from './prepare';
import { grantLooks, grantRoutes } from './routeGrants';
import type { PairArgs, PairFacts, PairOpened } from './types';

/** The plan with the configuration's defaults for blue's environment under its own keys; gates of other kinds of change are none of ours. */
export function givenPair(start: unknown, { deps }: Tools): AnyPairPlan {
  const parsed = validatePair(start);
  const { kind } = parsed;
  const keys = start as Record<string, unknown>;
  const { gates: _gates, ...defaults } = environmentDefaults(deps.config, parsed.blue);
  return validatePair({ ...defaults, ...keys, kind });
}

export async function openBlueGreen({ start }: { start: unknown }, tools: Tools): Promise<PairOpened> {
  const plan = givenPair(start, tools);
  const { config, settings } = tools.deps;
  if (plan.change?.sqlFile !== undefined)
    throw new Problem('InvalidPlan', 'change.sqlFile: the worker cannot read your files', {
      where: { path: 'change.sqlFile' },
      hint: 'put the text under change.sql, or start it with pgshift start, which does that',
    });
  const { environment, applicationRoles } = databaseConfig(config, plan.blue);
  resolveTarget(config, plan.green);
  const pair = pairControlOf(plan);
  return Promise.resolve({
    control: plan.kind === 'canary' ? canaryControlOf(plan) : blueGreenControlOf(plan),
    ...(plan.kind === 'canary' ? { canary: canaryPartOf(plan) } : {}),
    pair: { ...pair, applicationRoles: plan.applicationRoles ?? applicationRoles },
    copy: syncControlOf(plan),
    environment,
    settings,
  });
}

/** Of what is asked, not of how it is typed. */
function checksumOf({ name, blue, green, change, tables }: AnyPairPlan): string {
  return createHash('sha256').update(JSON.stringify({ name, blue, green, change, tables })).digest('hex');
}

/** Every table's guardrails, as far as they can be seen now. Throws GuardrailFailed. */
export async function guard(
  open: OpenPair,
  stage: 'before' | 'switch',
  direction: 'forward' | 'reverse',
): Promise<Guardrail[]> {
  const { both, pair, peers, control } = open;
  const found = await runGuardrails({
    both,
    pair,
    peers,
    stage,
    direction,
    limits: switchLimits(control),
    applicationRoles: control.applicationRoles,
  });
  refuseUnsafe(found, control.allowed);
  return found;
}

async function checkTraffic(open: OpenPair, allowed: readonly string[]): Promise<readonly string[]> {
  const found = await open.traffic.check(open.call('check', 10_000));
  const bad = found.filter(({ level, check }) => level === 'error' && !allowed.includes(check));
  const [first] = bad;
  if (first)
    throw new Problem('GuardrailFailed', `${first.check}: ${first.message}`, {
      hint: first.remedy,
      details: { checks: bad.slice(0, 30) },
    });
  return found.filter(({ level }) => level !== 'info').map(({ check, message }) => `${check}: ${message}`);
}

export { checkTraffic };

async function refuseUsed(row: MigrationRow, plan: AnyPairPlan, checksum: string, database: string): Promise<void> {
  if (row.status !== 'completed')
    throw await nameInUse({ name: plan.name, database }, { workflowId: row.workflowId ?? '', runId: row.runId ?? '' });
  if (row.checksum === checksum)
    throw new Problem('AlreadyApplied', `${plan.name} was completed at ${row.appliedAt ?? 'an unknown time'}`);
  throw new Problem('ChecksumMismatch', `${plan.name} was completed with another plan`, {
    details: { stored: row.checksum },
  });
}

async function claim(
  session: Session,
  plan: AnyPairPlan,
  checksum: string,
  runId: string,
  tools: Tools,
): Promise<void> {
  const asked: Claim = {
    name: plan.name,
    kind: plan.kind,
    checksum,
    description: plan.description ?? null,
    // They are migrations of blue: green knows nothing of them.
    dependencies: session.name === plan.blue ? plan.dependsOn : [],
    workflowId: tools.workflowId,
    runId,
    appliedBy: session.role,
  };
  await claimName(session, asked).catch(async (error: unknown) => {
    if (!isProblem(error) || error.code !== 'NameInUse') throw error;
    const { workflowId, runId: holder } = error.details;
    throw await nameInUse(
      { name: plan.name, database: session.name },
      { workflowId: String(workflowId), runId: String(holder) },
    );
  });
}

/** Tokens of earlier switches stay in the routes; an attempt below them would be taken for one that was given up. */
async function firstEpoch({ blue, green }: Both): Promise<number> {
  const highest = async (session: Session): Promise<number> =>
    (await session.one<{ token: number }>(`SELECT coalesce(max(r.token), 0)::float8 AS token FROM pgshift.routes AS r`))
      ?.token ?? 0;
  return Math.max(await highest(blue), await highest(green)) + 1;
}

export const routesOf = (control: PairControl): RouteRef[] =>
  control.traffic.flatMap((one) => {
    if (one.type === 'router') return [{ route: one.route, sides: one.sides }];
    if (one.type !== 'haproxy' || one.reads === undefined) return [];
    return [{ route: readsRoute(one.reads.backend), sides: readsSides(one.reads) }];
  });

/** Guardrails, then the claim in both databases and the guard rows. A run that claimed before (its worker died) finds its own claim. */
export async function prepareBlueGreen(
  { start, ...args }: PairArgs & { readonly start: unknown },
  tools: Tools,
): Promise<PairFacts> {
  const plan = givenPair(start, tools);
  const runId = await tools.chainId();
  const checksum = checksumOf(plan);
  return withPair(args, tools, async (open) => {
    const { both } = open;
    const rowIn = async (session: Session): Promise<MigrationRow | undefined> =>
      (await installedVersion(session)) === null ? undefined : findMigration(session, plan.name);
    const isMine = (row: MigrationRow | undefined): boolean =>
      row?.status === 'running' && row.workflowId === tools.workflowId && row.runId === runId;
    for (const session of [both.blue, both.green]) {
      const row = await rowIn(session);
      if (row && !isMine(row) && row.status !== 'failed' && row.status !== 'rolled_back')
        await refuseUsed(row, plan, checksum, session.name);
    }
    const found = await guard(open, 'before', 'forward');
    const facts = {
      checksum,
      serverVersions: { blue: both.blue.serverVersion, green: both.green.serverVersion },
      tables: replicated(await userTables(both.blue)).length,
      guardrails: summaryOf(found),
    };
    if (plan.mode === 'dry-run') return { ...facts, traffic: [] };
    await install(both.blue, tools.signal);
    await install(both.green, tools.signal);
    await claim(both.blue, plan, checksum, runId, tools);
    try {
      await claim(both.green, plan, checksum, runId, tools);
      await openGuards(both, plan.name, {
        names: { blue: plan.blue, green: plan.green },
        routes: routesOf(open.control),
        epoch: await firstEpoch(both),
      });
      await grantRoutes(open);
      await grantLooks(open);
      return { ...facts, traffic: await checkTraffic(open, open.control.allowed) };
    } catch (error) {
      // Refused after all: the name is free again.
      for (const session of [both.green, both.blue]) await unclaim(session, plan.name, tools);
      throw error;
    }
  });
}

async function unclaim(session: Session, name: string, tools: Tools): Promise<void> {
  const row = await findMigration(session, name);
  if (row?.workflowId !== tools.workflowId || row.runId !== (await tools.chainId())) return;
  await closeGuard(session, name);
  await setStatus(session, name, 'failed');
}

const STATE_STEP = 'schema_state';

/** What green was like before anything was made there, and blue when its schema was read: kept in green's record. */
export async function keepSchemaState(
  session: Session,
  migration: string,
  key: string,
  state: SchemaState,
): Promise<void> {
  await session.run(
    `INSERT INTO pgshift.steps (migration_name, step_id, phase, status, result) VALUES ($1, $2, 'create_green', 'done', $3::jsonb)
     ON CONFLICT (migration_name, step_id) DO NOTHING`,
    [migration, `${STATE_STEP}/${key}`, JSON.stringify(state)],
  );
}

export async function readSchemaState(session: Session, migration: string, key: string): Promise<SchemaState | null> {
  const row = await session.one<{ result: SchemaState }>(
    `SELECT s.result FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = $2`,
    [migration, `${STATE_STEP}/${key}`],
  );
  return row?.result ?? null;
}

/** Before green's schema is made: what both are like now. The first call's answer stays. */
export const noteSchemas = (args: PairArgs, tools: Tools): Promise<void> =>
  withPair(args, tools, async ({ both }) => {
    await keepSchemaState(both.green, args.migration, 'green', await schemaState(both.green));
    await keepSchemaState(both.green, args.migration, 'blue', await schemaState(both.blue));
  });

const fencingOf = ({ options }: PairArgs, signal: AbortSignal) => ({
  lockTimeoutMs: parseDuration(options.lockTimeout) ?? 200,
  deadlineMs: 60_000,
  signal,
});
export { fencingOf };

/** Every table of green gets its wall: from here on only replication and pgshift's own sessions write there. */
export const wallGreen = (args: PairArgs, tools: Tools): Promise<{ readonly tables: number }> =>
  withPair(args, tools, async ({ both }) => ({
    tables: await wallOff(both.green, args.migration, fencingOf(args, tools.signal)),
  }));

/** The plan's SQL on the empty green, in one transaction with its record. */
export async function applyChange(
  { start, ...args }: PairArgs & { readonly start: unknown },
  tools: Tools,
): Promise<ShapeDifference> {
  const sql = givenPair(start, tools).change?.sql;
  const green = resolveTarget(tools.deps.config, args.pair.green);
  if (sql !== undefined) {
    const control = await openSession(green, { purpose: 'change', migration: args.migration });
    try {
      const ref = { migration: args.migration, stepId: 'apply_change', phase: 'apply_change' } as const;
      const begun = await beginAttempt(control, ref, 'do', tools.signal);
      if (begun.state === 'begun')
        await withSession(green, { purpose: 'change', migration: args.migration, searchPath: ['public'] }, (session) =>
          inTransaction(session, async () => {
            if (!(await finishAttempt(session, begun.attempt, { status: 'done', result: {} })))
              throw fenceBroken(begun.attempt);
            await session.run(sql);
          }),
        );
    } finally {
      await control.close();
    }
  }
  return withPair(args, tools, async ({ both }) => {
    await wallOff(both.green, args.migration, fencingOf(args, tools.signal));
    return compareShapes(both);
  });
}
