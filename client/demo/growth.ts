/**
 * Makes a small table large without inventing data: copies of its own rows under new keys. It keeps true: the same dump gives the same
 * rows; every unique index holds by construction (each copy moves a column of it out of the range of all others); foreign key columns
 * are never touched, so every copy refers to a row that exists; the user's triggers do not fire. Where that is impossible, it says why.
 */
import type { ClientBase } from 'pg';
import { Problem } from '../../plan/model/errors';
import { ident, relation } from '../../postgres/ident';
import type { DumpColumn, DumpTable } from './dumpTables';

/** How copy k of a row differs from the row: SQL over alias `t`, with `$K` for the number of the copy (1, 2, ...). */
export interface Growth {
  readonly table: DumpTable;
  /** The key column that numbers rows; its new value is `$KEY`. */
  readonly key: DumpColumn;
  /** Column name -> expression, for every column that is written. */
  readonly values: ReadonlyMap<string, string>;
  /** What is changed in a copy, for people. */
  readonly changed: readonly string[];
}

const INTEGERS: Readonly<Record<string, bigint>> = {
  smallint: 32_767n,
  integer: 2_147_483_647n,
  bigint: 2n ** 63n - 1n,
};
export const isInteger = (type: string): boolean => Object.hasOwn(INTEGERS, type);
const isTime = (type: string): boolean => /^(date|timestamp)/.test(type);

/** Every date and time of a row moves by the same whole number of days, so that "returned after rented" stays true. */
const shiftDays = (column: DumpColumn, days: number): string =>
  column.type === 'date'
    ? `t.${ident(column.name)} + ${days} * $K`
    : `t.${ident(column.name)} + $K * interval '${days} days'`;

/** Works out how copies of `table` can differ; a string is the reason why they cannot. `rows` is the size that is wanted. */
export function planGrowth(table: DumpTable, rows: number): Growth | string {
  const column = new Map(table.columns.map((c) => [c.name, c]));
  const free = (name: string): DumpColumn | null => {
    const found = column.get(name);
    return found && !found.foreign && !found.generated ? found : null;
  };
  const key = free(table.key[0] ?? '');
  if (table.key.length !== 1 || !key || !isInteger(key.type)) return 'its key is not one integer of its own';
  if (BigInt(key.max ?? '0') + BigInt(rows) > (INTEGERS[key.type] ?? 0n)) return `its key is ${key.type}: too small`;
  const values = new Map(table.columns.filter((c) => !c.generated).map((c) => [c.name, `t.${ident(c.name)}`]));
  values.set(key.name, '$KEY');
  const changed = [`${key.name} numbered on from its maximum`];
  let days = 0;
  for (const index of table.uniques) {
    if (index.columns.includes(key.name)) continue;
    if (index.columns.length === 0) return `its unique index ${index.name} is on an expression`;
    const candidates = index.columns.map(free).filter((c) => c !== null);
    const time = candidates.find((c) => isTime(c.type));
    if (time) {
      days = Math.max(days, (time.spanDays ?? 0) + 1);
      continue;
    }
    const own = candidates.find((c) => isInteger(c.type) || c.type === 'uuid' || c.type === 'text');
    if (!own) return `its unique index ${index.name} has no column that a copy may change`;
    values.set(own.name, copyValue(own));
    changed.push(`${own.name} made different in each copy`);
  }
  if (days > 0) {
    for (const c of table.columns)
      if (isTime(c.type) && !c.generated && !c.foreign) values.set(c.name, shiftDays(c, days));
    changed.push(`dates and times moved by ${days} days for each copy`);
  }
  return { table, key, values, changed };
}

function copyValue(column: DumpColumn): string {
  const name = `t.${ident(column.name)}`;
  if (column.type === 'uuid') return `md5(${name}::text || '-' || $K)::uuid`;
  if (column.type === 'text') return `${name} || '~' || $K`;
  return `${name} + (${column.max ?? '0'}::bigint - ${column.min ?? '0'}::bigint + 1) * $K`;
}

/** `INSERT ... SELECT` of copies; `from` is a FROM clause that gives `t`, and whatever `copy` and `keyValue` speak of. */
export function copyStatement(growth: Growth, copy: string, keyValue: string, from: string): string {
  const fill = (expression: string): string =>
    expression.replaceAll('$KEY', () => keyValue).replaceAll('$K', () => copy);
  const columns = [...growth.values.keys()].map(ident).join(', ');
  const values = [...growth.values.values()].map(fill).join(', ');
  return `INSERT INTO ${relation(growth.table)} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${values} FROM ${from}`;
}

/** Grows the table to `rows` rows in one transaction and sets its sequences behind the new maximum. Answers the rows added. */
export async function growTable(client: ClientBase, growth: Growth, rows: number): Promise<number> {
  const { table, key } = growth;
  const missing = rows - table.rows;
  if (missing <= 0) return 0;
  if (table.rows === 0) throw new Problem('InvalidUsage', `table ${relation(table)} of the dump holds no row to copy`);
  const order = table.key.map((name) => ident(name)).join(', ');
  const numbered = `(SELECT *, row_number() OVER (ORDER BY ${order}) AS "pgshift rn" FROM ${relation(table)}) t`;
  const place = `((c.k - 1) * ${table.rows}::bigint + t."pgshift rn")`;
  const statement = copyStatement(
    growth,
    'c.k',
    `${key.max ?? '0'}::bigint + ${place}`,
    `generate_series(1::integer, ${Math.ceil(missing / table.rows)}) AS c(k), ${numbered} WHERE ${place} <= ${missing}`,
  );
  await client.query('BEGIN');
  try {
    // Copies refer to the same rows as their originals: the keys' own triggers have nothing to find, and the user's must not fire.
    await client.query('SET LOCAL session_replication_role = replica');
    const added = (await client.query(statement)).rowCount ?? 0;
    for (const sequence of key.sequences)
      await client.query(`SELECT setval($1::regclass, (SELECT max(${ident(key.name)}) FROM ${relation(table)}))`, [
        sequence,
      ]);
    await client.query('COMMIT');
    await client.query(`ANALYZE ${relation(table)}`);
    return added;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}
