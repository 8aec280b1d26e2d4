/**
 * Makes objects on the target from the list in pgshift.copy_items. Keeps true: an object and the record that it is made are one transaction, and
 * each is made once; several at a time share a transaction where they are small, and the one that fails is named.
 */
import { Problem, isProblem } from '../../plan/model/errors';
import type { Attempt } from '../fence';
import type { Session } from '../session';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import { atOnce } from './pairs';
import type { Copying } from './table';
import type { TableRow } from './tables';
import { makeUnits, runUnit, unitsOf } from './unit';
import type { NewUnit } from './unit';

interface Item extends Record<string, unknown> {
  readonly no: number;
  readonly kind: string;
  readonly tag: string;
  readonly sql: string;
}

/** What pg_dump's own script sets before the first object; names in it are all qualified. */
const AS_PG_DUMP = `SELECT pg_catalog.set_config('search_path', '', false); SET check_function_bodies = false; SET default_table_access_method = heap`;

export async function runItems(session: Session, items: readonly Item[]): Promise<void> {
  for (const item of items) {
    try {
      await session.run(item.sql);
    } catch (error) {
      if (!isProblem(error)) throw error;
      throw new Problem(error.code, `${item.kind} ${item.tag}: ${error.message}`, {
        hint: error.hint,
        details: error.details,
      });
    }
  }
}

const readItems = (session: Session, migration: string, numbers: readonly number[]): Promise<Item[]> =>
  session.rows<Item>(
    `SELECT i.item_no AS no, i.kind, i.tag, i.sql FROM pgshift.copy_items AS i
      WHERE i.migration_name = $1 AND i.item_no = ANY ($2::int[]) ORDER BY i.item_no`,
    [migration, [...numbers]],
  );

/** A unit's items by number, in its row's state. */
const unitOf = (numbers: readonly number[]): NewUnit => ({
  low: null,
  high: null,
  rowsTotal: 0,
  state: { items: numbers },
});

interface Applying {
  readonly context: CopyContext;
  readonly attempt: Attempt;
  readonly scope: string;
}

/** Runs the units of a scope that are not done, in their order or `parallel` at once. */
async function applyUnits(
  { context, attempt, scope }: Applying,
  control: Session,
  use: <T>(work: (session: Session) => Promise<T>) => Promise<T>,
  parallel: number,
): Promise<void> {
  const open = (await unitsOf(control, attempt, scope)).filter(({ done }) => !done);
  await atOnce(parallel, open, async ({ lane, state }) => {
    await context.admit();
    checkSignal(context.signal);
    await use(async (session) => {
      await session.run(AS_PG_DUMP);
      const items = await readItems(session, context.migration, state.items as number[]);
      await runUnit(session, { attempt, scope, lane, low: null, high: null, point: 'item' }, async () => {
        await runItems(session, items);
        return { rows: 0, bytes: 0 };
      });
      await session.run(`SET search_path = pg_catalog`);
    });
  });
}

/** Indexes and constraints of one table, as soon as its rows are there: while other tables are still copied. */
export async function applyTableItems(copying: Copying, attempt: Attempt, table: TableRow): Promise<void> {
  const { context, control, pairs } = copying;
  const items = await control.rows<Item>(
    `SELECT i.item_no AS no, i.kind, i.tag, i.sql FROM pgshift.copy_items AS i
      WHERE i.migration_name = $1 AND i.table_no = $2 AND i.section = 'post' ORDER BY i.item_no`,
    [context.migration, table.no],
  );
  if (items.length === 0) return;
  // Plain builds share their lock; what alters the table does not, so it comes one after the other.
  const plain = items.filter(({ kind, sql }) => kind === 'INDEX' && !/^ALTER TABLE /m.test(sql));
  const others = items.filter((item) => !plain.includes(item));
  const on = { shown: `${table.schema}.${table.name}`, oid: '0' };
  const use = <T>(work: (session: Session) => Promise<T>): Promise<T> => pairs.use(({ target }) => work(target));
  for (const [scope, list, parallel] of [
    ['index', plain, context.control.parallel.rangesPerTable],
    ['constraint', others, 1],
  ] as const) {
    await makeUnits(
      control,
      attempt,
      scope,
      on,
      list.map(({ no }) => unitOf([no])),
    );
    await applyUnits({ context, attempt, scope }, control, use, parallel);
  }
}

const TOGETHER = 50;

/** The items of a section that belong to no table's copy, in pg_dump's order. */
export async function applySection(
  context: CopyContext,
  session: Session,
  attempt: Attempt,
  section: 'pre' | 'post',
): Promise<number> {
  const items = await session.rows<{ no: number }>(
    `SELECT i.item_no AS no FROM pgshift.copy_items AS i
      WHERE i.migration_name = $1 AND i.section = $2 AND i.table_no IS NULL ORDER BY i.item_no`,
    [context.migration, section],
  );
  const together = section === 'pre' ? TOGETHER : 1;
  const units: NewUnit[] = [];
  for (let at = 0; at < items.length; at += together)
    units.push(unitOf(items.slice(at, at + together).map(({ no }) => no)));
  await makeUnits(session, attempt, 'item', { shown: section, oid: '0' }, units);
  await applyUnits({ context, attempt, scope: 'item' }, session, (work) => work(session), 1);
  return items.length;
}
