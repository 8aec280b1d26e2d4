/**
 * CREATE INDEX in all its forms, always CONCURRENTLY and always named, so that an invalid leftover of a killed build is known by its name
 * and table. IF NOT EXISTS is never trusted: what is there is compared.
 */
import { as, expressionSql, sqlOf, walk } from '../ast';
import { brief, buildOf, plannedLock, risk, scanOf } from '../figures';
import { chooseIndexName, hasExpression } from '../indexNames';
import { ident, relation, shownRelation } from '../../model/quote';
import {
  bareName,
  both,
  columnsIn,
  guarded,
  lockTarget,
  newIndex,
  not,
  relationExists,
  sized,
  transaction,
} from './shared';
import { sameIndex } from './sameIndex';
import { planPartitionedIndex } from './partitionedIndex';
import type { IndexElem, IndexStmt, Node } from 'libpg-query';
import type { Index, Table } from '../../model/catalog';
import type { RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

export const elements = (nodes: readonly Node[] | undefined): IndexElem[] =>
  (nodes ?? []).flatMap((node) => as(node, 'IndexElem') ?? []);

/** The statement with its name and its table's schema written out. */
export function namedIndex(
  statement: IndexStmt,
  table: Table,
  name: string,
  how: { concurrent: boolean; only?: boolean },
): string {
  const { if_not_exists: _ifNotExists, concurrent: _concurrent, ...rest } = statement;
  const tree: IndexStmt = {
    ...rest,
    idxname: name,
    relation: {
      ...(how.only ? {} : { inh: true }),
      relname: table.name,
      schemaname: table.schema,
      relpersistence: 'p',
    },
    ...(how.concurrent ? { concurrent: true } : {}),
  };
  return sqlOf({ IndexStmt: tree });
}

/** The index as the overlay knows it, definition as pg_get_indexdef() would put it (names qualified, no CONCURRENTLY). */
export function indexOf(statement: IndexStmt, table: Table, name: string): Index {
  const keys = elements(statement.indexParams).map((e) => e.name ?? null);
  const include = elements(statement.indexIncludingParams).map((e) => e.name ?? '');
  const expressions = elements(statement.indexParams).flatMap((e) => (e.expr ? [e.expr] : []));
  const used = [
    ...keys.filter((k): k is string => k !== null),
    ...include,
    ...columnsIn(table, expressions),
    ...columnsIn(table, statement.whereClause),
  ];
  return newIndex(table, name, {
    definition: namedIndex(statement, table, name, { concurrent: false }),
    method: statement.accessMethod ?? 'btree',
    unique: statement.unique ?? false,
    primary: statement.primary ?? false,
    nullsNotDistinct: statement.nulls_not_distinct ?? false,
    keys,
    include,
    columns: [...new Set(used)],
    predicate: statement.whereClause ? expressionSql(statement.whereClause) : null,
    tablespace: statement.tableSpace ?? null,
  });
}

export function planCreateIndex(ctx: PlanContext, statement: IndexStmt): void {
  const table = ctx.overlay.need(statement.relation ?? {}, ctx.where(statement.relation?.location));
  if (table.kind === 'partitioned' && !statement.relation?.inh) {
    ctx.refuse({
      rule: 'only_parent',
      message: `ONLY leaves the ${table.children.length} partitions of ${shownRelation(table)} without the index`,
      alternative: 'leave ONLY out: the partitions are indexed concurrently and attached',
      relation: shownRelation(table),
    });
    return;
  }
  for (const element of [...elements(statement.indexParams), ...elements(statement.indexIncludingParams)])
    if (element.name !== undefined) ctx.overlay.needColumn(table, element.name, ctx.where());
  checkColumns(ctx, table, statement);
  const name =
    statement.idxname ?? chooseIndexName(ctx, table, statement.indexParams, statement.indexIncludingParams, 'idx');
  if (!nameIsFree(ctx, table, statement, name)) return;
  if (ctx.overlay.isNew(table)) return plainIndex(ctx, table, statement, name);
  if (table.kind === 'partitioned') return planPartitionedIndex(ctx, table, statement, name);
  const index = indexOf(statement, table, name);
  const retyped = index.columns.filter((column) => ctx.retyped(table, column) !== null);
  ctx.overlay.addIndex(table, index);
  ctx.asked(`+ index ${shownRelation({ schema: table.schema, name })}`);
  if (retyped.length > 0) {
    ctx.want(index);
    return;
  }
  if (index.unique) checkDuplicates(ctx, table, statement);
  const full = { schema: table.schema, name };
  if (ctx.overlay.isGone(full)) buildThenRename(ctx, table, statement, full);
  else addConcurrentBuild(ctx, table, statement, name);
  if (hasExpression(statement.indexParams)) addAnalyze(ctx, table);
}

/** Expressions may name columns that do not exist. */
function checkColumns(ctx: PlanContext, table: Table, statement: IndexStmt): void {
  const expressions = [statement.whereClause, ...elements(statement.indexParams).map((e) => e.expr)];
  walk(expressions, (kind, fields) => {
    if (kind === 'SubLink') return false;
    if (kind !== 'ColumnRef') return true;
    const parts = (fields.fields as Node[]).flatMap((f) => as(f, 'String')?.sval ?? []);
    const last = parts.at(-1);
    if (last !== undefined && parts.length === 1)
      ctx.overlay.needColumn(table, last, ctx.where(fields.location as number | undefined));
    return true;
  });
}

/** False when there is nothing (more) to do: the same index exists, or the name is taken and that refuses the plan. */
function nameIsFree(ctx: PlanContext, table: Table, statement: IndexStmt, name: string): boolean {
  const full = { schema: table.schema, name };
  const at = shownRelation(full);
  const found = ctx.overlay.findIndex({ schemaname: table.schema, relname: name });
  if (!found) {
    if (!ctx.overlay.taken(full)) return true;
    ctx.refuse({
      rule: 'name_in_use',
      message: `${at} exists already`,
      alternative: 'choose another name',
      relation: at,
    });
    return false;
  }
  if (found.table.name !== table.name) {
    ctx.refuse({
      rule: 'name_in_use',
      message: `index ${at} exists on another table, ${shownRelation(found.table)}`,
      alternative: 'choose another name',
      relation: at,
    });
    return false;
  }
  if (!sameIndex(found.index, statement)) {
    ctx.refuse({
      rule: 'name_in_use',
      message: `index ${at} exists and differs from what is asked: ${found.index.definition}`,
      alternative: 'choose another name, or drop the old index in a migration before this one',
      relation: at,
    });
    return false;
  }
  if (!found.index.valid) {
    ctx.finding({
      rule: 'invalid_index',
      level: 'warning',
      message: `index ${at} is there but invalid: it is dropped and built again`,
      relation: at,
    });
    return true;
  }
  if (statement.if_not_exists)
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `index ${at} exists already, valid and as asked`,
      relation: at,
    });
  else
    ctx.refuse({
      rule: 'name_in_use',
      message: `index ${at} exists already, as asked`,
      alternative: 'leave the statement out, or write IF NOT EXISTS',
      relation: at,
    });
  return false;
}

