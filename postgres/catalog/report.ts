/**
 * What a run did to the catalogue, for the report: what the plan asked for and was seen, what else differs (nothing, in a good run), and
 * what was asked for and is not there. The language of `asked` is described in asked.ts.
 */
import { explains, parseAsked } from './asked';
import { changesBetween, Kinship, plain } from './changes';
import type { Change, Fields } from './changes';
import { renamed, renamesIn } from './renames';

export interface CatalogReport {
  /** Lines of the plan that explain at least one difference, in the plan's order. */
  readonly asked: readonly string[];
  /** Differences that no line explains, one line for each object. */
  readonly other: readonly string[];
  /** Lines of the plan that explain no difference: what they ask for was there before, or is not there now. */
  readonly missing: readonly string[];
}

/** `before` and `after` are answers of fingerprintCatalog(), `asked` is SchemaPlan.asked. Pure. */
export function catalogDiffLines(
  before: readonly string[],
  after: readonly string[],
  asked: readonly string[] = [],
): CatalogReport {
  const renames = renamesIn(asked);
  const was = renamed(before, renames);
  const changes = changesBetween(was, after);
  const has = (lines: readonly string[], name: string): boolean => lines.some((line) => line.includes(` ${name} {`));
  // Something else may have the old name by now.
  const done = renames.filter(
    ({ from, to }) => has(before, from) && (!has(after, from) || (!has(before, to) && has(after, to))),
  );
  if (changes.length === 0 && done.length === 0) return { asked: [], other: [], missing: [...asked] };
  const kin = new Kinship(was, after);
  const wanted = [...new Set(asked)].map((line) => ({ line, parsed: parseAsked(line) }));
  const seen = new Set(done.map(({ from, to }) => `~ rename ${from} -> ${to}`));
  const left = changes.flatMap((change) => {
    const explained = new Set<string>();
    for (const { line, parsed } of wanted) {
      const fields = parsed === null ? [] : explains(parsed, change, kin);
      if (fields.length > 0) seen.add(line);
      for (const field of fields) explained.add(field);
    }
    const differs = change.differs.filter((field) => !explained.has(field));
    return differs.length > 0 ? [{ ...change, differs }] : [];
  });
  return {
    asked: wanted.filter(({ line }) => seen.has(line)).map(({ line }) => line),
    other: describe(left, kin),
    missing: wanted.filter(({ line }) => !seen.has(line)).map(({ line }) => line),
  };
}

const KINDS: Readonly<Record<string, string>> = {
  pg_attribute: 'column',
  pg_attrdef: 'default',
  pg_constraint: 'constraint',
  pg_description: 'comment on',
  pg_depend: 'dependency',
  pg_shdepend: 'privilege or owner of',
  pg_enum: 'label',
  pg_index: 'index',
  pg_inherits: 'inheritance of',
  pg_namespace: 'schema',
  pg_policy: 'policy',
  pg_proc: 'function',
  pg_publication: 'publication',
  pg_publication_rel: 'publication of',
  pg_rewrite: 'rule',
  pg_sequence: 'sequence',
  pg_statistic_ext: 'statistics',
  pg_subscription: 'subscription',
  pg_trigger: 'trigger',
  pg_type: 'type',
};

const RELATIONS: Readonly<Record<string, string>> = {
  r: 'table',
  p: 'table',
  i: 'index',
  I: 'index',
  v: 'view',
  m: 'materialized view',
  S: 'sequence',
  c: 'type',
  f: 'foreign table',
};

/** Of several rows about one new or gone object the first of these tells it best. */
const BEST: readonly string[] = ['pg_class', 'pg_attribute', 'pg_constraint', 'pg_trigger', 'pg_proc', 'pg_type'];

function describe(changes: readonly Change[], kin: Kinship): string[] {
  // What is new or gone tells of its parts too.
  const whole = new Set(changes.filter(isWhole).map((change) => plain(change.subject)));
  const told = changes.filter((change) => {
    const wholes = [...kin.wholes(change.subject)].filter((subject) => subject !== plain(change.subject));
    return !wholes.some((subject) => whole.has(subject)) && (isWhole(change) || !whole.has(plain(change.subject)));
  });
  const rank = ({ catalog }: Change) => (BEST.includes(catalog) ? BEST.indexOf(catalog) : BEST.length);
  const lines = new Map<string, string>();
  for (const change of [...told].sort((a, b) => rank(a) - rank(b))) {
    const key = isWhole(change) ? change.subject : `${change.catalog} ${change.subject} ${change.target ?? ''}`;
    if (!lines.has(key)) lines.set(key, sentence(change));
  }
  return [...lines.values()].sort((a, b) => (a.slice(2) < b.slice(2) ? -1 : 1));
}

/** The row is the thing, and the thing is new or gone. */
const isWhole = (change: Change): boolean =>
  (change.before === null || change.after === null) &&
  !['pg_depend', 'pg_shdepend', 'pg_description', 'pg_seclabel', 'pg_init_privs'].includes(change.catalog);

function sentence(change: Change): string {
  const { catalog, subject, target, before, after } = change;
  const sign = before === null ? '+' : after === null ? '-' : '~';
  const kind = catalog === 'pg_class' ? RELATIONS[String((after ?? before)?.relkind)] : KINDS[catalog];
  const name = `${sign} ${kind ?? catalog} ${subject.replace(/^for /, 'of ')}${target === null ? '' : ` -> ${target}`}`;
  if (before === null || after === null) return name;
  return `${name}: ${change.differs.map((field) => difference(field, before, after)).join(', ')}`;
}

/** Text that may quote data (a default, a predicate, a comment): that it differs is said, not how. Reports lie in histories. */
const TEXTS: readonly string[] = [
  'adbin',
  'conbin',
  'description',
  'ev_action',
  'indexprs',
  'polqual',
  'polwithcheck',
  'proargdefaults',
  'prosqlbody',
  'prosrc',
  'prqual',
  'relpartbound',
  'stxexprs',
  'tgargs',
  'tgqual',
  'typdefault',
  'typdefaultbin',
];
const MOST = 160;

function difference(field: string, before: Fields, after: Fields): string {
  if (TEXTS.includes(field)) return `${field} differs`;
  const shown = (value: unknown): string => {
    const text = value === undefined ? 'nothing' : typeof value === 'string' ? value : JSON.stringify(value);
    return text.length > MOST ? `${text.slice(0, MOST)}...` : text;
  };
  return `${field} ${shown(before[field])} -> ${shown(after[field])}`;
}
