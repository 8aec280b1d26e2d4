/**
 * `map.<source table>` of a data migration: which rows of a table go where, and as what. Expressions are SQL over the source's row and run on the
 * source. Pure; whether the columns exist is asked where the catalogue is.
 */
import { z } from 'zod';
import { parseColumnName, parseTableName } from './tableNames';

const table = z.string().refine((text) => parseTableName(text) !== null, {
  error: 'not a table; write it as table or schema.table',
});
const column = z.string().refine((text) => parseColumnName(text) !== null, { error: 'not a column' });
const expression = z.strictObject({ sql: z.string().min(1) });
const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()]);
const oneOrMore = <T extends z.ZodType>(item: T) => z.union([item, z.array(item).min(1)]);

/** A share of the rows in percent. */
export function parsePercent(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)%$/.exec(text);
  const percent = match ? Number(match[1]) : NaN;
  return percent > 0 && percent <= 100 ? percent : null;
}
const percent = z.string().refine((text) => parsePercent(text) !== null, { error: 'not a share; write it as 10%' });

export interface OrderItem {
  readonly column: string;
  readonly descending: boolean;
}

/** `updated_at desc`; null = not written so. */
export function parseOrder(text: string): OrderItem | null {
  const match = /^(.*?)(?:\s+(asc|desc))?$/is.exec(text.trim());
  const name = parseColumnName(match?.[1] ?? '');
  return name === null ? null : { column: name, descending: match?.[2]?.toLowerCase() === 'desc' };
}
const order = z
  .string()
  .refine((text) => parseOrder(text) !== null, { error: 'not an order; write it as column desc' });

/** What a value becomes that is not on the list. `fail`: its row is set aside. */
const otherwise = z.enum(['fail', 'keep', 'null']).default('fail');
const lookup = z.union([
  z.strictObject({ column, values: z.record(z.string(), scalar), otherwise }),
  z.strictObject({ column, table, key: column, value: column, otherwise }),
]);
export type Lookup = z.output<typeof lookup>;

const bound = z.union([z.number(), z.string()]);
const range = z
  .strictObject({ min: bound.optional(), max: bound.optional() })
  .refine(({ min, max }) => min !== undefined || max !== undefined, { error: 'needs min or max' });
const rule = z.union([z.enum(['email', 'phone', 'date']), range, expression]);
export type Rule = z.output<typeof rule>;

const deduplicate = z.strictObject({
  key: oneOrMore(column),
  keep: z.enum(['first', 'last', 'merge']).default('first'),
  order: oneOrMore(order).optional(),
});

export const tableMappingSchema = z.strictObject({
  to: table.optional(),
  where: z.string().min(1).optional(),
  columns: z.record(column, z.union([column, expression, z.strictObject({ lookup })])).default({}),
  omit: z.array(column).default([]),
  sample: percent.optional(),
  deduplicate: deduplicate.optional(),
  nulls: z.record(column, z.union([z.string(), z.number(), z.boolean()])).default({}),
  validate: z.record(column, rule).default({}),
  enrich: z.record(column, expression).default({}),
});
/** With every default filled in. */
export type TableMapping = z.output<typeof tableMappingSchema>;

export const mapSchema = z.record(table, tableMappingSchema).default({});

export const NO_MAPPING: TableMapping = { columns: {}, omit: [], nulls: {}, validate: {}, enrich: {} };

export const listOf = <T>(value: T | readonly T[] | undefined): readonly T[] =>
  value === undefined ? [] : Array.isArray(value) ? (value as readonly T[]) : [value as T];

/** Does it change the table's name or columns? Then the target's table is not the source's. */
export const changesShape = ({ to, columns, omit, enrich }: TableMapping): boolean =>
  to !== undefined || omit.length > 0 || Object.keys(columns).length > 0 || Object.keys(enrich).length > 0;
