/**
 * What keeps the two columns in step. Keeps true: before the swap the visible column is the master and a write that the new shape refuses
 * still succeeds (its shadow stays NULL, the proof finds it); after the swap the same holds the other way round. Functions pin what
 * decides their result; WHEN spares the call for every write that does not touch the column, backfill included.
 */
import { ident, literal } from '../../model/quote';
import { digestName, quotedTable } from './change';
import { valueOver } from './formula';
import type { Trigger } from '../../model/catalog';
import type { Change } from './change';
import type { Formula } from './formula';

const same = (column: string): string => column;

/** Forward: columns as they are called now. */
export const upOver = (change: Change, row: string): string => valueOver(change.ctx, change.transforms.up, row, same);
/** After the swap the old shape's column is called otherwise; the others have not moved. */
export const upAfterSwap = (change: Change, row: string): string =>
  valueOver(change.ctx, change.transforms.up, row, (c) => (c === change.column.name ? change.old : c));
export const downOver = (change: Change, down: Formula, row: string): string => valueOver(change.ctx, down, row, same);

/** Image comparison tells everything apart, also what `=` calls equal, and works for types without `=`. */
export const imagesDiffer = (a: string, b: string): string => `pg_catalog.record_image_ne(ROW(${a}), ROW(${b}))`;

/** Does a value differ after the way there and back? 1.5 and 1.50 are the same number; elsewhere the image decides. */
export const valuesDiffer = (change: Change, a: string, b: string): string =>
  change.to.name === 'numeric' && !change.to.array ? `(${a}) IS DISTINCT FROM (${b})` : imagesDiffer(a, b);

const searchPath = (change: Change): string =>
  ['pg_catalog', ...change.ctx.plan.searchPath.filter((s) => s !== 'pg_catalog').map(ident), 'pg_temp'].join(', ');

/** SET clauses cost a microsecond or two a call: only where the result depends on them. */
function setClauses(change: Change, formulas: readonly Formula[]): string {
  const path = formulas.some((f) => f.bareNames) ? [` SET search_path = ${searchPath(change)}`] : [];
  const pinned = formulas.some((f) => f.stable)
    ? Object.entries(change.pinned).map(([name, value]) => ` SET ${name} = ${literal(value).trimStart()}`)
    : [];
  return [...path, ...pinned].join('');
}

/** The same for batches and proofs, as SET LOCAL. */
export function runSettings(change: Change): Readonly<Record<string, string>> | undefined {
  const formulas = [change.transforms.up, ...(change.transforms.down ? [change.transforms.down] : [])];
  const settings: Record<string, string> = {
    ...(formulas.some((f) => f.bareNames) ? { search_path: searchPath(change) } : {}),
    ...(formulas.some((f) => f.stable) ? change.pinned : {}),
    // Rows that a policy hides from us would be left out in silence: an error is better.
    ...(change.table.rowSecurity ? { row_security: 'off' } : {}),
  };
  return Object.keys(settings).length > 0 ? settings : undefined;
}

const quote = (body: string): string => {
  let tag = '$pgshift$';
  for (let n = 1; body.includes(tag); n += 1) tag = `$pgshift${n}$`;
  return `${tag}${body}${tag}`;
};

const createFunction = (name: string, sets: string, body: string): string =>
  `CREATE OR REPLACE FUNCTION pgshift.${ident(name)}() RETURNS trigger LANGUAGE plpgsql${sets} AS ${quote(body)}`;

/**
 * Sorts after every BEFORE trigger of the user's, bytewise as Postgres sorts: theirs may still change the column. Throws Refused when no
 * name would.
 */
function triggerPrefix(change: Change): string {
  const theirs = change.table.triggers
    .filter((t) => t.timing === 'before' && t.row)
    .map((t) => Buffer.from(t.name, 'utf8'));
  const candidates = ['zzzz_pgshift_', '~~~~_pgshift_', '\u{10FFFD}_pgshift_'];
  const found = candidates.find((name) => theirs.every((t) => Buffer.compare(t, Buffer.from(name, 'utf8')) < 0));
  if (found !== undefined) return found;
  throw change.ctx.problem(
    'Refused',
    `${change.label}: a BEFORE trigger of the table sorts after every name that pgshift could use`,
    {
      hint: 'rename that trigger',
    },
  );
}

interface Synced {
  readonly functionName: string;
  readonly triggers: readonly string[];
  readonly create: readonly string[];
  readonly drop: readonly string[];
}

