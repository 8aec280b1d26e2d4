/**
 * The brakes: each reads one figure and says why the work must wait, or null. Keeps true: what cannot be read is a reason to wait (fail
 * closed), and says so; a brake that is switched off is never read.
 */
import type { RelationName } from '../plan/model/steps';
import { formatBytes } from '../plan/model/values';
import { isProblem } from '../plan/model/errors';
import { relation } from './ident';
import type { Session } from './session';
import type { ThrottleLimits } from './types';

export type BrakeName = 'replication-lag' | 'wal-rate' | 'archive-backlog' | 'autovacuum' | 'app-p95' | 'lock-wait';

export interface Brake {
  readonly name: BrakeName;
  /** "replica lag 7.2 s is over 5.0 s" */
  readonly reason: string;
}

export interface Readings {
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
}

export interface BrakeSources {
  readonly observer: Session;
  /** Sessions on the standbys that the configuration names. null = one that cannot be reached: unknown, so wait. */
  readonly replicas: readonly (Session | null)[];
  readonly tables: readonly RelationName[];
  readonly limits: ThrottleLimits;
  /** Latency of the application, ms, from elsewhere (Prometheus). Without it pg_stat_statements is asked. */
  readonly appP95?: (() => Promise<number | null>) | undefined;
}

/** Figures that need two readings keep the one before here. */
export interface BrakeMemory {
  wal?: { readonly bytes: number; readonly at: number };
  /** Bytes written over the limit and not yet waited off. */
  walOver?: number;
  statements?: { readonly calls: number; readonly ms: number };
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

/** Reads every brake that is on. The first reason found is the one that is told. */
export async function readBrakes(
  sources: BrakeSources,
  memory: BrakeMemory,
): Promise<{ brake: Brake | null; readings: Readings }> {
  const { limits } = sources;
  const lag = await replicationLag(sources);
  const checks: (() => Promise<Brake | null>)[] = [
    async () => lagBrake(lag, limits),
    () => walBrake(sources, memory),
    () => archiveBrake(sources),
    () => vacuumBrake(sources),
    () => latencyBrake(sources, memory),
  ];
  for (const check of checks) {
    const brake = await check();
    if (brake) return { brake, readings: lag };
  }
  return { brake: null, readings: lag };
}

type Lag = Readings & { readonly unknown: string | null };

async function replicationLag({ observer, replicas, limits }: BrakeSources): Promise<Lag> {
  if (limits.maxReplicationLagMs === null && limits.maxReplicationLagBytes === null)
    return { lagBytes: null, lagMs: null, unknown: null };
  const sent = await observer.one<{ bytes: number | null; ms: number | null; hidden: number }>(
    `SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::float8 AS bytes,
            max(extract(epoch FROM replay_lag) * 1000)::float8 AS ms,
            count(*) FILTER (WHERE state IS NULL)::int AS hidden
       FROM pg_catalog.pg_stat_replication WHERE state IS NULL OR state IN ('streaming', 'catchup')`,
  );
  const bytes = sent?.bytes ?? null;
  let ms = sent?.ms ?? null;
  for (const replica of replicas) {
    if (replica === null) return { lagBytes: bytes, lagMs: ms, unknown: 'a replica cannot be reached' };
    try {
      const seen = await replica.one<{ ms: number | null; standby: boolean }>(
        `SELECT pg_is_in_recovery() AS standby,
                CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                     ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000 END::float8 AS ms`,
      );
      if (!seen?.standby) continue;
      if (seen.ms === null) return { lagBytes: bytes, lagMs: ms, unknown: 'a replica does not say how far it is' };
      ms = Math.max(ms ?? 0, seen.ms);
    } catch {
      return { lagBytes: bytes, lagMs: ms, unknown: 'a replica does not answer' };
    }
  }
  const unknown =
    sent && sent.hidden > 0 && replicas.length === 0
      ? 'replication lag is not visible to this role (GRANT pg_monitor)'
      : null;
  return { lagBytes: bytes, lagMs: ms, unknown };
}

function lagBrake(lag: Lag, limits: ThrottleLimits): Brake | null {
  const name = 'replication-lag';
  if (lag.unknown !== null) return { name, reason: lag.unknown };
  if (limits.maxReplicationLagMs !== null && (lag.lagMs ?? 0) > limits.maxReplicationLagMs)
    return { name, reason: `replica lag ${seconds(lag.lagMs ?? 0)} is over ${seconds(limits.maxReplicationLagMs)}` };
  if (limits.maxReplicationLagBytes !== null && (lag.lagBytes ?? 0) > limits.maxReplicationLagBytes)
    return {
      name,
      reason: `replica lag ${formatBytes(lag.lagBytes ?? 0)} is over ${formatBytes(limits.maxReplicationLagBytes)}`,
    };
  return null;
}

/** A neighbour's burst is not waited off for longer. */
const WAL_MEMORY_SECONDS = 30;

async function walBrake({ observer, limits }: BrakeSources, memory: BrakeMemory): Promise<Brake | null> {
  if (limits.maxWalBytesPerSecond === null) return null;
  const row = await observer.one<{ bytes: number }>(
    `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS bytes`,
  );
  const now = { bytes: row?.bytes ?? 0, at: performance.now() };
  const before = memory.wal;
  memory.wal = now;
  if (!before || now.at <= before.at) return null;
  const limit = limits.maxWalBytesPerSecond;
  const elapsed = (now.at - before.at) / 1000;
  const rate = (now.bytes - before.bytes) / elapsed;
  // What was written too fast is waited off, so that the limit holds over time and not only while a batch is looked at.
  const over = (memory.walOver ?? 0) + (rate - limit) * elapsed;
  memory.walOver = Math.min(Math.max(0, over), limit * WAL_MEMORY_SECONDS);
  if (memory.walOver === 0) return null;
  const reason =
    rate > limit
      ? `WAL ${formatBytes(rate)}/s is over ${formatBytes(limit)}/s`
      : `WAL ${formatBytes(memory.walOver)} over ${formatBytes(limit)}/s is being waited off`;
  return { name: 'wal-rate', reason };
}

/** Segments that wait for the archiver. 16 MB each, counted from the last one that was archived. */
async function archiveBrake({ observer, limits }: BrakeSources): Promise<Brake | null> {
  if (limits.maxArchiveBacklog === null) return null;
  const name = 'archive-backlog';
  try {
    const row = await observer.one<{ on: boolean; waiting: number | null }>(
      `SELECT current_setting('archive_mode') <> 'off' AS on,
              (SELECT CASE WHEN s.last_archived_wal IS NULL OR s.last_archived_wal !~ '^[0-9A-F]{24}$' THEN NULL
                 ELSE greatest(0, (pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')
                   - (('x' || substr(s.last_archived_wal, 9, 8))::bit(32)::bigint::numeric * 4294967296
                      + ('x' || substr(s.last_archived_wal, 17, 8))::bit(32)::bigint * size.bytes))
                   / size.bytes - 1) END::float8
                 FROM pg_stat_archiver AS s,
                      (SELECT setting::bigint AS bytes FROM pg_settings WHERE name = 'wal_segment_size') AS size) AS waiting`,
    );
    if (!row?.on || row.waiting === null || row.waiting <= limits.maxArchiveBacklog) return null;
    const count = Math.round(row.waiting);
    return { name, reason: `${count} WAL segments wait for the archiver, over ${limits.maxArchiveBacklog}` };
  } catch (error) {
    return { name, reason: `the archive backlog cannot be read${isProblem(error) ? ` (${error.code})` : ''}` };
  }
}

async function vacuumBrake({ observer, tables, limits }: BrakeSources): Promise<Brake | null> {
  if (!limits.waitForAutovacuum || tables.length === 0) return null;
  const row = await observer.one<{ name: string }>(
    `SELECT p.relid::regclass::text AS name FROM pg_stat_progress_vacuum AS p
       JOIN pg_stat_activity AS a USING (pid)
      WHERE a.backend_type = 'autovacuum worker' AND p.relid = ANY (SELECT to_regclass(t)::oid FROM unnest($1::text[]) AS t)
      LIMIT 1`,
    [tables.map(relation)],
  );
  return row ? { name: 'autovacuum', reason: `autovacuum works on ${row.name}` } : null;
}

async function latencyBrake(sources: BrakeSources, memory: BrakeMemory): Promise<Brake | null> {
  const { appP95 } = sources.limits;
  if (appP95 === null) return null;
  const limit = 'ms' in appP95 ? appP95.ms : appP95.ratio * appP95.baselineMs;
  const seen = await (sources.appP95 ?? (() => meanSince(sources.observer, memory)))().catch(() => null);
  const name = 'app-p95';
  if (seen === null || !Number.isFinite(seen)) return { name, reason: 'the application latency is not known' };
  return seen > limit
    ? { name, reason: `application latency ${seen.toFixed(1)} ms is over ${limit.toFixed(1)} ms` }
    : null;
}

/** Mean of what ran since the last reading, by pg_stat_statements; our own statements aside. Throws when the extension is not there. */
/** Mean of the others' statements since the last reading, ms; 0 = quiet, or the first reading. Throws when it cannot be read. */
export async function meanSince(observer: Session, memory: BrakeMemory): Promise<number | null> {
  const row = await observer.one<{ calls: number; ms: number }>(
    `SELECT coalesce(sum(calls), 0)::float8 AS calls, coalesce(sum(total_exec_time), 0)::float8 AS ms FROM pg_stat_statements
      WHERE userid <> current_user::regrole AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  if (!row) return null;
  const before = memory.statements;
  memory.statements = row;
  // Quiet since: nobody suffers. The first reading has nothing to compare with.
  if (!before || row.calls <= before.calls) return 0;
  return (row.ms - before.ms) / (row.calls - before.calls);
}
