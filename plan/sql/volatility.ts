/**
 * Is an expression volatile? Decides whether ADD COLUMN ... DEFAULT rewrites the table. Keeps true: unknown is volatile, which costs a
 * backfill and nothing else; a function is called stable or immutable only where the catalogue or this list says so.
 */
import { as, strings, walk } from './ast';
import type { Node } from 'libpg-query';
import type { Catalog } from '../model/catalog';

/** Functions of pg_catalog that are common in defaults and not volatile. */
const STEADY = new Set(
  (
    'now statement_timestamp transaction_timestamp current_setting lower upper initcap trim btrim ltrim rtrim replace concat concat_ws ' +
    'format length char_length substring substr left right md5 encode decode to_char to_date to_timestamp to_number timezone date_trunc ' +
    'date_part extract make_date make_time make_timestamp make_interval age round trunc ceil floor abs sign sqrt power mod coalesce ' +
    'array_length cardinality jsonb_build_object json_build_object jsonb_build_array json_build_array to_json to_jsonb current_database ' +
    'current_schema int4range int8range numrange daterange tsrange tstzrange to_tsvector to_tsquery sha256 repeat lpad rpad ' +
    'xmlelement upper_inf lower_inf array_append pg_backend_pid inet_client_addr session_user'
  ).split(' '),
);

/** Volatility of every function called, worst first. Operators and casts of built-in types are never volatile. */
export function isVolatile(
  expression: Node | null,
  catalog: Catalog,
  subQueries: 'volatile' | 'steady' = 'volatile',
): boolean {
  if (!expression) return false;
  let found = false;
  walk(expression, (kind, fields) => {
    if (kind === 'SubLink' && subQueries === 'volatile') found = true;
    if (kind === 'FuncCall') {
      const parts = strings(fields.funcname as Node[]);
      if (functionIsVolatile(parts, catalog)) found = true;
    }
    return !found;
  });
  return found;
}

function functionIsVolatile(parts: readonly string[], catalog: Catalog): boolean {
  const name = parts.at(-1) ?? '';
  const schema = parts.at(-2) ?? null;
  const known = catalog.functions.filter((f) => f.name === name && (schema === null || f.schema === schema));
  if (known.length > 0) return known.some((f) => f.volatility === 'volatile');
  return !((schema === null || schema === 'pg_catalog') && STEADY.has(name));
}

/** Does the catalogue know every function that is called? One that this plan makes cannot be called by preflight. */
export function callsKnown(expression: Node | undefined, catalog: Catalog): boolean {
  let known = true;
  walk(expression, (kind, fields) => {
    if (kind !== 'FuncCall') return;
    const name = strings(fields.funcname as Node[]).at(-1);
    if (!catalog.functions.some((f) => f.name === name)) known = false;
  });
  return known;
}

/** A constant, possibly signed or cast: true, 0, 'x'::text, NULL, ARRAY of such. */
export function isConstant(expression: Node): boolean {
  const cast = as(expression, 'TypeCast');
  if (cast?.arg) return isConstant(cast.arg);
  const sign = as(expression, 'A_Expr');
  if (sign?.kind === 'AEXPR_OP' && !sign.lexpr && sign.rexpr) return isConstant(sign.rexpr);
  const array = as(expression, 'A_ArrayExpr');
  if (array) return (array.elements ?? []).every(isConstant);
  return as(expression, 'A_Const') !== null;
}

export const isNull = (expression: Node | null | undefined): boolean => {
  if (!expression) return false;
  const cast = as(expression, 'TypeCast');
  if (cast) return isNull(cast.arg);
  return as(expression, 'A_Const')?.isnull === true;
};
