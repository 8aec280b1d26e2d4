/**
 * CREATE TABLE and CREATE TABLE AS: nobody uses a table that was not there, so they run as they are; the way back drops it. IF NOT EXISTS
 * is never trusted. Filling from a big table goes in batches where each source row stands for itself.
 */
import { as, expressionSql, sqlOf, typeText } from '../ast';
import { batchesOf, brief, isSmall, plannedLock, risk, rowsOf } from '../figures';
import { relation, shown, shownRelation } from '../../model/quote';
import { newColumn, newTable } from '../overlay';
import { columnParts } from './columnParts';
import { batchSource } from './insert';
import { bareName, batchKey, lockTarget, newConstraint, newIndex, sized, transaction } from './shared';
import type { Constraint as ConstraintNode, CreateStmt, CreateTableAsStmt, Node } from 'libpg-query';
import type { Column, Index, Table } from '../../model/catalog';
import type { LockMode, PlannedLock, RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

const keysOf = (node: ConstraintNode): string[] => (node.keys ?? []).flatMap((n) => as(n, 'String')?.sval ?? []);

/** False = the plan goes on without the statement (exists already), or is refused. */
export function nameIsFree(
  ctx: PlanContext,
  name: RelationName,
  ifNotExists: boolean,
  columns: readonly Column[] | null,
): boolean {
  const there = ctx.overlay.at(name);
  const at = shownRelation(name);
  if (!there && ctx.overlay.isGone(name)) {
    ctx.refuse({
      rule: 'separate_migration',
      message: `${at} is dropped by an earlier statement, which is done in contract`,
      alternative: 'make it in a migration that depends on this one, or under another name',
      relation: at,
    });
    return false;
  }
  if (!there && !ctx.overlay.taken(name)) return true;
  const same =
    there !== null &&
    columns !== null &&
    columns.length === there.columns.length &&
    columns.every((c) => there.columns.some((o) => o.name === c.name && (o.type === c.type || !known(c.type))));
  if (ifNotExists && same)
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `${at} exists already with these columns`,
      relation: at,
    });
  else
    ctx.refuse({
      rule: 'name_in_use',
      message: `${at} exists already${ifNotExists ? ' and differs from what is asked' : ''}`,
      alternative: 'choose another name',
      relation: at,
    });
  return false;
}

/** serial and the like print differently in the catalogue. */
const known = (type: string): boolean => !/serial/.test(type);

