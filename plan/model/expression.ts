/**
 * The expressions of conditions (`value > 0.05 or value > 2 * baseline`): parsed by hand into a tree, never evaluated as code. Truth has three
 * values: what is null, NaN, infinite or not measured makes an answer `null` (inconclusive), and unknown is never a pass.
 */
import { Problem } from './errors';

export const NAMES = ['value', 'baseline', 'blue', 'green'] as const;
export type Name = (typeof NAMES)[number];
export type Readings = Readonly<Partial<Record<Name, number | null>>>;

type Arithmetic = '+' | '-' | '*' | '/';
type Comparison = '<' | '<=' | '>' | '>=' | '==' | '!=';
type Node =
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'name'; readonly name: Name }
  | { readonly kind: 'negate' | 'not'; readonly of: Node }
  | { readonly kind: 'arithmetic'; readonly op: Arithmetic; readonly left: Node; readonly right: Node }
  | { readonly kind: 'compare'; readonly op: Comparison; readonly left: Node; readonly right: Node }
  | { readonly kind: 'and' | 'or'; readonly left: Node; readonly right: Node };

export interface Expression {
  readonly text: string;
  readonly names: readonly Name[];
  readonly tree: Node;
}

const TOKEN = /\s*(?:(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+)|([A-Za-z_]\w*)|(<=|>=|==|!=|[-+*/()<>]))/y;
const DEPTH = 50;

/** Is it a number or a truth? Checked while parsing, so that evaluation cannot meet a wrong one. */
const isTruth = (node: Node): boolean => ['compare', 'and', 'or', 'not'].includes(node.kind);

class Parser {
  private readonly tokens: string[] = [];
  private at = 0;
  private depth = 0;
  readonly names = new Set<Name>();

  constructor(
    private readonly text: string,
    private readonly path: string,
  ) {
    TOKEN.lastIndex = 0;
    const end = text.trimEnd().length;
    while (TOKEN.lastIndex < end) {
      const from = TOKEN.lastIndex;
      const match = TOKEN.exec(text);
      if (!match) throw this.wrong(`unexpected text at position ${from + 1}`);
      this.tokens.push(match[0].trim());
    }
    if (this.tokens.length > 500) throw this.wrong('too long');
  }

  wrong(what: string): Problem {
    return new Problem('InvalidPlan', `${this.path}: ${what}`, {
      where: { path: this.path },
      hint: 'numbers, value, baseline, + - * /, < <= > >= == !=, and or not ( )',
    });
  }

  parse(): Node {
    const node = this.or();
    if (this.at < this.tokens.length) throw this.wrong(`unexpected ${this.tokens[this.at] ?? 'end'}`);
    if (!isTruth(node)) throw this.wrong('is a number, not a condition');
    return node;
  }

  private take(...wanted: string[]): string | null {
    const token = this.tokens[this.at];
    if (token === undefined || !wanted.includes(token)) return null;
    this.at += 1;
    return token;
  }

  private truth(node: Node): Node {
    if (!isTruth(node)) throw this.wrong('and, or, not join conditions, not numbers');
    return node;
  }

  private number(node: Node): Node {
    if (isTruth(node)) throw this.wrong('a condition is used as a number');
    return node;
  }

  private or(): Node {
    let left = this.and();
    while (this.take('or')) left = { kind: 'or', left: this.truth(left), right: this.truth(this.and()) };
    return left;
  }

  private and(): Node {
    let left = this.not();
    while (this.take('and')) left = { kind: 'and', left: this.truth(left), right: this.truth(this.not()) };
    return left;
  }

  private not(): Node {
    if (!this.take('not')) return this.comparison();
    this.enter();
    const of = this.truth(this.not());
    this.depth -= 1;
    return { kind: 'not', of };
  }

  private comparison(): Node {
    const left = this.sum();
    const op = this.take('<', '<=', '>', '>=', '==', '!=') as Comparison | null;
    if (!op) return left;
    return { kind: 'compare', op, left: this.number(left), right: this.number(this.sum()) };
  }

