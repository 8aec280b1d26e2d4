/**
 * RENAME and SET SCHEMA: clients know one name, so the old ones fail from that moment. Refused with the alternative; under `allow` it is
 * one short transaction in contract, and the way back is the opposite rename.
 */
import { kindOf, sqlOf, strings } from '../ast';
import { as } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { shown, shownRelation } from '../../model/quote';
import { lockTarget, transaction } from './shared';
import type { AlterObjectSchemaStmt, Node, RenameStmt } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';

/** Renames that no client notices. */
const QUIET: readonly string[] = [
  'OBJECT_INDEX',
  'OBJECT_TABCONSTRAINT',
  'OBJECT_TRIGGER',
  'OBJECT_POLICY',
  'OBJECT_RULE',
  'OBJECT_STATISTIC_EXT',
  'OBJECT_DOMCONSTRAINT',
];

const opposite = (object: Node | undefined, name: string): Node | undefined => {
  if (!object) return undefined;
  const replace = (nodes: readonly Node[] | undefined): Node[] => [
    ...(nodes ?? []).slice(0, -1),
    { String: { sval: name } },
  ];
  const withArgs = as(object, 'ObjectWithArgs');
  if (withArgs) return { ObjectWithArgs: { ...withArgs, objname: replace(withArgs.objname) } };
  const typed = as(object, 'TypeName');
  if (typed) return { TypeName: { ...typed, names: replace(typed.names) } };
  return as(object, 'List') ? { List: { items: replace(as(object, 'List')?.items) } } : { String: { sval: name } };
};

const oldName = (statement: RenameStmt): string => {
  if (statement.subname !== undefined) return statement.subname;
  if (statement.relation) return statement.relation.relname ?? '';
  const object = statement.object;
  const list = as(object, 'List')?.items ?? as(object, 'ObjectWithArgs')?.objname ?? as(object, 'TypeName')?.names;
  return list ? (strings(list).at(-1) ?? '') : (as(object, 'String')?.sval ?? '');
};

/** The statement that takes this one back. */
function inverse(statement: RenameStmt): RenameStmt {
  const name = oldName(statement);
  const next = statement.newname ?? '';
  if (statement.subname !== undefined) return { ...statement, subname: next, newname: name };
  if (statement.relation) return { ...statement, relation: { ...statement.relation, relname: next }, newname: name };
  const object = opposite(statement.object, next);
  return { ...statement, ...(object ? { object } : {}), newname: name };
}

export function planRename(ctx: PlanContext, statement: RenameStmt): void {
  const type = statement.renameType ?? '';
  const table = statement.relation
    ? (ctx.overlay.find(statement.relation) ?? ctx.overlay.findIndex(statement.relation)?.table ?? null)
    : null;
  const quiet = QUIET.includes(type);
  if (statement.relation && !table && type !== 'OBJECT_SEQUENCE') {
    if (!statement.missing_ok) ctx.overlay.need(statement.relation, ctx.where(statement.relation.location));
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `relation ${shown(statement.relation.relname ?? '')} does not exist: nothing to do, as IF EXISTS says`,
    });
    return;
  }
  if (type === 'OBJECT_COLUMN' && table) ctx.overlay.needColumn(table, statement.subname ?? '', ctx.where());
  const isNew = table !== null && ctx.overlay.isNew(table);
  const from = oldName(statement);
  const to = statement.newname ?? '';
  if (!quiet && !isNew && !refuseRename(ctx, type, from, to, table)) return;
  addRename(ctx, `rename ${shown(from)} to ${shown(to)}`, { RenameStmt: inverse(statement) }, table, quiet, isNew);
  ctx.asked(`~ rename ${identity(type, from, table)} -> ${identity(type, to, table)}`);
  if (table && !quiet && isNew) applyRename(ctx, table, statement);
  else if (table && type === 'OBJECT_TABLE')
    ctx.overlay.moved(table, { schema: table.schema, name: to }, ctx.statement.number);
  else if (table && type === 'OBJECT_COLUMN') ctx.overlay.dropColumn(table, from);
}

/** As the catalogue's comparison names things: a part `on` its table, a column in it, a relation in its schema. */
function identity(type: string, name: string, table: Table | null): string {
  if (!table) return shown(name);
  if (type === 'OBJECT_COLUMN') return `${shownRelation(table)}.${shown(name)}`;
  const isPart = ['OBJECT_TABCONSTRAINT', 'OBJECT_TRIGGER', 'OBJECT_POLICY', 'OBJECT_RULE'].includes(type);
  return isPart ? `${shown(name)} on ${shownRelation(table)}` : shownRelation({ schema: table.schema, name });
}

