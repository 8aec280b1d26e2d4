/**
 * Which changes of the catalogue a plan asked for. SchemaPlan.asked has one line for each object:
 *
 *     + index public.rental_return_date_idx          made          - column public.customer.fax           dropped
 *     + constraint payment_check on public.payment                 + function public.total (or with its argument types)
 *     ~ column public.payment.amount: numeric(10,2) -> numeric(14,4)       another type
 *     ~ column public.payment.note: set_default      one aspect    ~ table public.payment: set_options
 *     ~ column public.payment.note: grant            ~ table public.payment: comment     ~ type public.mood: add_value
 *
 * A name without a schema means any schema. Kinds are for people, but column, constraint, trigger, policy, rule (`name on schema.table`) and function are told apart. What a line covers:
 * - `+`, `-` on an object: its own rows and everything that Postgres calls its part (deptype a, i, P, S): default, row type, sequence, internal
 *   triggers, a key's index, rows about it (dependencies, comment, privileges).
 * - `+ column` covers no index, constraint (but its NOT NULL), trigger, policy or statistics: one that a plan leaves behind is not asked for.
 *   Each of these that is asked for has its own line. `+ constraint` of a primary key covers NOT NULL of its columns.
 * - `~ column: A -> B`: only what a type decides, in the column and in whatever leans on it. A lost comment, grant or option is never covered.
 * - `~ rename old -> new`: see renames.ts; and the text of whatever leans on it.
 * - `~ privileges: STATEMENT`, `~ comments: STATEMENT`: grants, or comments, on whatever is named in the statement.
 * - `~ column: aspect`, `~ table: aspect`: that aspect (words in ASPECTS); an unknown word covers the object's own rows.
 */
import { container, plain } from './changes';
import type { Change, Kinship } from './changes';

export interface Asked {
  readonly line: string;
  readonly sign: '+' | '-' | '~';
  readonly kind: string;
  /** As pg_identify_object has it, without quotes. */
  readonly name: string;
  readonly aspect: string | null;
  /** Of a column: its table, without quotes. */
  readonly table: string | null;
}

const LINE = /^([+~-]) (schema|foreign table|materialized view|event trigger|[\w-]+) (.+?)(?:: (.*))?$/s;

/** null for a line that is not in this language: it covers nothing. */
export function parseAsked(line: string): Asked | null {
  const sweep = /^~ (privileges|comments): (.*)$/s.exec(line);
  if (sweep) return { line, sign: '~', kind: sweep[1] ?? '', name: sweep[2] ?? '', aspect: null, table: null };
  const match = LINE.exec(line);
  if (!match) return null;
  const [, sign, kind = '', name = '', aspect] = match;
  return {
    line,
    sign: sign as Asked['sign'],
    kind,
    name: plain(name),
    aspect: aspect ?? null,
    table: plain(container(name) ?? '') || null,
  };
}

/** What a type decides, by catalogue. A definition in text counts only where it is an expression. */
const OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  pg_attribute: [
    'atttypid',
    'atttypmod',
    'attlen',
    'attbyval',
    'attalign',
    'attstorage',
    'attcollation',
    'attndims',
    'attcompression',
  ],
  pg_attrdef: ['adbin'],
  pg_index: ['indclass', 'indcollation', 'indexprs'],
  pg_constraint: ['conpfeqop', 'conppeqop', 'conffeqop', 'conexclop', 'conbin'],
  pg_rewrite: ['ev_action'],
  pg_policy: ['polqual', 'polwithcheck'],
  pg_trigger: ['tgqual'],
  pg_statistic_ext: ['stxexprs'],
  pg_proc: ['prosqlbody'],
  pg_partitioned_table: ['partclass', 'partcollation', 'partexprs'],
  pg_publication_rel: ['prqual'],
};

/** `fields` of the object's own row, and whole rows of `catalogs` about it. First match of the aspect's words. */
const ASPECTS: readonly (readonly [word: RegExp, fields: readonly string[], catalogs: readonly string[]])[] = [
  [/default/i, ['atthasdef', 'typdefault', 'typdefaultbin'], ['pg_attrdef']],
  [/not[ _]null/i, ['attnotnull', 'typnotnull'], ['pg_constraint']],
  [/statistics/i, ['attstattarget', 'stxstattarget'], []],
  [/storage/i, ['attstorage'], []],
  [/compression/i, ['attcompression'], []],
  [/comment/i, [], ['pg_description']],
  [/grant|revoke|privilege/i, ['relacl', 'attacl', 'proacl', 'nspacl', 'typacl'], ['pg_shdepend', 'pg_init_privs']],
  [
    /identity/i,
    ['attidentity', 'attnotnull', 'relreplident', 'indisreplident'],
    ['pg_sequence', 'pg_class', 'pg_constraint'],
  ],
  [/owner/i, ['relowner', 'typowner', 'proowner', 'nspowner'], ['pg_shdepend']],
  [/option/i, ['attoptions', 'reloptions', 'reltoastrelid', 'attfdwoptions'], []],
  [/row[ _]security/i, ['relrowsecurity', 'relforcerowsecurity'], []],
];

