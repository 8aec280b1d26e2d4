/**
 * Data migrations: thin calls of postgres/copy. The plan is read and judged here as in preflight of a schema migration; the name is claimed in the
 * target, where the state lies. Keeps true: everything that may refuse comes before the first write.
 */
import { Problem, isProblem } from '../plan/model/errors';
import type { DataMigrationPlan } from '../plan/model/dataMigration';
import { copyControlOf, dataControlOf } from '../plan/model/dataMigration';
import { stepOptions } from '../plan/model/options';
import type { Live } from '../plan/model/state';
import { shownTables } from '../plan/model/tablesPlan';
import { validateDataMigration } from '../plan/model/validate';
import type { CopyContext } from '../postgres/copy/context';
import * as copy from '../postgres/copy/run';
import type { Alert } from '../postgres/map/alerts';
import { storeMaps } from '../postgres/map/store';
import { copyPlanOf, dataChecksum, lookAt } from '../postgres/copy/preflight';
import type { Session } from '../postgres/session';
import { openSession, withSession } from '../postgres/session';
import { install, installedVersion } from '../postgres/state/install';
import { writeLog } from '../postgres/state/journal';
import { claimName, findMigration } from '../postgres/state/migrations';
import { startThrottle } from '../postgres/throttle';
import { databaseConfig, environmentDefaults, resolveTarget } from '../worker/config';
import { Reporter } from './context';
import type { Tools } from './context';
import { nameInUse } from './prepare';
import type {
  CloseArgs,
  CopyArgs,
  CopyWatched,
  DataFacts,
  DataOpened,
  PieceArgs,
  SettleArgs,
  WatchCopyArgs,
} from './types';

function given(start: unknown, { deps }: Tools): DataMigrationPlan {
  const parsed = validateDataMigration(start);
  const { kind: _, ...keys } = start as Record<string, unknown>;
  return validateDataMigration({ ...environmentDefaults(deps.config, parsed.target), ...keys });
}

export async function openData({ start }: { start: unknown }, tools: Tools): Promise<DataOpened> {
  const plan = given(start, tools);
  const { environment } = databaseConfig(tools.deps.config, plan.target);
  resolveTarget(tools.deps.config, plan.source);
  return Promise.resolve({
    control: dataControlOf(plan),
    copy: copyControlOf(plan),
    environment,
    settings: tools.deps.settings,
  });
}

/** Preflight, then the claim. A run that claimed before (its worker died) finds its own claim. */
export async function prepareData({ start }: { start: unknown }, tools: Tools): Promise<DataFacts> {
  const plan = given(start, tools);
  const { config } = tools.deps;
  const runId = await tools.chainId();
  const checksum = dataChecksum(plan);
  return withSession(resolveTarget(config, plan.target), { purpose: 'preflight', migration: plan.name }, (target) =>
    withSession(resolveTarget(config, plan.source), { purpose: 'preflight', migration: plan.name }, async (source) => {
      const installed = (await installedVersion(target)) !== null;
      const row = installed ? await findMigration(target, plan.name) : undefined;
      const mine = row?.status === 'running' && row.workflowId === tools.workflowId && row.runId === runId;
      if (row && !mine && row.status !== 'failed' && row.status !== 'rolled_back')
        await refuseUsed(row, plan, checksum);
      const looked = mine ? { chosen: [], leftOut: [], problems: [] } : await lookAt(plan, source, target);
      const [refused] = looked.problems;
      if (refused) throw refused;
      const tables = looked.chosen.filter(({ kind }) => kind === 'r').length;
      const facts = { checksum, serverVersion: target.serverVersion, tables };
      if (plan.mode === 'dry-run')
        return { ...facts, plan: shownTables(await copyPlanOf(plan, source, target, looked)) };
      await install(target, tools.signal);
      await claimName(target, {
        name: plan.name,
        kind: 'data-migration',
        checksum,
        description: plan.description ?? null,
        dependencies: plan.dependsOn,
        workflowId: tools.workflowId,
        runId,
        appliedBy: target.role,
      }).catch(async (error: unknown) => {
        if (!isProblem(error) || error.code !== 'NameInUse') throw error;
        const { workflowId, runId: holder } = error.details;
        throw await nameInUse(
          { name: plan.name, database: plan.target },
          { workflowId: String(workflowId), runId: String(holder) },
        );
      });
      await storeMaps(target, plan.name, plan.map);
      await writeLog(target, {
        migration: plan.name,
        level: 'info',
        phase: 'preflight',
        step: null,
        message: `claimed by ${tools.workflowId}`,
      });
      return facts;
    }),
  );
}

type Used = NonNullable<Awaited<ReturnType<typeof findMigration>>>;

