/** What the changed table really is, by the demo's own look at pg_catalog: not what the run says of it. */
import type { ClientBase } from 'pg';
import { Problem } from '../../plan/model/errors';
import { relation } from '../../postgres/ident';
import type { DemoChange } from './change';

export interface Shape {
  /** Type of the column that changes. */
  readonly type: string;
  /** Of the added columns: how many are there and NOT NULL. */
  readonly notNull: number;
  readonly validForeignKeys: number;
  readonly indexes: number;
  readonly invalidIndexes: number;
}

const SHAPE = `
SELECT (SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = t AND attname = $2) AS type,
  (SELECT count(*)::integer FROM pg_attribute WHERE attrelid = t AND attname = ANY ($3) AND attnotnull) AS "notNull",
  (SELECT count(*)::integer FROM pg_constraint WHERE conrelid = t AND contype = 'f' AND convalidated) AS "validForeignKeys",
  (SELECT count(*)::integer FROM pg_index WHERE indrelid = t AND indisvalid) AS indexes,
  (SELECT count(*)::integer FROM pg_index WHERE indrelid = t AND NOT indisvalid) AS "invalidIndexes"
FROM to_regclass($1) t`;

export async function readShape(client: ClientBase, change: DemoChange): Promise<Shape> {
  const table = relation({ schema: change.schema, name: change.table });
  const shape = (await client.query<Shape>(SHAPE, [table, change.column, change.added])).rows[0];
  if (!shape) throw new Problem('Bug', 'the demo cannot see its own table');
  return shape;
}
