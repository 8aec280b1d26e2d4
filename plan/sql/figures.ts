/**
 * The plain constants behind estimates and risks, and nothing else decides them. Rates are for one ordinary core with warm caches, low
 * and high: measured on two shared cores (bench/README.md), halved for the low end.
 */
import { blocks } from '../model/steps';
import { shownRelation } from '../model/quote';
import type { Estimate, Held, LockMode, PlannedLock, RelationName, Risk, RiskTable } from '../model/steps';
import type { Table } from '../model/catalog';

const MB = 1024 ** 2;
/** Bytes per second, [slow, fast]. */
export const RATES = {
  /** Reading a heap once (VALIDATE, proof). */
  scan: [100 * MB, 500 * MB],
  /** Building one btree index over a heap, both scans of CONCURRENTLY included. */
  build: [20 * MB, 80 * MB],
} as const;
/** Rows per second of a throttled and of a free backfill. */
export const BATCH_ROWS = [20_000, 200_000] as const;
/** A catalogue change, once it has its lock. */
export const BRIEF_SECONDS = [0.005, 0.1] as const;
/** Under this many rows one transaction is as good as batches. */
export const SMALL_ROWS = 10_000;
/** Bytes of heap under which a scan under a lock is not noticed. */
export const SMALL_BYTES = 1 * MB;

const round = (n: number): number => (n < 1 ? Math.round(n * 1000) / 1000 : Math.round(n));

/** reltuples, or a guess from the heap when the table was never analysed (100 bytes a row). */
export const rowsOf = (table: Table): number => (table.rows >= 0 ? table.rows : Math.ceil(table.heapBytes / 100));

/** Never analysed and not empty counts as big: unknown is never small. */
export const isSmall = (table: Table): boolean => rowsOf(table) < SMALL_ROWS && table.heapBytes < 16 * MB;

export const brief = (): Estimate => ({ seconds: [...BRIEF_SECONDS], bytes: [0, 0], rows: null });

export const scanOf = (table: Table): Estimate => ({
  seconds: [round(table.heapBytes / RATES.scan[1]), round(BRIEF_SECONDS[1] + table.heapBytes / RATES.scan[0])],
  bytes: [0, 0],
  rows: rowsOf(table),
});

/** `width` bytes of key for each row, without the heap pointer and page overhead (about 16 bytes). */
export function buildOf(table: Table, width = 8): Estimate {
  const rows = rowsOf(table);
  return {
    seconds: [round(table.heapBytes / RATES.build[1]), round(BRIEF_SECONDS[1] + table.heapBytes / RATES.build[0])],
    bytes: [rows * width, rows * (width + 24)],
    rows,
  };
}

/** Every row written once: at most the heap again, before vacuum takes the old rows away. */
export function batchesOf(table: Table): Estimate {
  const rows = rowsOf(table);
  return {
    seconds: [round(rows / BATCH_ROWS[1]), round(BRIEF_SECONDS[1] + rows / BATCH_ROWS[0])],
    bytes: [0, table.heapBytes],
    rows,
  };
}

export const sumEstimates = (all: readonly Estimate[]): Pick<Estimate, 'seconds' | 'bytes'> => ({
  seconds: [round(all.reduce((n, e) => n + e.seconds[0], 0)), round(all.reduce((n, e) => n + e.seconds[1], 0))],
  bytes: [all.reduce((n, e) => n + e.bytes[0], 0), all.reduce((n, e) => n + e.bytes[1], 0)],
});

/** `RISK.low` with what differs. */
export const risk = (differs: Partial<RiskTable> = {}): RiskTable => ({
  dataLoss: 'low',
  downtime: 'low',
  performance: 'low',
  rollback: 'low',
  ...differs,
});

const RISKS: readonly Risk[] = ['low', 'medium', 'high'];
export const worse = (a: Risk, b: Risk): Risk => (RISKS.indexOf(a) >= RISKS.indexOf(b) ? a : b);

export const plannedLock = (relation: RelationName, mode: LockMode, held: Held = 'brief'): PlannedLock => ({
  relation: shownRelation(relation),
  mode,
  blocks: blocks(mode),
  held,
});