function refuseRename(ctx: PlanContext, type: string, from: string, to: string, table: Table | null): boolean {
  const what =
    type === 'OBJECT_COLUMN'
      ? 'column'
      : type
          .replace(/^OBJECT_/, '')
          .replaceAll('_', ' ')
          .toLowerCase();
  return ctx.refuse({
    rule: 'rename',
    message: `clients that know ${what} ${shown(from)} fail from the moment it is called ${shown(to)}`,
    alternative:
      type === 'OBJECT_COLUMN'
        ? `add column ${shown(to)}, keep both in step, move the clients, then drop ${shown(from)}; or allow rename when no client uses it`
        : type === 'OBJECT_TABLE'
          ? `rename it and make a view ${shown(from)} over it in one quiet moment (allow rename), or keep the name`
          : 'allow rename when no client uses the old name',
    relation: table ? shownRelation(table) : null,
  });
}

function addRename(
  ctx: PlanContext,
  title: string,
  back: Node,
  table: Table | null,
  quiet: boolean,
  isNew: boolean,
): void {
  const sql = sqlOf(back);
  const isTable =
    table !== null && (table.kind === 'table' || table.kind === 'partitioned') && ctx.overlay.at(table) !== null;
  const mode = quiet ? 'SHARE UPDATE EXCLUSIVE' : 'ACCESS EXCLUSIVE';
  ctx.add({
    phase: isNew || quiet ? 'expand' : 'contract',
    action: 'rename',
    title,
    run: transaction([ctx.statement.text], { lockFirst: isTable && !quiet && !isNew ? [lockTarget(table, mode)] : [] }),
    // Where nothing has that name the step never happened, or is taken back already.
    undo: [
      transaction([
        `DO $pgshift$BEGIN ${sql}; EXCEPTION WHEN undefined_table OR undefined_column OR undefined_object OR undefined_function OR invalid_schema_name OR invalid_parameter_value THEN NULL; END$pgshift$`,
      ]),
    ],
    wayBack: { statement: sql, lossless: true },
    locks: table ? [plannedLock(table, mode)] : [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ downtime: quiet || isNew ? 'low' : 'high' }),
  });
}

function applyRename(ctx: PlanContext, table: Table, statement: RenameStmt): void {
  const to = statement.newname ?? '';
  const from = statement.subname ?? '';
  if (statement.renameType === 'OBJECT_COLUMN') {
    const rename = (name: string): string => (name === from ? to : name);
    ctx.overlay.change(table, (t) => ({
      ...t,
      columns: t.columns.map((c) => ({ ...c, name: rename(c.name) })),
      indexes: t.indexes.map((i) => ({
        ...i,
        keys: i.keys.map((k) => (k === null ? k : rename(k))),
        include: i.include.map(rename),
        columns: i.columns.map(rename),
      })),
      constraints: t.constraints.map((c) => ({ ...c, columns: c.columns.map(rename) })),
    }));
  } else if (statement.renameType === 'OBJECT_TABLE') {
    ctx.overlay.drop(table, `renamed to ${shown(to)} by statement ${ctx.statement.number}`);
    ctx.overlay.create({ ...table, name: to });
  }
}

/** ALTER ... SET SCHEMA is a rename too: unqualified names find it only along the search_path. */
export function planSetSchema(ctx: PlanContext, statement: AlterObjectSchemaStmt): void {
  const table = statement.relation ? ctx.overlay.find(statement.relation) : null;
  if (statement.relation && !table && statement.objectType === 'OBJECT_TABLE')
    ctx.overlay.need(statement.relation, ctx.where(statement.relation.location));
  const schema = table?.schema ?? null;
  const next = statement.newschema ?? '';
  const isNew = table !== null && ctx.overlay.isNew(table);
  if (
    !isNew &&
    !ctx.refuse({
      rule: 'rename',
      message: `clients that look for it in its old schema fail from the moment it is in ${shown(next)}`,
      alternative: 'allow rename when no client uses the old name',
      relation: table ? shownRelation(table) : null,
    })
  )
    return;
  if (!table || schema === null) {
    ctx.refuse({
      rule: 'not_understood',
      message: `SET SCHEMA of this object (${kindOf(ctx.statement.ast)}) is understood for relations only`,
      alternative: 'run it by hand',
    });
    return;
  }
  const back: Node = {
    AlterObjectSchemaStmt: { ...statement, relation: { ...statement.relation, schemaname: next }, newschema: schema },
  };
  addRename(ctx, `move ${shownRelation(table)} to schema ${shown(next)}`, back, table, false, isNew);
  const target = { schema: next, name: table.name };
  if (isNew) {
    ctx.overlay.drop(table, `moved by statement ${ctx.statement.number}`);
    ctx.overlay.create({ ...table, ...target });
  } else ctx.overlay.moved(table, target, ctx.statement.number);
}
