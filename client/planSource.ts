/**
 * A plan's text and where each of its keys and values stands in it. Places in the SQL inside a plan are mapped back to the plan's own line and column,
 * whatever the scalar's style (block, folded, plain, quoted). JSON is read by the same parser: it is YAML.
 */
import { LineCounter, isMap, isScalar, isSeq, parseDocument } from 'yaml';
import type { Document, Node, Scalar } from 'yaml';
import { Problem } from '../plan/model/errors';
import type { Where } from '../plan/model/errors';
import { echoable } from './redact';

const BLANK = /\s/;
const ESCAPES: Readonly<Record<string, string>> = {
  '0': '\0',
  a: '\x07',
  b: '\b',
  e: '\x1b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '"': '"',
  '/': '/',
  '\\': '\\',
  ' ': ' ',
  N: '\x85',
  _: '\xa0',
  L: '\u2028',
  P: '\u2029',
};

/** The escape sequence of a double-quoted scalar at `at`: what it stands for and its length. */
function escapeAt(source: string, at: number): { readonly text: string; readonly length: number } {
  const kind = source[at + 1] ?? '';
  const digits = { x: 2, u: 4, U: 8 }[kind];
  if (digits !== undefined) {
    const code = Number.parseInt(source.slice(at + 2, at + 2 + digits), 16);
    return { text: Number.isNaN(code) || code > 0x10ffff ? '' : String.fromCodePoint(code), length: 2 + digits };
  }
  if (kind === '\n') return { text: ' ', length: 2 };
  return { text: ESCAPES[kind] ?? '', length: 2 };
}

/**
 * For each character of a scalar's value its offset in the source; null when they cannot be laid side by side. Blanks are matched loosely (folding and
 * indentation change them), everything else exactly.
 */
export function alignScalar(value: string, source: string, start: number, end: number): readonly number[] | null {
  const quote = source[start] === '"' || source[start] === "'" ? source[start] : null;
  const offsets: number[] = [];
  let at = quote === null ? start : start + 1;
  const skipBlanks = () => {
    for (;;) {
      const here = source[at];
      if (here !== undefined && BLANK.test(here)) at += 1;
      else if (quote === '"' && here === '\\' && BLANK.test(escapeAt(source, at).text))
        at += escapeAt(source, at).length;
      else return;
    }
  };
  for (let i = 0; i < value.length;) {
    const wanted = value[i] ?? '';
    if (BLANK.test(wanted)) {
      offsets.push(at);
      i += 1;
      continue;
    }
    skipBlanks();
    if (at >= end) return null;
    const escape = quote === '"' && source[at] === '\\' ? escapeAt(source, at) : null;
    const doubled = quote === "'" && source.startsWith("''", at);
    const found = escape?.text ?? source[at] ?? '';
    if (found === '' || !value.startsWith(found, i)) return null;
    for (let part = 0; part < found.length; part += 1) offsets.push(at);
    i += found.length;
    at += escape?.length ?? (doubled ? 2 : 1);
  }
  offsets.push(at);
  return offsets;
}

/** A literal block's body begins on the line after its `|` or `>`. */
const scalarStart = (node: Scalar, source: string): number => {
  const start = node.range?.[0] ?? 0;
  if (node.type !== 'BLOCK_LITERAL' && node.type !== 'BLOCK_FOLDED') return start;
  const newline = source.indexOf('\n', start);
  return newline < 0 ? start : newline + 1;
};

type Aim = 'key' | 'value';

export class PlanSource {
  readonly #lines = new LineCounter();
  readonly #document: Document.Parsed;