export function planCreateTable(ctx: PlanContext, statement: CreateStmt): void {
  const name = ctx.overlay.target(statement.relation ?? {});
  if (statement.relation?.relpersistence === 't') {
    ctx.refuse({
      rule: 'temporary',
      message: `${shown(name.name)} would be gone with the session that makes it`,
      alternative: 'make a permanent table, or leave it out',
    });
    return;
  }
  const elements = statement.tableElts ?? [];
  const defs = elements.flatMap((n) => as(n, 'ColumnDef') ?? []);
  const columns = defs.map((def, i): Column => {
    const type = def.typeName ? typeText(def.typeName) : { text: 'unknown', schema: null, name: 'unknown' };
    const parts = columnParts(def);
    const required =
      parts.notNull !== null ||
      parts.identity !== null ||
      parts.constraints.some((c) => c.contype === 'CONSTR_PRIMARY') ||
      /serial/.test(type.name);
    return {
      ...newColumn(def.colname ?? '', type.text, { schema: type.schema ?? 'pg_catalog', name: type.name }, i + 1),
      notNull: required,
      default: parts.default ? expressionSql(parts.default) : null,
    };
  });
  const inherited = [...(statement.inhRelations ?? []).flatMap((n) => as(n, 'RangeVar') ?? [])].map((range) =>
    ctx.overlay.need(range, ctx.where(range.location)),
  );
  const likes = elements
    .flatMap((n) => as(n, 'TableLikeClause')?.relation ?? [])
    .map((range) => ctx.overlay.need(range, ctx.where(range.location)));
  if (!nameIsFree(ctx, name, statement.if_not_exists ?? false, columns)) return;
  const constraints = [
    ...defs.flatMap((d) => columnParts(d).constraints),
    ...elements.flatMap((n) => as(n, 'Constraint') ?? []),
  ];
  const foreign = constraints.filter(
    (c) => c.contype === 'CONSTR_FOREIGN' && !ctx.overlay.isNew(ctx.overlay.target(c.pktable ?? {})),
  );
  const targets = foreign
    .filter((c) => !(c.pktable?.relname === name.name))
    .map((c) => ctx.overlay.need(c.pktable ?? {}, ctx.where(c.pktable?.location)))
    .filter(
      (t, i, all) => !ctx.overlay.isNew(t) && all.findIndex((o) => o.schema === t.schema && o.name === t.name) === i,
    );
  const partition = statement.partbound !== undefined;
  const parentMode: LockMode = partition ? 'ACCESS EXCLUSIVE' : 'SHARE UPDATE EXCLUSIVE';
  const parents = inherited.filter((t) => !ctx.overlay.isNew(t));
  ctx.add({
    phase: 'expand',
    action: 'create_table',
    title: `create table ${shownRelation(name)}`,
    run: transaction([ctx.statement.text], {
      lockFirst: [
        ...parents.map((t) => lockTarget(t, parentMode)),
        ...targets.map((t) => lockTarget(t, 'SHARE ROW EXCLUSIVE')),
      ],
    }),
    undo: [transaction([`DROP TABLE IF EXISTS ${relation(name)}`])],
    locks: [
      ...parents.map((t): PlannedLock => plannedLock(t, parentMode)),
      ...targets.map((t) => plannedLock(t, 'SHARE ROW EXCLUSIVE')),
    ],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  const extra = [...inherited, ...likes].flatMap((t) =>
    t.columns.filter((c) => !columns.some((o) => o.name === c.name)),
  );
  ctx.overlay.create(
    described(
      name,
      [...columns, ...extra],
      constraints,
      statement.partspec !== undefined,
      partition ? (inherited[0] ?? null) : null,
    ),
  );
  if (partition && inherited[0])
    ctx.overlay.change(inherited[0], (t) => ({ ...t, children: [...t.children, bareName(name)] }));
  ctx.asked(`+ table ${shownRelation(name)}`);
}

function described(
  name: RelationName,
  columns: readonly Column[],
  constraints: readonly ConstraintNode[],
  partitioned: boolean,
  parent: Table | null,
): Table {
  const indexes = constraints.flatMap((c): Index[] => {
    if (c.contype !== 'CONSTR_PRIMARY' && c.contype !== 'CONSTR_UNIQUE') return [];
    const primary = c.contype === 'CONSTR_PRIMARY';
    const keys = keysOf(c);
    const conname = c.conname ?? (primary ? `${name.name}_pkey` : `${name.name}_${keys.join('_')}_key`);
    return [newIndex(name, conname, { unique: true, primary, keys, columns: keys, constraint: conname })];
  });
  const table = newTable(name, partitioned ? 'partitioned' : 'table', columns);
  return {
    ...table,
    columns: columns.map((c) =>
      indexes.some((i) => i.primary && i.keys.includes(c.name)) ? { ...c, notNull: true } : c,
    ),
    indexes,
    constraints: [
      ...indexes.map((i) =>
        newConstraint(name, i.name, i.primary ? 'primary' : 'unique', {
          columns: i.columns,
          index: { schema: name.schema, name: i.name },
        }),
      ),
      ...constraints.flatMap((c) =>
        c.conname !== undefined && (c.contype === 'CONSTR_CHECK' || c.contype === 'CONSTR_FOREIGN')
          ? [newConstraint(name, c.conname, c.contype === 'CONSTR_CHECK' ? 'check' : 'foreign')]
          : [],
      ),
    ],
    parent: parent ? bareName(parent) : null,
  };
}

export function planCreateTableAs(ctx: PlanContext, statement: CreateTableAsStmt): void {
  const name = ctx.overlay.target(statement.into?.rel ?? {});
  const view = statement.objtype === 'OBJECT_MATVIEW';
  const word = view ? 'materialized view' : 'table';
  if (!nameIsFree(ctx, name, statement.if_not_exists ?? false, null)) return;
  const select = as(statement.query, 'SelectStmt');
  const source = select && !view && !statement.into?.skipData ? batchSource(ctx, name, select) : null;
  const big = source !== null && !isSmall(sized(ctx, source.table));
  ctx.add({
    phase: 'expand',
    action: view ? 'create_materialized_view' : 'create_table',
    title: `create ${word} ${shownRelation(name)}${big ? ', filled later in batches' : ''}`,
    run: transaction([big ? withoutData(statement) : ctx.statement.text], { long: true }),
    undo: [transaction([`DROP ${word.toUpperCase()} IF EXISTS ${relation(name)}`])],
    locks: source ? [plannedLock(source.table, 'ACCESS SHARE', 'scan')] : [],
    work: big ? 'metadata' : 'scan',
    estimate: brief(),
    risk: risk(),
  });
  ctx.overlay.create(newTable(name, view ? 'matview' : 'table', columnsOf(select?.targetList, source?.table ?? null)));
  if (big && select && source) fill(ctx, name, select, source);
  ctx.overlay.noteRows(name);
  ctx.asked(`+ ${word} ${shownRelation(name)}`);
}

const withoutData = (statement: CreateTableAsStmt): string =>
  sqlOf({ CreateTableAsStmt: { ...statement, into: { ...statement.into, skipData: true } } });

/** Names as Postgres gives them, where they are plain; types are not known here. */
function columnsOf(targets: readonly Node[] | undefined, source: Table | null): Column[] {
  return (targets ?? []).flatMap((node, i): Column[] => {
    const target = as(node, 'ResTarget');
    const reference = as(target?.val, 'ColumnRef');
    if (reference && as(reference.fields?.at(-1), 'A_Star'))
      return [...(source?.columns ?? [])].map((c) => ({ ...c, notNull: false }));
    const name = target?.name ?? as(reference?.fields?.at(-1), 'String')?.sval;
    const like = source?.columns.find((c) => c.name === as(reference?.fields?.at(-1), 'String')?.sval);
    return name === undefined
      ? []
      : [
          {
            ...newColumn(
              name,
              like?.type ?? 'unknown',
              like?.typeName ?? { schema: 'pg_catalog', name: 'unknown' },
              i + 1,
            ),
          },
        ];
  });
}

function fill(
  ctx: PlanContext,
  name: RelationName,
  select: NonNullable<ReturnType<typeof as<'SelectStmt'>>>,
  source: { readonly table: Table; readonly alias: string },
): void {
  const marker = '_pgshift_range_';
  const range: Node = { ColumnRef: { fields: [{ String: { sval: marker } }] } };
  const where: Node = select.whereClause
    ? { BoolExpr: { boolop: 'AND_EXPR', args: [range, select.whereClause] } }
    : range;
  const sql = `INSERT INTO ${relation(name)} ${sqlOf({ SelectStmt: { ...select, whereClause: where } }).replace(marker, '$RANGE')}`;
  const table = sized(ctx, source.table);
  ctx.add({
    phase: 'backfill',
    action: 'insert_rows',
    title: `fill ${shownRelation(name)} from ${shownRelation(source.table)} in batches`,
    run: {
      kind: 'insert-select',
      target: name,
      source: bareName(source.table),
      key: batchKey(source.table),
      statement: sql,
      alias: source.alias,
    },
    undo: [],
    wayBack: { statement: '-- goes with the table', lossless: true },
    locks: [plannedLock(source.table, 'ACCESS SHARE', 'batch')],
    work: 'batches',
    estimate: { ...batchesOf(table), rows: rowsOf(table) },
    risk: risk({ performance: 'medium' }),
  });
}
