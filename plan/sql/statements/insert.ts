/**
 * INSERT. From a table by ranges of its key where each source row gives its rows by itself, otherwise one transaction: nobody waits for an
 * insert. The way back: the drop of a table that this plan made, or the keys kept in the archive, or none.
 */
import { as, contains, sqlOf } from '../ast';
import { batchesOf, brief, isSmall, plannedLock, risk, rowsOf } from '../figures';
import { ident, identList, relation, shownRelation } from '../../model/quote';
import { archiveTableOf } from './archive';
import { hasWindow, mentions, refusesWith } from './dml';
import { makeArchive, rowColumns } from './keptRows';
import { bareName, batchKey, guarded, relationExists, sized, transaction, withoutWayBack } from './shared';
import type { InsertStmt, Node, SelectStmt } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { RelationName, StepRun } from '../../model/steps';
import type { PlanContext } from '../context';

/** A column name that no table has; it becomes $RANGE in the text. */
const RANGE = '_pgshift_range_';

export function planInsert(ctx: PlanContext, statement: InsertStmt): void {
  const table = ctx.overlay.need(statement.relation ?? {}, ctx.where(statement.relation?.location));
  const at = shownRelation(table);
  if (table.kind !== 'table' && table.kind !== 'partitioned') {
    ctx.refuse({
      rule: 'not_understood',
      message: `INSERT into ${at}, which is no table`,
      alternative: 'insert into the table behind it',
      relation: at,
    });
    return;
  }
  if (refusesWith(ctx, [statement.withClause, as(statement.selectStmt, 'SelectStmt')?.withClause], at)) return;
  for (const node of statement.cols ?? [])
    ctx.overlay.needColumn(table, as(node, 'ResTarget')?.name ?? '', ctx.where());
  const overwrites = statement.onConflictClause?.action === 'ONCONFLICT_UPDATE';
  const key = batchKey(table);
  const made = ctx.overlay.isNew(table);
  const archive = made || overwrites || key === null ? null : archiveTableOf(ctx, table, 'insert');
  if (!made && archive === null) {
    const lost = overwrites
      ? `the rows that ON CONFLICT DO UPDATE overwrites in ${at} are not kept`
      : `which rows of ${at} this INSERT adds is not kept`;
    if (!withoutWayBack(ctx, lost, 'archive: {to: <schema>} keeps what the way back needs', table)) return;
  }
  if (archive) makeArchive(ctx, table, archive);
  ctx.overlay.noteRows(table);
  const select = as(statement.selectStmt, 'SelectStmt');
  const source = select ? batchSource(ctx, table, select) : null;
  if (select && source && !isSmall(sized(ctx, source.table)))
    addBatches(ctx, table, statement, select, source, archive);
  else addWhole(ctx, table, statement, archive);
}

interface Source {
  readonly table: Table;
  readonly alias: string;
}

/** The table whose rows may be taken range by range; null = the result depends on all rows together. */
export function batchSource(ctx: PlanContext, target: RelationName, select: SelectStmt): Source | null {
  const parts = [
    select.distinctClause,
    select.groupClause,
    select.havingClause,
    select.windowClause,
    select.valuesLists,
    select.limitCount,
    select.limitOffset,
    select.withClause,
    select.lockingClause,
  ];
  if (parts.some((part) => part !== undefined && (!Array.isArray(part) || part.length > 0))) return null;
  if (select.op !== 'SETOP_NONE' || (select.fromClause ?? []).length !== 1) return null;
  const range = leftmost(select.fromClause?.[0]);
  const table = range ? ctx.overlay.find(range) : null;
  if (!range || !table || table.kind !== 'table' || mentions(select, target)) return null;
  // Ranges are those of one table's key: rows of children lie anywhere.
  if (table.children.length > 0) return null;
  if (
    hasWindow(select) ||
    contains(select.targetList, 'GroupingFunc') ||
    aggregates(ctx, select) ||
    batchKey(table) === null
  )
    return null;
  return { table, alias: range.alias?.aliasname ?? range.relname ?? table.name };
}

/** The table that each result row comes from once: leftmost of inner and left joins. */
function leftmost(
  node: Node | undefined,
): { relname?: string; schemaname?: string; alias?: { aliasname?: string } } | null {
  const range = as(node, 'RangeVar');
  if (range) return range;
  const join = as(node, 'JoinExpr');
  return join && (join.jointype === 'JOIN_INNER' || join.jointype === 'JOIN_LEFT') && !join.alias
    ? leftmost(join.larg)
    : null;
}

