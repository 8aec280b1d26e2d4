/**
 * CREATE of things that nobody waits for: as they are; the way back drops them. CREATE OR REPLACE keeps the old definition as a hidden
 * copy until the hold ends, and the way back puts it back under the same object, so that what depends on it never notices.
 */
import { as, kindOf, nameOf, sameName, sqlOf } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { ident, literal, relation, shown, shownRelation } from '../../model/quote';
import { newTable } from '../overlay';
import { makeView } from '../shadow/dependents';
import { nameIsFree } from './createTable';
import { guarded, lockTarget, relationExists, transaction } from './shared';
import type { CreateTrigStmt, Node, ViewStmt } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { LockMode, RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

interface Made {
  /** Bare name, for later statements of the plan. */
  readonly name?: string;
  /** For people: "type public.mood". */
  readonly what: string;
  /** DROP ... IF EXISTS, without CASCADE. */
  readonly drop: string;
  readonly table?: Table;
  readonly mode?: LockMode;
  /** Undo when the object was there: in place of the drop. */
  readonly back?: string;
}

export function planCreateObject(ctx: PlanContext): void {
  const made = madeBy(ctx);
  if (!made) return;
  const { table, mode } = made;
  if (made.name !== undefined) ctx.overlay.noteObject(made.name);
  const lockable =
    table && mode && (table.kind === 'table' || table.kind === 'partitioned') && !ctx.overlay.isNew(table);
  const undo = made.back ?? made.drop;
  ctx.add({
    phase: 'expand',
    action: `create_${made.what.split(' ')[0] ?? 'object'}`,
    title: `create ${made.what}`,
    run: transaction([ctx.statement.text], { lockFirst: lockable ? [lockTarget(table, mode)] : [] }),
    undo: [transaction([table ? guarded(relationExists(table), undo) : undo])],
    wayBack: { statement: undo, lossless: true },
    locks: table && mode ? [plannedLock(table, mode)] : [],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.asked(`+ ${made.what}`);
}

const qualifiedName = (ctx: PlanContext, nodes: readonly Node[] | undefined): string => {
  const name = nameOf(nodes);
  return relation({ schema: name.schemaname ?? ctx.overlay.creationSchema, name: name.relname });
};

function madeBy(ctx: PlanContext): Made | null {
  const { ast } = ctx.statement;
  const type = (nodes: readonly Node[] | undefined, word = 'type'): Made => {
    const name = qualifiedName(ctx, nodes);
    return {
      name: nameOf(nodes).relname,
      what: `${word} ${name}`,
      drop: `DROP ${word.toUpperCase()} IF EXISTS ${name}`,
    };
  };
  switch (kindOf(ast)) {
    case 'CreateEnumStmt':
      return type(as(ast, 'CreateEnumStmt')?.typeName);
    case 'CreateRangeStmt':
      return type(as(ast, 'CreateRangeStmt')?.typeName);
    case 'CompositeTypeStmt': {
      const range = as(ast, 'CompositeTypeStmt')?.typevar;
      return type([
        ...(range?.schemaname === undefined ? [] : [{ String: { sval: range.schemaname } }]),
        { String: { sval: range?.relname ?? '' } },
      ]);
    }
    case 'CreateDomainStmt':
      return type(as(ast, 'CreateDomainStmt')?.domainname, 'domain');
    case 'CreateSeqStmt': {
      const sequence = as(ast, 'CreateSeqStmt');
      const name = ctx.overlay.target(sequence?.sequence ?? {});
      if (!nameIsFree(ctx, name, sequence?.if_not_exists ?? false, null)) return null;
      return { name: name.name, what: `sequence ${relation(name)}`, drop: `DROP SEQUENCE IF EXISTS ${relation(name)}` };
    }
    case 'CreateSchemaStmt': {
      const schema = as(ast, 'CreateSchemaStmt');
      const name = schema?.schemaname ?? '';
      if (ctx.catalog.schemas.includes(name)) {
        if (schema?.if_not_exists)
          ctx.finding({ rule: 'nothing_to_do', level: 'info', message: `schema ${shown(name)} exists already` });
        else
          ctx.refuse({
            rule: 'name_in_use',
            message: `schema ${shown(name)} exists already`,
            alternative: 'leave the statement out',
          });
        return null;
      }
      if ((schema?.schemaElts ?? []).length > 0 || name === '') {
        ctx.refuse({
          rule: 'not_understood',
          message: 'CREATE SCHEMA with other statements inside is not understood',
          alternative: 'write them as statements of their own',
        });
        return null;
      }
      return { name, what: `schema ${ident(name)}`, drop: `DROP SCHEMA IF EXISTS ${ident(name)}` };
    }
    case 'CreateExtensionStmt': {
      const extension = as(ast, 'CreateExtensionStmt');
      const name = extension?.extname ?? '';
      if (ctx.catalog.extensions.some((e) => e.name === name)) {
        if (extension?.if_not_exists)
          ctx.finding({
            rule: 'nothing_to_do',
            level: 'info',
            message: `extension ${shown(name)} is installed already`,
          });
        else
          ctx.refuse({
            rule: 'name_in_use',
            message: `extension ${shown(name)} is installed already`,
            alternative: 'write IF NOT EXISTS, or leave the statement out',
          });
        return null;
      }
      return { what: `extension ${ident(name)}`, drop: `DROP EXTENSION IF EXISTS ${ident(name)}` };
    }
    case 'CreatePolicyStmt': {
      const policy = as(ast, 'CreatePolicyStmt');
      const table = ctx.overlay.need(policy?.table ?? {}, ctx.where());
      const name = policy?.policy_name ?? '';
      return {
        what: `policy ${ident(name)} on ${shownRelation(table)}`,
        drop: `DROP POLICY IF EXISTS ${ident(name)} ON ${relation(table)}`,
        table,
        mode: 'ACCESS EXCLUSIVE',
      };
    }
    case 'RuleStmt': {
      const rule = as(ast, 'RuleStmt');
      const table = ctx.overlay.need(rule?.relation ?? {}, ctx.where());
      const name = rule?.rulename ?? '';
      const old = table.rules.find((r) => r.name === name);
      const drop = `DROP RULE IF EXISTS ${ident(name)} ON ${relation(table)}`;
      return {
        what: `rule ${ident(name)} on ${shownRelation(table)}`,
        drop,
        table,
        mode: 'ACCESS EXCLUSIVE',
        ...(old ? { back: old.definition.replace(/^CREATE RULE/, 'CREATE OR REPLACE RULE') } : {}),
      };
    }
    case 'CreateStatsStmt': {
      const statistics = as(ast, 'CreateStatsStmt');
      const range = as(statistics?.relations?.[0], 'RangeVar');
      const table = ctx.overlay.need(range ?? {}, ctx.where());
      const names = statistics?.defnames;
      if (!names || names.length === 0) {
        ctx.refuse({
          rule: 'not_understood',
          message: 'CREATE STATISTICS without a name: its way back would not know it',
          alternative: 'give it a name',
        });
        return null;
      }
      const name = nameOf(names);
      const full = relation({ schema: name.schemaname ?? table.schema, name: name.relname });
      return {
        what: `statistics ${full}`,
        drop: `DROP STATISTICS IF EXISTS ${full}`,
        table,
        mode: 'SHARE UPDATE EXCLUSIVE',
      };
    }
    case 'CreateTrigStmt':
      return trigger(ctx, as(ast, 'CreateTrigStmt') ?? {});
    case 'CreatePublicationStmt': {
      const name = as(ast, 'CreatePublicationStmt')?.pubname ?? '';
      return { what: `publication ${ident(name)}`, drop: `DROP PUBLICATION IF EXISTS ${ident(name)}` };
    }
    case 'CreateCastStmt': {
      const cast = as(ast, 'CreateCastStmt');
      const drop = sqlOf({
        DropStmt: {
          objects: [{ List: { items: [{ TypeName: cast?.sourcetype ?? {} }, { TypeName: cast?.targettype ?? {} }] } }],
          removeType: 'OBJECT_CAST',
          behavior: 'DROP_RESTRICT',
          missing_ok: true,
        },
      });
      return { what: 'cast', drop };
    }
    default:
      return null;
  }
}

function trigger(ctx: PlanContext, statement: CreateTrigStmt): Made {
  const table = ctx.overlay.need(statement.relation ?? {}, ctx.where(statement.relation?.location));
  const name = statement.trigname ?? '';
  const old = table.triggers.find((t) => t.name === name);
  const state = { D: 'DISABLE', R: 'ENABLE REPLICA', A: 'ENABLE ALWAYS' }[old?.enabled ?? ''];
  const drop = `DROP TRIGGER IF EXISTS ${ident(name)} ON ${relation(table)}`;
  const back = old
    ? `${old.definition.replace(/^CREATE (OR REPLACE )?/, 'CREATE OR REPLACE ')}${state ? `; ALTER TABLE ${relation(table)} ${state} TRIGGER ${ident(name)}` : ''}`
    : null;
  return {
    what: `trigger ${ident(name)} on ${shownRelation(table)}`,
    drop,
    table,
    mode: 'SHARE ROW EXCLUSIVE',
    ...(back === null ? {} : { back }),
  };
}

export function planCreateView(ctx: PlanContext, statement: ViewStmt): void {
  const name = ctx.overlay.target(statement.view ?? {});
  const there = ctx.overlay.at(name);
  const replaced = there !== null && statement.replace === true && there.kind === 'view';
  if (!replaced && !nameIsFree(ctx, name, false, null)) return;
  const at = shownRelation(name);
  const copy = { schema: name.schema, name: ctx.names.make('was', 'view', name.schema, name.name) };
  const keep = `DO ${literal(`BEGIN EXECUTE 'CREATE VIEW ${relation(copy).replaceAll("'", "''")} AS ' || pg_catalog.pg_get_viewdef(${literal(relation(name))}::pg_catalog.regclass); END`).trimStart()}`;
  const restore = guarded(relationExists(copy), restoreView(ctx, name, copy), `DROP VIEW ${relation(copy)}`);
  const dropCopy = `DROP VIEW IF EXISTS ${relation(copy)}`;
  ctx.add({
    phase: 'expand',
    action: replaced ? 'replace_view' : 'create_view',
    title: `${replaced ? 'replace' : 'create'} view ${at}`,
    run: transaction([...(replaced ? [keep] : []), ctx.statement.text]),
    undo: [transaction([replaced ? restore : `DROP VIEW IF EXISTS ${relation(name)}`])],
    wayBack: {
      statement: replaced
        ? `CREATE OR REPLACE VIEW ${relation(name)} AS -- its old query, kept as ${copy.name}`
        : `DROP VIEW IF EXISTS ${relation(name)}`,
      lossless: true,
    },
    locks: replaced ? [plannedLock(name, 'ACCESS EXCLUSIVE')] : [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: replaced ? 'medium' : 'low' }),
  });
  if (replaced) dropAfterHold(ctx, `the old query of view ${at}`, dropCopy);
  else ctx.overlay.create(newTable(name, 'view', []));
  ctx.asked(`${replaced ? '~' : '+'} view ${at}`);
}

/**
 * The old query under the same object, with its options. Postgres takes no column from a view: one that got more columns is dropped and made
 * again with its owner, grants and comments, unless something stands on it by then, which Postgres names.
 */
function restoreView(ctx: PlanContext, name: RelationName, copy: RelationName): string {
  const fromCopy = `EXECUTE 'CREATE OR REPLACE VIEW ${relation(name).replaceAll("'", "''")} AS ' || pg_catalog.pg_get_viewdef(${literal(relation(copy))}::pg_catalog.regclass);`;
  const view = ctx.catalog.tables
    .flatMap((t) => t.dependents)
    .find((d) => d.view && d.view.kind === 'view' && sameName(d.view, name))?.view;
  if (!view) return `DO ${literal(`BEGIN ${fromCopy} END`).trimStart()}`;
  const run = (sql: string): string => `EXECUTE ${literal(sql).trimStart()};`;
  const [create = '', ...rest] = makeView(view);
  const again = [`DROP VIEW ${relation(name)}`, create, ...rest].map(run).join(' ');
  const replace = run(create.replace(/^CREATE VIEW/, 'CREATE OR REPLACE VIEW'));
  return `DO ${literal(`BEGIN ${replace} EXCEPTION WHEN invalid_table_definition THEN ${again} END`).trimStart()}`;
}

function dropAfterHold(ctx: PlanContext, what: string, drop: string): void {
  ctx.add({
    phase: 'cleanup',
    action: 'drop_copy',
    title: `drop the copy of ${what}`,
    run: transaction([drop]),
    undo: [],
    wayBack: null,
    because: 'the old definition is gone after the hold',
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: 'medium' }),
    own: true,
  });
  ctx.keepsOld();
}

export { dropAfterHold };
