/**
 * The stream's row in the target. Keeps true: its position is written in the transaction that brings the changes, by the attempt whose epoch it
 * carries and by no other; it never goes back.
 */
import { Problem } from '../../plan/model/errors';
import type { Attempt } from '../fence';
import { fenceBroken } from '../fence';
import type { Session } from '../session';
import type { Identity } from './wire';

export interface StreamRow extends Record<string, unknown> {
  readonly slot: string;
  readonly publication: string;
  readonly system: string;
  readonly timeline: number;
  readonly position: string;
  /** Of captured changes: the snapshot whose every change is here. */
  readonly xids: string | null;
  readonly transactions: number;
  readonly changes: number;
  readonly skipped: number;
  /** Changes up to here that cannot be applied are left out: a person said so. */
  readonly skipUntil: string | null;
  readonly ended: boolean;
}

const ROW = `s.slot, s.publication, s.system_identifier AS system, s.timeline, s.position::text AS position, s.xids, s.transactions::float8 AS transactions,
  s.changes::float8 AS changes, s.skipped::float8 AS skipped, s.skip_until::text AS "skipUntil", s.ended_at IS NOT NULL AS ended`;

export async function findStream(target: Session, migration: string): Promise<StreamRow | null> {
  const there = await target.one<{ there: boolean }>(`SELECT to_regclass('pgshift.streams') IS NOT NULL AS there`);
  if (there?.there !== true) return null;
  const row = await target.one<StreamRow>(`SELECT ${ROW} FROM pgshift.streams AS s WHERE s.migration_name = $1`, [
    migration,
  ]);
  return row ?? null;
}

/** Written once the slot stands; an ended stream of an earlier run of the name begins anew. */
export async function recordStream(
  target: Session,
  of: {
    readonly migration: string;
    readonly slot: string;
    readonly publication: string;
    readonly identity: Identity;
    readonly sourceDatabase: string;
    readonly consistentPoint: string;
    readonly xids: string | null;
  },
): Promise<void> {
  await target.run(
    `INSERT INTO pgshift.streams AS s (migration_name, slot, publication, system_identifier, timeline, source_database, began_at, position, xids)
     VALUES ($1, $2, $3, $4, $5, $6, $7::pg_lsn, $7::pg_lsn, $8)
     ON CONFLICT (migration_name) DO UPDATE SET slot = excluded.slot, publication = excluded.publication,
       system_identifier = excluded.system_identifier, timeline = excluded.timeline, source_database = excluded.source_database,
       began_at = excluded.began_at, position = excluded.position, xids = excluded.xids, transactions = 0, changes = 0, skipped = 0, skip_until = NULL,
       source_time = NULL, started_at = clock_timestamp(), updated_at = clock_timestamp(), ended_at = NULL, epoch = s.epoch + 1`,
    [
      of.migration,
      of.slot,
      of.publication,
      of.identity.system,
      of.identity.timeline,
      of.sourceDatabase,
      of.consistentPoint,
      of.xids,
    ],
  );
}

/** From here on only this attempt may write the position. */
export async function takeStream(target: Session, attempt: Attempt): Promise<StreamRow> {
  const row = await target.one<StreamRow>(
    `UPDATE pgshift.streams AS s SET epoch = $2::bigint, updated_at = clock_timestamp()
      WHERE s.migration_name = $1 AND s.ended_at IS NULL
        AND EXISTS (SELECT 1 FROM pgshift.steps AS p WHERE p.migration_name = $1 AND p.step_id = $3 AND p.epoch = $2::bigint)
      RETURNING ${ROW}`,
    [attempt.migration, attempt.epoch, attempt.stepId],
  );
  if (row) return row;
  if ((await findStream(target, attempt.migration)) === null)
    throw new Problem('SlotLost', `${target.name}: nothing says where the stream of ${attempt.migration} stands`);
  throw fenceBroken(attempt);
}

/** First in each transaction: no row, no commit. */
export async function fenceStream(target: Session, attempt: Attempt): Promise<void> {
  const mine = await target.run(
    `UPDATE pgshift.streams SET updated_at = clock_timestamp() WHERE migration_name = $1 AND epoch = $2::bigint`,
    [attempt.migration, attempt.epoch],
  );
  if (mine === 0) throw fenceBroken(attempt);
}

export interface Advance {
  readonly position: string;
  readonly transactions: number;
  readonly changes: number;
  readonly skipped: number;
  /** Epoch ms of the last commit, by the source's clock. */
  readonly sourceTime: number | null;
  readonly xids: string | null;
}

/** Last in each transaction; alone when there was nothing to apply. */
export async function advanceStream(target: Session, attempt: Attempt, to: Advance): Promise<void> {
  const mine = await target.run(
    `UPDATE pgshift.streams SET position = greatest(position, $3::pg_lsn), transactions = transactions + $4, changes = changes + $5,
            skipped = skipped + $6, source_time = coalesce(to_timestamp($7::float8 / 1000), source_time), xids = coalesce($8, xids), updated_at = clock_timestamp()
      WHERE migration_name = $1 AND epoch = $2::bigint`,
    [attempt.migration, attempt.epoch, to.position, to.transactions, to.changes, to.skipped, to.sourceTime, to.xids],
  );
  if (mine === 0) throw fenceBroken(attempt);
}

/** A person's `skip`: what cannot be applied up to the transaction that stopped us is left out. */
export const skipUntil = (target: Session, migration: string, lsn: string): Promise<number> =>
  target.run(`UPDATE pgshift.streams SET skip_until = $2::pg_lsn WHERE migration_name = $1`, [migration, lsn]);

export const endStream = (target: Session, migration: string): Promise<number> =>
  target.run(
    `UPDATE pgshift.streams SET ended_at = coalesce(ended_at, clock_timestamp()), epoch = epoch + 1 WHERE migration_name = $1`,
    [migration],
  );

/** Tables that are followed, and from which position on: what was committed before is in their copied rows. */
export async function followedTables(target: Session, migration: string): Promise<ReadonlyMap<string, string>> {
  const rows = await target.rows<{ schema: string; name: string; lsn: string }>(
    `SELECT t.schema_name AS schema, t.table_name AS name, e.lsn FROM pgshift.copy_tables AS t
       JOIN pgshift.copy_epochs AS e ON e.migration_name = t.migration_name AND e.epoch = t.epoch
      WHERE t.migration_name = $1 AND t.state = 'done'`,
    [migration],
  );
  return new Map(rows.map(({ schema, name, lsn }) => [tableKey({ schema, name }), lsn]));
}

export const tableKey = ({ schema, name }: { readonly schema: string; readonly name: string }): string =>
  `${schema}\u0000${name}`;