function aggregates(ctx: PlanContext, select: SelectStmt): boolean {
  const names = new Set(ctx.catalog.functions.filter((f) => f.kind === 'aggregate').map((f) => f.name));
  let found = false;
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(visit);
    if (typeof value !== 'object' || value === null || found) return;
    const call = (value as { FuncCall?: { funcname?: Node[]; agg_star?: boolean } }).FuncCall;
    const name = as(call?.funcname?.at(-1), 'String')?.sval ?? '';
    if (call && (call.agg_star || names.has(name))) found = true;
    if (!('SubLink' in value)) Object.values(value).forEach(visit);
  };
  visit([select.targetList, select.sortClause]);
  return found;
}

/** `INSERT ...` that also writes what it inserted into the archive. By name: other statements of the plan may add columns. */
function kept(ctx: PlanContext, sql: string, table: Table, archive: RelationName | null): string {
  if (archive === null) return sql;
  const columns = identList(rowColumns(ctx, table).map((c) => c.name));
  return `WITH pgshift_inserted AS (${sql} RETURNING ${columns}) INSERT INTO ${relation(archive)} (${columns}) SELECT * FROM pgshift_inserted`;
}

function insertSql(statement: InsertStmt, table: Table, select: SelectStmt | null): string {
  const { returningClause: _r, ...rest } = statement;
  return sqlOf({
    InsertStmt: {
      ...rest,
      relation: { ...statement.relation, schemaname: table.schema, relname: table.name },
      ...(select ? { selectStmt: { SelectStmt: select } } : {}),
    },
  });
}

function removal(table: Table, archive: RelationName): StepRun {
  const key = (batchKey(table) ?? []).map((k) => ident(k.name));
  const match = key.map((c) => `t.${c} = a.${c}`).join(' AND ');
  const sql = `DELETE FROM ${relation(table)} AS t USING ${relation(archive)} AS a WHERE ${match}`;
  return transaction([guarded(relationExists(archive), sql, `DELETE FROM ${relation(archive)}`)], { long: true });
}

function back(ctx: PlanContext, table: Table, archive: RelationName | null) {
  if (archive) return { undo: [removal(table, archive)] };
  if (ctx.overlay.isNew(table)) return { undo: [], wayBack: { statement: '-- goes with the table', lossless: true } };
  return { undo: [], wayBack: null, because: 'which rows were added is not kept' };
}

function addBatches(
  ctx: PlanContext,
  table: Table,
  statement: InsertStmt,
  select: SelectStmt,
  source: Source,
  archive: RelationName | null,
): void {
  const range: Node = { ColumnRef: { fields: [{ String: { sval: RANGE } }] } };
  const where: Node = select.whereClause
    ? { BoolExpr: { boolop: 'AND_EXPR', args: [range, select.whereClause] } }
    : range;
  const sql = insertSql(statement, table, { ...select, whereClause: where }).replace(RANGE, '$RANGE');
  const target = sized(ctx, source.table);
  ctx.add({
    phase: 'backfill',
    action: 'insert_rows',
    title: `insert into ${shownRelation(table)} from ${shownRelation(source.table)} in batches`,
    run: {
      kind: 'insert-select',
      target: bareName(table),
      source: bareName(source.table),
      key: batchKey(source.table),
      statement: kept(ctx, sql, table, archive),
      alias: source.alias,
    },
    ...back(ctx, table, archive),
    locks: [plannedLock(table, 'ROW EXCLUSIVE', 'batch'), plannedLock(source.table, 'ACCESS SHARE', 'batch')],
    work: 'batches',
    estimate: { ...batchesOf(target), bytes: [0, target.heapBytes], rows: rowsOf(target) },
    risk: risk({ performance: 'medium', rollback: archive || ctx.overlay.isNew(table) ? 'low' : 'high' }),
  });
}

function addWhole(ctx: PlanContext, table: Table, statement: InsertStmt, archive: RelationName | null): void {
  const plain = archive === null && (statement.returningClause?.exprs ?? []).length === 0;
  ctx.add({
    phase: 'backfill',
    action: 'insert_rows',
    title: `insert into ${shownRelation(table)} in one transaction`,
    run: transaction([plain ? ctx.statement.text : kept(ctx, insertSql(statement, table, null), table, archive)], {
      long: true,
    }),
    ...back(ctx, table, archive),
    locks: [plannedLock(table, 'ROW EXCLUSIVE', 'batch')],
    work: 'batches',
    estimate: brief(),
    risk: risk({ rollback: archive || ctx.overlay.isNew(table) ? 'low' : 'high' }),
  });
}
