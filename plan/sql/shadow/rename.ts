/**
 * Columns renamed inside Postgres' own definitions. Keeps true: the text stays as Postgres printed it but for the tokens that name the
 * column; each replaced token changed exactly one column reference of the parse tree and nothing else, and no reference is left over.
 */
import { parseSync, scanSync } from 'libpg-query';
import { Problem } from '../../model/errors';
import { ident } from '../../model/quote';

type Path = readonly (string | number)[];
interface Leaf {
  readonly path: Path;
  readonly value: unknown;
}

/** Where a name counts: which lists of a foreign key hold columns of the table that changes. */
export interface Sides {
  readonly local: boolean;
  readonly referenced: boolean;
}

const isPosition = (key: string): boolean => /location$|_len$|^(rexpr_list|list)_(start|end)$/.test(key);

function leaves(value: unknown, path: Path = [], out: Leaf[] = []): Leaf[] {
  if (Array.isArray(value)) value.forEach((item, i) => leaves(item, [...path, i], out));
  else if (typeof value === 'object' && value !== null) {
    for (const [key, inner] of Object.entries(value)) if (!isPosition(key)) leaves(inner, [...path, key], out);
  } else out.push({ path, value });
  return out;
}

const keyOf = (leaf: Leaf): string => leaf.path.join('/');

/** Is this leaf the name of a column of the table? `refs` tells how many parts each ColumnRef has. */
function namesColumn(leaf: Leaf, all: ReadonlySet<string>, sides: Sides): boolean {
  const path = leaf.path;
  const n = path.length;
  const parent = path[n - 2];
  if (path[n - 1] === 'name' && (parent === 'IndexElem' || parent === 'StatsElem')) return true;
  if (path[n - 1] !== 'sval' || parent !== 'String') return false;
  const list = path[n - 4];
  if (list === 'fields' && path[n - 5] === 'ColumnRef') {
    // The last part: `a`, `old.a`, `t.a`. A star ends in another node, so it never counts.
    const next = [...path.slice(0, n - 3), Number(path[n - 3]) + 1].join('/');
    return !all.has(`${next}/String/sval`);
  }
  if (list === 'fk_attrs' || list === 'fk_del_set_cols') return sides.local;
  if (list === 'pk_attrs') return sides.referenced;
  return (list === 'keys' && path[n - 5] === 'Constraint') || (list === 'columns' && path[n - 5] === 'CreateTrigStmt');
}

interface Token {
  readonly start: number;
  readonly end: number;
  readonly text: string;
  readonly keywordKind: number;
}

