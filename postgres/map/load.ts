/**
 * One range of a mapped or merged table: the source's SELECT streams into a temporary stage of the target's session, and from there into the
 * table, in the transaction that marks the range as done. Keeps true: a row is loaded, or it is on the quarantine's list, or it is counted under what
 * left it out; the stage goes with the transaction, whatever happens.
 */
import { ident, identList, relation } from '../ident';
import type { Problem } from '../../plan/model/errors';
import { isProblem } from '../../plan/model/errors';
import type { ErrorBudget } from '../../plan/model/dataMigration';
import type { Session } from '../session';
import { sqlstate } from '../toProblem';
import { checkSignal } from '../work';
import type { Pair } from '../copy/pairs';
import { pipeCopy } from '../copy/stream';
import type { UnitDone } from '../copy/unit';
import type { BadRow, Place } from './quarantine';
import { budgetSpent, clearLane, judgeAlone, quarantineRows, quarantineRuled, roomLeft, seenSoFar } from './quarantine';
import type { Part, RangeCounts } from './select';
import { countRange, selectRange } from './select';
import type { Spec } from './spec';
import { STAGE } from './spec';
import { markSuperseded, putTracked, trackedOf } from './tracked';

export interface Counts extends RangeCounts {
  readonly deduplicated: number;
  /** Came under a key that another row of the same range has. */
  readonly superseded: number;
  /** The key was there already (`onConflict: ignore`). */
  readonly ignored: number;
  readonly loaded: number;
  readonly bad: number;
}

export const NO_COUNTS: Counts = {
  read: 0,
  filtered: 0,
  sampledOut: 0,
  deduplicated: 0,
  superseded: 0,
  ignored: 0,
  loaded: 0,
  bad: 0,
};

export interface RangeWork {
  readonly pair: Pair;
  readonly spec: Spec;
  readonly part: Part;
  readonly place: Place;
  readonly no: number;
  /** Rows of the range that fail on the source; `part.except` leaves them out. */
  readonly failing: readonly BadRow[];
  readonly budget: ErrorBudget;
  readonly signal: AbortSignal;
}

/** Classes of SQLSTATE that are about a row's values: data, constraints, more than one row for one, raised by a trigger, WITH CHECK. */
export const isOfRow = (error: unknown): error is Problem =>
  isProblem(error) && /^(22|23|21|P0|44)/.test(sqlstate(error) ?? '') && error.code !== 'DiskFull';

const SAVEPOINT = 'pgshift_load';
/** Bad rows of a range beyond the limit that are still written down. */
const BEYOND = 1_000;

/** The range, inside its unit's transaction on the target and the snapshot's on the source. */
export async function loadRange(work: RangeWork): Promise<UnitDone> {
  const { pair, spec, part, place, budget } = work;
  const { source, target } = pair;
  const counted = await countOf(source, spec, part);
  await target.run(
    `CREATE TEMPORARY TABLE pgshift_stage (k text, r int4, h int8${spec.columns.map(({ stage }, n) => `, c${n} ${stage}`).join('')}) ON COMMIT DROP`,
  );
  const columns = ['k', 'r', 'h', ...spec.columns.map((_, n) => `c${n}`)].join(', ');
  const piped = await pipeCopy(
    source,
    target,
    {
      out: `COPY (${selectRange(spec, part)}) TO STDOUT`,
      into: `COPY ${STAGE} (${columns}) FROM STDIN`,
    },
    work.signal,
  );
  const came = await target.one<{ good: number; ruled: number }>(
    `SELECT count(*) FILTER (WHERE s.r IS NULL)::float8 AS good, count(s.r)::float8 AS ruled FROM ${STAGE} AS s`,
  );
  const [good, ruled] = [came?.good ?? 0, came?.ruled ?? 0];
  const read = (counted?.read ?? good + ruled) + work.failing.length;
  // Nobody else ever analyses a temporary table, and a merge joins it.
  if (spec.tracked) await target.run(`ANALYZE ${STAGE}`);
  const superseded = spec.tracked ? await markSuperseded(target, spec) : 0;
  await target.run(`SAVEPOINT ${SAVEPOINT}`);
  const put = await putAll(work, good - superseded);
  const failed = [...work.failing, ...put.failed];
  const bad = failed.length + ruled;
  if (bad > 0) {
    await judgeAlone(target, place.attempt.migration);
    const room = roomLeft(budget, await seenSoFar(target, place), read);
    if (bad > room) {
      await target.run(`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`);
      await clearLane(target, place);
      const most = Math.min(bad, room + BEYOND);
      await quarantineRows(target, place, failed.slice(0, most));
      await quarantineRuled(target, place, spec.rules, Math.max(0, most - failed.length));
      return { rows: 0, bytes: 0, stop: budgetSpent(budget, place.table, bad, read) };
    }
    await clearLane(target, place);
    await quarantineRows(target, place, failed);
    await quarantineRuled(target, place, spec.rules, ruled);
  }
  const sum = await target.one<{ sum: string }>(
    `SELECT coalesce(sum(s.h), 0)::text AS sum FROM ${STAGE} AS s WHERE s.r IS NULL`,
  );
  const counts: Counts = {
    read,
    filtered: counted?.filtered ?? 0,
    sampledOut: counted?.sampledOut ?? 0,
    deduplicated: counted === null ? 0 : counted.read - counted.filtered - counted.sampledOut - good - ruled,
    superseded,
    ignored: good - superseded - put.failed.length - put.rows,
    loaded: put.rows,
    bad,
  };
  return { rows: put.rows, bytes: piped.bytes, state: { counts, sum: sum?.sum ?? '0' } };
}

