/**
 * Checkpoints of a verification: one row in the target's pgshift.lanes for each stretch of a table. Keeps true: a range's counts, its place and
 * the keys that differ in it are one statement, which also is the fence: an attempt that was given up writes nothing any more.
 */
import type { DifferenceKind } from '../../plan/model/validation';
import type { Attempt } from '../fence';
import { fenceBroken } from '../fence';
import type { Bound } from '../ranges';
import type { Session } from '../session';
import type { Pair } from './pairs';

/** More differing rows of one table than this are counted by ranges, not by rows. */
export const CANDIDATES_MAX = 10_000;

export interface Candidate {
  /** Target's column -> text; of a table without key the hash of the whole row under `HASH_KEY`. */
  readonly key: Readonly<Record<string, string | null>>;
  readonly kind: DifferenceKind;
}

/** Stands for the key of a row that has none. */
export const HASH_KEY = '(row hash)';

export interface VerifyLane {
  readonly scope: string;
  readonly label: string;
  readonly lane: number;
  readonly low: Bound | null;
  /** Null = to the end, whatever is added meanwhile. */
  readonly high: Bound | null;
  position: Bound | null;
  sourceRows: number;
  targetRows: number;
  /** 64-bit sums as text. */
  sourceSum: string;
  targetSum: string;
  ranges: number;
  /** Found differing at first sight. */
  candidates: number;
  /** Ranges that differ and were not looked into: there were too many rows already. */
  unread: number;
  done: boolean;
  /** Why this table could not be compared, as `Code: message`. */
  error: string | null;
  readonly rowsTotal: number;
  /** Of bucket lanes: how far each side is. */
  buckets: unknown;
}

interface Row extends Record<string, unknown> {
  readonly scope: string;
  readonly label: string;
  readonly lane: number;
  readonly low: string[] | null;
  readonly high: string[] | null;
  readonly position: string[] | null;
  readonly rows: number;
  readonly scanned: number;
  readonly batches: number;
  readonly done: boolean;
  readonly total: number;
  readonly state: Partial<VerifyLane>;
}

export const emptyLane = (
  pair: Pair,
  of: { lane: number; low: Bound | null; high: Bound | null; rowsTotal: number },
): VerifyLane => ({
  scope: pair.targetLabel,
  label: pair.label,
  ...of,
  position: of.low,
  sourceRows: 0,
  targetRows: 0,
  sourceSum: '0',
  targetSum: '0',
  ranges: 0,
  candidates: 0,
  unread: 0,
  done: false,
  error: null,
  buckets: null,
});

/** Every lane of the verification, by the target's table. Bucket sums are read only where they are asked for. */
export async function readLanes(
  session: Session,
  of: { readonly migration: string; readonly scope?: string },
): Promise<Map<string, VerifyLane[]>> {
  const rows = await session.rows<Row>(
    `SELECT l.scope, l.table_name AS label, l.lane, l.low, l.high, l.position, l.rows::float8 AS rows, l.scanned::float8 AS scanned,
            l.batches, l.done, l.rows_total::float8 AS total, CASE WHEN $3::text IS NULL THEN l.state - 'buckets' ELSE l.state END AS state
       FROM pgshift.lanes AS l WHERE l.migration_name = $1 AND l.step_id = $2 AND ($3::text IS NULL OR l.scope = $3)
      ORDER BY l.scope, l.lane`,
    [of.migration, COMPARE, of.scope ?? null],
  );
  const lanes = new Map<string, VerifyLane[]>();
  for (const { state, rows: sourceRows, scanned, batches, total, ...row } of rows) {
    const lane: VerifyLane = {
      sourceSum: '0',
      targetSum: '0',
      candidates: 0,
      unread: 0,
      error: null,
      buckets: null,
      ...state,
      ...row,
      sourceRows,
      targetRows: scanned,
      ranges: batches,
      rowsTotal: total,
    };
    lanes.set(row.scope, [...(lanes.get(row.scope) ?? []), lane]);
  }
  return lanes;
}

export const COMPARE = 'compare';

const stateOf = ({ sourceSum, targetSum, candidates, unread, error, buckets }: VerifyLane): string =>
  JSON.stringify({ sourceSum, targetSum, candidates, unread, error, ...(buckets === null ? {} : { buckets }) });

/** Makes the lanes of a table, all of them or none. @throws Problem FenceBroken. */
export async function insertLanes(
  session: Session,
  attempt: Attempt,
  pair: Pair,
  lanes: readonly VerifyLane[],
): Promise<void> {
  const list = lanes.map(({ lane, low, high, position, rowsTotal }) => ({
    lane,
    low,
    high,
    position,
    total: rowsTotal,
  }));
  const rows = await session.run(
    `WITH fence AS (UPDATE pgshift.steps SET rows = rows WHERE migration_name = $1 AND step_id = $2 AND epoch = $3 RETURNING 1)
     INSERT INTO pgshift.lanes (migration_name, step_id, scope, lane, epoch, table_name, relation, low, high, position, rows_total)
     SELECT $1, $2, $4, d.lane, $3, $5, $6::oid, nullif(d.low, 'null'), nullif(d.high, 'null'), nullif(d.position, 'null'), d.total
       FROM jsonb_to_recordset($7::jsonb) AS d(lane int, low jsonb, high jsonb, position jsonb, total float8), fence
     ON CONFLICT (migration_name, step_id, scope, lane) DO UPDATE SET rows_total = excluded.rows_total`,
    [
      attempt.migration,
      attempt.stepId,
      attempt.epoch,
      pair.targetLabel,
      pair.label,
      pair.target.oid,
      JSON.stringify(list),
    ],
  );
  if (rows === 0) throw fenceBroken(attempt);
}

/** Writes a lane as it is now and the keys found since. @throws Problem FenceBroken. */
export async function commitLane(
  session: Session,
  attempt: Attempt,
  lane: VerifyLane,
  found: readonly Candidate[],
): Promise<void> {
  const rows = await session.one<{ n: number }>(
    `WITH fence AS (
       UPDATE pgshift.lanes SET position = $5::jsonb, rows = $6, scanned = $7, batches = $8, done = $9, state = $10::jsonb,
              updated_at = clock_timestamp()
        WHERE migration_name = $1 AND step_id = $2 AND scope = $3 AND lane = $4 AND epoch = $11 RETURNING 1),
     found AS (
       INSERT INTO pgshift.differences (migration_name, step_id, table_name, rule, key, reason)
       SELECT $1, $2, $3, 'candidate', d.key, d.kind FROM jsonb_to_recordset($12::jsonb) AS d(key jsonb, kind text), fence)
     SELECT count(*)::int AS n FROM fence`,
    [
      attempt.migration,
      attempt.stepId,
      lane.scope,
      lane.lane,
      lane.position === null ? null : JSON.stringify(lane.position),
      lane.sourceRows,
      lane.targetRows,
      lane.ranges,
      lane.done,
      stateOf(lane),
      attempt.epoch,
      JSON.stringify(found),
    ],
  );
  if (rows?.n !== 1) throw fenceBroken(attempt);
}

/** Adds 64-bit sums that travel as text. */
export const addSums = (a: string, b: string): string => BigInt.asUintN(64, BigInt(a) + BigInt(b)).toString();
