/**
 * One slice of an increment: rows of one table between two values of its column. Keeps true: rows and the bound behind them are one transaction of the
 * target, fenced by the step.
 */
import type { LoadControl } from '../../plan/model/dataMigration';
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import { parseColumnName } from '../../plan/model/tableNames';
import type { CopyContext } from '../copy/context';
import type { Pair } from '../copy/pairs';
import { openPair } from '../copy/pairs';
import type { Shape } from '../copy/shape';
import { columnList, sameTypes, shapeOf } from '../copy/shape';
import { pipeCopy } from '../copy/stream';
import type { TableRow } from '../copy/tables';
import { crashPoint } from '../crashPoints';
import type { Attempt } from '../fence';
import { fenceBroken } from '../fence';
import { ident, relation } from '../ident';
import { ROW } from '../map/spec';
import { isStaged } from '../map/store';
import { specOf } from '../map/table';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { openApplySession } from '../stream/applier';
import { KEY } from '../stream/plan';
import { loadMappedSlice } from './mapped';

const COPY: LoadControl = { method: 'copy', onConflict: 'fail', disable: [] };

export const columnOf = ({ control }: Pick<CopyContext, 'control'>): string => {
  const { incremental } = control;
  if (!incremental) throw new Problem('Bug', 'this copy has no increments');
  return parseColumnName(incremental.column) ?? incremental.column;
};

export interface Loading {
  readonly column: string;
  readonly type: string;
  /** One slice, in a transaction of its own: rows for which the condition over the alias is true. */
  readonly slice: (condition: (alias: string) => string, top: string) => Promise<Loaded>;
}

export interface Loaded {
  readonly rows: number;
  readonly bad: number;
}

interface Plain {
  readonly shape: Shape;
  readonly binary: boolean;
  readonly key: readonly string[];
}

/** How the rows of one table come; `seen` goes with their bound. @throws Problem Drift, and what a map is refused with. */
export async function describe(
  context: CopyContext,
  ends: Pair,
  attempt: Attempt,
  table: TableRow,
  seen: string,
): Promise<Loading> {
  const { source, target } = ends;
  const column = columnOf(context);
  const found = await source.one<{ oid: string; filenode: string | null; type: string }>(
    `SELECT c.oid::text AS oid, c.relfilenode::text AS filenode, format_type(a.atttypid, -1) AS type
       FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped
      WHERE c.oid = to_regclass($1)`,
    [relation(table), column],
  );
  if (!found) throw new Problem('Drift', `${shownRelation(table)} or its column ${column} is gone from the source`);
  const of = { column, type: found.type };
  if (isStaged(context.control, table.map)) {
    const spec = await specOf(context, ends, table, { ...(context.control.load ?? COPY), onConflict: 'update' });
    const slice: Loading['slice'] = (condition, top) =>
      loadMappedSlice({
        ends,
        open: () => openApplyPair(context),
        spec,
        attempt,
        table,
        condition: condition(ROW),
        budget: context.control.errors,
        signal: context.signal,
        fence: (session) => fence(session, attempt),
        advance: (session, rows) => advance(session, attempt, table, { bound: top, seen }, rows),
      });
    return { ...of, slice };
  }
  const shape = await shapeOf(source, { ...table, oid: found.oid, filenode: found.filenode });
  const there = await target.one<{ key: string[] }>(KEY.replaceAll('$1::oid', `to_regclass($1)`), [relation(table)]);
  if (!there) throw new Problem('Drift', `${target.name}: ${shownRelation(table)} has no key to find its rows by`);
  const major = (session: Session): number => Math.floor(session.serverVersion / 10_000);
  const binary = shape.binary && major(source) === major(target) && (await sameTypes(source, target, table));
  const plain = { shape, binary, key: there.key };
  const slice: Loading['slice'] = async (condition, top) => ({
    rows: await loadSlice(context, ends, attempt, table, plain, condition('t'), { bound: top, seen }),
    bad: 0,
  });
  return { ...of, slice };
}

/** The target's connection fires nothing, as a stream's. */
export const openApplyPair = (context: CopyContext): Promise<Pair> =>
  openPair(context, 'increment', () => openApplySession(context));

/** First in a slice's transaction: no row, no commit. */
async function fence(target: Session, attempt: Attempt): Promise<void> {
  const fenced = await target.run(
    `UPDATE pgshift.steps SET rows = rows WHERE migration_name = $1 AND step_id = $2 AND epoch = $3`,
    [attempt.migration, attempt.stepId, attempt.epoch],
  );
  if (fenced === 0) throw fenceBroken(attempt);
}

interface Reached {
  readonly bound: string;
  readonly seen: string;
}

/** Last in it. */
async function advance(
  target: Session,
  attempt: Attempt,
  table: RelationName,
  { bound, seen }: Reached,
  rows: number,
): Promise<void> {
  await target.run(
    `UPDATE pgshift.increments SET bound = $4, seen = $6, rows = rows + $5, updated_at = clock_timestamp()
      WHERE migration_name = $1 AND schema_name = $2 AND table_name = $3`,
    [attempt.migration, table.schema, table.name, bound, rows, seen],
  );
}

async function loadSlice(
  context: CopyContext,
  { source, target }: Pair,
  attempt: Attempt,
  table: RelationName,
  { shape, binary, key }: Plain,
  condition: string,
  reached: Reached,
): Promise<number> {
  const columns = shape.columns.map(ident).join(', ');
  const format = `(FORMAT ${binary ? 'binary' : 'text'})`;
  const out = `COPY (SELECT ${shape.columns.map((name) => `t.${ident(name)}`).join(', ')} FROM ONLY ${relation(table)} AS t WHERE ${condition}) TO STDOUT ${format}`;
  const others = shape.columns.filter((name) => !key.includes(name));
  const rows = await inTransaction(target, async () => {
    await fence(target, attempt);
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
    await advance(target, attempt, table, reached, piped.rows);
    crashPoint('increment.before-commit');
    return piped.rows;
  });
  crashPoint('increment.after-commit');
  return rows;
}
