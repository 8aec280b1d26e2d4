/**
 * A map after the copy: the same columns and the same filter over a captured row, and over both sides when they are compared. Keeps true: one row is
 * made of one row, by the same expressions as the copy's; what would need a value that did not come is refused before anything is written.
 */
import { Problem } from '../../plan/model/errors';
import { shown, shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import type { TableMapping } from '../../plan/model/tableMapping';
import type { TableMap } from '../../plan/model/validation';
import { ident, relation } from '../ident';
import type { Session } from '../session';
import type { TableMapping as Captured } from '../stream/types';
import type { Spec } from './spec';
import { ROW } from './spec';
import type { MapTable } from './tables';

/** The name of the row is ours, and there are no sub-queries that could have another of the same. */
const over = (sql: string, alias: string): string => sql.replaceAll(`${ROW}.`, `${alias}.`);

/** Over a captured row, whose columns are known as `old.<name>`. */
export const capturedMap = (spec: Spec): Captured => ({
  to: spec.target,
  columns: spec.columns.map(({ name, from, plain, sql, reads }) => ({
    name,
    value: plain && from !== null ? { from } : { sql: over(sql, 'old'), reads },
  })),
  ...(spec.where === null ? {} : { where: { sql: over(spec.where, 'old'), reads: spec.whereReads } }),
});

/**
 * For a comparison of both sides. `meant` = conditions over the source's row (alias t) that are asked before any expression of the plan: on rows that are
 * set aside, or not read yet, those may fail.
 */
export function comparedMap(
  spec: Spec,
  mapping: TableMapping,
  { source, target }: { readonly source: MapTable; readonly target: MapTable },
  meant: readonly string[],
): TableMap {
  const columns = Object.fromEntries(
    spec.columns.map(({ name, from, sql }) => [ident(name), from === null ? { sql: over(sql, 't') } : ident(from)]),
  );
  const loaded = new Set(spec.columns.map(({ name }) => name));
  const placed = new Set(spec.columns.flatMap(({ from }) => (from === null ? [] : [from])));
  const filter = [...(spec.where === null ? [] : [spec.where]), ...(spec.sample === null ? [] : [spec.sample])];
  const rules = spec.rules.map(({ sql }) => `(${sql}) IS NOT FALSE`);
  const where = [meant, filter.map((sql) => over(sql, 't')), rules.map((sql) => over(sql, 't'))].reduceRight<
    string | null
  >(inOrder, null);
  // Said in preflight already: what has no place is left out by name, or is computed by the target itself.
  const omit = [
    ...target.columns.filter(({ name }) => !loaded.has(name)),
    ...source.columns.filter(({ name }) => !placed.has(name) && !loaded.has(name)),
  ];
  return {
    to: shownRelation(spec.target),
    columns,
    omit: [...new Set(omit.map(({ name }) => ident(name)))],
    nulls: mapping.nulls,
    enrich: {},
    ...(where === null ? {} : { where }),
  };
}

/** AND alone promises no order. */
function inOrder(then: string | null, first: readonly string[]): string | null {
  if (first.length === 0) return then;
  const all = first.map((sql) => `(${sql})`).join(' AND ');
  return then === null ? all : `CASE WHEN ${all} THEN ${then} ELSE false END`;
}

/** The row's key, as the quarantine has it, over alias t. */
export const asideKey = (spec: Spec): string => `(${over(spec.key, 't')})::text`;

interface Facts extends Record<string, unknown> {
  readonly identity: string;
  /** Columns whose values may lie in TOAST: an update that leaves them alone does not send them. */
  readonly wide: readonly string[];
  readonly key: readonly string[];
}

const FACTS = `
SELECT c.relreplident::text AS identity,
       ARRAY(SELECT a.attname::text FROM pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1 AND a.attstorage <> 'p') AS wide,
       ARRAY(SELECT a.attname::text FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
              WHERE i.indrelid = c.oid AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary END) AS key
  FROM pg_class AS c WHERE c.oid = to_regclass($1)`;

export interface Onward {
  readonly spec: Spec;
  readonly path: string;
  readonly table: RelationName;
  readonly capture: 'wal' | 'triggers';
}

/** Can every captured change of the table be mapped? @throws Problem PreflightFailed with where.path. */
export async function checkOnward(source: Session, { spec, path, table, capture }: Onward): Promise<void> {
  const facts = await source.one<Facts>(FACTS, [relation(table)]);
  if (!facts) return;
  const refuse = (at: string, what: string, hint: string): Problem =>
    new Problem('PreflightFailed', `${at}: ${what}`, { where: { path: at }, hint });
  const whole = capture === 'triggers' || facts.identity === 'f';
  const full = `ALTER TABLE ${relation(table)} REPLICA IDENTITY FULL; or  capture: triggers`;
  const found = whole && facts.key.length === 0 ? null : facts.key;
  const moved = (found ?? []).find((name) => !spec.columns.some((column) => column.plain && column.from === name));
  if (moved !== undefined)
    throw refuse(
      path,
      `${shown(moved)} is in the key of ${shownRelation(table)} and does not come over as it is`,
      'rows that change are found by it: rename it, but let it come',
    );
  if (spec.where !== null && found === null)
    throw refuse(
      `${path}.where`,
      `${shownRelation(table)} has no key: a row that leaves the filter cannot be found`,
      'give it a primary key',
    );
  if (whole) return;
  const needed = new Set([...spec.columns.flatMap(({ reads }) => reads), ...spec.whereReads]);
  const kept = facts.wide.find((name) => needed.has(name));
  if (spec.where !== null && kept !== undefined)
    throw refuse(
      `${path}.where`,
      `a row that comes into the filter needs all of its values, and an update does not send ${shown(kept)} when it stays`,
      full,
    );
  for (const { reads, plain, path: at } of spec.columns) {
    const wide = reads.find((name) => facts.wide.includes(name));
    if (!plain && reads.length > 1 && wide !== undefined)
      throw refuse(at, `it reads several columns, and an update does not send ${shown(wide)} when it stays`, full);
  }
}

interface There extends Record<string, unknown> {
  readonly keyed: boolean;
  readonly trigger: string | null;
}

const THERE = `
SELECT EXISTS (SELECT 1 FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                AND i.indpred IS NULL AND i.indexprs IS NULL) AS keyed,
       (SELECT g.tgname::text FROM pg_trigger AS g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled = 'O' ORDER BY 1 LIMIT 1) AS trigger
  FROM pg_class AS c WHERE c.oid = to_regclass($1)`;

/** Of tables that were there: passes find rows by a key, and fire no trigger. @throws Problem PreflightFailed. */
export async function checkThere(target: Session, tables: readonly RelationName[]): Promise<void> {
  const wrong: string[] = [];
  for (const table of tables) {
    const there = await target.one<There>(THERE, [relation(table)]);
    if (!there) continue;
    if (!there.keyed) wrong.push(`${shownRelation(table)} has no key that tells its rows apart`);
    else if (there.trigger !== null)
      wrong.push(
        `trigger ${shown(there.trigger)} of ${shownRelation(table)} would fire for the copy and not for what comes later`,
      );
  }
  if (wrong.length === 0) return;
  throw new Problem('PreflightFailed', `${target.name}: ${wrong.slice(0, 5).join('; ')}`, {
    where: { path: 'schema' },
    hint: 'add the key; ALTER TABLE ... DISABLE TRIGGER, or ENABLE ALWAYS TRIGGER to have it fire both times',
    details: { checks: wrong.slice(0, 50) },
  });
}