/** Null: everything of the range comes over, so that what came is what was read. */
async function countOf(source: Session, spec: Spec, part: Part): Promise<RangeCounts | null> {
  if (spec.where === null && spec.sample === null && spec.dedupe === null) return null;
  return (await source.one<RangeCounts & Record<string, unknown>>(countRange(spec, part))) ?? null;
}

interface Put {
  readonly rows: number;
  readonly failed: readonly BadRow[];
}

async function put(work: RangeWork, some: string): Promise<number> {
  const { spec, pair, place, no } = work;
  if (spec.tracked) return putTracked(pair.target, { spec, migration: place.attempt.migration, no }, some);
  return pair.target.run(
    `INSERT INTO ${relation(spec.target)} (${identList(spec.columns.map(({ name }) => name))}) OVERRIDING SYSTEM VALUE
     SELECT ${spec.columns.map((column) => column.put).join(', ')} FROM ${STAGE} AS s WHERE s.r IS NULL AND ${some}${again(spec)}`,
  );
}

/** Rows of a table that is ours alone, read again: they go over what came before. */
function again(spec: Spec): string {
  if (spec.load.onConflict !== 'update' || spec.conflict === null) return '';
  const set = trackedOf(spec).set.map((name) => `${ident(name)} = excluded.${ident(name)}`);
  return ` ON CONFLICT (${identList(spec.conflict)}) DO ${set.length > 0 ? `UPDATE SET ${set.join(', ')}` : 'NOTHING'}`;
}

/** All of them in one statement; where that fails, halves, down to the rows that fail. */
async function putAll(work: RangeWork, wanted: number): Promise<Put> {
  const { target } = work.pair;
  if (wanted === 0) return { rows: 0, failed: [] };
  // Checked now, while it is known which rows are at fault.
  await target.run('SET CONSTRAINTS ALL IMMEDIATE');
  const whole = await tried(target, () => put(work, 'true'));
  if (!isProblem(whole)) return { rows: whole, failed: [] };
  await target.run(`ALTER TABLE ${STAGE} ADD COLUMN n int8 GENERATED ALWAYS AS IDENTITY`);
  const last = await target.one<{ n: number }>(`SELECT count(*)::float8 AS n FROM ${STAGE}`);
  const failed: BadRow[] = [];
  const most = (work.budget.max ?? Infinity) + BEYOND;
  const halve = async (low: number, high: number): Promise<number> => {
    checkSignal(work.signal);
    if (failed.length > most) return 0;
    const result = await tried(target, () => put(work, `s.n BETWEEN ${low} AND ${high}`));
    if (!isProblem(result)) return result;
    if (low < high) {
      const middle = Math.floor((low + high) / 2);
      return (await halve(low, middle)) + (await halve(middle + 1, high));
    }
    const row = await target.one<{ k: string }>(`UPDATE ${STAGE} AS s SET r = -2 WHERE s.n = ${low} RETURNING s.k`);
    failed.push({ key: row?.k ?? '{}', ...describe(result, work.spec) });
    return 0;
  };
  const middle = Math.floor((1 + (last?.n ?? 1)) / 2);
  const rows = (await halve(1, middle)) + (await halve(middle + 1, Math.max(middle + 1, last?.n ?? 1)));
  return { rows, failed };
}

/** What Postgres says of a row, without its values. */
function describe(problem: Problem, { columns }: Spec): Omit<BadRow, 'key'> {
  const state = sqlstate(problem) ?? '';
  const { column, constraint } = problem.details as { column?: string | null; constraint?: string | null };
  const rule = state === '23505' || state === '23P01' ? 'conflict' : /^(23|44|P0)/.test(state) ? 'constraint' : 'type';
  // Of one row and one column alone it is clear where it is.
  const only = columns.length === 1 ? (columns[0]?.name ?? null) : null;
  const named = constraint ? ` (${constraint})` : '';
  return { column: column ?? only, rule, reason: `${reasonOf(problem)}${named}` };
}

export const reasonOf = (problem: Problem): string =>
  problem.message.replace(/^[^:]*: /, '').replace(/ \([^()]*\)(?= \[[0-9A-Z]{5}\]$)/, '');

async function tried(session: Session, work: () => Promise<number>): Promise<number | Problem> {
  await session.run('SAVEPOINT pgshift_try');
  try {
    const rows = await work();
    await session.run('RELEASE SAVEPOINT pgshift_try');
    return rows;
  } catch (error) {
    if (!isOfRow(error)) throw error;
    await session.run('ROLLBACK TO SAVEPOINT pgshift_try');
    return error;
  }
}
