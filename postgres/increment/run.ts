/**
 * Passes of an increment: rows whose column says that they are new are read from the source and put into the target, new or over what is there. Keeps
 * true: a slice of rows and the bound behind it are one transaction of the target, fenced by the step; a pass that died goes on behind its last slice.
 */
import { Problem } from '../../plan/model/errors';
import type { RelationName } from '../../plan/model/steps';
import type { CopyContext } from '../copy/context';
import type { Pair } from '../copy/pairs';
import { withPair } from '../copy/pairs';
import { moveOwnSequences, setSequences } from '../copy/rest';
import type { TableRow } from '../copy/tables';
import { chosenTables, readTables } from '../copy/tables';
import type { Attempt } from '../fence';
import { beginAttempt, finishAttempt } from '../fence';
import { ident, literal, relation } from '../ident';
import type { Session } from '../session';
import { tableKey } from '../stream/state';
import { checkSignal } from '../work';
import type { Now, Open } from './bounds';
import { haveEnded, observe, waitEnded, writtenSince, writtenSoFar } from './bounds';
import type { Loaded } from './slice';
import { columnOf, describe, openApplyPair } from './slice';

export const INCREMENT_STEP = 'increment.1';
const SLICE_ROWS = 200_000;
/** A pass waits so long for transactions that were open; then their rows come with a later pass. */
const PATIENCE_MS = 30_000;
/** Before the copy there is no earlier bound to fall back to. */
const FIRST_PATIENCE_MS = 8 * 60_000;

/** Before the snapshot: every row up to these bounds will be in the copy. Throws Timeout when old transactions do not end. */
export const observeBounds = (context: CopyContext): Promise<void> =>
  withPair(openApplyPair(context), async ({ source, target }) => {
    const tables = (await chosenTables(source, context.control.tables)).filter(({ kind }) => kind === 'r');
    const { seen } = await writtenSoFar(source);
    const { bounds, open } = await observe(source, tables, columnOf(context));
    const patience = Math.min(context.lockBudgetMs, FIRST_PATIENCE_MS);
    if (!(await waitEnded(source, open, patience, context.signal)))
      throw new Problem('Timeout', `${source.name}: transactions that were open did not end in time`, {
        hint: 'what they will commit cannot be known yet: look for old ones in pg_stat_activity and pg_prepared_xacts',
      });
    await target.run(
      `INSERT INTO pgshift.increments (migration_name, schema_name, table_name, bound, seen)
       SELECT $1, f.schema, f.name, f.bound, $3 FROM jsonb_to_recordset($2::jsonb) AS f(schema text, name text, bound text)
       ON CONFLICT (migration_name, schema_name, table_name) DO UPDATE SET bound = excluded.bound, seen = excluded.seen, next_bound = NULL, rows = 0`,
      [
        context.migration,
        JSON.stringify(tables.map(({ schema, name }, i) => ({ schema, name, bound: bounds[i] ?? null }))),
        seen,
      ],
    );
  });

interface Bound extends RelationName, Record<string, unknown> {
  readonly bound: string | null;
  readonly next: string | null;
  readonly seen: string | null;
}

type Kept = TableRow & Pick<Bound, 'bound' | 'next' | 'seen'>;

export interface Passed {
  readonly rows: number;
  readonly tables: number;
  readonly behind: number;
  /** Rows that were set aside; left out where none can be. */
  readonly bad?: number;
}

const EVERY_TABLE = 2 ** 31 - 1;

async function keptTables(target: Session, migration: string): Promise<Kept[]> {
  const bounds = await target.rows<Bound>(
    `SELECT i.schema_name AS schema, i.table_name AS name, i.bound, i.next_bound AS next, i.seen FROM pgshift.increments AS i WHERE i.migration_name = $1`,
    [migration],
  );
  const byName = new Map(bounds.map((bound) => [tableKey(bound), bound]));
  return (await readTables(target, migration, 0, EVERY_TABLE)).flatMap((table) => {
    const found = byName.get(tableKey(table));
    return table.state === 'done' && found
      ? [{ ...table, bound: found.bound, next: found.next, seen: found.seen }]
      : [];
  });
}

