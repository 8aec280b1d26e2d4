/**
 * Two fingerprints of a catalogue as changes: rows paired by what they are about, and who is a part of whom. What goes with what is
 * Postgres' own word (pg_depend), read from the fingerprints themselves: no connection is needed.
 */
import { diffCatalog } from './diff';

export type Fields = Readonly<Record<string, unknown>>;

/** One row of one catalogue that differs. `before` is null when it is new, `after` when it is gone. */
export interface Change {
  readonly catalog: string;
  /** What the row is about, as pg_identify_object names it: `public.payment.amount`, `amount_sane on public.payment`. */
  readonly subject: string;
  /** What the subject depends on, for dependencies. */
  readonly target: string | null;
  readonly before: Fields | null;
  readonly after: Fields | null;
  /** Names of the columns of the row that differ; all of them when the row is new or gone. */
  readonly differs: readonly string[];
}

interface Line {
  readonly catalog: string;
  readonly subject: string;
  readonly target: string | null;
  readonly fields: Fields;
}

const LINE = /^(\w+) (.+?)(?: -> (.+?))? (\{(?:"|\}).*)$/s;
const BUILT_IN = /^(\w+) (\(built in\)) (.*)$/;

export function parseLine(line: string): Line {
  const match = LINE.exec(line);
  if (match) {
    const [, catalog = '', subject = '', target, json = '{}'] = match;
    return { catalog, subject, target: target ?? null, fields: JSON.parse(json) as Fields };
  }
  const [, catalog = '', subject = '', rows = line] = BUILT_IN.exec(line) ?? [];
  return { catalog, subject, target: null, fields: { rows } };
}

export function changesBetween(before: readonly string[], after: readonly string[]): Change[] {
  const { added, removed } = diffCatalog(before, after);
  const gone = new Map<string, Line[]>();
  const keyOf = (line: Line) => `${line.catalog} ${line.subject} -> ${line.target ?? ''}`;
  for (const text of removed) {
    const line = parseLine(text);
    gone.set(keyOf(line), [...(gone.get(keyOf(line)) ?? []), line]);
  }
  const changes = added.map((text) => {
    const line = parseLine(text);
    return change(line, gone.get(keyOf(line))?.shift()?.fields ?? null, line.fields);
  });
  for (const left of gone.values()) for (const line of left) changes.push(change(line, line.fields, null));
  return changes;
}

function change({ catalog, subject, target }: Line, before: Fields | null, after: Fields | null): Change {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  const differs = names.filter((name) => JSON.stringify(before?.[name]) !== JSON.stringify(after?.[name]));
  return { catalog, subject, target, before, after, differs };
}

/** `public.payment` of `public.payment.amount`; null when there is nothing around it. */
export function container(subject: string): string | null {
  const match = /^((?:"(?:[^"]|"")*"|[^".\s()]+)\..+)\.(?:"(?:[^"]|"")*"|[^".]+)$/.exec(subject);
  return match?.[1] ?? null;
}

/** Names as they are compared: without quotes, without pg_catalog (its types are written both ways), without spaces between arguments. */
export const plain = (name: string): string =>
  name.replaceAll('"', '').replaceAll('pg_catalog.', '').replaceAll(', ', ',');

/** Goes with it when it is dropped: automatic, internal, and parts of partitioned things. */
const PART: readonly unknown[] = ['a', 'i', 'P', 'S'];
/** Rows about a thing that are not the thing itself. */
const ABOUT: readonly string[] = ['pg_depend', 'pg_shdepend', 'pg_description', 'pg_seclabel', 'pg_init_privs'];

/** Who is a part of whom, and who leans on whom, before or after. Takes and gives names without quotes. */
export class Kinship {
  readonly #parts = new Map<string, Set<string>>();
  readonly #leans = new Map<string, Set<string>>();
  readonly #children = new Map<string, Set<string>>();
  readonly #rows = new Map<string, { readonly catalog: string; readonly fields: Fields }[]>();

  constructor(...fingerprints: readonly (readonly string[])[]) {
    for (const line of new Set(fingerprints.flat())) this.#take(parseLine(line));
  }

  #take({ catalog, subject, target, fields }: Line): void {
    if (catalog === 'pg_depend' && target !== null) {
      add(this.#leans, subject, target);
      if (PART.includes(fields.deptype)) add(this.#parts, subject, target);
    }
    const around = catalog === 'pg_attribute' || catalog === 'pg_enum' ? container(subject) : null;
    if (around !== null) {
      add(this.#parts, subject, around);
      add(this.#leans, subject, around);
    }
    // A view is what its rule says.
    if (catalog === 'pg_rewrite' && typeof fields.ev_class === 'string') add(this.#leans, fields.ev_class, subject);
    if (catalog === 'pg_inherits' && typeof fields.inhparent === 'string')
      add(this.#children, fields.inhparent, subject);
    if (ABOUT.includes(catalog)) return;
    const rows = this.#rows.get(plain(subject));
    if (rows) rows.push({ catalog, fields });
    else this.#rows.set(plain(subject), [{ catalog, fields }]);
  }

  /** Rows that are the subject itself, in whatever catalogue. */
  rows(subject: string): readonly { readonly catalog: string; readonly fields: Fields }[] {
    return this.#rows.get(plain(subject)) ?? [];
  }

  /** What it is a part of, itself included. `through` says whether to go on from a thing to what that is a part of. */
  wholes(subject: string, through: (subject: string) => boolean = () => true): Set<string> {
    return reach(subject, (at) => (at === plain(subject) || through(at) ? this.#parts.get(at) : undefined));
  }

  /** What it leans on, itself included. */
  grounds(subject: string): Set<string> {
    return reach(subject, (at) => this.#leans.get(at));
  }

  /** Partitions and inheriting tables, all the way down, itself included. */
  descendants(table: string): Set<string> {
    return reach(table, (at) => this.#children.get(at));
  }
}

function add(edges: Map<string, Set<string>>, from: string, to: string): void {
  const set = edges.get(plain(from));
  if (set) set.add(plain(to));
  else edges.set(plain(from), new Set([plain(to)]));
}

function reach(start: string, next: (at: string) => ReadonlySet<string> | undefined): Set<string> {
  const seen = new Set([plain(start)]);
  const todo = [plain(start)];
  for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
    for (const to of next(at) ?? []) {
      if (seen.has(to)) continue;
      seen.add(to);
      todo.push(to);
    }
  }
  return seen;
}