/** What changing a table may change in its parts. */
const OF_PARTS: readonly string[] = [
  'relowner',
  'typowner',
  'relpersistence',
  'indisreplident',
  'indisclustered',
  'tgenabled',
  'ev_enabled',
];
/** Parts of a column that are asked for by lines of their own. */
const OWN_LINE: readonly string[] = [
  'pg_index',
  'pg_trigger',
  'pg_policy',
  'pg_statistic_ext',
  'pg_rewrite',
  'pg_publication_rel',
];

/**
 * Fields of the changed row that this line explains; several lines can share a row.
 */
export function explains(asked: Asked, change: Change, kin: Kinship): readonly string[] {
  if (asked.kind === 'column') return ofColumn(asked, change, kin);
  if (asked.kind === 'privileges' || asked.kind === 'comments') return ofSweep(asked, change);
  if (asked.kind === 'rename') return ofRename(asked, change, kin);
  if (asked.kind === 'constraint' && isInherited(asked, change.subject, kin)) return change.differs;
  if (isNamed(asked, change.subject)) return asked.sign === '~' ? ofAspect(asked, change, kin) : change.differs;
  if (asked.kind === 'constraint' && asked.sign === '+' && isItsNotNull(asked, change, kin)) return change.differs;
  const wholes = kin.wholes(change.subject);
  if (asked.kind === 'schema') return kin.grounds(change.subject).has(asked.name) ? change.differs : NOTHING;
  if (![...wholes].some((whole) => isNamed(asked, whole))) return NOTHING;
  return asked.sign === '~' && asked.kind === 'table' ? only(change, OF_PARTS) : change.differs;
}

const NOTHING: readonly string[] = [];

const only = (change: Change, fields: readonly string[]): readonly string[] =>
  change.before === null || change.after === null ? NOTHING : change.differs.filter((field) => fields.includes(field));

