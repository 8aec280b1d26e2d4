/**
 * Checkpoints of batch work: one row in pgshift.lanes for each lane (a stretch of one table that one session walks through). Keeps true:
 * the row is the first write of every batch, with `AND epoch = mine`, and commits with the batch; the high-water mark is fixed when the
 * lanes are made, so that the work ends under constant inserts.
 */
import { Problem } from '../plan/model/errors';
import type { KeyColumn, RelationName } from '../plan/model/steps';
import { fenceBroken } from './fence';
import { relation } from './ident';
import type { Bound } from './ranges';
import { highWater, splitBounds } from './ranges';
import type { Session } from './session';
import { inTransaction } from './session';
import type { Work } from './work';

export interface Lane {
  readonly lane: number;
  readonly table: RelationName;
  readonly oid: string;
  /** Of ctid lanes: when it changes the table was rewritten, and block numbers mean nothing any more. */
  readonly filenode: string | null;
  readonly high: Bound;
  /** The last stretch of its table: behind it there are only rows that came since. */
  readonly last: boolean;
  position: Bound | null;
  rows: number;
  scanned: number;
  batches: number;
  done: boolean;
  readonly rowsTotal: number;
  readonly rowsPerBlock: number;
  /** Partial results that commit with the position (a proof's counts). */
  state: Readonly<Record<string, unknown>>;
}

interface Row extends Record<string, unknown> {
  readonly lane: number;
  readonly schema: string;
  readonly name: string;
  readonly oid: string;
  readonly filenode: string | null;
  readonly high: string[];
  readonly position: string[] | null;
  readonly low: string[] | null;
  readonly rows: string;
  readonly scanned: string;
  readonly batches: number;
  readonly done: boolean;
  readonly total: string;
  readonly state: Record<string, unknown> & { rowsPerBlock?: number };
}

const DEFAULT_ROWS_PER_BLOCK = 50;

/** The lanes of this scope; made (by one transaction) when there are none yet. An empty table has no lanes. */
export async function openLanes(work: Work, of: Walked, parallel: number): Promise<Lane[]> {
  const found = await readLanes(work);
  if (found.length > 0) return found;
  await inTransaction(work.session, () => makeLanes(work, of, parallel));
  return readLanes(work);
}

/** Has an earlier attempt of this scope begun? */
export const hasLanes = async (work: Work): Promise<boolean> => (await readLanes(work)).length > 0;

async function readLanes(work: Work): Promise<Lane[]> {
  const rows = await work.session.rows<Row>(
    `SELECT l.lane, n.nspname::text AS schema, c.relname::text AS name, l.relation::text AS oid, l.filenode::text AS filenode,
            l.low, l.high, l.position, l.rows::text AS rows, l.scanned::text AS scanned, l.batches, l.done,
            l.rows_total::text AS total, l.state
       FROM pgshift.lanes AS l LEFT JOIN pg_class AS c ON c.oid = l.relation LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE l.migration_name = $1 AND l.step_id = $2 AND l.scope = $3 ORDER BY l.lane`,
    [work.attempt.migration, work.attempt.stepId, work.scope],
  );
  const lasts = new Map(rows.map(({ oid, lane }) => [oid, lane]));
  return rows.map((row) => {
    if (row.name === null && !row.done) throw new Problem('Drift', `a table of step ${work.attempt.stepId} is gone`);
    return {
      lane: row.lane,
      table: { schema: row.schema, name: row.name },
      oid: row.oid,
      filenode: row.filenode,
      high: row.high,
      last: lasts.get(row.oid) === row.lane,
      position: row.position ?? row.low,
      rows: Number(row.rows),
      scanned: Number(row.scanned),
      batches: row.batches,
      done: row.done,
      rowsTotal: Number(row.total),
      rowsPerBlock: row.state.rowsPerBlock ?? DEFAULT_ROWS_PER_BLOCK,
      state: row.state,
    };
  });
}

/** What is walked: a table by its key or by its blocks, or as one piece. */
export interface Walked {
  readonly table: RelationName;
  readonly key: readonly KeyColumn[] | null;
  readonly whole?: boolean;
  /** An empty table gets a lane too: rows may come while it is looked at. */
  readonly openEnd?: boolean;
}

const WHOLE: Bound = ['0'];
/** The table was empty: one range, from start to end. */
export const NO_MARK: Bound = [];

interface Heap extends Record<string, unknown> {
  readonly schema: string;
  readonly name: string;
  readonly oid: string;
  readonly filenode: string | null;
  readonly rows: number;
  readonly pages: number;
}

