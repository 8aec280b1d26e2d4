/**
 * Compares a table that has no key which both sides can walk (text keys under collations, no index, no key at all): each side reads its own heaps
 * by blocks and adds up counts and fingerprints in buckets by the hash of the key, or of the whole row where there is none. Keeps true: every
 * row is in one bucket on both sides wherever it lies; sums add up over any order of blocks, so that a checkpoint is the sums so far.
 */
import { crashPoint } from '../crashPoints';
import type { Attempt } from '../fence';
import { relation } from '../ident';
import type { Session } from '../session';
import { checkSignal } from '../work';
import type { Candidate, VerifyLane } from './lanes';
import { addSums, CANDIDATES_MAX, commitLane, emptyLane, HASH_KEY } from './lanes';
import type { Pair } from './pairs';
import type { SessionPair } from './session';
import type { Side } from './tally';
import { byKey, compareKeys, onBoth } from './tally';
import { rangeRowsOf } from './walk';

const ROWS_PER_BUCKET = 1_000;
const BUCKETS_MAX = 4_096;
/** Rows of one pass over the buckets that differ. */
const PASS_ROWS = 200_000;
/** Sums are some hundred kB: not written after every stretch. */
const COMMIT_MS = 10_000;

/** Rows, sum of key hashes, sum of row hashes. */
type Sums = readonly [number, string, string];

interface SideState {
  heap: number;
  block: number;
  /** Of every heap: another one means that the table was rewritten and block numbers mean nothing. */
  filenodes: string[];
  sums: Record<string, Sums>;
  rows: number;
  sum: string;
  done: boolean;
}

interface BucketState {
  readonly buckets: number;
  readonly source: SideState;
  readonly target: SideState;
}

interface Heap extends Record<string, unknown> {
  readonly schema: string;
  readonly name: string;
  readonly filenode: string;
  readonly blocks: number;
}

