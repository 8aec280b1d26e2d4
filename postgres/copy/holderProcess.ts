/**
 * The process that holds the snapshot: it copies nothing, so that no worker's death ends the snapshot. Keeps true: it lives only as long as
 * somebody needs it. It ends when its row says so, when its backend is ended, when the run is over, or when nobody has asked after it for long
 * (a run that was terminated from outside). Settings come as JSON on stdin: a URL is never an argument.
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { openSession, withSession } from '../session';
import type { Session } from '../session';
import { target } from '../types';
import { SERVER_IDENTITY } from './timeline';

export interface HolderSettings {
  readonly sourceUrl: string;
  readonly targetUrl: string;
  readonly migration: string;
  readonly epoch: number;
  /** Import this snapshot (of a replication slot) instead of taking one. */
  readonly from: string | null;
  /** The position that belongs to `from`; `xids` = the snapshot's own text, for changes that triggers captured. */
  readonly at: string | null;
  /** Ends when nobody has asked after it for so long. */
  readonly silenceMs: number;
}

const LOOK_MS = 1_000;

async function readSettings(): Promise<HolderSettings> {
  let text = '';
  for await (const chunk of process.stdin) text += String(chunk);
  return JSON.parse(text) as HolderSettings;
}

interface Exported extends Record<string, unknown> {
  readonly snapshot: string;
  readonly system: string;
  readonly timeline: number;
  readonly lsn: string;
  readonly xids: string;
}

async function exportSnapshot(source: Session, from: string | null): Promise<Exported> {
  await source.run('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  if (from !== null && /^[0-9A-Fa-f-]{1,64}$/.test(from)) await source.run(`SET TRANSACTION SNAPSHOT '${from}'`);
  const row = await source.one<Exported>(
    `SELECT pg_catalog.pg_export_snapshot() AS snapshot, pg_catalog.pg_current_snapshot()::text AS xids, ${SERVER_IDENTITY},
            CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                 ELSE pg_catalog.pg_current_wal_insert_lsn() END::text AS lsn`,
  );
  if (!row) throw new Error('no snapshot');
  return row;
}

/** Is it still wanted? Throws when the target does not answer: that is no answer. */
async function wanted(settings: HolderSettings): Promise<boolean> {
  const to = target('target', settings.targetUrl);
  return withSession(to, { purpose: 'holder-look', migration: settings.migration }, async (session) => {
    const row = await session.one<{ wanted: boolean }>(
      `SELECT e.ended_at IS NULL AND m.status = 'running'
              AND e.seen_at > clock_timestamp() - make_interval(secs => $3::float8 / 1000) AS wanted
         FROM pgshift.copy_epochs AS e JOIN pgshift.migrations AS m ON m.name = e.migration_name
        WHERE e.migration_name = $1 AND e.epoch = $2`,
      [settings.migration, settings.epoch, settings.silenceMs],
    );
    return row?.wanted === true;
  });
}

async function tell(settings: HolderSettings, source: Session, exported: Exported): Promise<boolean> {
  const to = target('target', settings.targetUrl);
  const rows = await withSession(to, { purpose: 'holder', migration: settings.migration }, (session) =>
    session.run(
      `UPDATE pgshift.copy_epochs SET snapshot = $3, holder_pid = $4, holder_start = $5::timestamptz, process_id = $6, host = $7,
              system_identifier = $8, timeline = $9, lsn = $10
        WHERE migration_name = $1 AND epoch = $2 AND snapshot IS NULL AND ended_at IS NULL`,
      [
        settings.migration,
        settings.epoch,
        exported.snapshot,
        source.pid,
        source.backendStart,
        process.pid,
        hostname(),
        exported.system,
        exported.timeline,
        settings.at === 'xids' ? exported.xids : (settings.at ?? exported.lsn),
      ],
    ),
  );
  return rows === 1;
}

async function hold(settings: HolderSettings): Promise<void> {
  const source = await openSession(target('source', settings.sourceUrl), {
    purpose: `snapshot-${settings.epoch}`,
    migration: settings.migration,
    idleInTransactionMs: 0,
  });
  try {
    if (!(await tell(settings, source, await exportSnapshot(source, settings.from)))) return;
    // A target that restarts must not cost the snapshot: only a long silence does.
    let answeredAt = Date.now();
    while (!source.lost && Date.now() - answeredAt < settings.silenceMs) {
      await sleep(LOOK_MS);
      const answer = await wanted(settings).catch(() => null);
      if (answer === false) return;
      if (answer === true) answeredAt = Date.now();
    }
  } finally {
    await source.close();
  }
}

if (require.main === module) {
  // The terminal's Ctrl-C is for the worker.
  process.on('SIGINT', () => undefined);
  readSettings()
    .then(hold)
    .then(
      () => process.exit(0),
      () => process.exit(1),
    );
}