async function makeLanes(work: Work, walked: Walked, parallel: number): Promise<void> {
  const { table, key, whole = false, openEnd = false } = walked;
  const heaps = await heapsOf(work.session, table, key === null && !whole);
  let lane = 0;
  for (const heap of heaps) {
    const of = { table: { schema: heap.schema, name: heap.name }, key };
    const mark = whole ? WHOLE : ((await highWater(work.session, of)) ?? (openEnd ? NO_MARK : null));
    if (mark === null) continue;
    const rowsTotal = await estimateRows(work.session, heap, key);
    const ends = whole || mark === NO_MARK ? [] : await splitBounds(work.session, of, mark, parallel);
    const highs = [...ends, mark];
    for (const [index, high] of highs.entries()) {
      await work.session.run(
        `INSERT INTO pgshift.lanes (migration_name, step_id, scope, lane, epoch, table_name, relation, filenode, low, high, rows_total, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7::oid, $8::oid, $9::jsonb, $10::jsonb, $11, $12::jsonb)`,
        [
          work.attempt.migration,
          work.attempt.stepId,
          work.scope,
          lane,
          work.attempt.epoch,
          `${table.schema}.${table.name}`,
          heap.oid,
          key === null && !whole ? heap.filenode : null,
          index === 0 ? null : JSON.stringify(highs[index - 1]),
          JSON.stringify(high),
          Math.round(rowsTotal / highs.length),
          JSON.stringify({ rowsPerBlock: Math.max(1, rowsTotal / Math.max(1, heap.pages)) }),
        ],
      );
      lane += 1;
    }
  }
  // The fence of this transaction: another attempt may have begun since.
  const mine = await work.session.run(
    `UPDATE pgshift.steps SET rows = 0 WHERE migration_name = $1 AND step_id = $2 AND epoch = $3`,
    [work.attempt.migration, work.attempt.stepId, work.attempt.epoch],
  );
  if (mine === 0) throw fenceBroken(work.attempt);
}

/** By key the table as it is named; by ctid every heap under it (partitions, inheritance children), each with its own blocks. */
const heapsOf = (session: Session, table: RelationName, byBlock: boolean): Promise<Heap[]> =>
  session.rows<Heap>(
    `WITH RECURSIVE tree(oid) AS (
       SELECT $1::regclass::oid
       UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON tree.oid = i.inhparent WHERE $2::boolean)
     SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid::text AS oid, pg_relation_filenode(c.oid)::text AS filenode,
            CASE WHEN c.relkind = 'p' THEN (SELECT coalesce(sum(greatest(x.reltuples, 0)), 0)::float8
              FROM pg_partition_tree(c.oid) AS p JOIN pg_class AS x ON x.oid = p.relid AND x.relkind = 'r') ELSE c.reltuples::float8 END AS rows,
             greatest(c.relpages, (coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int))::float8 AS pages
       FROM tree JOIN pg_class AS c USING (oid) JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE NOT $2::boolean OR c.relkind IN ('r', 'm') ORDER BY 1, 2`,
    [relation(table), byBlock],
  );

const SAMPLE_BLOCKS = 50;

/** The planner's figure, or one from a few blocks when the table was never analysed. For progress alone. */
async function estimateRows(session: Session, heap: Heap, key: readonly KeyColumn[] | null): Promise<number> {
  if (heap.rows > 0 || heap.pages === 0) return Math.max(0, heap.rows);
  const name = relation({ schema: heap.schema, name: heap.name });
  const row = await session.one<{ rows: number }>(
    `SELECT count(*)::float8 AS rows FROM ${key === null ? 'ONLY ' : ''}${name} AS t WHERE t.ctid < '(${SAMPLE_BLOCKS},0)'::tid`,
  );
  return ((row?.rows ?? 0) * heap.pages) / Math.min(heap.pages, SAMPLE_BLOCKS);
}

export interface Step {
  readonly high: Bound;
  readonly done: boolean;
  readonly session: Session;
}

/** First write of a batch: fence and checkpoint in one. Throws FenceBroken. */
export async function fenceLane(work: Work, lane: Lane, to: Step): Promise<void> {
  const rows = await to.session.run(
    `UPDATE pgshift.lanes SET position = $5::jsonb, done = $6, backend_pid = $7, backend_start = $8::timestamptz
      WHERE migration_name = $1 AND step_id = $2 AND scope = $3 AND lane = $4 AND epoch = $9`,
    [
      ...laneKey(work, lane),
      JSON.stringify(to.high),
      to.done,
      to.session.pid,
      to.session.backendStart,
      work.attempt.epoch,
    ],
  );
  if (rows === 0) throw fenceBroken(work.attempt);
}

export interface Counted {
  readonly rows: number;
  readonly scanned: number;
  readonly state: Readonly<Record<string, unknown>>;
}

/** Last write of a batch: what it did, and its line in pgshift.chunks. */
export async function countLane(work: Work, lane: Lane, to: Step, counted: Counted): Promise<void> {
  await to.session.run(
    `WITH chunk AS (
       INSERT INTO pgshift.chunks (migration_name, step_id, lane, lower_key, upper_key, rows, epoch)
       VALUES ($1, $2, $4, $8, $9, $5, $10))
     UPDATE pgshift.lanes SET rows = rows + $5, scanned = scanned + $6, batches = batches + 1, state = $7::jsonb,
            updated_at = clock_timestamp()
      WHERE migration_name = $1 AND step_id = $2 AND scope = $3 AND lane = $4`,
    [
      ...laneKey(work, lane),
      counted.rows,
      counted.scanned,
      JSON.stringify(counted.state),
      lane.position === null ? null : lane.position.join(', '),
      to.high.join(', '),
      work.attempt.epoch,
    ],
  );
}

const laneKey = (work: Work, lane: Lane): unknown[] => [
  work.attempt.migration,
  work.attempt.stepId,
  work.scope,
  lane.lane,
];

/** Forgets the lanes of this scope: block numbers mean nothing after a rewrite, and what is filled is not filled again. */
export async function dropLanes(work: Work): Promise<void> {
  await work.session.run(
    `DELETE FROM pgshift.lanes WHERE migration_name = $1 AND step_id = $2 AND scope = $3 AND epoch = $4`,
    [work.attempt.migration, work.attempt.stepId, work.scope, work.attempt.epoch],
  );
}
