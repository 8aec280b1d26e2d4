/**
 * Postgres' text of an expression does not always parse to the expression that it was printed from: in `(ARRAY['a'::character varying])::text[]`
 * the outer cast moves into the elements, and the next print differs. Keeps true: what is written here parses to the very same
 * expression, so that an object that was dropped and made again prints as before.
 */
import { parseSync, scanSync } from 'libpg-query';
import type { Node } from 'libpg-query';
import { ident } from '../../model/quote';
import { as, strings, walk } from '../ast';

interface Edit {
  readonly at: number;
  readonly text: string;
}

/** The one type that all elements are cast to, as SQL; null when there is no such type. */
function elementType(elements: readonly Node[]): string | null {
  const types = elements.map((element) => {
    const type = as(element, 'TypeCast')?.typeName;
    if (!type || (type.typmods ?? []).length > 0 || (type.arrayBounds ?? []).length > 0) return null;
    return strings(type.names).map(ident).join('.');
  });
  const [first] = types;
  return first !== undefined && types.every((type) => type === first) ? first : null;
}

/** One statement or expression statement, with its array casts made steady. */
export function steady(sql: string): string {
  const edits: Edit[] = [];
  const { tokens } = scanSync(sql);
  walk(parseSync(sql).stmts, (kind, fields) => {
    if (kind !== 'TypeCast') return;
    const array = as(fields.arg as Node, 'A_ArrayExpr');
    const bounds = (fields.typeName as { arrayBounds?: unknown[] } | undefined)?.arrayBounds ?? [];
    const type = array && bounds.length > 0 ? elementType(array.elements ?? []) : null;
    if (!array || type === null) return;
    let depth = 0;
    for (const token of tokens.slice(tokens.findIndex((t) => t.start === (array.location ?? -1)))) {
      if (token.text === '[') depth += 1;
      if (token.text === ']') depth -= 1;
      if (token.text === ']' && depth === 0) {
        edits.push({ at: token.end, text: `::${type}[]` });
        break;
      }
    }
  });
  let bytes = Buffer.from(sql, 'utf8');
  for (const { at, text } of edits.sort((a, b) => b.at - a.at))
    bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(text, 'utf8'), bytes.subarray(at)]);
  return bytes.toString('utf8');
}
