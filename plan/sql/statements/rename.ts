/**
 * RENAME and SET SCHEMA: clients know one name, so the old ones fail from that moment. Refused with the alternative; under `allow` it is
 * one short transaction in contract, and the way back is the opposite rename.
 */
import { as, kindOf, sameName, sqlOf, strings } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { shown, shownRelation } from '../../model/quote';
import { columnExists, constraintExists, lockTarget, not, relationExists, transaction } from './shared';
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
  if (table && !nameIsFree(ctx, type, table, from, to)) return;
  if (!quiet && !isNew && !refuseRename(ctx, type, from, to, table)) {
    if (table && type === 'OBJECT_COLUMN') ctx.overlay.laterColumn(table, to, ctx.statement.number);
    return;
  }
  // A name that an earlier statement frees is free after contract only: the new thing waits for it too.
  const waits = type === 'OBJECT_TABLE' && table !== null && ctx.overlay.isGone({ schema: table.schema, name: to });
  addRename(ctx, {
    title: `rename ${shown(from)} to ${shown(to)}`,
    back: { RenameStmt: inverse(statement) },
    happened: table ? happened(type, table, from, to) : null,
    table,
    quiet,
    early: quiet || (isNew && !waits),
  });
  const [was, is] = [identity(type, from, table), identity(type, to, table)];
  // A table that this plan makes was never called otherwise.
  if (isNew && type === 'OBJECT_TABLE') {
    ctx.unask(`+ table ${was}`);
    ctx.asked(`+ table ${is}`);
  } else ctx.asked(`~ rename ${was} -> ${is}`);
  if (table && !quiet && isNew && !waits) applyRename(ctx, table, statement);
  else if (table && type === 'OBJECT_TABLE')
    ctx.overlay.moved(table, { schema: table.schema, name: to }, ctx.statement.number);
  else if (table && type === 'OBJECT_COLUMN') ctx.overlay.movedColumn(table, from, to, ctx.statement.number);
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

/** SQL: only the new name is there. Something else may have had it all the time: then the step never happened. */
function happened(type: string, table: Table, from: string, to: string): string | null {
  const only = (exists: (name: string) => string): string => `${exists(to)} AND ${not(exists(from))}`;
  const relationNamed = (name: string): string => relationExists({ schema: table.schema, name });
  if (type === 'OBJECT_COLUMN') return only((name) => columnExists(table, name));
  if (type === 'OBJECT_TABCONSTRAINT') return only((name) => constraintExists(table, name));
  return type === 'OBJECT_TABLE' || type === 'OBJECT_INDEX' ? only(relationNamed) : null;
}

/** Indexes and constraints are renamed in expand: a name that is taken until contract, or a thing that is built later, is not there yet. */
function nameIsFree(ctx: PlanContext, type: string, table: Table, from: string, to: string): boolean {
  const target = { schema: table.schema, name: to };
  const at = shownRelation(target);
  const isRelation = type === 'OBJECT_TABLE' || type === 'OBJECT_INDEX';
  const taken = isRelation
    ? ctx.overlay.taken(target)
    : type === 'OBJECT_COLUMN'
      ? table.columns.some((c) => c.name === to)
      : type === 'OBJECT_TABCONSTRAINT' && table.constraints.some((c) => c.name === to);
  if (taken)
    return ctx.refuse({
      rule: 'name_in_use',
      message: `${isRelation ? at : shown(to)} exists already`,
      alternative: 'choose another name',
      relation: shownRelation(table),
    });
  const made =
    !ctx.overlay.isNew(table) &&
    ((type === 'OBJECT_INDEX' &&
      !ctx.catalog.tables.some((t) => sameName(t, table) && t.indexes.some((i) => i.name === from))) ||
      (type === 'OBJECT_TABCONSTRAINT' &&
        !ctx.catalog.tables.some((t) => sameName(t, table) && t.constraints.some((c) => c.name === from))));
  if (made)
    return ctx.refuse({
      rule: 'separate_migration',
      message: `${shown(from)} is made by this plan and is not there yet when names change`,
      alternative: `make it under the name ${shown(to)}`,
      relation: shownRelation(table),
    });
  if (type !== 'OBJECT_INDEX' || !ctx.overlay.isGone(target)) return true;
  return ctx.refuse({
    rule: 'separate_migration',
    message: `${at} is dropped by an earlier statement, which is done in contract`,
    alternative: `create the new index under the name ${shown(to)}: it gets it when the old one goes`,
    relation: shownRelation(table),
  });
}

interface Rename {
  readonly title: string;
  readonly back: Node;
  /** null: not known, Postgres' own error says it. */
  readonly happened: string | null;
  readonly table: Table | null;
  readonly quiet: boolean;
  readonly early: boolean;
}

function addRename(ctx: PlanContext, { title, back, happened: condition, table, quiet, early }: Rename): void {
  const sql = sqlOf(back);
  const isTable =
    table !== null && (table.kind === 'table' || table.kind === 'partitioned') && ctx.overlay.at(table) !== null;
  const mode = quiet ? 'SHARE UPDATE EXCLUSIVE' : 'ACCESS EXCLUSIVE';
  ctx.add({
    phase: early ? 'expand' : 'contract',
    action: 'rename',
    title,
    run: transaction([ctx.statement.text], {
      lockFirst: isTable && !early && !ctx.overlay.isNew(table) ? [lockTarget(table, mode)] : [],
    }),
    // Where nothing has that name the step never happened, or is taken back already.
    undo: [
      transaction([
        `DO $pgshift$BEGIN IF ${condition ?? 'true'} THEN ${sql}; END IF; EXCEPTION WHEN undefined_table OR undefined_column OR undefined_object OR undefined_function OR invalid_schema_name OR invalid_parameter_value THEN NULL; END$pgshift$`,
      ]),
    ],
    wayBack: { statement: sql, lossless: true },
    locks: table ? [plannedLock(table, mode)] : [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ downtime: early ? 'low' : 'high' }),
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
  const target = { schema: next, name: table.name };
  addRename(ctx, {
    title: `move ${shownRelation(table)} to schema ${shown(next)}`,
    back,
    happened: `${relationExists(target)} AND ${not(relationExists(table))}`,
    table,
    quiet: false,
    early: isNew,
  });
  if (isNew) {
    ctx.overlay.drop(table, `moved by statement ${ctx.statement.number}`);
    ctx.overlay.create({ ...table, ...target });
  } else ctx.overlay.moved(table, target, ctx.statement.number);
}
