/**
 * How a run ends in its database: status, catalogue compared, decisions recorded; and the backup before it begins. Each may run twice: the
 * second time finds what the first one wrote.
 */
import { join } from 'node:path';
import { Problem } from '../plan/model/errors';
import type { CatalogDiff } from '../plan/model/status';
import type { SchemaMigrationPlan } from '../plan/model/plan';
import { catalogDiffLines } from '../postgres/catalog/report';
import { backUp } from '../postgres/backup';
import type { Session } from '../postgres/session';
import { withSession } from '../postgres/session';
import { installedVersion } from '../postgres/state/install';
import { writeAudit, writeLog } from '../postgres/state/journal';
import { completeAtContract, findMigration, loadPlan, setStatus } from '../postgres/state/migrations';
import type { Target } from '../postgres/types';
import { resolveTarget } from '../worker/config';
import { fingerprintOf, forgetBefore, readBefore } from './catalogue';
import type { Tools } from './context';
import type { FinishArgs, Finished, RecordArgs, Subject } from './types';

const NO_DIFF = { asked: [], other: [], missing: [] } as const;
const LINES_MAX = 200;

interface Difference extends CatalogDiff {
  readonly missing: readonly string[];
}

async function difference(
  session: Session,
  target: Target,
  migration: string,
  asked: readonly string[],
): Promise<Difference> {
  const before = await readBefore(session, migration);
  if (before === null) return NO_DIFF;
  const found = catalogDiffLines(before, await fingerprintOf(target), asked);
  const few = (lines: readonly string[]): string[] => lines.slice(0, LINES_MAX).map((line) => line.slice(0, 300));
  return { asked: few(found.asked), other: few(found.other), missing: few(found.missing) };
}

/** Rows and seconds of the whole run, from its steps. */
async function measuredOf(session: Session, migration: string): Promise<Record<string, unknown>> {
  const row = await session.one<{ rows: number; seconds: number; longest: number; waited: number }>(
    `SELECT coalesce(sum(s.rows), 0)::float8 AS rows,
            (extract(epoch FROM max(s.finished_at) - min(s.started_at)))::float8 AS seconds,
            (SELECT max(l.held_ms)::float8 FROM pgshift.locks_held AS l WHERE l.migration_name = $1) AS longest,
            (SELECT max(l.waited_ms)::float8 FROM pgshift.locks_held AS l WHERE l.migration_name = $1) AS waited
       FROM pgshift.steps AS s WHERE s.migration_name = $1`,
    [migration],
  );
  return {
    rows: row?.rows ?? 0,
    seconds: row?.seconds ?? 0,
    longestLockMs: row?.longest ?? 0,
    longestWaitMs: row?.waited ?? 0,
  };
}

export async function finish(args: FinishArgs, tools: Tools): Promise<Finished> {
  const { migration, status } = args;
  const target = resolveTarget(tools.deps.config, args.database);
  return withSession(target, { purpose: 'finish', migration }, async (session) => {
    const row = (await installedVersion(session)) === null ? undefined : await findMigration(session, migration);
    // Cancelled before the claim, or the name is another run's: nothing of ours to write.
    if (!row || (args.of === 'own' && !(await isMine(row, tools))))
      return { catalogDiff: { asked: [], other: [] }, measured: {} };
    const plan = await loadPlan(session, migration);
    const asked = status === 'rolled_back' || status === 'failed' ? [] : (plan?.asked ?? []);
    if (status === 'contracted' || status === 'completed') await completeAtContract(session, migration);
    const { missing, ...catalogDiff } =
      status === 'contracted' ? NO_DIFF : await difference(session, target, migration, asked);
    if (args.strict && status === 'completed' && catalogDiff.other.length > 0)
      throw new Problem(
        'Drift',
        `the catalogue differs by more than was asked: ${catalogDiff.other.slice(0, 5).join(', ')}`,
      );
    if (status === 'failed' || status === 'rolled_back') await setStatus(session, migration, status);
    await writeLog(session, {
      migration,
      level: status === 'failed' ? 'error' : 'info',
      phase: null,
      step: null,
      message: args.cause ? `${status}: ${args.cause.code}: ${args.cause.message}` : status,
    });
    if (status !== 'contracted') await forgetBefore(session, migration);
    tools.deps.metrics.migrations.inc({ kind: row.kind, status });
    const measured = await measuredOf(session, migration);
    return { catalogDiff, measured: missing.length > 0 ? { ...measured, missing } : measured };
  });
}

/** Claimed by this chain of runs? A run that was cancelled before its claim must not touch another's row. */
async function isMine(row: { workflowId: string | null; runId: string | null }, tools: Tools): Promise<boolean> {
  return tools.workflowId === row.workflowId && row.runId === (await tools.chainId());
}

export async function record(args: RecordArgs, tools: Tools): Promise<void> {
  const target = resolveTarget(tools.deps.config, args.database);
  await withSession(target, { purpose: 'record', migration: args.migration }, async (session) => {
    for (const { by, via, action, gate, reason, requestId } of args.audit) {
      // Without a request id of the sender's the workflow's own words make one: an attempt that runs twice writes once.
      const entry = args.audit.find((a) => a.by === by && a.action === action && a.requestId === requestId);
      const key = requestId ?? `${action}/${gate ?? ''}/${by}/${entry?.at ?? ''}`;
      await writeAudit(session, { by, via, action, gate, reason, requestId: key, workflowId: tools.workflowId });
    }
  });
}

export async function backup(
  args: Subject & { readonly backup: SchemaMigrationPlan['backup'] },
  tools: Tools,
): Promise<{ bytes: number; reference: string }> {
  const target = resolveTarget(tools.deps.config, args.database);
  const given = typeof args.backup === 'object' ? args.backup.directory : undefined;
  const directory = given ?? join(tools.deps.config.home, 'backups', args.database);
  const name = `${args.database}-${args.migration}`;
  const { bytes, entries, seconds } = await backUp({ target, directory, name, signal: tools.signal });
  tools.log.info({ bytes, entries, durationMs: Math.round(seconds * 1_000) }, 'backup made and read back');
  return { bytes, reference: `${name}.dump` };
}
