/**
 * Validation rules and lookups as SQL. Keeps true: a rule never fails on a value, it only says false; NULL is nobody's error unless a predicate
 * says so, as with CHECK.
 */
import type { Lookup, Rule } from '../../plan/model/tableMapping';
import { parseColumnName, parseTableName } from '../../plan/model/tableNames';
import { ident, literal, relation } from '../ident';
import { ROW } from './spec';

const EMAIL = `^[^@[:space:]]+@[^@[:space:].]+([.][^@[:space:].]+)+$`;
const PHONE = `^[+]?[0-9(][0-9 ().-]{5,20}[0-9]$`;
const TIME = `([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?`;
const ZONE = `(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)`;
const DATE = `^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T]${TIME}( ?${ZONE})?)?$`;

/** Of a text: is the day in the calendar? */
function isDate(text: string): string {
  const part = (from: number, length: number): string => `substr(${text}, ${from}, ${length})::int4`;
  const [year, month, day] = [part(1, 4), part(6, 2), part(9, 2)];
  const leap = `(${year} % 4 = 0 AND (${year} % 100 <> 0 OR ${year} % 400 = 0))`;
  const days = `CASE WHEN ${month} IN (4, 6, 9, 11) THEN 30 WHEN ${month} = 2 THEN CASE WHEN ${leap} THEN 29 ELSE 28 END ELSE 31 END`;
  return `CASE WHEN ${text} IS NULL THEN NULL WHEN ${text} !~ ${literal(DATE)} THEN false
    ELSE ${year} >= 1 AND ${month} BETWEEN 1 AND 12 AND ${day} BETWEEN 1 AND ${days} END`;
}

/** `value` is an expression, `own` the predicate of `{sql}` over the row. */
export function ruleSql(rule: Rule, value: string, own: string | null): { rule: string; sql: string; reason: string } {
  const text = `(${value})::text`;
  if (rule === 'email')
    return { rule, sql: `${text} ~ ${literal(EMAIL)} AND length(${text}) <= 254`, reason: 'not an e-mail address' };
  if (rule === 'phone') {
    const digits = `length(regexp_replace(${text}, '[^0-9]', '', 'g'))`;
    return { rule, sql: `${text} ~ ${literal(PHONE)} AND ${digits} BETWEEN 7 AND 15`, reason: 'not a phone number' };
  }
  if (rule === 'date') return { rule, sql: isDate(text), reason: 'not a date' };
  if ('sql' in rule) return { rule: 'sql', sql: own ?? 'true', reason: 'refused by its predicate' };
  // Postgres sorts NaN above every number: it is in no range.
  const parts = [`${text} <> 'NaN'`];
  if (rule.min !== undefined) parts.push(`(${value}) >= ${constant(rule.min)}`);
  if (rule.max !== undefined) parts.push(`(${value}) <= ${constant(rule.max)}`);
  return { rule: 'range', sql: parts.join(' AND '), reason: 'outside its range' };
}

/** A number as it is; a text as a literal whose type is that of what it is compared with. */
const constant = (value: string | number | boolean | null): string =>
  value === null
    ? 'NULL'
    : typeof value === 'number'
      ? `(${Number.isFinite(value) ? String(value) : 'NULL'})`
      : typeof value === 'boolean'
        ? String(value)
        : literal(value);

const ref = (text: string): string => `${ROW}.${ident(parseColumnName(text) ?? text)}`;

/** The value that a lookup gives, and (for `otherwise: fail`) what must be true of the row. */
export function lookupSql(lookup: Lookup): { sql: string; known: string | null } {
  const from = ref(lookup.column);
  if ('values' in lookup) {
    const entries = Object.entries(lookup.values);
    const keep = lookup.otherwise === 'keep';
    const shown = (value: string | number | boolean | null): string =>
      keep && value !== null ? literal(String(value)) : constant(value);
    const whens = entries.map(([key, value]) => `WHEN ${literal(key)} THEN ${shown(value)}`).join(' ');
    const other = keep ? `${from}::text` : 'NULL';
    const list = entries.map(([key]) => literal(key)).join(', ');
    return {
      sql: entries.length === 0 ? other : `CASE ${from}::text ${whens} ELSE ${other} END`,
      known: lookup.otherwise === 'fail' ? (list === '' ? `${from} IS NULL` : `${from}::text IN (${list})`) : null,
    };
  }
  const { schema, name } = parseTableName(lookup.table) ?? { schema: 'public', name: lookup.table };
  const column = (text: string): string => `l.${ident(parseColumnName(text) ?? text)}`;
  const there = `FROM ${relation({ schema, name })} AS l WHERE ${column(lookup.key)} = ${from}`;
  const value = `(SELECT ${column(lookup.value)} ${there})`;
  const exists = `EXISTS (SELECT 1 ${there})`;
  return {
    sql: lookup.otherwise === 'keep' ? `CASE WHEN ${exists} THEN ${value}::text ELSE ${from}::text END` : value,
    known: lookup.otherwise === 'fail' ? `(${from} IS NULL OR ${exists})` : null,
  };
}
