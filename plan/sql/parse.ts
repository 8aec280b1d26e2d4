/**
 * SQL text -> statements, by Postgres' own grammar (libpg-query 18). Keeps true: `text` is the user's own characters without the blanks,
 * comments and semicolon around them; every position that leaves this file is in UTF-16 characters, line and column counted from 1.
 * libpg-query counts bytes in trees and code points in errors; nothing but this file knows that.
 */
import { hasSqlDetails, loadModule, parseSync, scanSync } from 'libpg-query';
import type { Node } from 'libpg-query';
import { Problem } from '../model/errors';

export interface Statement {
  /** 1-based. */
  readonly number: number;
  readonly text: string;
  /** Offset of `text` in the whole SQL, in UTF-16 characters. */
  readonly offset: number;
  readonly line: number;
  readonly column: number;
  /** One key: the node's type, as { AlterTableStmt: {...} }. */
  readonly ast: Node;
}

export interface Parsed {
  readonly source: string;
  readonly statements: readonly Statement[];
  /** Byte position (as trees have them) -> place. */
  place(byte: number): { readonly offset: number; readonly line: number; readonly column: number };
}

let loaded: Promise<void> | null = null;
/** The grammar is WebAssembly: load it once before the first parse. */
export const loadParser = (): Promise<void> => (loaded ??= loadModule());

function lineStarts(source: string): number[] {
  const starts = [0];
  for (let at = source.indexOf('\n'); at >= 0; at = source.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}

function locate(starts: readonly number[], offset: number): { line: number; column: number } {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((starts[middle] ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return { line: low + 1, column: offset - (starts[low] ?? 0) + 1 };
}

/** Where blanks and comments end, from `offset` on. */
function skipBlanks(source: string, offset: number): number {
  let at = offset;
  for (;;) {
    const rest = source.slice(at);
    const blank = /^(?:\s+|--[^\n]*(?:\n|$))/.exec(rest);
    if (blank) at += blank[0].length;
    else if (rest.startsWith('/*')) at += nestedComment(rest);
    else return at;
  }
}

/** Postgres' block comments nest. */
function nestedComment(text: string): number {
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    if (text.startsWith('/*', at)) {
      depth += 1;
      at += 1;
    } else if (text.startsWith('*/', at)) {
      depth -= 1;
      at += 1;
      if (depth === 0) return at + 1;
    }
  }
  return text.length;
}

/** Code points -> UTF-16 characters. */
const codePointOffset = (source: string, count: number): number => [...source].slice(0, count).join('').length;

/** Throws SqlSyntax with line, column and the source line; the parser must be loaded (loadParser). */
export function parseSql(source: string, file: string | null = null): Parsed {
  const bytes = Buffer.from(source, 'utf8');
  const starts = lineStarts(source);
  const toOffset = (byte: number): number =>
    bytes.length === source.length ? byte : bytes.subarray(0, byte).toString('utf8').length;
  const place = (byte: number) => {
    const offset = toOffset(byte);
    return { offset, ...locate(starts, offset) };
  };
  if (source.includes('\0'))
    throw syntaxProblem(source, starts, source.indexOf('\0'), 'a zero byte is not allowed in SQL', file);
  let stmts;
  try {
    stmts = parseSync(source).stmts ?? [];
  } catch (error) {
    if (!hasSqlDetails(error)) throw error;
    const at = codePointOffset(source, Math.max(0, error.sqlDetails?.cursorPosition ?? 0));
    throw syntaxProblem(source, starts, at, error.sqlDetails?.message ?? error.message, file);
  }
  const statements = stmts.flatMap((raw, index): Statement[] => {
    if (!raw.stmt) return [];
    const begin = raw.stmt_location ?? 0;
    const from = toOffset(begin);
    const to = raw.stmt_len ? toOffset(begin + raw.stmt_len) : source.length;
    const offset = Math.min(skipBlanks(source, from), to);
    const text = trimEnd(source.slice(offset, to));
    return [{ number: index + 1, text, offset, ...locate(starts, offset), ast: raw.stmt }];
  });
  return { source, statements, place };
}

/** Without the blanks, comments and semicolons that follow the last token. */
function trimEnd(text: string): string {
  const tokens = scanSync(text).tokens.filter((token) => !/COMMENT/.test(token.tokenName) && token.text !== ';');
  const last = tokens.at(-1);
  return last ? Buffer.from(text, 'utf8').subarray(0, last.end).toString('utf8') : text.trim();
}

function syntaxProblem(
  source: string,
  starts: readonly number[],
  offset: number,
  message: string,
  file: string | null,
): Problem {
  const { line, column } = locate(starts, offset);
  const text = source.slice(starts[line - 1] ?? 0).split('\n', 1)[0] ?? '';
  const token = /^(?:\w+|\S)/.exec(source.slice(offset))?.[0] ?? ' ';
  const where = { line, column, text, length: token.length, ...(file === null ? {} : { file }) };
  return new Problem('SqlSyntax', message, { where });
}