  /** @throws Problem InvalidPlan at the first thing that is no YAML, or a key that is there twice. */
  constructor(
    readonly file: string,
    readonly text: string,
  ) {
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      prettyErrors: false,
      version: '1.2',
      stringKeys: true,
    });
    const error = this.#document.errors[0];
    if (error === undefined) return;
    const duplicate = error.code === 'DUPLICATE_KEY';
    const key = duplicate ? (/^[\w.-]+/.exec(text.slice(error.pos[0]))?.[0] ?? '') : '';
    throw new Problem('InvalidPlan', duplicate ? `${key}: a key is there twice` : saidPlainly(error), {
      where: this.at(error.pos[0], Math.max(1, key.length, error.pos[1] - error.pos[0])),
      ...(duplicate ? { hint: 'keep one of the two' } : {}),
    });
  }

  json(): unknown {
    return this.#document.toJS({ maxAliasCount: 100 }) as unknown;
  }

  at(offset: number, length = 1): Where {
    const { line, col } = this.#lines.linePos(Math.min(offset, this.text.length));
    const text = this.text.split('\n')[line - 1] ?? '';
    return {
      file: this.file,
      line,
      column: col,
      length: Math.min(length, Math.max(1, text.length - col + 1)),
      ...lineText(text),
    };
  }

  /** Where `gates.contract.expires` or `allow[0].rule` stands; of what is missing, where it should have been. */
  locate(path: string, aim: Aim = 'value'): Where {
    let node = this.#document.contents as Node | null;
    let range = node?.range ?? null;
    let rest = path;
    while (rest !== '' && node !== null) {
      const step = isMap(node) ? this.#intoMap(node, rest, aim) : isSeq(node) ? intoSequence(node.items, rest) : null;
      if (step === null) break;
      ({ node, rest } = step);
      range = step.range ?? range;
    }
    const found = rest === '' || range !== null ? range : null;
    if (rest !== '') return { ...this.at(found?.[0] ?? 0), path };
    return { ...this.at(found?.[0] ?? 0, (found?.[1] ?? 1) - (found?.[0] ?? 0)), path };
  }

  /** Maps line and column (from 1) of the text under `key` to the file. Null: no such text, or it cannot be laid side by side. */
  insideOf(key: string): ((offset: number, length: number) => Where) | null {
    const node = this.#document.get(key, true);
    if (!isScalar(node) || typeof node.value !== 'string') return null;
    const offsets = alignScalar(node.value, this.text, scalarStart(node, this.text), node.range?.[1] ?? 0);
    if (offsets === null) return () => this.at(node.range?.[0] ?? 0);
    return (offset, length) => this.at(offsets[Math.min(offset, offsets.length - 1)] ?? 0, length);
  }

  /** Keys may hold dots (`payment.amount` under transforms): the longest key that fits is taken. */
  #intoMap(
    node: Parameters<typeof isMap>[0] & { readonly items: readonly unknown[] },
    rest: string,
    aim: Aim,
  ): Step | null {
    const pairs = node.items as readonly { readonly key: unknown; readonly value: unknown }[];
    const fitting = pairs
      .map((pair) => ({ pair, key: isScalar(pair.key) ? String(pair.key.value) : '' }))
      .filter(({ key }) => key !== '' && (rest === key || rest.startsWith(`${key}.`) || rest.startsWith(`${key}[`)))
      .sort((a, b) => b.key.length - a.key.length)[0];
    if (fitting === undefined) return null;
    const left = rest.slice(fitting.key.length).replace(/^\./, '');
    const value = (fitting.pair.value ?? null) as Node | null;
    const shown = left === '' && (aim === 'key' || value === null) ? (fitting.pair.key as Node) : value;
    return { node: value, rest: left, range: shown?.range ?? null };
  }
}

/** The line for the excerpt, when nothing in it may be a secret. */
export const lineText = (text: string): { readonly text?: string } => (echoable(text) ? { text } : {});

interface Step {
  readonly node: Node | null;
  readonly rest: string;
  readonly range: Node['range'];
}

function intoSequence(items: readonly unknown[], rest: string): Step | null {
  const match = /^(?:\[(\d+)\]|(\d+)(?=\.|$))\.?(.*)$/s.exec(rest);
  if (match === null) return null;
  const node = (items[Number(match[1] ?? match[2])] ?? null) as Node | null;
  return node === null ? null : { node, rest: match[3] ?? '', range: node.range };
}

/** The parser's own sentence, without positions (ours are shown), without what it quotes from the text and without advice to programmers. */
const saidPlainly = ({ code, message }: { readonly code: string; readonly message: string }): string =>
  code === 'MULTIPLE_DOCS'
    ? 'a plan is one document: a second one begins here'
    : (message.split('\n')[0] ?? message).replace(/ at line \d+.*$/, '').replace(/:\s.*:\/\/.*$/, '');
