/**
 * The proof of a copy that went on: every row of both sides, beside the stream, through the map where there is one. Keeps true: what differs is looked at
 * again behind a position that the target has; a table is compared under the name by which both sides show all of its rows (partitions: their
 * root); rows among those of others are looked up one by one, for nobody can say whose the rest is.
 */
import { shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import { parseColumnName } from '../../plan/model/tableNames';
import { validateValidation } from '../../plan/model/validate';
import type { TableMap, ValidationPlan, VerifiedTable, VerifyFinding, VerifyResult } from '../../plan/model/validation';
import { formatCount } from '../../plan/model/values';
import type { CopyContext } from '../copy/context';
import type { Pair } from '../copy/pairs';
import { openPair, withPair } from '../copy/pairs';
import type { TableRow } from '../copy/tables';
import { readTables, shown } from '../copy/tables';
import { ident, literal } from '../ident';
import { asideKey, comparedMap } from '../map/onward';
import { refuseOverRate } from '../map/quarantine';
import type { Spec } from '../map/spec';
import type { StoredProof } from '../map/table';
import { specOf } from '../map/table';
import { readMapTable } from '../map/tables';
import { compareTracked, expectedOf } from '../map/tracked';
import type { Session } from '../session';
import { withSession } from '../session';
import type { VerifyContext, VerifyProgress } from '../verify';
import { runPhase } from '../verify';
import { readResult } from '../verify/result';
import { tableKey } from './state';

/** Its checkpoints and differences lie beside those of the copy, under a name of their own. */
export const verifyName = (migration: string): string => `${migration.slice(0, 90)}.verify`;

const EVERY_TABLE = 2 ** 31 - 1;
/** Keys that are left out of the comparison by name; more of them would not fit a statement. */
const MOST_ASIDE = 10_000;
const COPY = { method: 'copy', onConflict: 'update', disable: [] } as const;

interface Root extends RelationName, Record<string, unknown> {
  readonly oid: string;
  readonly leaves: number;
}

/** By the oid of a partition: the table that all of its siblings belong to. */
async function rootsOf(source: Session, tables: readonly TableRow[]): Promise<ReadonlyMap<string, Root>> {
  const rows = await source.rows<Root>(
    `SELECT c.oid::text AS oid, n.nspname::text AS schema, r.relname::text AS name,
            (SELECT count(*)::int FROM pg_partition_tree(r.oid) AS p WHERE p.isleaf) AS leaves
       FROM unnest($1::oid[]) AS x(oid) JOIN pg_class AS c ON c.oid = x.oid AND c.relispartition
       JOIN pg_class AS r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace AS n ON n.oid = r.relnamespace`,
    [tables.map(({ oid }) => oid)],
  );
  return new Map(rows.map((row) => [row.oid, row]));
}

async function boundsOf(target: Session, migration: string): Promise<ReadonlyMap<string, string>> {
  const rows = await target.rows<RelationName & { bound: string } & Record<string, unknown>>(
    `SELECT i.schema_name AS schema, i.table_name AS name, i.bound FROM pgshift.increments AS i WHERE i.migration_name = $1 AND i.bound IS NOT NULL`,
    [migration],
  );
  return new Map(rows.map((row) => [tableKey(row), row.bound]));
}

/** One table that is compared, of one or of many that were copied. */
interface Compared {
  readonly name: RelationName;
  readonly leaves: number;
  /** What is meant of each: condition over the source's row; null = all of it. */
  readonly parts: { readonly oid: string; readonly where: string | null }[];
  /** Given the conditions of rows that are meant; null = it comes over as it is. */
  readonly mapOf: ((meant: readonly string[]) => TableMap) | null;
}

/** What is compared: the tables that were copied, while both sides change. */
async function compared(
  context: CopyContext,
  ends: Pair,
  tables: readonly TableRow[],
  warnings: string[],
): Promise<Compared[]> {
  const { source, target } = ends;
  const [roots, bounds] = [await rootsOf(source, tables), await boundsOf(target, context.migration)];
  const { incremental } = context.control;
  const column = incremental && (parseColumnName(incremental.column) ?? incremental.column);
  const found = new Map<string, Compared>();
  for (const table of tables) {
    const root = roots.get(table.oid);
    const name = root ?? table;
    const bound = bounds.get(tableKey(table));
    // Newer rows of the source are read by a later pass: they are no difference.
    const late = column === undefined || bound === undefined ? null : `${ident(column)} <= ${literal(bound)}`;
    const before = found.get(tableKey(name));
    const made = before ?? {
      name,
      leaves: root?.leaves ?? 1,
      parts: [],
      mapOf: await mapped(context, ends, table, root ?? null, warnings),
    };
    made.parts.push({ oid: table.oid, where: late });
    if (!before) found.set(tableKey(name), made);
  }
  return [...found.values()];
}

/** Through the same select as the copy's and the passes', without the rows that are set aside. */
async function mapped(
  context: CopyContext,
  ends: Pair,
  table: TableRow,
  root: RelationName | null,
  warnings: string[],
): Promise<Compared['mapOf']> {
  if (table.map === null) return null;
  const spec = await specOf(context, ends, table, { ...(context.control.load ?? COPY), onConflict: 'update' });
  const [source, target] = [await readMapTable(ends.source, table), await readMapTable(ends.target, spec.target)];
  if (source === null || target === null) return null;
  const { mapping } = table.map;
  const left = await aside(context, ends.target, table, spec, warnings);
  return (meant) => {
    const map = comparedMap(spec, mapping, { source, target }, [...meant, ...left]);
    return root !== null && mapping.to === undefined ? { ...map, to: shownRelation(root) } : map;
  };
}

async function aside(
  context: CopyContext,
  target: Session,
  table: TableRow,
  spec: Spec,
  warnings: string[],
): Promise<string[]> {
  const rows = await target.rows<{ key: string }>(
    `SELECT DISTINCT q.key::text AS key FROM pgshift.quarantine AS q
      WHERE q.migration_name = $1 AND q.table_name = $2 AND q.step_id IS NOT NULL LIMIT ${MOST_ASIDE + 1}`,
    [context.migration, shown(table)],
  );
  if (rows.length === 0) return [];
  if (rows.length > MOST_ASIDE) {
    warnings.push(
      `${shown(table)}: more than ${formatCount(MOST_ASIDE)} rows are set aside: they are called different`,
    );
    return [];
  }
  warnings.push(`${shown(table)}: ${formatCount(rows.length)} rows are set aside, and are not compared`);
  return [`${asideKey(spec)} NOT IN (${rows.map(({ key }) => literal(key)).join(', ')})`];
}

function conditionOf({ parts, leaves }: Compared): string | null {
  if (leaves === 1 || parts.length === 1) return parts[0]?.where ?? null;
  if (parts.length === leaves && parts.every(({ where }) => where === null)) return null;
  // Each partition has a bound of its own; one that was not chosen is not meant.
  const whens = parts.map(({ oid, where }) => `WHEN ${literal(oid)}::oid THEN ${where ?? 'true'}`);
  return `CASE tableoid ${whens.join(' ')} ELSE false END`;
}

function planOf(context: CopyContext, tables: readonly Compared[]): ValidationPlan {
  const { incremental, schema, source, target, parallel } = context.control;
  const entries = tables.flatMap((table): (readonly [string, Partial<TableMap>])[] => {
    const late = conditionOf(table);
    const meant = late === null ? [] : [late];
    if (table.mapOf) return [[shownRelation(table.name), table.mapOf(meant)]];
    return late === null ? [] : [[shownRelation(table.name), { where: late }]];
  });
  // Passes fire no foreign key: rows whose parents a filter left out would go unseen.
  const orphans = incremental !== undefined && (schema === 'existing' || tables.some(({ mapOf }) => mapOf !== null));
  return validateValidation({
    map: Object.fromEntries(entries),
    name: verifyName(context.migration),
    source,
    target,
    tables: { include: tables.map(({ name }) => shownRelation(name)) },
    checks: orphans ? ['rows', 'orphans'] : ['rows'],
    parallel: Math.min(16, parallel.tables),
  });
}

export interface VerifiedBoth extends Pick<VerifyResult, 'passed' | 'errors' | 'statistics' | 'tables'> {
  /** What the proof does not cover, in words. */
  readonly notes: readonly string[];
}

/** Row by row, beside the stream: what differs is looked at again behind a position that the target has reached. @throws Problem ErrorBudgetSpent. */
export async function verifyBoth(
  context: CopyContext,
  progress: (progress: VerifyProgress) => void,
): Promise<VerifiedBoth> {
  const { source, target, signal } = context;
  const notes: string[] = [];
  const prepared = await withPair(openPair(context, 'verify'), async (ends) => {
    await refuseOverRate(ends.target, context.migration, context.control.errors);
    const all = (await readTables(ends.target, context.migration, 0, EVERY_TABLE)).filter(
      ({ state }) => state === 'done',
    );
    const merged = await mergedTables(ends.target, context.migration, all, notes);
    const rest = all.filter(({ no }) => !merged.has(no));
    const plan = rest.length === 0 ? null : planOf(context, await compared(context, ends, rest, notes));
    return { plan, merged: [...merged.values()] };
  });
  const { plan } = prepared;
  const lookedUp = {
    tables: prepared.merged,
    errors: prepared.merged.filter(({ equal }) => !equal).map(differs),
    statistics: NOTHING,
    notes,
  };
  if (plan === null) return withRows(lookedUp);
  const verifying: VerifyContext = {
    plan,
    source,
    target,
    signal,
    progress,
    log: (level, message, fields) => {
      if (level === 'info' || level === 'warn') context.log(level, message, fields);
    },
  };
  const inTarget = { purpose: 'verify', migration: plan.name };
  await withSession(target, inTarget, (session) => forgetEnded(session, plan.name));
  for (const phase of ['compare', 'checks', 'recheck'] as const) await runPhase(phase, verifying);
  const result = await withSession(target, inTarget, async (session) => {
    const read = await readResult(session, plan);
    await session.run(
      `UPDATE pgshift.steps SET result = result || '{"ended": true}' WHERE migration_name = $1 AND step_id = 'compare'`,
      [plan.name],
    );
    return read;
  });
  return withRows({
    tables: [...lookedUp.tables, ...result.tables],
    errors: [...lookedUp.errors, ...result.errors],
    statistics: result.statistics,
    notes,
  });
}

const NOTHING = { rows: 0, seconds: 0, rowsPerSecond: 0, tables: 0, ranges: 0, rechecked: 0, repaired: 0 };

const withRows = (verified: Omit<VerifiedBoth, 'passed'>): VerifiedBoth => ({
  ...verified,
  passed: verified.errors.length === 0,
  statistics: { ...verified.statistics, rows: verified.tables.reduce((sum, { sourceRows }) => sum + sourceRows, 0) },
});

const differs = ({ table, differing }: VerifiedTable): VerifyFinding => ({
  check: 'rows',
  table,
  message: `${formatCount(differing)} rows differ from what was read`,
});

/** Rows among those of others: each by its key, against the hash that the source had when it was read. */
async function mergedTables(
  target: Session,
  migration: string,
  tables: readonly TableRow[],
  notes: string[],
): Promise<ReadonlyMap<number, VerifiedTable>> {
  const found = new Map<number, VerifiedTable>();
  const proofs = await target.rows<{ no: number; proof: StoredProof }>(
    `SELECT t.table_no AS no, t.proof FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND (t.proof->>'tracked')::boolean`,
    [migration],
  );
  for (const { no, proof } of proofs) {
    const table = tables.find((one) => one.no === no);
    if (!table) continue;
    const expected = await expectedOf(target, migration, no, proof);
    const now = await compareTracked(target, { migration, no, tracked: proof, hash: proof.hash });
    if (now.since > 0)
      notes.push(
        `${shown(table)}: ${formatCount(now.since)} of the merged rows were written by somebody else since, and are not compared`,
      );
    found.set(no, {
      table: shown(table),
      to: shownRelation(proof.target),
      sourceRows: expected?.rows ?? 0,
      targetRows: now.rows + now.since,
      equal: now.differing === 0,
      differing: now.differing,
      complete: true,
      ranges: 1,
      repaired: 0,
      fingerprintSource: expected?.sum ?? '0',
      fingerprintTarget: now.sum,
    });
  }
  return found;
}

/** A verification that came to its end is not taken up again: the next one looks anew. */
async function forgetEnded(session: Session, name: string): Promise<void> {
  const ended = await session.one(
    `SELECT 1 AS one FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = 'compare' AND s.result ? 'ended'`,
    [name],
  );
  if (!ended) return;
  for (const table of ['steps', 'lanes', 'differences'])
    await session.run(`DELETE FROM pgshift.${table} WHERE migration_name = $1`, [name]);
}