async function refuseUsed(row: Used, plan: DataMigrationPlan, checksum: string): Promise<void> {
  if (row.status !== 'completed')
    throw await nameInUse(
      { name: plan.name, database: plan.target },
      { workflowId: row.workflowId ?? '', runId: row.runId ?? '' },
    );
  if (row.checksum === checksum)
    throw new Problem('AlreadyApplied', `${plan.name} was completed at ${row.appliedAt ?? 'an unknown time'}`);
  throw new Problem('ChecksumMismatch', `${plan.name} was completed with another plan`, {
    details: { stored: row.checksum },
  });
}

/** Everything that a copy works with; the throttle reads its brakes on the target and ends with the activity. */
export async function withContext<T>(
  args: CopyArgs,
  tools: Tools,
  work: (context: CopyContext) => Promise<T>,
): Promise<T> {
  const { config } = tools.deps;
  const target = resolveTarget(config, args.copy.target);
  const options = stepOptions(args.options, null);
  const opened: Session[] = [];
  const slowed = {
    context: { options, target, migration: args.migration, signal: tools.signal, progress: () => undefined },
    open: async (purpose: string) => {
      const session = await openSession(target, { purpose, migration: args.migration });
      opened.push(session);
      return session;
    },
  };
  const throttle = await startThrottle(slowed, []);
  try {
    return await work({
      source: resolveTarget(config, args.copy.source),
      target,
      migration: args.migration,
      control: args.copy,
      lockTimeoutMs: options.lockTimeoutMs,
      lockBudgetMs: options.lockBudgetMs,
      signal: tools.signal,
      admit: () => throttle.admit(),
      log: (level, message, fields) => tools.log[level]({ ...fields }, message),
    });
  } finally {
    await throttle.close();
    await Promise.all(opened.map((session) => session.close()));
  }
}

export const openSnapshot = (args: CopyArgs, tools: Tools) => withContext(args, tools, copy.openSnapshot);
export const makeSchema = (args: CopyArgs, tools: Tools) => withContext(args, tools, copy.makeSchema);
export const buildRest = (args: CopyArgs, tools: Tools) => withContext(args, tools, copy.buildRest);
export const verifyCopy = (args: CopyArgs, tools: Tools) => withContext(args, tools, copy.verifyCopy);
export const takeBackCopy = (args: CopyArgs, tools: Tools) => withContext(args, tools, copy.takeBackCopy);
export const closeSnapshot = (args: CloseArgs, tools: Tools) =>
  withContext(args, tools, (context) =>
    args.finished ? copy.finishCopy(context, 'done') : copy.closeSnapshot(context, 'no longer needed'),
  );
export const settleTable = (args: SettleArgs, tools: Tools) =>
  withContext(args, tools, (context) => copy.settleTable(context, args.no, args.verdict));

export async function copyTables(args: PieceArgs, tools: Tools): Promise<copy.BatchDone> {
  const done = await withContext(args, tools, (context) =>
    copy.copyBatch(context, args.from, args.to, (copied) => tools.beat({ copied })),
  );
  tools.deps.metrics.rows.inc({ operation: 'copy' }, done.rows);
  return done;
}

/** Alerts are handed over no more often: each time costs events. */
const HEARD_AFTER_MS = 30_000;

/** Beside the copy: tells the workflow how far it is, and ends when nothing is left to copy, when the snapshot is gone, or hourly. */
export async function watchCopy(args: WatchCopyArgs, tools: Tools): Promise<CopyWatched> {
  const reporter = new Reporter();
  const began = performance.now();
  let lost = false;
  let done = false;
  let alerts: readonly Alert[] = [];
  let before: { readonly bytes: number; readonly at: number } | null = null;
  await withContext(args, tools, (context) =>
    copy.watchCopy(context, args.epoch, ({ held, over, progress, alerts: found }) => {
      alerts = [...alerts, ...found];
      const { rowsDone, rowsTotal, bytesDone, bytesTotal } = progress;
      before ??= { bytes: bytesDone, at: performance.now() };
      const seconds = (performance.now() - before.at) / 1_000;
      const rate = seconds > 0 ? (bytesDone - before.bytes) / seconds : 0;
      const live: Live = {
        step: 'copy',
        attempt: tools.attempt,
        rowsDone,
        rowsTotal,
        estimated: true,
        bytesDone,
        bytesTotal,
        rowsPerSecond: progress.tables.reduce((sum, table) => sum + table.rowsPerSecond, 0),
        etaSeconds: rate > 0 ? Math.ceil((bytesTotal - bytesDone) / rate) : null,
        batchRows: 0,
        throttledBy: null,
        lagBytes: null,
        lagMs: null,
        waitingFor: null,
        tables: progress.tables,
      };
      tools.beat({ ...live, tables: [] });
      reporter.report(live);
      // A snapshot that is gone when everything is copied is none that anybody needs.
      done = over;
      lost = !held && !over;
      const heard = alerts.length > 0 && performance.now() - began > HEARD_AFTER_MS;
      return done || lost || heard || performance.now() - began > args.maxMs ? 'stop' : 'go on';
    }),
  );
  return { lost, ...(done ? { done } : {}), ...(alerts.length > 0 ? { alerts } : {}) };
}