/** An earlier statement drops an index of that name, which goes in contract: until then the new one has a name of ours. */
function buildThenRename(ctx: PlanContext, table: Table, statement: IndexStmt, full: RelationName): void {
  const built = { schema: full.schema, name: ctx.names.make('idx', table.schema, table.name, full.name) };
  addConcurrentBuild(ctx, table, statement, built.name);
  const rename = (from: RelationName, to: RelationName): string =>
    guarded(
      both(relationExists(from), not(relationExists(to))),
      `ALTER INDEX ${relation(from)} RENAME TO ${ident(to.name)}`,
    );
  ctx.add({
    phase: 'contract',
    action: 'rename_index',
    title: `give the new index its name ${shownRelation(full)}`,
    run: transaction([rename(built, full)]),
    undo: [transaction([rename(full, built)])],
    locks: [plannedLock(full, 'SHARE UPDATE EXCLUSIVE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
    own: true,
  });
}

/** On a table made by this plan: nobody waits for the lock. */
function plainIndex(ctx: PlanContext, table: Table, statement: IndexStmt, name: string): void {
  const full = { schema: table.schema, name };
  ctx.add({
    phase: 'expand',
    action: 'create_index',
    title: `create index ${shownRelation(full)} on the new table`,
    run: transaction([namedIndex(statement, table, name, { concurrent: false })]),
    undo: [transaction([`DROP INDEX IF EXISTS ${relation(full)}`])],
    locks: [plannedLock(table, 'SHARE', 'brief')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.overlay.addIndex(table, indexOf(statement, table, name));
}

export function addConcurrentBuild(ctx: PlanContext, table: Table, statement: IndexStmt, name: string): void {
  const full = { schema: table.schema, name };
  ctx.add({
    phase: 'build',
    action: 'create_index',
    title: `create ${statement.unique ? 'unique ' : ''}index ${shownRelation(full)} concurrently`,
    run: {
      kind: 'create-index',
      index: full,
      table: bareName(table),
      statement: namedIndex(statement, table, name, { concurrent: true }),
      unique: statement.unique ?? false,
    },
    undo: [{ kind: 'drop-index', index: full }],
    locks: [plannedLock(table, 'SHARE UPDATE EXCLUSIVE', 'scan')],
    work: 'build',
    estimate: buildOf(sized(ctx, table), 8 * Math.max(1, (statement.indexParams ?? []).length)),
    risk: risk({ performance: 'medium' }),
  });
}

export function checkDuplicates(ctx: PlanContext, table: Table, statement: IndexStmt): void {
  const columns = elements(statement.indexParams).map((e) =>
    e.name !== undefined ? `t.${ident(e.name)}` : e.expr ? expressionSql(e.expr) : 'NULL',
  );
  ctx.add({
    phase: 'build',
    action: 'check_duplicates',
    title: `look for duplicates in ${shownRelation(table)} (${columns.map((c) => c.replace(/^t\./, '')).join(', ')})`,
    run: {
      kind: 'duplicates',
      table: bareName(table),
      columns,
      where: statement.whereClause ? expressionSql(statement.whereClause) : null,
      nullsNotDistinct: statement.nulls_not_distinct ?? false,
    },
    undo: [],
    locks: [plannedLock(table, 'ACCESS SHARE', 'scan')],
    work: 'scan',
    estimate: scanOf(sized(ctx, table)),
    risk: risk(),
    own: true,
  });
}

/** An expression has no statistics until ANALYZE: without it the planner guesses on the new index. */
export function addAnalyze(ctx: PlanContext, table: Table): void {
  ctx.add({
    phase: 'build',
    action: 'analyze',
    title: `analyze ${shownRelation(table)} for the new expression`,
    run: transaction([`ANALYZE ${relation(table)}`], {
      lockFirst: [lockTarget(table, 'SHARE UPDATE EXCLUSIVE')],
      long: true,
    }),
    undo: [],
    locks: [plannedLock(table, 'SHARE UPDATE EXCLUSIVE', 'scan')],
    work: 'scan',
    estimate: brief(),
    risk: risk(),
    own: true,
  });
}
