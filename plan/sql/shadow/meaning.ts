/**
 * May an expression stand under the same column name? Only one that leaves every value that is already valid as it is: a cast, COALESCE
 * with a constant, NULLIF with a constant, CASE that mends some values with constants, AT TIME ZONE with a constant zone. Keeps true:
 * what is not understood changes the meaning.
 */
import type { Node } from 'libpg-query';
import { as, strings } from '../ast';
import { isConstant } from '../volatility';

/** `textual`: the old type is text and the new one is not, so blanks around a value never belonged to it. */
export function keepsMeaning(expression: Node, column: string, textual: boolean): boolean {
  const same = (node: Node | undefined): boolean => node !== undefined && keepsMeaning(node, column, textual);
  const ref = as(expression, 'ColumnRef');
  if (ref) return strings(ref.fields).at(-1) === column;
  const cast = as(expression, 'TypeCast');
  if (cast) return same(cast.arg);
  const collate = as(expression, 'CollateClause');
  if (collate) return same(collate.arg);
  const coalesce = as(expression, 'CoalesceExpr');
  if (coalesce) {
    const [first, ...rest] = coalesce.args ?? [];
    return same(first) && rest.every((node) => isConstant(node) || same(node));
  }
  const operator = as(expression, 'A_Expr');
  if (operator?.kind === 'AEXPR_NULLIF')
    return same(operator.lexpr) && operator.rexpr !== undefined && isConstant(operator.rexpr);
  const choice = as(expression, 'CaseExpr');
  if (choice) {
    const branches = (choice.args ?? []).flatMap((when) => as(when, 'CaseWhen')?.result ?? []);
    if (choice.defresult) branches.push(choice.defresult);
    return branches.some(same) && branches.every((node) => isConstant(node) || same(node));
  }
  const call = as(expression, 'FuncCall');
  if (call) {
    const name = strings(call.funcname).at(-1) ?? '';
    const args = call.args ?? [];
    if (name === 'timezone') return args.length === 2 && isConstant(args[0] as Node) && same(args[1]);
    if (textual && ['btrim', 'ltrim', 'rtrim'].includes(name)) return args.length === 1 && same(args[0]);
  }
  return false;
}

/** The way back of `x AT TIME ZONE 'zone'` is the same words over the new value; null for everything else. */
export function zoneOf(expression: Node): Node | null {
  const call = as(expression, 'FuncCall');
  if (!call || strings(call.funcname).at(-1) !== 'timezone') return null;
  const [zone, value] = call.args ?? [];
  return zone && value && isConstant(zone) && as(value, 'ColumnRef') ? zone : null;
}