function isNamed({ kind, name }: Asked, subject: string): boolean {
  const it = plain(subject);
  const isFunction = /^(function|procedure|aggregate|routine)$/.test(kind) && !name.includes('(');
  const bare = isFunction ? it.replace(/\(.*$/s, '') : it;
  return (
    bare === name ||
    (!name.includes('.') && bare.includes('.') && bare.endsWith(`.${name}`) && bare.split('.').length === 2)
  );
}

/** A partition's or inheriting table's copy of a CHECK goes by name alone: Postgres records no dependency for it. */
function isInherited({ name }: Asked, subject: string, kin: Kinship): boolean {
  const [, own, table] = /^(.+) on (.+)$/.exec(name) ?? [];
  const [, its, child] = /^(.+) on (.+)$/.exec(plain(subject)) ?? [];
  return own !== undefined && own === its && table !== child && kin.descendants(table ?? '').has(child ?? '');
}

const ACLS: readonly string[] = [
  'relacl',
  'attacl',
  'proacl',
  'nspacl',
  'typacl',
  'lanacl',
  'datacl',
  'srvacl',
  'fdwacl',
  'lomacl',
];
const PRIVILEGES: readonly string[] = ['pg_shdepend', 'pg_init_privs', 'pg_default_acl'];

/** Some word of the statement is a word of the subject: `GRANT ... ON customer` and `public.customer.name`. */
function ofSweep({ kind, name }: Asked, change: Change): readonly string[] {
  const words = new Set(
    plain(name)
      .toLowerCase()
      .match(/[^\s.,();]+/g),
  );
  const isNamed = plain(change.subject)
    .toLowerCase()
    .split(/[\s.,()]+/)
    .some((word) => words.has(word));
  if (!isNamed && change.catalog !== 'pg_default_acl') return NOTHING;
  if (kind === 'comments') return change.catalog === 'pg_description' ? change.differs : NOTHING;
  return PRIVILEGES.includes(change.catalog) ? change.differs : change.differs.filter((field) => ACLS.includes(field));
}

function ofRename({ name }: Asked, change: Change, kin: Kinship): readonly string[] {
  const to = name.split(' -> ')[1] ?? '';
  const leans = kin.grounds(change.subject).has(to);
  return leans ? only(change, [...NAMING, ...Object.values(OF_TYPE).flat()]) : NOTHING;
}

/** Fields that hold names of columns or the thing's own. */
const NAMING: readonly string[] = [
  'relname',
  'typname',
  'conname',
  'tgname',
  'polname',
  'rulename',
  'stxname',
  'conkey',
  'confkey',
  'indkey',
  'adnum',
  'tgattr',
  'stxkeys',
  'prattrs',
  'partattrs',
  'confdelsetcols',
];

function ofAspect({ aspect }: Asked, change: Change, kin: Kinship): readonly string[] {
  const known = aspect === null ? undefined : ASPECTS.find(([word]) => word.test(aspect));
  if (!known) return change.differs;
  const [, fields, catalogs] = known;
  if (catalogs.includes(change.catalog)) return change.differs;
  // What a default or a NOT NULL depends on comes and goes with it.
  const follows =
    change.catalog === 'pg_depend' && kin.rows(change.subject).some((row) => catalogs.includes(row.catalog));
  return follows ? change.differs : only(change, fields);
}

function ofColumn(asked: Asked, change: Change, kin: Kinship): readonly string[] {
  const columns = columnsOf(asked, kin);
  const { subject } = change;
  if (asked.sign === '~' && asked.aspect !== null && / -> /.test(asked.aspect)) {
    if (!reaches(kin.grounds(subject), columns)) return NOTHING;
    return change.catalog === 'pg_depend' ? change.differs : ofType(change);
  }
  const it = plain(subject);
  const own = columns.has(it) || columns.has(it.replace(/^for /, '')) || isNotNullOf(change, columns);
  const part = (at: string) => !kin.rows(at).some((row) => isOwnLine(row.catalog, row.fields));
  const belongs =
    asked.sign === '-'
      ? reaches(kin.wholes(subject), columns)
      : part(subject) && reaches(kin.wholes(subject, part), columns);
  if (!own && !belongs) return NOTHING;
  // The sequence behind an identity comes and goes with it, whole.
  if (!own && /^(add|set)_identity$/.test(asked.aspect ?? '')) return change.differs;
  return asked.sign === '~' ? ofAspect(asked, change, kin) : change.differs;
}

const isOwnLine = (catalog: string, fields: Readonly<Record<string, unknown>>): boolean =>
  OWN_LINE.includes(catalog) || (catalog === 'pg_constraint' && fields.contype !== 'n');

function ofType(change: Change): readonly string[] {
  const fields = only(change, OF_TYPE[change.catalog] ?? []);
  // An index's text without any expression names only columns, operator classes and options: none of them may differ.
  const isExpression =
    /::|\bWHERE\b/.test(String(change.after?.indexprs ?? '')) || String(change.after?.indkey).split(',').includes('0');
  return isExpression ? fields : fields.filter((field) => field !== 'indexprs');
}

/** The column, and the same column in partitions and inheriting tables. */
function columnsOf({ name, table }: Asked, kin: Kinship): Set<string> {
  if (table === null) return new Set([name]);
  const own = name.slice(table.length + 1);
  return new Set([...kin.descendants(table)].map((child) => `${child}.${own}`));
}

const reaches = (subjects: ReadonlySet<string>, names: ReadonlySet<string>): boolean =>
  [...subjects].some((subject) => names.has(subject));

/** 18 keeps NOT NULL as a constraint, named by Postgres. */
function isNotNullOf(change: Change, columns: ReadonlySet<string>): boolean {
  const row = change.after ?? change.before;
  if (change.catalog === 'pg_constraint') {
    return (
      row?.contype === 'n' &&
      Array.isArray(row.conkey) &&
      row.conkey.some((c) => columns.has(plain(`${String(row.conrelid)}.${String(c)}`)))
    );
  }
  return false;
}

/** A primary key makes its columns NOT NULL. */
function isItsNotNull(asked: Asked, change: Change, kin: Kinship): boolean {
  // Two rows where a key was exchanged under its name.
  const keys = kin.rows(asked.name).filter((row) => row.fields.contype === 'p');
  const columns = new Set(
    keys.flatMap(({ fields }) =>
      (fields.conkey as unknown[]).map((c) => plain(`${String(fields.conrelid)}.${String(c)}`)),
    ),
  );
  if (change.catalog === 'pg_attribute')
    return change.differs.join() === 'attnotnull' && columns.has(plain(change.subject));
  if (isNotNullOf(change, columns)) return true;
  const rows = kin.rows(change.subject).filter((row) => row.catalog === 'pg_constraint');
  return rows.some(({ catalog, fields }) => isNotNullOf({ ...change, catalog, after: fields }, columns));
}
