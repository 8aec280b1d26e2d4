/**
 * Compares a table by ranges of its key. Keeps true: ranges cover every row once, the last one is open so that late rows are judged too; each range
 * is two short statements (one a side, at the same time) and one commit of its checkpoint.
 */
import { crashPoint } from '../crashPoints';
import type { Attempt } from '../fence';
import type { Bound } from '../ranges';
import { highWater, nextBound, splitBounds } from '../ranges';
import type { Session } from '../session';
import { checkSignal } from '../work';
import type { VerifyLane } from './lanes';
import { addSums, CANDIDATES_MAX, commitLane, emptyLane } from './lanes';
import type { Pair, PairKey } from './pairs';
import type { SessionPair } from './session';
import { rowsThatDiffer, tallyRange } from './tally';

const RANGE_BYTES = 64 * 1024 ** 2;
const RANGE_ROWS = { min: 500, max: 100_000 } as const;
/** A range that takes longer is followed by a smaller one. */
const RANGE_MS = 2_000;
const SPLIT_FROM_ROWS = 400_000;
const DEFAULT_ROW_BYTES = 200;

const clampRows = (rows: number): number => Math.round(Math.min(RANGE_ROWS.max, Math.max(RANGE_ROWS.min, rows)));

/** Rows of a range by the size of rows, TOAST included. */
export const rangeRowsOf = ({ source }: Pair): number =>
  clampRows(RANGE_BYTES / Math.max(40, source.rows > 0 ? source.bytes / source.rows : DEFAULT_ROW_BYTES));

export async function walkLanes(source: Session, pair: Pair, key: PairKey, parallel: number): Promise<VerifyLane[]> {
  const rows = Math.max(0, pair.source.rows);
  const of = { table: pair.source, key: key.walk?.source ?? [] };
  const mark = rows >= SPLIT_FROM_ROWS && parallel > 1 ? await highWater(source, of) : null;
  const known = mark === null ? null : await histogramEnds(source, pair, key, parallel);
  const ends = mark === null ? [] : (known ?? (await splitBounds(source, of, mark, parallel)));
  const highs: (Bound | null)[] = [...ends, null];
  return highs.map((high, lane) =>
    emptyLane(pair, { lane, low: highs[lane - 1] ?? null, high, rowsTotal: Math.round(rows / highs.length) }),
  );
}

/** From the planner's statistics, where a key of one column has them: no sample is read then. Ends that are stale only make lanes unequal. */
async function histogramEnds(
  source: Session,
  pair: Pair,
  { walk }: PairKey,
  parallel: number,
): Promise<Bound[] | null> {
  const [only, ...more] = walk?.source ?? [];
  if (!only || more.length > 0) return null;
  const row = await source.one<{ bounds: string[] | null }>(
    `SELECT s.histogram_bounds::text::text[] AS bounds FROM pg_stats AS s
      WHERE s.schemaname = $1 AND s.tablename = $2 AND s.attname = $3 AND NOT s.inherited`,
    [pair.source.schema, pair.source.name, only.name],
  );
  const bounds = row?.bounds ?? [];
  if (bounds.length < 2 * parallel) return null;
  const ends = Array.from({ length: parallel - 1 }, (_, n) => bounds[Math.floor((bounds.length * (n + 1)) / parallel)]);
  return [...new Set(ends)].flatMap((end) => (end === undefined ? [] : [[end]]));
}

export interface Walk {
  readonly sessions: SessionPair;
  /** On the target, for checkpoints. */
  readonly state: Session;
  readonly attempt: Attempt;
  readonly pair: Pair;
  readonly key: PairKey;
  readonly signal: AbortSignal;
  /** Differing rows found so far in the whole table. */
  readonly counted: { rows: number };
  readonly onRange: (lane: VerifyLane, rows: number, seconds: number) => void;
}

/** From the lane's place to its end. @throws Problem FenceBroken, or what Postgres said. */
export async function walkLane(walk: Walk, lane: VerifyLane): Promise<void> {
  const { sessions, pair, key, attempt } = walk;
  const of = { table: pair.source, key: key.walk?.source ?? [] };
  const mark = lane.high ?? (await highWater(sessions.source, of));
  let rows = rangeRowsOf(pair);
  while (!lane.done) {
    checkSignal(walk.signal);
    const began = performance.now();
    const at = { low: lane.position, mark: mark ?? [], rows, rowsPerBlock: 1 };
    const next = mark === null || ended(lane.position, mark) ? null : await nextBound(sessions.source, of, at);
    const last = next === null || same(next.high, mark);
    const high = last ? lane.high : next.high;
    const ranged = { sessions, pair, key, range: { low: lane.position, high } };
    const found = await tallyRange(ranged);
    const differing = found.equal ? [] : await look(walk, lane, ranged, Math.max(found.source.rows, found.target.rows));
    lane.position = high;
    lane.done = last;
    lane.ranges += 1;
    lane.sourceRows += found.source.rows;
    lane.targetRows += found.target.rows;
    lane.sourceSum = addSums(lane.sourceSum, found.source.sum);
    lane.targetSum = addSums(lane.targetSum, found.target.sum);
    lane.candidates += differing.length;
    await commitLane(walk.state, attempt, lane, differing);
    crashPoint('verify.range');
    const ms = performance.now() - began;
    walk.onRange(lane, found.source.rows, ms / 1_000);
    rows = clampRows(ms > RANGE_MS ? rows / 2 : ms < RANGE_MS / 4 ? Math.min(rows * 2, rangeRowsOf(pair)) : rows);
  }
}

const same = (a: Bound, b: Bound | null): boolean => b !== null && a.every((value, index) => value === b[index]);

/** The place is at the mark already (or behind it, where rows were taken away since): only the open end is left. */
const ended = (position: Bound | null, mark: Bound): boolean => position !== null && same(position, mark);

async function look(walk: Walk, lane: VerifyLane, ranged: Parameters<typeof rowsThatDiffer>[0], rows: number) {
  if (walk.counted.rows >= CANDIDATES_MAX) {
    lane.unread += 1;
    return [];
  }
  const found = await rowsThatDiffer(ranged, rows);
  const room = CANDIDATES_MAX - walk.counted.rows;
  walk.counted.rows += Math.min(room, found.length);
  if (found.length > room) lane.unread += 1;
  return found.slice(0, room);
}
