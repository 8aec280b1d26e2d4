/**
 * UPDATE, DELETE and INSERT ... SELECT: by ranges of the key where that gives what one statement would give, in one transaction where the
 * table is small, refused where batches would change the meaning. Old rows are kept where the plan has an archive: that is the way back.
 */
import { as, contains, expressionSql, sqlOf, walk } from '../ast';
import { batchesOf, isSmall, plannedLock, risk } from '../figures';
import { shownRelation } from '../../model/quote';
import { archiveTableOf } from './archive';
import { makeArchive, makeWritten, restore, rowColumns } from './keptRows';
import { isVolatile } from '../volatility';
import { bareName, batchKey, sized, withRows, withoutWayBack } from './shared';
import type { DeleteStmt, Node, UpdateStmt } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { DmlRun, RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

type Change =
  | { readonly verb: 'update'; readonly statement: UpdateStmt }
  | { readonly verb: 'delete'; readonly statement: DeleteStmt };

export const planUpdate = (ctx: PlanContext, statement: UpdateStmt): void =>
  planChange(ctx, { verb: 'update', statement });
export const planDelete = (ctx: PlanContext, statement: DeleteStmt): void =>
  planChange(ctx, { verb: 'delete', statement });

/** Why batches would not do what one statement does; null = they do. */
function obstacle(ctx: PlanContext, table: Table, change: Change): string | null {
  const { statement } = change;
  if (statement.withClause) return 'it has a WITH clause';
  if ((statement.returningClause?.exprs ?? []).length > 0) return 'its RETURNING rows would go nowhere';
  const from = change.verb === 'update' ? change.statement.fromClause : change.statement.usingClause;
  const parts = [statement.whereClause, change.verb === 'update' ? change.statement.targetList : undefined];
  if (mentions([...parts, from], table))
    return 'it reads the table that it writes: a later batch would see what an earlier one wrote';
  if (contains(parts, 'WindowDef') || hasWindow(parts)) return 'it has a window function, which must see all rows';
  if (statement.whereClause && isVolatile(statement.whereClause, ctx.catalog, 'steady'))
    return 'its condition is volatile';
  const keys = batchKey(table)?.map((k) => k.name) ?? [];
  if (change.verb === 'update') {
    const set = (change.statement.targetList ?? []).flatMap((n) => as(n, 'ResTarget')?.name ?? []);
    if (set.some((name) => keys.includes(name))) return 'it changes the key that the batches follow';
    if (set.some((name) => table.partitionKey?.columns.includes(name))) return 'it changes the partition key';
  }
  if (contains(statement, 'CurrentOfExpr')) return 'it speaks of a cursor';
  return null;
}

export const hasWindow = (value: unknown): boolean => {
  let found = false;
  walk(value, (kind, fields) => {
    if (kind === 'FuncCall' && fields.over !== undefined) found = true;
  });
  return found;
};

/** WITH that changes rows of its own: what it changes would be neither archived nor counted. True = refused. */
export function refusesWith(ctx: PlanContext, clause: unknown, at: string): boolean {
  if (!contains(clause, 'InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt')) return false;
  return !ctx.refuse({
    rule: 'not_understood',
    message: `the WITH clause of this statement changes rows itself, beside ${at}`,
    alternative: 'write each change as a statement of its own',
    relation: at,
  });
}

/** Is the table named inside (sub-queries, FROM)? Untyped RangeVar fields count too. */
export function mentions(value: unknown, table: RelationName): boolean {
  if (Array.isArray(value)) return value.some((v) => mentions(v, table));
  if (typeof value !== 'object' || value === null) return false;
  const range = value as { relname?: unknown; schemaname?: unknown };
  if (range.relname === table.name && (range.schemaname === undefined || range.schemaname === table.schema))
    return true;
  return Object.values(value).some((v) => mentions(v, table));
}

function planChange(ctx: PlanContext, change: Change): void {
  const { statement, verb } = change;
  const table = ctx.overlay.need(statement.relation ?? {}, ctx.where(statement.relation?.location));
  const at = shownRelation(table);
  if (table.kind !== 'table' && table.kind !== 'partitioned') {
    ctx.refuse({
      rule: 'not_understood',
      message: `${verb.toUpperCase()} of ${at}, which is no table`,
      alternative: 'change the table behind it',
      relation: at,
    });
    return;
  }
  if (verb === 'update')
    for (const node of change.statement.targetList ?? [])
      ctx.overlay.needColumn(table, as(node, 'ResTarget')?.name ?? '', ctx.where());
  if (refusesWith(ctx, statement.withClause, at)) return;
  if (!statement.whereClause)
    ctx.finding({
      rule: 'no_where',
      level: 'warning',
      message: `${verb.toUpperCase()} without WHERE: every row of ${at}`,
      relation: at,
    });
  const why = obstacle(ctx, table, change);
  const small = isSmall(sized(ctx, table)) || ctx.overlay.isNew(table);
  if (
    why !== null &&
    !small &&
    !ctx.refuse({
      rule: 'not_in_batches',
      message: `this ${verb.toUpperCase()} of ${at} cannot go in batches: ${why}`,
      alternative:
        'write it so that each row is changed by itself, or allow it: then it is one transaction that holds its row locks to the end',
      relation: at,
    })
  )
    return;
  // Without a key, or with another one, the old row of an UPDATE cannot be found again.
  const key = batchKey(table)?.map((k) => k.name) ?? null;
  const fickle = picksByChance(ctx, change);
  const found = verb === 'delete' || (key !== null && !fickle && !setColumns(change).some((c) => key.includes(c)));
  // A row of a child would come back as one of its parent's, and the parent's key says nothing about it.
  const hasHeirs = table.kind === 'table' && table.children.length > 0;
  const inherits = hasHeirs && (verb === 'update' || statement.relation?.inh === true);
  const restorable = found && !inherits;
  const archive = goesWithIt(ctx, table, change) || !restorable ? null : archiveTableOf(ctx, table, verb);
  const needsArchive = !goesWithIt(ctx, table, change);
  if (
    needsArchive &&
    !archive &&
    !withoutWayBack(
      ctx,
      `the rows that this ${verb.toUpperCase()} ${verb === 'update' ? 'overwrites' : 'removes'} in ${at} are not kept`,
      restorable
        ? 'archive: {to: <schema>} keeps them, and the way back restores them'
        : inherits
          ? `${shownRelation(table)} has children by inheritance, whose rows have no key in common: allow no_way_back, or ${verb === 'update' ? 'change the children alone' : 'delete from each child, and FROM ONLY the parent'}`
          : fickle
            ? 'write a condition that says the same rows twice, so that archive: {to: <schema>} can keep them first'
            : 'give the table a key that this statement does not set, so that archive: {to: <schema>} can restore them',
      table,
    )
  )
    return;
  const elsewhere = needsArchive ? cascades(table, change) : null;
  if (
    elsewhere !== null &&
    !withoutWayBack(
      ctx,
      `foreign key ${elsewhere} changes rows of other tables too, and they are not kept`,
      'change those rows first, in a statement of their own',
      table,
    )
  )
    return;
  if (archive) makeArchive(ctx, table, archive);
  const written = archive && verb === 'update' ? makeWritten(ctx, table) : null;
  ctx.overlay.noteRows(table);
  const whole = why !== null || small;
  const parts = whole || !statement.relation?.inh ? [table] : withRows(ctx, table);
  for (const part of parts) addDml(ctx, part, change, archive, written, whole, table);
}

/** The rows are kept by a statement before the one that changes them: both must find the same ones. */
const picksByChance = (ctx: PlanContext, change: Change): boolean =>
  change.verb === 'update' &&
  [change.statement.whereClause, ...(change.statement.fromClause ?? []), ...ctes(change)].some(
    (part) => part !== undefined && isVolatile(part, ctx.catalog, 'steady'),
  );

const ctes = (change: Change): readonly Node[] => change.statement.withClause?.ctes ?? [];

const setColumns = (change: Change): string[] =>
  change.verb === 'update' ? (change.statement.targetList ?? []).flatMap((n) => as(n, 'ResTarget')?.name ?? []) : [];

/** A foreign key that carries the change into another table; null = none. */
function cascades(table: Table, change: Change): string | null {
  const set = setColumns(change);
  const word = change.verb === 'delete' ? 'DELETE' : 'UPDATE';
  const found = table.incoming.find((f) => {
    const touched = change.verb === 'delete' || (f.references?.columns ?? []).some((c) => set.includes(c));
    return touched && new RegExp(`ON ${word} (CASCADE|SET NULL|SET DEFAULT)`).test(f.definition);
  });
  return found ? `${found.name} of ${shownRelation(found.table)}` : null;
}

/** Rows of a table, or values of columns, that this plan makes: their drop takes the change back. */
function goesWithIt(ctx: PlanContext, table: Table, change: Change): boolean {
  if (ctx.overlay.isNew(table)) return true;
  const set = setColumns(change);
  return set.length > 0 && set.every((name) => !ctx.overlay.wasThere(table, [name]));
}

function addDml(
  ctx: PlanContext,
  table: Table,
  change: Change,
  archive: RelationName | null,
  written: RelationName | null,
  whole: boolean,
  parent: Table,
): void {
  const { statement, verb } = change;
  const alias = statement.relation?.alias?.aliasname ?? statement.relation?.relname ?? table.name;
  const where = statement.whereClause ? expressionSql(statement.whereClause) : 'true';
  const from = change.verb === 'update' ? change.statement.fromClause : change.statement.usingClause;
  // The archive reads the rows by the same condition, so one over other tables or a WITH becomes EXISTS.
  const alone = (from ?? []).length === 0 && !statement.withClause;
  const rowWhere = alone ? where : `EXISTS (${selectSql(from ?? [], statement)} WHERE ${where})`;
  const run: DmlRun = {
    kind: 'dml',
    verb,
    table: bareName(table),
    key: whole ? null : batchKey(table),
    statement: `${batchSql(change, table, alias, whole)} WHERE $RANGE AND (${where})`,
    where: rowWhere,
    alias,
    archive,
    ...(written ? { written } : {}),
    ...(archive || written ? { columns: rowColumns(ctx, parent).map((c) => c.name) } : {}),
  };
  const back = archive ? restore(ctx, parent, archive, written) : null;
  ctx.add({
    phase: 'backfill',
    action: verb === 'update' ? 'update_rows' : 'delete_rows',
    title: `${verb} rows of ${shownRelation(table)}${whole ? ' in one transaction' : ' in batches'}`,
    run,
    undo: back?.runs ?? [],
    wayBack: archive
      ? { statement: back?.statement ?? '', lossless: true }
      : goesWithIt(ctx, parent, change)
        ? { statement: '-- goes with what the plan adds', lossless: true }
        : null,
    because: 'the old rows are not kept',
    locks: [plannedLock(table, 'ROW EXCLUSIVE', 'batch')],
    work: 'batches',
    estimate: batchesOf(sized(ctx, table)),
    risk: risk({
      performance: whole ? 'low' : 'medium',
      dataLoss: archive || goesWithIt(ctx, parent, change) ? 'low' : 'high',
      rollback: archive || goesWithIt(ctx, parent, change) ? 'low' : 'high',
    }),
  });
}

/** `[WITH ...] SELECT 1 [FROM ...]` */
const selectSql = (from: readonly Node[], { withClause }: Change['statement']): string =>
  sqlOf({
    SelectStmt: {
      ...(withClause ? { withClause } : {}),
      targetList: [{ ResTarget: { val: { A_Const: { ival: { ival: 1 } } } } }],
      ...(from.length > 0 ? { fromClause: [...from] } : {}),
      limitOption: 'LIMIT_OPTION_DEFAULT',
      op: 'SETOP_NONE',
    },
  });

/** The statement up to its WHERE, table name written out. */
function batchSql(change: Change, table: Table, alias: string, whole: boolean): string {
  // A parent by inheritance has its own rows, its children have batches of their own.
  const { inh, ...relation } = change.statement.relation ?? {};
  const range = {
    ...relation,
    ...(inh && (whole || table.children.length === 0) ? { inh } : {}),
    schemaname: table.schema,
    relname: table.name,
    alias: { aliasname: alias },
  };
  const { whereClause: _w, returningClause: _r, ...rest } = change.statement;
  return change.verb === 'update'
    ? sqlOf({ UpdateStmt: { ...rest, relation: range } })
    : sqlOf({ DeleteStmt: { ...rest, relation: range } });
}
