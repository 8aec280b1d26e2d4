/**
 * Makes what a stream needs on the source, and takes it away. Keeps true: publication before slot (decoding stops for ever at a change for which it
 * is not there), the slot before the rows are read and from its own snapshot; nothing of ours outlives the run, for a slot that nobody reads
 * fills the source's disk.
 */
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import { crashPoint } from '../crashPoints';
import type { Session } from '../session';
import { createSlotWithSnapshot, dropSlot, slotState } from '../switch/slot';
import { dropPublication, ensurePublication, publishedTables } from '../switch/publication';
import type { Patience } from '../switch/patience';
import { captureNames, capturedTables, installCapture, removeCapture } from './capture';
import { streamNames } from './names';
import { endStream, findStream, recordStream, tableKey } from './state';
import type { StreamJob } from './types';
import type { Identity } from './wire';

export interface StreamSnapshot {
  /** To be imported before `release`; null = any snapshot does, that is taken from now on. */
  readonly snapshot: string | null;
  /** Transactions whose commit begins here or later are not in it; `xids` = it is known by the transactions that it sees. */
  readonly consistentPoint: string;
  readonly release: () => Promise<void>;
}

/** An activity that makes a slot must end before its own deadline. */
const SLOT_DEADLINE_MS = 8 * 60_000;

const patience = (job: Pick<StreamJob, 'lockTimeoutMs' | 'lockBudgetMs' | 'signal'>): Patience => ({
  lockTimeoutMs: job.lockTimeoutMs,
  budgetMs: job.lockBudgetMs,
  signal: job.signal,
});

/** Which server it is, and on which timeline it writes. Of a standby no log is read: it has none of its own. */
export async function identityOf(source: Session): Promise<Identity & { readonly database: string }> {
  const row = await source.one<{ system: string; file: string; database: string }>(
    `SELECT (SELECT s.system_identifier::text FROM pg_control_system() AS s) AS system, current_database()::text AS database,
            pg_walfile_name(pg_current_wal_lsn()) AS file`,
  );
  if (!row) throw new Problem('Bug', 'the server did not say which one it is');
  return { system: row.system, timeline: Number.parseInt(row.file.slice(0, 8), 16), database: row.database };
}

export function refuseOtherServer(name: string, stored: Identity, now: Identity): void {
  if (stored.system === now.system && stored.timeline === now.timeline) return;
  throw new Problem('TimelineChanged', `${name}: the source is not the server it was when the stream began`, {
    hint: 'a failover may have lost commits that are here already: start again',
  });
}

type Making = Pick<StreamJob, 'source' | 'target' | 'migration' | 'capture' | 'slot' | 'publication' | 'signal'> &
  Pick<StreamJob, 'lockTimeoutMs' | 'lockBudgetMs'>;

/**
 * Publication, slot and a snapshot that belongs together with a position. The first one begins the stream; a later one (of tables that have to be
 * read again) gets a slot of its own that goes with `release`: the stream itself goes on from where it stands.
 */
export async function openStreamSnapshot(
  job: Making,
  sessions: { readonly source: Session; readonly target: Session },
  tables: readonly RelationName[],
): Promise<StreamSnapshot> {
  const { source, target } = sessions;
  const identity = await identityOf(source);
  const stream = await findStream(target, job.migration);
  const begun = stream !== null && !stream.ended;
  if (begun) refuseOtherServer(source.name, stream, identity);
  if (job.capture === 'triggers') return captureSnapshot(job, sessions, tables, begun ? null : identity);
  const state = begun ? await slotState(source, stream.slot) : null;
  if (begun && (state === null || state.walStatus === 'lost'))
    throw new Problem('SlotLost', `${source.name}: slot ${stream.slot} is gone or has lost WAL that it needs`);
  await ensurePublication(source, job.publication, tables, patience(job));
  crashPoint('stream.published');
  const name = begun ? streamNames(job.migration, job.source, job.target).later : job.slot;
  const deadline = Math.min(job.lockBudgetMs, SLOT_DEADLINE_MS);
  const made = await createSlotWithSnapshot(job.source, name, deadline, job.signal);
  crashPoint('stream.slot');
  try {
    if (!begun)
      await recordStream(target, {
        ...job,
        identity,
        sourceDatabase: identity.database,
        consistentPoint: made.consistentPoint,
        xids: null,
      });
  } catch (error) {
    await made.release();
    throw error;
  }
  const release = async (): Promise<void> => {
    await made.release();
    if (begun) await dropSlot(source, name);
  };
  return { snapshot: made.snapshot, consistentPoint: made.consistentPoint, release };
}

/** From the moment at which every trigger stands, snapshots say which captured changes they have. */
async function captureSnapshot(
  job: Making,
  { source, target }: { readonly source: Session; readonly target: Session },
  tables: readonly RelationName[],
  identity: (Identity & { readonly database: string }) | null,
): Promise<StreamSnapshot> {
  await installCapture(source, captureNames(job.publication), tables, patience(job));
  crashPoint('stream.published');
  const now = await source.one<{ lsn: string; xids: string }>(
    `SELECT pg_current_wal_flush_lsn()::text AS lsn, pg_current_snapshot()::text AS xids`,
  );
  if (identity !== null)
    await recordStream(target, {
      ...job,
      identity,
      sourceDatabase: identity.database,
      consistentPoint: now?.lsn ?? '0/0',
      xids: now?.xids ?? '',
    });
  return { snapshot: null, consistentPoint: 'xids', release: () => Promise.resolve() };
}

/** A table that is chosen and not followed would silently be left behind. Throws Drift. */
export async function refuseUnpublished(
  source: Session,
  { capture, publication }: Pick<StreamJob, 'capture' | 'publication'>,
  chosen: readonly RelationName[],
): Promise<void> {
  const found =
    capture === 'triggers'
      ? await capturedTables(source, captureNames(publication))
      : ((await publishedTables(source, publication)) ?? []);
  const published = new Set(found.map(tableKey));
  const missing = chosen.filter((table) => !published.has(tableKey(table)));
  if (missing.length === 0) return;
  throw new Problem(
    'Drift',
    `${source.name}: ${missing.slice(0, 5).map(shownRelation).join(', ')} came after the stream began and cannot be followed`,
    { hint: 'exclude them, or start again' },
  );
}

/** Takes slot and publication away. Idempotent. Throws Unreachable when the source cannot be asked: a slot left there fills its disk. */
export async function dropStream(job: Making, source: Session | null, target: Session): Promise<void> {
  const names = streamNames(job.migration, job.source, job.target);
  const stream = await findStream(target, job.migration);
  if (source === null)
    throw new Problem(
      'Unreachable',
      `${job.source.name}: what the stream needs may stand there, and a slot keeps WAL`,
      {
        hint: 'it is dropped as soon as the source answers',
      },
    );
  if (job.capture === 'triggers') await removeCapture(source, captureNames(job.publication), patience(job));
  else {
    for (const slot of [names.later, job.slot]) await dropSlot(source, slot);
    crashPoint('stream.unslotted');
    await dropPublication(source, job.publication, patience(job));
  }
  if (stream !== null) await endStream(target, job.migration);
}
