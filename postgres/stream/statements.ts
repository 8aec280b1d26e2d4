/**
 * The statements that put captured rows into a table, many at once: each column travels as one array of text. Keeps true: rows are found by their
 * key alone (or, without one, by all of their values, one row at a time); a column whose value did not come is not written.
 */
import { ident, relation as quoted } from '../ident';
import type { Tuple, Value } from './decode';
import { UNCHANGED } from './decode';
import type { KeyPart, PlanColumn, TablePlan } from './plan';

export interface Statement {
  readonly sql: string;
  readonly values: readonly string[];
  /** So many rows must be touched; null = it does not matter. */
  readonly rows: number | null;
}

const NEEDS_ESCAPE = /["\\]/;

/** One array of text as Postgres reads it. */
export function arrayText(rows: readonly Tuple[], at: number): string {
  let text = '{';
  for (let i = 0; i < rows.length; i += 1) {
    const value = rows[i]?.[at];
    if (i > 0) text += ',';
    if (typeof value !== 'string') text += 'NULL';
    else text += NEEDS_ESCAPE.test(value) ? `"${value.replace(/["\\]/g, '\\$&')}"` : `"${value}"`;
  }
  return `${text}}`;
}

/** `(SELECT ... AS n0, ... FROM (typed captured row) AS old)`: names are ours, so that they never clash with a table's. */
function rowsSource(plan: TablePlan, inputs: readonly number[], exprs: readonly string[], first = 1): string {
  const { relation, types } = plan;
  const typed = inputs.map((at, i) => `u.c${i}::${types[at] ?? 'text'} AS ${ident(relation.columns[at]?.name ?? '')}`);
  const arrays = inputs.map((_, i) => `$${first + i}::text[]`).join(', ');
  const names = inputs.map((_, i) => `c${i}`).join(', ');
  const list = exprs.map((sql, i) => `${sql} AS n${i}`).join(', ');
  return `(SELECT ${list} FROM (SELECT ${typed.join(', ')} FROM unnest(${arrays}) AS u(${names})) AS old)`;
}

const inputsOf = (columns: readonly { readonly inputs: readonly number[] }[], more: readonly number[] = []): number[] =>
  [...new Set([...columns.flatMap(({ inputs }) => inputs), ...more])].sort((a, b) => a - b);

/** As its own column is computed: of the target's type. */
const keySql = (plan: TablePlan, { name }: KeyPart): string =>
  plan.columns.find((column) => column.name === name)?.sql ?? 'NULL';

export function insertRows(plan: TablePlan, rows: readonly Tuple[]): Statement {
  const { columns } = plan;
  const inputs = inputsOf(columns);
  if (inputs.length === 0)
    return {
      sql: `INSERT INTO ${quoted(plan.to)} SELECT FROM generate_series(1, $1::int)`,
      values: [String(rows.length)],
      rows: rows.length,
    };
  const source = rowsSource(
    plan,
    inputs,
    columns.map(({ sql }) => sql),
  );
  return {
    sql: `INSERT INTO ${quoted(plan.to)} (${columns.map(({ name }) => ident(name)).join(', ')}) OVERRIDING SYSTEM VALUE SELECT * FROM ${source} AS new`,
    values: inputs.map((at) => arrayText(rows, at)),
    rows: rows.length,
  };
}

/** Those of the rows that the plan's filter lets through. */
export function insertFiltered(plan: TablePlan, rows: readonly Tuple[]): Statement {
  const { columns, filter } = plan;
  if (filter === null) return insertRows(plan, rows);
  const inputs = inputsOf([...columns, filter]);
  const source = rowsSource(plan, inputs, [...columns.map(({ sql }) => sql), filter.sql]);
  const list = columns.map(({ name }) => ident(name)).join(', ');
  const values = columns.map((_, i) => `new.n${i}`).join(', ');
  return {
    sql: `INSERT INTO ${quoted(plan.to)} (${list}) OVERRIDING SYSTEM VALUE SELECT ${values} FROM ${source} AS new WHERE new.n${columns.length}`,
    values: inputs.map((at) => arrayText(rows, at)),
    rows: null,
  };
}

/** Which columns of the table can be computed from what came. */
export const writable = (plan: TablePlan, row: Tuple): PlanColumn[] =>
  plan.columns.filter(({ settable, inputs }) => settable && inputs.every((at) => row[at] !== UNCHANGED));

/** Rows that have the same columns missing. null = there is nothing to write. */
export function updateRows(plan: TablePlan, rows: readonly Tuple[]): Statement | null {
  const key = plan.key ?? [];
  const names = new Set(key.map(({ name }) => name));
  const columns = writable(plan, rows[0] ?? []).filter(({ name }) => !names.has(name));
  if (columns.length === 0) return null;
  return updateBy(plan, columns, rows, rows);
}

/** Rows that get another key: `olds` says where they are now. */
export const moveRow = (plan: TablePlan, old: Tuple, row: Tuple): Statement =>
  updateBy(plan, writable(plan, row), [row], [old]);

function updateBy(
  plan: TablePlan,
  columns: readonly PlanColumn[],
  rows: readonly Tuple[],
  found: readonly Tuple[],
): Statement {
  const key = plan.key ?? [];
  const same = rows === found;
  const inputs = inputsOf(columns, same ? key.map(({ input }) => input) : []);
  const exprs = [...columns.map(({ sql }) => sql), ...(same ? key.map((part) => keySql(plan, part)) : [])];
  const set = columns.map(({ name }, i) => `${ident(name)} = new.n${i}`).join(', ');
  const values = inputs.map((at) => arrayText(rows, at));
  const head = `UPDATE ${plan.only} AS t SET ${set} FROM ${rowsSource(plan, inputs, exprs)} AS new`;
  if (same) {
    const where = key.map(({ name, equals }, i) => `t.${ident(name)} ${equals} new.n${columns.length + i}`);
    return { sql: `${head} WHERE ${where.join(' AND ')}`, values, rows: rows.length };
  }
  const keys = rowsSource(
    plan,
    key.map(({ input }) => input),
    key.map((part) => keySql(plan, part)),
    1 + inputs.length,
  );
  const where = key.map(({ name, equals }, i) => `t.${ident(name)} ${equals} was.n${i}`);
  return {
    sql: `${head}, ${keys} AS was WHERE ${where.join(' AND ')}`,
    values: [...values, ...key.map(({ input }) => arrayText(found, input))],
    rows: rows.length,
  };
}

export function deleteRows(plan: TablePlan, olds: readonly Tuple[]): Statement {
  const key = plan.key ?? [];
  const inputs = key.map(({ input }) => input);
  const source = rowsSource(
    plan,
    inputs,
    key.map((part) => keySql(plan, part)),
  );
  const where = key.map(({ name, equals }, i) => `t.${ident(name)} ${equals} new.n${i}`);
  return {
    sql: `DELETE FROM ${plan.only} AS t USING ${source} AS new WHERE ${where.join(' AND ')}`,
    values: inputs.map((at) => arrayText(olds, at)),
    rows: olds.length,
  };
}

/** One row that has all these values: of several alike, one. Compared by their bytes, so that every type can be. */
function rowLike(plan: TablePlan, first: number): string {
  const { columns } = plan;
  const inputs = inputsOf(columns);
  const source = rowsSource(
    plan,
    inputs,
    columns.map(({ sql }) => sql),
    first,
  );
  const here = columns.map(({ name, type }) => `x.${ident(name)}::${type}`).join(', ');
  const there = columns.map((_, i) => `like_it.n${i}`).join(', ');
  return `(SELECT x.ctid FROM ${plan.only} AS x, ${source} AS like_it WHERE pg_catalog.record_image_eq(ROW(${here}), ROW(${there})) LIMIT 1)`;
}

export function deleteLike(plan: TablePlan, old: Tuple): Statement {
  const inputs = inputsOf(plan.columns);
  return {
    sql: `DELETE FROM ${plan.only} AS t WHERE t.ctid = ${rowLike(plan, 1)}`,
    values: inputs.map((at) => arrayText([old], at)),
    rows: 1,
  };
}

export function updateLike(plan: TablePlan, old: Tuple, row: Tuple): Statement | null {
  const columns = writable(plan, row);
  if (columns.length === 0) return null;
  const inputs = inputsOf(columns);
  const all = inputsOf(plan.columns);
  const source = rowsSource(
    plan,
    inputs,
    columns.map(({ sql }) => sql),
  );
  const set = columns.map(({ name }, i) => `${ident(name)} = new.n${i}`).join(', ');
  return {
    sql: `UPDATE ${plan.only} AS t SET ${set} FROM ${source} AS new WHERE t.ctid = ${rowLike(plan, 1 + inputs.length)}`,
    values: [...inputs.map((at) => arrayText([row], at)), ...all.map((at) => arrayText([old], at))],
    rows: 1,
  };
}

/** The parts of the key as they came, for people who look into pgshift.quarantine. */
export const keyJson = (plan: TablePlan, row: Tuple): Record<string, string | null> =>
  Object.fromEntries(
    (plan.key ?? []).map(({ name, input }) => {
      const value: Value | undefined = row[input];
      return [name, typeof value === 'string' ? value : null];
    }),
  );