/** One pass over every table that was copied. Throws FenceBroken, Drift, Unreachable, ... */
export const runPass = (context: CopyContext): Promise<Passed> =>
  withPair(openApplyPair(context), async (ends) => {
    const { target } = ends;
    const ref = { migration: context.migration, stepId: INCREMENT_STEP, phase: 'follow' } as const;
    const begun = await beginAttempt(target, ref, 'do', context.signal);
    if (begun.state === 'already') return { rows: 0, tables: 0, behind: 0 };
    const { attempt } = begun;
    const tables = await keptTables(target, context.migration);
    const safe = await safeBounds(context, ends, attempt, tables);
    let [rows, bad] = [0, 0];
    for (const [index, table] of tables.entries()) {
      const high = safe.bounds[index] ?? null;
      if (high === null) continue;
      const loaded = await loadTable(context, ends, attempt, table, high);
      rows += loaded.rows;
      bad += loaded.bad;
    }
    if (rows > 0) {
      // They drew from their sequences since the copy was built.
      await setSequences(context, ends.source, target);
      await moveOwnSequences(target, context.migration);
    }
    await finishAttempt(target, attempt, { status: 'pending', rows, result: { open: safe.pending } });
    const behind = safe.pending === null ? 0 : tables.length;
    return { rows, tables: tables.length, behind, ...(bad > 0 ? { bad } : {}) };
  });

interface Safe {
  /** null = nothing of this table may be read yet. */
  readonly bounds: readonly (string | null)[];
  /** The transactions that the last look is still about. */
  readonly pending: Open | null;
}

/** What is there now, if those who are open end soon; else what an earlier look saw, if those have ended. */
async function safeBounds(
  context: CopyContext,
  { source, target }: Pair,
  attempt: Attempt,
  tables: readonly Kept[],
): Promise<Safe> {
  const { bounds, open } = await observe(source, tables, columnOf(context));
  if (await waitEnded(source, open, Math.min(PATIENCE_MS, context.lockBudgetMs), context.signal))
    return { bounds, pending: null };
  const before = await target.one<{ open: Open | null }>(
    `SELECT s.result->'open' AS open FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = $2`,
    [context.migration, attempt.stepId],
  );
  if (before?.open && !(await haveEnded(source, before.open)))
    return { bounds: tables.map(() => null), pending: before.open };
  const earlier = before?.open ? tables.map(({ next }) => next) : tables.map(() => null);
  await target.run(
    `UPDATE pgshift.increments AS i SET next_bound = f.bound FROM jsonb_to_recordset($2::jsonb) AS f(schema text, name text, bound text)
      WHERE i.migration_name = $1 AND i.schema_name = f.schema AND i.table_name = f.name`,
    [
      context.migration,
      JSON.stringify(tables.map(({ schema, name }, i) => ({ schema, name, bound: bounds[i] ?? null }))),
    ],
  );
  context.log('warn', `${source.name}: old transactions are open; what they may still write is read by a later pass`);
  return { bounds: earlier, pending: open };
}

/** Rows behind the table's bound up to `high`, slice by slice; with them those at the bound that were written since it was taken. */
async function loadTable(
  context: CopyContext,
  ends: Pair,
  attempt: Attempt,
  table: Kept,
  high: string,
): Promise<Loaded> {
  const now = await writtenSoFar(ends.source);
  const { column, type, slice: loadOne } = await describe(context, ends, attempt, table, now.seen);
  const value = (text: string): string => `${literal(text)}::${type}`;
  let from: ((alias: string) => string) | null = null;
  if (table.bound !== null) from = behind(column, value(table.bound), table.seen, now);
  let [rows, bad] = [0, 0];
  const upTo =
    (top: string, low: typeof from) =>
    (alias: string): string =>
      `${alias}.${ident(column)} <= ${value(top)}${low === null ? '' : ` AND ${low(alias)}`}`;
  for (;;) {
    checkSignal(context.signal);
    await context.admit();
    const range = upTo(high, from)('t');
    const slice = await ends.source.one<{ top: string | null; rows: number }>(
      `SELECT max(s.v)::text AS top, count(*)::int AS rows
         FROM (SELECT t.${ident(column)} AS v FROM ONLY ${relation(table)} AS t WHERE ${range} ORDER BY 1 LIMIT ${SLICE_ROWS}) AS s`,
    );
    const top = slice?.top ?? null;
    if (top === null) return { rows, bad };
    const loaded = await loadOne(upTo(top, from), top);
    rows += loaded.rows;
    bad += loaded.bad;
    from = behind(column, value(top), null, now);
    if ((slice?.rows ?? 0) < SLICE_ROWS) return { rows, bad };
  }
}

/** `seen` null: the whole of what stands at the bound is there. */
const behind =
  (column: string, bound: string, seen: string | null, now: Now) =>
  (alias: string): string => {
    const at = `${alias}.${ident(column)}`;
    // The range first, alone: that is what an index is read by.
    return seen === null
      ? `${at} > ${bound}`
      : `${at} >= ${bound} AND (${at} > ${bound} OR ${writtenSince(alias, seen, now)})`;
  };