  private sum(): Node {
    let left = this.product();
    for (let op = this.take('+', '-'); op; op = this.take('+', '-'))
      left = { kind: 'arithmetic', op: op as Arithmetic, left: this.number(left), right: this.number(this.product()) };
    return left;
  }

  private product(): Node {
    let left = this.unary();
    for (let op = this.take('*', '/'); op; op = this.take('*', '/'))
      left = { kind: 'arithmetic', op: op as Arithmetic, left: this.number(left), right: this.number(this.unary()) };
    return left;
  }

  private unary(): Node {
    this.enter();
    try {
      if (this.take('-')) return { kind: 'negate', of: this.number(this.unary()) };
      if (this.take('(')) {
        const inner = this.or();
        if (!this.take(')')) throw this.wrong('a bracket is not closed');
        return inner;
      }
      return this.atom();
    } finally {
      this.depth -= 1;
    }
  }

  private atom(): Node {
    const token = this.tokens[this.at];
    if (token === undefined) throw this.wrong('ends too early');
    this.at += 1;
    if (/^[\d.]/.test(token)) return { kind: 'number', value: Number(token) };
    const name = NAMES.find((n) => n === token);
    if (!name) throw this.wrong(/^\w+$/.test(token) ? `unknown name ${token}` : `unexpected ${token}`);
    this.names.add(name);
    return { kind: 'name', name };
  }

  /** Bounded, so that a hostile plan cannot exhaust the stack of a workflow. */
  private enter(): void {
    this.depth += 1;
    if (this.depth > DEPTH) throw this.wrong('nested too deeply');
  }
}

/** @param path where it stands in the plan, for the message. @throws Problem InvalidPlan. */
export function parseExpression(text: string, path = 'expression'): Expression {
  const parser = new Parser(text, path);
  const tree = parser.parse();
  return { text, tree, names: [...parser.names] };
}

function amount(node: Node, readings: Readings): number | null {
  switch (node.kind) {
    case 'number':
      return node.value;
    case 'name':
      return finite(readings[node.name] ?? null);
    case 'negate': {
      const of = amount(node.of, readings);
      return of === null ? null : -of;
    }
    case 'arithmetic': {
      const left = amount(node.left, readings);
      const right = amount(node.right, readings);
      return left === null || right === null ? null : finite(compute(node.op, left, right));
    }
    default:
      return null;
  }
}

const finite = (n: number | null): number | null => (n !== null && Number.isFinite(n) ? n : null);

function compute(op: Arithmetic, left: number, right: number): number {
  if (op === '+') return left + right;
  if (op === '-') return left - right;
  return op === '*' ? left * right : left / right;
}

function compare(op: Comparison, left: number, right: number): boolean {
  switch (op) {
    case '<':
      return left < right;
    case '<=':
      return left <= right;
    case '>':
      return left > right;
    case '>=':
      return left >= right;
    case '==':
      return left === right;
    case '!=':
      return left !== right;
  }
}

/** true, false, or null = inconclusive (Kleene's logic: `true or unknown` is true, `false and unknown` is false). */
function truth(node: Node, readings: Readings): boolean | null {
  switch (node.kind) {
    case 'compare': {
      const left = amount(node.left, readings);
      const right = amount(node.right, readings);
      return left === null || right === null ? null : compare(node.op, left, right);
    }
    case 'not': {
      const of = truth(node.of, readings);
      return of === null ? null : !of;
    }
    case 'and':
    case 'or': {
      const decides = node.kind === 'or';
      const left = truth(node.left, readings);
      const right = truth(node.right, readings);
      if (left === decides || right === decides) return decides;
      return left === null || right === null ? null : !decides;
    }
    default:
      return null;
  }
}

export const evaluate = (expression: Expression, readings: Readings): boolean | null =>
  truth(expression.tree, readings);