function triggerStatements(
  change: Change,
  kind: 'sync' | 'back',
  definition: string,
  triggers: readonly { readonly suffix: string; readonly events: string; readonly when: string | null }[],
): Synced {
  const functionName = digestName(change, kind);
  const prefix = triggerPrefix(change);
  const table = quotedTable(change);
  const names = triggers.map((t) => `${prefix}${functionName}${t.suffix}`);
  return {
    functionName,
    triggers: names,
    create: [
      definition,
      ...triggers.flatMap((t, i) => {
        const name = ident(names[i] ?? '');
        const when = t.when === null ? '' : ` WHEN (${t.when})`;
        return [
          `CREATE TRIGGER ${name} BEFORE ${t.events} ON ${table} FOR EACH ROW${when} EXECUTE FUNCTION pgshift.${ident(functionName)}()`,
          // Replication and batches run as `replica`: ordinary triggers sleep there, this one must not.
          `ALTER TABLE ${table} ENABLE ALWAYS TRIGGER ${name}`,
        ];
      }),
    ],
    drop: [
      ...names.map((name) => `DROP TRIGGER IF EXISTS ${ident(name)} ON ${table}`),
      `DROP FUNCTION IF EXISTS pgshift.${ident(functionName)}()`,
    ],
  };
}

const changed = (columns: readonly string[]): string => {
  const row = (alias: string): string => `ROW(${columns.map((c) => `${alias}.${ident(c)}`).join(', ')})`;
  return `pg_catalog.record_image_ne(${row('OLD')}, ${row('NEW')})`;
};

/** Old -> shadow. */
export function forwardSync(change: Change): Synced {
  const { up } = change.transforms;
  const shadow = `NEW.${ident(change.shadow)}`;
  const value = upOver(change, 'NEW');
  const assign = `${shadow} := ${value};`;
  const body = up.fallible
    ? `BEGIN BEGIN ${assign} EXCEPTION WHEN OTHERS THEN ${shadow} := NULL; END; RETURN NEW; END`
    : `BEGIN ${assign} RETURN NEW; END`;
  const definition = createFunction(digestName(change, 'sync'), setClauses(change, [up]), body);
  // An expression that can neither fail nor depend on settings is compared in WHEN, whose names are bound now: the batches, which bring
  // the right value, never call the function.
  if (!up.fallible && !up.stable)
    return triggerStatements(change, 'sync', definition, [
      { suffix: '', events: 'INSERT OR UPDATE', when: imagesDiffer(shadow, value) },
    ]);
  const columns = [...new Set([change.column.name, ...up.columns])];
  return triggerStatements(change, 'sync', definition, [
    { suffix: '_i', events: 'INSERT', when: null },
    { suffix: '_u', events: 'UPDATE', when: `${changed(columns)} OR ${shadow} IS NULL` },
  ]);
}

/**
 * New -> old, after the swap. An update that leaves the new value alone leaves the old one alone too, so that '007' is still '007' after
 * a way back. `strict` refuses what does not fit: only while a change is being taken back.
 */
export function reverseSync(change: Change, down: Formula, strict = false): Synced {
  const old = `NEW.${ident(change.old)}`;
  const visible = `NEW.${ident(change.column.name)}`;
  const assign = `${old} := ${downOver(change, down, 'NEW')};`;
  const differs = valuesDiffer(change, upAfterSwap(change, 'NEW'), visible);
  const refuse =
    `RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = ` +
    `${literal(`a value does not fit the earlier type of column ${change.column.name}, and this change is being taken back`).trimStart()}`;
  // No client knows the old column's name: an INSERT that gives it another value counted columns, and meant the visible one.
  const lost =
    `IF TG_OP = 'INSERT' AND given IS NOT NULL AND (${old} IS NULL OR ${imagesDiffer('given', old)}) THEN ` +
    `RAISE EXCEPTION USING ERRCODE = 'invalid_column_reference', MESSAGE = ` +
    `${literal(`INSERT or COPY without column names: column ${change.column.name} of ${change.table.name} is at another place since its type changed`).trimStart()}; END IF;`;
  const given = `DECLARE given ${change.from.loose} := ${old};`;
  const body = strict
    ? `${given} BEGIN ${assign} IF ${differs} THEN ${refuse}; END IF; ${lost} RETURN NEW; END`
    : `${given} BEGIN BEGIN ${assign} IF ${differs} THEN ${old} := NULL; END IF; EXCEPTION WHEN OTHERS THEN ${old} := NULL; END; ${lost} RETURN NEW; END`;
  const definition = createFunction(digestName(change, 'back'), setClauses(change, [change.transforms.up, down]), body);
  const columns = [...new Set([change.column.name, ...down.columns])];
  return triggerStatements(change, 'back', definition, [
    { suffix: '_i', events: 'INSERT', when: null },
    { suffix: '_u', events: 'UPDATE', when: changed(columns) },
  ]);
}

/** Triggers that would fire in a quiet batch: ENABLE ALWAYS and ENABLE REPLICA ones, unless they watch other columns only. */
export const loudTriggers = (triggers: readonly Trigger[]): Trigger[] =>
  triggers.filter(
    (t) => (t.enabled === 'A' || t.enabled === 'R') && t.events.includes('update') && !/ UPDATE OF /.test(t.definition),
  );