/** The table itself, or the leaves of a partitioned one, in a fixed order. */
const heapsOf = (session: Session, table: { readonly oid: string; readonly partitioned: boolean }): Promise<Heap[]> =>
  session.rows<Heap>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name, coalesce(pg_relation_filenode(c.oid), 0)::text AS filenode,
            (pg_relation_size(c.oid) / current_setting('block_size')::int)::float8 AS blocks
       FROM ${table.partitioned ? 'pg_partition_tree($1::oid::regclass) AS p JOIN pg_class AS c ON c.oid = p.relid AND p.isleaf' : 'pg_class AS c'}
       JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE ${table.partitioned ? 'true' : 'c.oid = $1::oid'} ORDER BY c.oid`,
    [table.oid],
  );

export const bucketLane = (pair: Pair): VerifyLane =>
  emptyLane(pair, { lane: 0, low: null, high: null, rowsTotal: Math.max(0, Math.round(pair.source.rows)) });

const newSide = (): SideState => ({ heap: 0, block: 0, filenodes: [], sums: {}, rows: 0, sum: '0', done: false });

function newState(pair: Pair): BucketState {
  const wanted = Math.max(pair.source.rows, pair.target.rows, 0) / ROWS_PER_BUCKET;
  const buckets = Math.min(BUCKETS_MAX, 2 ** Math.ceil(Math.log2(Math.max(64, wanted))));
  return { buckets, source: newSide(), target: newSide() };
}

export interface BucketWalk {
  readonly sessions: SessionPair;
  readonly state: Session;
  readonly attempt: Attempt;
  readonly pair: Pair;
  readonly signal: AbortSignal;
  readonly onRange: (lane: VerifyLane, rows: number, seconds: number) => void;
}

/** Both sides to their ends, then what differs. @throws Problem FenceBroken, or what Postgres said. */
export async function walkBuckets(walk: BucketWalk, lane: VerifyLane): Promise<void> {
  if (lane.done) return;
  const state = (lane.buckets as BucketState | null) ?? newState(walk.pair);
  lane.buckets = state;
  let committed = performance.now();
  let writing: Promise<void> = Promise.resolve();
  const checkpoint = async (): Promise<void> => {
    if (performance.now() - committed < COMMIT_MS) return;
    committed = performance.now();
    writing = commitLane(walk.state, walk.attempt, lane, []);
    await writing;
    crashPoint('verify.range');
  };
  await onBoth((side) => readSide(walk, lane, state, side, checkpoint));
  await writing;
  const found = await rowsOfBuckets(walk, lane, state);
  lane.buckets = null;
  lane.done = true;
  lane.sourceRows = state.source.rows;
  lane.targetRows = state.target.rows;
  lane.sourceSum = state.source.sum;
  lane.targetSum = state.target.sum;
  lane.candidates = found.length;
  await commitLane(walk.state, walk.attempt, lane, found);
  crashPoint('verify.range');
}

const hashesOf = (pair: Pair, side: Side): { bucket: string; key: string; row: string } => {
  const row = pair.rowHash[side];
  return { bucket: pair.key === null ? 'u.r' : 'u.k', key: pair.key?.hash[side] ?? '0', row };
};

async function readSide(
  walk: BucketWalk,
  lane: VerifyLane,
  state: BucketState,
  side: Side,
  checkpoint: () => Promise<void>,
): Promise<void> {
  const session = walk.sessions[side];
  const heaps = await heapsOf(session, walk.pair[side]);
  const filenodes = heaps.map((heap) => heap.filenode);
  const at = state[side];
  const moved = at.filenodes.length > 0 && at.filenodes.join() !== filenodes.join();
  if (moved) Object.assign(at, newSide());
  at.filenodes = filenodes;
  const { bucket, key, row } = hashesOf(walk.pair, side);
  while (at.heap < heaps.length) {
    const heap = heaps[at.heap] as Heap;
    checkSignal(walk.signal);
    const began = performance.now();
    const perBlock = Math.max(1, walk.pair[side].rows / Math.max(1, heap.blocks));
    const end = at.block + Math.max(1, Math.ceil(rangeRowsOf(walk.pair) / perBlock));
    // 13 reads the whole heap for every stretch of it.
    const last = end >= heap.blocks || session.serverVersion < 140000;
    const where = `t.ctid >= '(${at.block},0)'::tid${last ? '' : ` AND t.ctid < '(${end},0)'::tid`} AND ${walk.pair.where[side]}`;
    const rows = await session.rows<{ bucket: number; n: number; k: string; r: string }>(
      `SELECT (${bucket} & ${state.buckets - 1})::int AS bucket, count(*)::float8 AS n, sum(u.k)::text AS k, sum(u.r)::text AS r
         FROM (SELECT ${key} AS k, ${row} AS r FROM ONLY ${relation(heap)} AS t WHERE ${where}) AS u GROUP BY 1`,
    );
    for (const { bucket: b, n, k, r } of rows) {
      const [n0, k0, r0] = at.sums[b] ?? [0, '0', '0'];
      at.sums[b] = [n0 + n, addSums(k0, k), addSums(r0, r)];
      at.rows += n;
      at.sum = addSums(at.sum, r);
    }
    [at.heap, at.block] = last ? [at.heap + 1, 0] : [at.heap, end];
    lane.ranges += side === 'source' ? 1 : 0;
    [lane.sourceRows, lane.targetRows] = [state.source.rows, state.target.rows];
    const n = rows.reduce((sum, one) => sum + one.n, 0);
    walk.onRange(lane, side === 'source' ? n : 0, (performance.now() - began) / 1_000);
    await checkpoint();
  }
  at.done = true;
}

async function rowsOfBuckets(walk: BucketWalk, lane: VerifyLane, { source, target, buckets }: BucketState) {
  const differing = Array.from({ length: buckets }, (_, b) => b).filter(
    (b) => String(source.sums[b]) !== String(target.sums[b]),
  );
  const found: Candidate[] = [];
  let pass: number[] = [];
  let rows = 0;
  const read = async (): Promise<void> => {
    if (pass.length > 0) found.push(...(await readPass(walk, pass, buckets)));
    [pass, rows] = [[], 0];
  };
  for (const [index, bucket] of differing.entries()) {
    if (found.length >= CANDIDATES_MAX) {
      lane.unread += differing.length - index;
      break;
    }
    pass.push(bucket);
    rows += (source.sums[bucket]?.[0] ?? 0) + (target.sums[bucket]?.[0] ?? 0);
    if (rows >= PASS_ROWS) await read();
  }
  await read();
  if (found.length > CANDIDATES_MAX) lane.unread += 1;
  return found.slice(0, CANDIDATES_MAX);
}

/** One pass over each side for the rows of some buckets. */
async function readPass(walk: BucketWalk, pass: readonly number[], buckets: number): Promise<Candidate[]> {
  checkSignal(walk.signal);
  const { sessions, pair } = walk;
  const { key } = pair;
  const hashed = await onBoth(async (side) => {
    const bucket = `(${key?.hash[side] ?? pair.rowHash[side]} & ${buckets - 1})::int`;
    const from = `FROM ${pair.from[side]} WHERE ${pair.where[side]} AND ${bucket} = ANY ($1::int[])`;
    const row = `${pair.rowHash[side]}::text`;
    const sql = key
      ? `SELECT ${key.text[side]} AS key, ${row} AS hash ${from}`
      : `SELECT ARRAY[${row}] AS key, count(*)::text AS hash ${from} GROUP BY 1`;
    return byKey(await sessions[side].rows<{ key: (string | null)[]; hash: string }>(sql, [pass]));
  });
  if (key) return compareKeys(key.names, hashed);
  // Without a key a row that is there more often on one side is missing on the other.
  return compareKeys([HASH_KEY], hashed).map((one): Candidate => {
    const id = JSON.stringify(Object.values(one.key));
    const count = (side: Side): number => Number(hashed[side].get(id)?.[0] ?? 0);
    return { ...one, kind: count('source') > count('target') ? 'missing' : 'extra' };
  });
}