/** What a token says as a name; null when it is none. */
function nameIn(token: Token): string | null {
  if (/^"/.test(token.text)) return token.text.slice(1, -1).replaceAll('""', '"');
  // Unquoted names fold ASCII letters alone in UTF-8 databases.
  return /^[\p{L}_]/u.test(token.text) ? token.text.replace(/[A-Z]/g, (c) => c.toLowerCase()) : null;
}

const splice = (sql: string, at: readonly { start: number; end: number; text: string }[]): string => {
  let bytes = Buffer.from(sql, 'utf8');
  for (const { start, end, text } of [...at].sort((a, b) => b.start - a.start))
    bytes = Buffer.concat([bytes.subarray(0, start), Buffer.from(text, 'utf8'), bytes.subarray(end)]);
  return bytes.toString('utf8');
};

const treeOf = (sql: string): unknown => parseSync(sql).stmts ?? [];

/** `sql` (one statement) with column `from` called `to`. Throws Bug when the result is not exactly that. */
export function renameColumn(
  sql: string,
  from: string,
  to: string,
  sides: Sides = { local: true, referenced: true },
): string {
  if (from === to) return sql;
  const before = leaves(treeOf(sql));
  const index = new Map(before.map((leaf) => [keyOf(leaf), leaf]));
  const keys = new Set(index.keys());
  const wanted = new Set(before.filter((leaf) => leaf.value === from && namesColumn(leaf, keys, sides)).map(keyOf));
  const taken: { start: number; end: number; text: string }[] = [];
  const reached = new Set<string>();
  for (const token of scanSync(sql).tokens as readonly Token[]) {
    if (nameIn(token) !== from) continue;
    const replacement = { start: token.start, end: token.end, text: ident(to) };
    let changed: Leaf[];
    try {
      changed = differing(index, leaves(treeOf(splice(sql, [replacement]))), from, to);
    } catch {
      continue; // a keyword in its own place: no name
    }
    const [only] = changed;
    if (changed.length === 1 && only && wanted.has(keyOf(only))) {
      taken.push(replacement);
      reached.add(keyOf(only));
    }
  }
  const result = splice(sql, taken);
  const after = taken.length === 0 ? [] : differing(index, leaves(treeOf(result)), from, to);
  if (reached.size !== wanted.size || after.length !== wanted.size || !after.every((leaf) => wanted.has(keyOf(leaf))))
    throw new Problem('Bug', 'a definition of the catalogue could not be written for another column');
  return result;
}

/** Leaves that changed from the one name to the other; throws when the trees differ in anything else. */
function differing(before: ReadonlyMap<string, Leaf>, after: readonly Leaf[], from: string, to: string): Leaf[] {
  if (after.length !== before.size) throw new Error('another shape');
  return after.filter((leaf) => {
    const old = before.get(keyOf(leaf));
    if (!old) throw new Error('another shape');
    if (old.value === leaf.value) return false;
    if (old.value !== from || leaf.value !== to) throw new Error('another value');
    return true;
  });
}

/** One whole index definition under another name, built concurrently, in its tablespace. Throws Bug. */
export function indexStatement(
  definition: string,
  change: { readonly name: string; readonly column: string; readonly to: string; readonly tablespace: string | null },
): string {
  const renamed = renameColumn(definition, change.column, change.to);
  const tokens = scanSync(renamed).tokens as readonly Token[];
  const at = tokens.findIndex((token) => token.text.toUpperCase() === 'INDEX');
  const name = tokens[at + 1];
  if (at < 0 || !name) throw new Problem('Bug', 'an index definition does not begin with CREATE INDEX');
  const edits = [{ start: name.start, end: name.end, text: `CONCURRENTLY ${ident(change.name)}` }];
  if (change.tablespace !== null) {
    const where = outerWhere(tokens);
    const end = Buffer.byteLength(renamed, 'utf8');
    const start = where?.start ?? end;
    edits.push({
      start,
      end: start,
      text: `${where ? '' : ' '}TABLESPACE ${ident(change.tablespace)}${where ? ' ' : ''}`,
    });
  }
  const result = splice(renamed, edits);
  const before = indexFields(renamed);
  const after = indexFields(result);
  const expected: Record<string, unknown> = { ...before, idxname: change.name, concurrent: true };
  if (change.tablespace !== null) expected.tableSpace = change.tablespace;
  const show = (fields: Record<string, unknown>): string =>
    leaves(fields)
      .map((l) => `${keyOf(l)}=${String(l.value)}`)
      .sort()
      .join('\n');
  if (show(after) !== show(expected))
    throw new Problem('Bug', 'an index definition could not be written for another name');
  return result;
}

function outerWhere(tokens: readonly Token[]): Token | null {
  let depth = 0;
  for (const token of tokens) {
    if (token.text === '(') depth += 1;
    else if (token.text === ')') depth -= 1;
    else if (depth === 0 && token.text.toUpperCase() === 'WHERE' && token.keywordKind !== 0) return token;
  }
  return null;
}

function indexFields(sql: string): Record<string, unknown> {
  const [raw] = parseSync(sql).stmts ?? [];
  const fields = (raw?.stmt as Record<string, unknown> | undefined)?.IndexStmt;
  if (typeof fields !== 'object' || fields === null) throw new Problem('Bug', 'an index definition is no CREATE INDEX');
  return fields as Record<string, unknown>;
}
