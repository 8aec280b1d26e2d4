/**
 * Names of tables as plans write them: `table`, `schema.table`, quoted where SQL would ask for it, and with `*` and `?` where a pattern is
 * taken. No schema = public. Pure; the text is matched, never put into SQL.
 */
import type { RelationName } from './steps';

interface Part {
  readonly text: string;
  readonly quoted: boolean;
}

/** `"Odd ""Name"".x".t` -> its parts; null = not written as a name. */
function partsOf(text: string): Part[] | null {
  const parts: Part[] = [];
  let rest = text;
  for (;;) {
    const quoted = /^"((?:[^"]|"")+)"/.exec(rest);
    const plain = /^[^".\s]+/.exec(rest);
    if (quoted) parts.push({ text: (quoted[1] ?? '').replaceAll('""', '"'), quoted: true });
    else if (plain) parts.push({ text: plain[0], quoted: false });
    else return null;
    rest = rest.slice((quoted ?? plain)?.[0].length ?? 0);
    if (rest === '') return parts.length <= 2 ? parts : null;
    if (!rest.startsWith('.')) return null;
    rest = rest.slice(1);
  }
}

const folded = ({ text, quoted }: Part): string => (quoted ? text : text.toLowerCase());

/** One table; null = not a table's name (patterns are none). */
export function parseTableName(text: string): RelationName | null {
  const parts = partsOf(text);
  if (parts === null || parts.some(({ text: t, quoted }) => !quoted && /[*?]/.test(t))) return null;
  const [first, second] = parts;
  if (!first) return null;
  return second ? { schema: folded(first), name: folded(second) } : { schema: 'public', name: folded(first) };
}

/** One column's name; null = not written as one. */
export function parseColumnName(text: string): string | null {
  const parts = partsOf(text);
  const [only] = parts ?? [];
  return only && parts?.length === 1 ? folded(only) : null;
}

const regexOf = (part: Part): RegExp => {
  const escaped = folded(part).replace(/[.+^${}()|[\]\\]/g, '\\$&');
  const text = part.quoted ? escaped.replace(/[*?]/g, '\\$&') : escaped.replace(/\*/g, '.*').replace(/\?/g, '.');
  return new RegExp(`^${text}$`, 's');
};

export type TableMatcher = (table: RelationName) => boolean;

/** `audit_*`, `public.*`, `*.*`; null = not a pattern. */
export function parseTablePattern(text: string): TableMatcher | null {
  const parts = partsOf(text);
  const [first, second] = parts ?? [];
  if (!first) return null;
  const schema = second ? regexOf(first) : /^public$/;
  const name = regexOf(second ?? first);
  return (table) => schema.test(table.schema) && name.test(table.name);
}

/** In one of `include` and in none of `exclude`; both were parsed before. */
export function tableFilter(include: readonly string[], exclude: readonly string[]): TableMatcher {
  const all = (texts: readonly string[]) => texts.map(parseTablePattern).filter((m) => m !== null);
  const [taken, left] = [all(include), all(exclude)];
  return (table) => taken.some((m) => m(table)) && !left.some((m) => m(table));
}
