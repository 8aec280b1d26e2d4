/**
 * Epochs of a copy: each is one snapshot of the source, held by a process of its own and found by its backend, from whichever machine. Keeps
 * true: at most one epoch is open; an epoch that ended is never used again; a source that went on as another timeline is not the same source.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../../plan/model/errors';
import { crashPoint } from '../crashPoints';
import type { Session } from '../session';
import { jobOf } from '../stream/job';
import type { StreamSnapshot } from '../stream/begin';
import { openStreamSnapshot } from '../stream/begin';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import type { HolderSettings } from './holderProcess';
import { chosenTables } from './tables';
import { SERVER_IDENTITY } from './timeline';

export interface Epoch {
  readonly epoch: number;
  readonly snapshot: string;
  readonly holderPid: number;
  readonly holderStart: string;
}

interface Row extends Record<string, unknown> {
  readonly epoch: number;
  readonly snapshot: string | null;
  readonly holder_pid: number | null;
  readonly holder_start: string | null;
  readonly system_identifier: string | null;
  readonly timeline: number | null;
  readonly ended: boolean;
}

const STARTS_MS = 30_000;
const POLL_MS = 50;
/** Nobody asks after the holder for so long: the run is gone. */
const SILENCE_MS = 3_600_000;

const rowsOf = (target: Session, migration: string): Promise<Row[]> =>
  target.rows<Row>(
    `SELECT e.epoch, e.snapshot, e.holder_pid, e.holder_start::text AS holder_start, e.system_identifier, e.timeline,
            e.ended_at IS NOT NULL AS ended
       FROM pgshift.copy_epochs AS e WHERE e.migration_name = $1 ORDER BY e.epoch`,
    [migration],
  );

function asEpoch(row: Row | undefined): Epoch | null {
  if (!row || row.ended || row.snapshot === null || row.holder_pid === null || row.holder_start === null) return null;
  const { epoch, snapshot, holder_pid: holderPid, holder_start: holderStart } = row;
  return { epoch, snapshot, holderPid, holderStart };
}

/** The epoch that is open, as its row says; whether its holder lives is another question. */
export const currentEpoch = async (target: Session, migration: string): Promise<Epoch | null> =>
  asEpoch((await rowsOf(target, migration)).at(-1));

/** Does the holder's backend still stand in its transaction? */
export async function isHeld(source: Session, epoch: Epoch): Promise<boolean> {
  const row = await source.one(
    `SELECT 1 AS one FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = $1 AND a.backend_start = $2::timestamptz`,
    [epoch.holderPid, epoch.holderStart],
  );
  return row !== undefined;
}

/**
 * The epoch to read from: the open one while it is held, else a new one. Throws TimelineChanged when the source is not the server (or not on the
 * timeline) of the first epoch, SnapshotLost when no holder comes up. `from` = the snapshot of a slot, which is imported; its connection must stay
 * open until then.
 */
export async function openEpoch(
  context: CopyContext,
  source: Session,
  target: Session,
  from: string | null = null,
): Promise<Epoch> {
  const rows = await rowsOf(target, context.migration);
  const open = asEpoch(rows.at(-1));
  if (from === null && open !== null && (await isHeld(source, open))) return open;
  crashPoint('epoch.before');
  await endEpochs(context, source, target, open === null ? 'never began' : 'its holder or the source died');
  await refuseOtherTimeline(source, rows[0]);
  const epoch = (rows.at(-1)?.epoch ?? 0) + 1;
  await target.run(`INSERT INTO pgshift.copy_epochs (migration_name, epoch) VALUES ($1, $2)`, [
    context.migration,
    epoch,
  ]);
  const snapshot = context.control.streaming ? await snapshotOfSlot(context, source, target) : null;
  try {
    startHolder(context, epoch, snapshot ?? (from === null ? null : { snapshot: from, consistentPoint: null }));
    return await waitForHolder(context, target, epoch);
  } finally {
    await snapshot?.release();
  }
}

/** Of a copy whose changes are followed: it belongs together with a position in the log. */
async function snapshotOfSlot(context: CopyContext, source: Session, target: Session): Promise<StreamSnapshot> {
  const tables = (await chosenTables(source, context.control.tables)).filter(({ kind }) => kind === 'r');
  return openStreamSnapshot(jobOf(context), { source, target }, tables);
}

async function waitForHolder(context: CopyContext, target: Session, epoch: number): Promise<Epoch> {
  const until = Date.now() + STARTS_MS;
  for (;;) {
    checkSignal(context.signal);
    const opened = asEpoch((await rowsOf(target, context.migration)).find((row) => row.epoch === epoch));
    if (opened !== null) {
      crashPoint('epoch.after');
      return opened;
    }
    if (Date.now() > until) throw new Problem('Unreachable', 'the process that holds the snapshot did not come up');
    await sleep(POLL_MS);
  }
}

/** A failover loses commits: tables copied before it may hold rows that the source does not have any more. */
async function refuseOtherTimeline(source: Session, first: Row | undefined): Promise<void> {
  if (!first || first.system_identifier === null) return;
  const now = await source.one<{ system: string; timeline: number }>(`SELECT ${SERVER_IDENTITY}`);
  if (now?.system !== first.system_identifier || now.timeline !== first.timeline)
    throw new Problem('TimelineChanged', `${source.name}: the source is not the server it was when the copy began`);
}

/** Built beside this file; from the sources (tests) in the build. */
function holderFile(): string {
  const beside = join(__dirname, 'holderProcess.js');
  return existsSync(beside) ? beside : resolve(__dirname, '../../dist/postgres/copy/holderProcess.js');
}

/** In a session and process group of its own: a signal to the worker, or its end, does not reach it. */
function startHolder(
  context: CopyContext,
  epoch: number,
  snapshot: { readonly snapshot: string | null; readonly consistentPoint: string | null } | null,
): void {
  const settings: HolderSettings = {
    sourceUrl: context.source.url,
    targetUrl: context.target.url,
    migration: context.migration,
    epoch,
    from: snapshot?.snapshot ?? null,
    at: snapshot?.consistentPoint ?? null,
    silenceMs: SILENCE_MS,
  };
  const child = spawn(process.execPath, [holderFile()], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  child.once('error', () => undefined); // told by its absence
  child.stdin.once('error', () => undefined);
  child.stdin.end(JSON.stringify(settings));
  child.unref();
}

/** Ends what is open and lets its holder go. Idempotent; a source that is gone has let go by itself. */
export async function endEpochs(
  context: Pick<CopyContext, 'migration'>,
  source: Session | null,
  target: Session,
  reason: string,
): Promise<void> {
  const ended = await target.rows<{ pid: number | null; start: string | null }>(
    `UPDATE pgshift.copy_epochs SET ended_at = clock_timestamp(), reason = $2 WHERE migration_name = $1 AND ended_at IS NULL
     RETURNING holder_pid AS pid, holder_start::text AS start`,
    [context.migration, reason],
  );
  for (const { pid, start } of ended)
    if (pid !== null && start !== null)
      await source
        ?.run(
          `SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
            WHERE a.pid = $1 AND a.backend_start = $2::timestamptz`,
          [pid, start],
        )
        .catch(() => undefined);
}

/** Somebody still needs it. */
export const touchEpoch = (target: Session, migration: string, epoch: number): Promise<number> =>
  target.run(`UPDATE pgshift.copy_epochs SET seen_at = clock_timestamp() WHERE migration_name = $1 AND epoch = $2`, [
    migration,
    epoch,
  ]);
