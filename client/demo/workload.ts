/**
 * What the writer does, as plain data that can be handed to another process: statements over one table, the keys and values it uses.
 * It is made from the table as it is, so the same code writes to the sample shop and to any dump. Values come from the column itself,
 * so that every foreign key and check that holds now goes on holding.
 */
import type { ClientBase } from 'pg';
import { ident, relation } from '../../postgres/ident';
import { copyStatement } from './growth';
import type { Growth } from './growth';

export interface Workload {
  /** Quoted, with its schema. */
  readonly relation: string;
  readonly schema: string;
  readonly table: string;
  readonly keyName: string;
  readonly columnName: string;
  readonly statements: {
    /** $1 key */
    readonly read: string;
    /** $1 key, $2 value */
    readonly update: string;
    /** $1 new key, $2 number of the copy, $3 value, $4 key of the row that is copied */
    readonly insert: string;
    /** $1 key */
    readonly remove: string;
  };
  /** Keys of rows that are read and updated. */
  readonly keys: readonly string[];
  /** Keys of rows that inserts copy. */
  readonly templates: readonly string[];
  /** Values to write, as text. */
  readonly values: readonly string[];
  /** The first key that the writer inserts; far behind all others, so that it never meets a sequence. */
  readonly firstKey: string;
  /** The first number of a copy that growth did not use. */
  readonly firstCopy: number;
}

/** Reads keys and values for the writer: up to 20,000 rows spread over the table, up to 200 values. `column` is the one that changes. */
export async function makeWorkload(client: ClientBase, growth: Growth, column: string): Promise<Workload> {
  const name = relation(growth.table);
  const key = ident(growth.key.name);
  const wanted = ident(column);
  const texts = async (sql: string): Promise<string[]> =>
    (await client.query<{ text: string }>(sql)).rows.map((row) => row.text);
  const span = `(SELECT greatest(1, count(*) / 20000) FROM ${name})`;
  const keys = await texts(
    `SELECT k::text AS text FROM (SELECT ${key} AS k, row_number() OVER (ORDER BY ${key}) AS n FROM ${name}) t WHERE n % ${span} = 0 LIMIT 20000`,
  );
  const templates = await texts(`SELECT ${key}::text AS text FROM ${name} ORDER BY ${key} LIMIT 500`);
  const values = await texts(
    `SELECT DISTINCT v::text AS text FROM (SELECT ${wanted} AS v FROM ${name} WHERE ${wanted} IS NOT NULL ORDER BY ${key} LIMIT 4000) t ORDER BY 1 LIMIT 200`,
  );
  const [last] = await texts(`SELECT coalesce(max(${key}), 0)::text AS text FROM ${name}`);
  // Halfway to the end of the key's type: an application with a sequence would never meet these keys in a demo.
  const end = growth.key.type === 'smallint' ? 32_767n : growth.key.type === 'integer' ? 2_147_483_647n : 2n ** 53n;
  const withValue = new Map(growth.values).set(
    column,
    `$3::${growth.table.columns.find((c) => c.name === column)?.type ?? 'text'}`,
  );
  return {
    relation: name,
    schema: growth.table.schema,
    table: growth.table.name,
    keyName: growth.key.name,
    columnName: column,
    statements: {
      read: `SELECT ${key}, ${wanted} FROM ${name} WHERE ${key} = $1`,
      update: `UPDATE ${name} SET ${wanted} = $2 WHERE ${key} = $1`,
      insert: copyStatement(
        { ...growth, values: withValue },
        '$2::integer',
        '$1::bigint',
        `${name} t WHERE t.${key} = $4 AND $2::integer > 0`,
      ),
      remove: `DELETE FROM ${name} WHERE ${key} = $1`,
    },
    keys,
    templates,
    values,
    firstKey: (BigInt(last ?? '0') + (end - BigInt(last ?? '0')) / 2n).toString(),
    firstCopy: Math.ceil(Number(last ?? '0') / Math.max(1, growth.table.rows)) + 2,
  };
}
