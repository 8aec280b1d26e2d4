/**
 * Passes of an increment: rows whose column says that they are new are read from the source and put into the target, new or over what is there. Keeps
 * true: a slice of rows and the bound behind it are one transaction of the target, fenced by the step; a pass that died goes on behind its last slice.
 */
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import { parseColumnName } from '../../plan/model/tableNames';
import type { CopyContext } from '../copy/context';
import { openCopySession } from '../copy/context';
import type { Shape } from '../copy/shape';
import { columnList, shapeOf } from '../copy/shape';
import { pipeCopy } from '../copy/stream';
import { chosenTables } from '../copy/tables';
import { crashPoint } from '../crashPoints';
import type { Attempt } from '../fence';
import { beginAttempt, fenceBroken, finishAttempt } from '../fence';
import { ident, literal, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { openApplySession } from '../stream/applier';
import { KEY } from '../stream/plan';
import { checkSignal } from '../work';
import type { Open } from './bounds';
import { haveEnded, observe, waitEnded } from './bounds';

export const INCREMENT_STEP = 'increment.1';
const SLICE_ROWS = 200_000;
/** A pass waits so long for transactions that were open; then their rows come with a later pass. */
const PATIENCE_MS = 30_000;
/** Before the copy there is no earlier bound to fall back to. */
const FIRST_PATIENCE_MS = 8 * 60_000;

const columnOf = ({ control }: CopyContext): string => {
  const { incremental } = control;
  if (!incremental) throw new Problem('Bug', 'this copy has no increments');
  return parseColumnName(incremental.column) ?? incremental.column;
};

interface Ends {
  readonly source: Session;
  readonly target: Session;
}

async function withEnds<T>(context: CopyContext, work: (ends: Ends) => Promise<T>): Promise<T> {
  const target = await openApplySession(context);
  try {
    const source = await openCopySession(context, context.source, 'increment');
    try {
      return await work({ source, target });
    } finally {
      await source.close();
    }
  } finally {
    await target.close();
  }
}

/** Before the snapshot: every row up to these bounds will be in the copy. Throws Timeout when old transactions do not end. */
export const observeBounds = (context: CopyContext): Promise<void> =>
  withEnds(context, async ({ source, target }) => {
    const tables = (await chosenTables(source, context.control.tables)).filter(({ kind }) => kind === 'r');
    const { bounds, open } = await observe(source, tables, columnOf(context));
    const patience = Math.min(context.lockBudgetMs, FIRST_PATIENCE_MS);
    if (!(await waitEnded(source, open, patience, context.signal)))
      throw new Problem('Timeout', `${source.name}: transactions that were open did not end in time`, {
        hint: 'what they will commit cannot be known yet: look for old ones in pg_stat_activity and pg_prepared_xacts',
      });
    await target.run(
      `INSERT INTO pgshift.increments (migration_name, schema_name, table_name, bound)
       SELECT $1, f.schema, f.name, f.bound FROM jsonb_to_recordset($2::jsonb) AS f(schema text, name text, bound text)
       ON CONFLICT (migration_name, schema_name, table_name) DO UPDATE SET bound = excluded.bound, next_bound = NULL, rows = 0`,
      [
        context.migration,
        JSON.stringify(tables.map(({ schema, name }, i) => ({ schema, name, bound: bounds[i] ?? null }))),
      ],
    );
  });

interface Kept extends RelationName, Record<string, unknown> {
  readonly bound: string | null;
  readonly next: string | null;
}

export interface Passed {
  readonly rows: number;
  readonly tables: number;
  readonly behind: number;
}

/** One pass over every table that was copied. Throws FenceBroken, Drift, Unreachable, ... */
export const runPass = (context: CopyContext): Promise<Passed> =>
  withEnds(context, async (ends) => {
    const { target } = ends;
    const ref = { migration: context.migration, stepId: INCREMENT_STEP, phase: 'follow' } as const;
    const begun = await beginAttempt(target, ref, 'do', context.signal);
    if (begun.state === 'already') return { rows: 0, tables: 0, behind: 0 };
    const { attempt } = begun;
    const tables = await target.rows<Kept>(
      `SELECT t.schema_name AS schema, t.table_name AS name, i.bound, i.next_bound AS next FROM pgshift.copy_tables AS t
         JOIN pgshift.increments AS i USING (migration_name, schema_name, table_name)
        WHERE t.migration_name = $1 AND t.state = 'done' ORDER BY t.table_no`,
      [context.migration],
    );
    const safe = await safeBounds(context, ends, attempt, tables);
    let rows = 0;
    for (const [index, table] of tables.entries()) {
      const high = safe.bounds[index] ?? null;
      if (high !== null) rows += await loadTable(context, ends, attempt, table, high);
    }
    await finishAttempt(target, attempt, { status: 'pending', rows, result: { open: safe.pending } });
    return { rows, tables: tables.length, behind: safe.pending === null ? 0 : tables.length };
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
  { source, target }: Ends,
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

interface Loading {
  readonly shape: Shape;
  readonly binary: boolean;
  readonly column: string;
  readonly type: string;
  readonly key: readonly string[];
}

async function describe(context: CopyContext, { source, target }: Ends, table: RelationName): Promise<Loading> {
  const column = columnOf(context);
  const found = await source.one<{ oid: string; filenode: string | null; type: string }>(
    `SELECT c.oid::text AS oid, c.relfilenode::text AS filenode, format_type(a.atttypid, -1) AS type
       FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped
      WHERE c.oid = to_regclass($1)`,
    [relation(table), column],
  );
  if (!found) throw new Problem('Drift', `${shownRelation(table)} or its column ${column} is gone from the source`);
  const shape = await shapeOf(source, { ...table, oid: found.oid, filenode: found.filenode });
  const there = await target.one<{ key: string[] }>(KEY.replaceAll('$1::oid', `to_regclass($1)`), [relation(table)]);
  if (!there) throw new Problem('Drift', `${target.name}: ${shownRelation(table)} has no key to find its rows by`);
  const major = (session: Session): number => Math.floor(session.serverVersion / 10_000);
  return { shape, binary: shape.binary && major(source) === major(target), column, type: found.type, key: there.key };
}

/** Rows behind the table's bound up to `high`, slice by slice. */
async function loadTable(
  context: CopyContext,
  ends: Ends,
  attempt: Attempt,
  table: Kept,
  high: string,
): Promise<number> {
  const loading = await describe(context, ends, table);
  const { column, type } = loading;
  const value = (text: string): string => `${literal(text)}::${type}`;
  let low = table.bound;
  let rows = 0;
  for (;;) {
    checkSignal(context.signal);
    await context.admit();
    const range = `t.${ident(column)} <= ${value(high)}${low === null ? '' : ` AND t.${ident(column)} > ${value(low)}`}`;
    const slice = await ends.source.one<{ top: string | null; rows: number }>(
      `SELECT max(s.v)::text AS top, count(*)::int AS rows
         FROM (SELECT t.${ident(column)} AS v FROM ONLY ${relation(table)} AS t WHERE ${range} ORDER BY 1 LIMIT ${SLICE_ROWS}) AS s`,
    );
    const top = slice?.top ?? null;
    if (top === null) return rows;
    const upTo = `t.${ident(column)} <= ${value(top)}${low === null ? '' : ` AND t.${ident(column)} > ${value(low)}`}`;
    rows += await loadSlice(context, ends, attempt, table, loading, upTo, top);
    low = top;
    if ((slice?.rows ?? 0) < SLICE_ROWS) return rows;
  }
}

async function loadSlice(
  context: CopyContext,
  { source, target }: Ends,
  attempt: Attempt,
  table: RelationName,
  { shape, binary, key }: Loading,
  condition: string,
  top: string,
): Promise<number> {
  const columns = shape.columns.map(ident).join(', ');
  const format = `(FORMAT ${binary ? 'binary' : 'text'})`;
  const out = `COPY (SELECT ${shape.columns.map((name) => `t.${ident(name)}`).join(', ')} FROM ONLY ${relation(table)} AS t WHERE ${condition}) TO STDOUT ${format}`;
  const others = shape.columns.filter((name) => !key.includes(name));
  const rows = await inTransaction(target, async () => {
    const fenced = await target.run(
      `UPDATE pgshift.steps SET rows = rows WHERE migration_name = $1 AND step_id = $2 AND epoch = $3`,
      [attempt.migration, attempt.stepId, attempt.epoch],
    );
    if (fenced === 0) throw fenceBroken(attempt);
    await target.run(
      `CREATE TEMP TABLE pgshift_slice ON COMMIT DROP AS SELECT ${columns} FROM ONLY ${relation(table)} LIMIT 0`,
    );
    const into = `COPY pg_temp.pgshift_slice ${columnList(shape)} FROM STDIN ${format}`;
    const piped = await pipeCopy(source, target, { out, into }, context.signal);
    const set = others.map((name) => `${ident(name)} = excluded.${ident(name)}`).join(', ');
    await target.run(
      `INSERT INTO ${relation(table)} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM pg_temp.pgshift_slice
         ON CONFLICT (${key.map(ident).join(', ')}) DO ${set === '' ? 'NOTHING' : `UPDATE SET ${set}`}`,
    );
    await target.run(
      `UPDATE pgshift.increments SET bound = $4, rows = rows + $5, updated_at = clock_timestamp()
        WHERE migration_name = $1 AND schema_name = $2 AND table_name = $3`,
      [attempt.migration, table.schema, table.name, top, piped.rows],
    );
    crashPoint('increment.before-commit');
    return piped.rows;
  });
  crashPoint('increment.after-commit');
  return rows;
}
