/**
 * DROP of everything: tables, indexes, then views, functions, types and the like, which are hidden by a rename in contract and dropped
 * after the hold, and triggers, policies and rules, whose definition is the way back. CASCADE is refused: nobody has seen its list.
 */
import { as, nameOf, sqlOf, strings } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { clip } from '../names';
import { ident, relation, shown, shownRelation } from '../../model/quote';
import { planDropIndex } from './dropIndex';
import { planDropTable } from './dropTable';
import { dependentsOf } from './dependents';
import { refuseAsWritten } from './refused';
import { lockTarget, relationExists, guarded, transaction, withoutWayBack } from './shared';
import type { DropStmt, Node } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { LockMode } from '../../model/steps';
import type { PlanContext } from '../context';

/** Object types that a rename hides, with the word that ALTER and DROP use. */
const RENAMED: Readonly<Record<string, string>> = {
  OBJECT_VIEW: 'VIEW',
  OBJECT_MATVIEW: 'MATERIALIZED VIEW',
  OBJECT_SEQUENCE: 'SEQUENCE',
  OBJECT_FUNCTION: 'FUNCTION',
  OBJECT_PROCEDURE: 'PROCEDURE',
  OBJECT_TYPE: 'TYPE',
  OBJECT_DOMAIN: 'DOMAIN',
  OBJECT_SCHEMA: 'SCHEMA',
};

export function planDrop(ctx: PlanContext, statement: DropStmt): void {
  if (statement.behavior === 'DROP_CASCADE') {
    ctx.refuse({
      rule: 'cascade',
      message: 'CASCADE drops what it finds when it runs, and nobody has seen that list',
      alternative: 'name what must go, each in a statement of its own',
    });
    return;
  }
  const type = statement.removeType ?? '';
  if (type === 'OBJECT_INDEX') return planDropIndex(ctx, statement);
  if (type === 'OBJECT_TABLE') return dropTables(ctx, statement);
  for (const object of statement.objects ?? []) {
    if (type === 'OBJECT_TRIGGER' || type === 'OBJECT_POLICY' || type === 'OBJECT_RULE')
      dropPart(ctx, statement, object);
    else if (RENAMED[type]) hideObject(ctx, statement, object, RENAMED[type] ?? '');
    else dropWithoutWayBack(ctx, statement, object);
  }
}

function dropTables(ctx: PlanContext, statement: DropStmt): void {
  const tables: Table[] = [];
  for (const object of statement.objects ?? []) {
    const name = nameOf(as(object, 'List')?.items);
    const table = statement.missing_ok ? ctx.overlay.find(name) : ctx.overlay.need(name, ctx.where());
    if (table) tables.push(table);
    else
      ctx.finding({
        rule: 'nothing_to_do',
        level: 'info',
        message: `table ${shown(name.relname)} does not exist: nothing to do, as IF EXISTS says`,
      });
  }
  for (const table of tables) planDropTable(ctx, table, tables);
}

/** `name` or `schema.name`, with arguments where it is a function. */
interface Named {
  readonly schema: string | null;
  readonly name: string;
  readonly node: Node;
}

export function namedObject(object: Node): Named {
  const withArgs = as(object, 'ObjectWithArgs');
  const typed = as(object, 'TypeName');
  const plain = as(object, 'String');
  const parts = plain ? [plain.sval ?? ''] : strings(withArgs?.objname ?? typed?.names ?? as(object, 'List')?.items);
  return { schema: parts.at(-2) ?? null, name: parts.at(-1) ?? '', node: object };
}

/** The same object under another name. */
function renamedNode(object: Node, name: string): Node {
  const replace = (nodes: readonly Node[] | undefined): Node[] => [
    ...(nodes ?? []).slice(0, -1),
    { String: { sval: name } },
  ];
  const withArgs = as(object, 'ObjectWithArgs');
  if (withArgs) return { ObjectWithArgs: { ...withArgs, objname: replace(withArgs.objname) } };
  const typed = as(object, 'TypeName');
  if (typed) return { TypeName: { ...typed, names: replace(typed.names) } };
  if (as(object, 'String')) return { String: { sval: name } };
  return { List: { items: replace(as(object, 'List')?.items) } };
}

const dropSql = (statement: DropStmt, object: Node, ifExists: boolean): string => {
  const { missing_ok: _m, concurrent: _c, ...rest } = statement;
  return sqlOf({ DropStmt: { ...rest, objects: [object], ...(ifExists ? { missing_ok: true } : {}) } });
};

/** `FUNCTION f(int)` as DROP and ALTER name it. */
const spelled = (statement: DropStmt, object: Node, word: string): string =>
  dropSql(statement, object, false)
    .replace(new RegExp(`^DROP ${word}\\s+`), '')
    .replace(/ RESTRICT$/, '');

function hideObject(ctx: PlanContext, statement: DropStmt, object: Node, word: string): void {
  const named = namedObject(object);
  const isView = word.endsWith('VIEW');
  const table = isView
    ? ctx.overlay.find({ relname: named.name, ...(named.schema === null ? {} : { schemaname: named.schema }) })
    : null;
  if (isView && !table) {
    if (!statement.missing_ok)
      throw ctx.problem('NoSuchObject', `view ${shown(named.name)} does not exist`, { value: named.name });
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `view ${shown(named.name)} does not exist: nothing to do, as IF EXISTS says`,
    });
    return;
  }
  if (!isView && !isThere(ctx, named, word)) {
    if (!statement.missing_ok)
      throw ctx.problem('NoSuchObject', `${word.toLowerCase()} ${shown(named.name)} does not exist`, {
        value: named.name,
      });
    const message = `${word.toLowerCase()} ${shown(named.name)} does not exist: nothing to do, as IF EXISTS says`;
    ctx.finding({ rule: 'nothing_to_do', level: 'info', message });
    return;
  }
  if (table && needed(ctx, table)) return;
  if (inUse(ctx, named, word)) return;
  if (usedType(ctx, named, word)) return;
  const hidden = clip(ctx.names.make('del', word, named.schema ?? '', named.name), 63);
  const other = renamedNode(object, hidden);
  const old = spelled(statement, object, word);
  const fresh = spelled(statement, other, word);
  // The conditions look for the name alone: overloaded functions are told apart by ALTER itself.
  const back = `ALTER ${word} ${fresh} RENAME TO ${ident(named.name)}`;
  ctx.add({
    phase: 'contract',
    action: 'hide_object',
    title: `hide ${word.toLowerCase()} ${shown(named.name)}: it is kept as ${hidden} during the hold`,
    run: transaction([`ALTER ${word} ${old} RENAME TO ${ident(hidden)}`]),
    undo: [
      transaction([
        `DO $pgshift$BEGIN ${back}; EXCEPTION WHEN undefined_table OR undefined_function OR undefined_object OR invalid_schema_name THEN NULL; END$pgshift$`,
      ]),
    ],
    wayBack: { statement: back, lossless: true },
    locks: table ? [plannedLock(table, 'ACCESS EXCLUSIVE')] : [],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.add({
    phase: 'cleanup',
    action: 'drop_object',
    title: `drop ${word.toLowerCase()} ${shown(named.name)} (hidden as ${hidden})`,
    run: transaction([dropSql(statement, other, true)]),
    undo: [],
    wayBack: null,
    because: 'it is gone after the hold; a backup has it',
    locks: table ? [plannedLock(table, 'ACCESS EXCLUSIVE')] : [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: 'medium' }),
  });
  ctx.keepsOld();
  if (table) ctx.overlay.drop(table, `dropped by statement ${ctx.statement.number}`);
  ctx.asked(`- ${word.toLowerCase()} ${named.schema === null ? '' : `${shown(named.schema)}.`}${shown(named.name)}`);
}

function needed(ctx: PlanContext, table: Table): boolean {
  const found = dependentsOf(ctx, table, null);
  if (found.length === 0) return false;
  for (const n of found) ctx.dependent({ type: n.type, name: n.name, of: shownRelation(table), handled: 'refused' });
  ctx.refuse({
    rule: 'dependents',
    message: `${shownRelation(table)} is used by ${found.map((n) => `${n.type} ${n.name}`).join(', ')}`,
    alternative: 'change or drop these first, each by its name',
    relation: shownRelation(table),
  });
  return true;
}

/** As far as the catalogue or an earlier statement of the plan knows. */
function isThere(ctx: PlanContext, named: Named, word: string): boolean {
  if (ctx.overlay.madeObject(named.name)) return true;
  const lists: Readonly<Record<string, readonly { readonly schema?: string; readonly name: string }[]>> = {
    SEQUENCE: ctx.catalog.sequences,
    FUNCTION: ctx.catalog.functions,
    PROCEDURE: ctx.catalog.functions,
    TYPE: ctx.catalog.types,
    DOMAIN: ctx.catalog.types,
    SCHEMA: ctx.catalog.schemas.map((name) => ({ name })),
  };
  return (lists[word] ?? []).some((o) => o.name === named.name && (named.schema === null || o.schema === named.schema));
}

/** A function that triggers call, a schema that is not empty. */
function inUse(ctx: PlanContext, named: Named, word: string): boolean {
  const tables = ctx.overlay.all();
  const users =
    word === 'FUNCTION'
      ? tables.flatMap((t) =>
          t.triggers
            .filter((g) => g.function.split('.').at(-1)?.replaceAll('"', '') === named.name)
            .map((g) => `trigger ${shown(g.name)} of ${shownRelation(t)}`),
        )
      : word === 'SCHEMA'
        ? tables.filter((t) => t.schema === named.name).map(shownRelation)
        : [];
  if (users.length === 0) return false;
  ctx.refuse({
    rule: 'dependents',
    message: `${word.toLowerCase()} ${shown(named.name)} is used by ${users.join(', ')}`,
    alternative: 'change or drop these first, each by its name',
  });
  return true;
}

/** A type that a column has cannot go. */
function usedType(ctx: PlanContext, named: Named, word: string): boolean {
  if (word !== 'TYPE' && word !== 'DOMAIN') return false;
  const users = ctx.overlay
    .all()
    .flatMap((t) =>
      t.columns
        .filter(
          (c) =>
            c.typeName.name.replace(/^_/, '') === named.name &&
            (named.schema === null || c.typeName.schema === named.schema),
        )
        .map((c) => `${shownRelation(t)}.${shown(c.name)}`),
    );
  if (users.length === 0) return false;
  ctx.refuse({
    rule: 'dependents',
    message: `type ${shown(named.name)} is the type of ${users.join(', ')}`,
    alternative: 'change these columns in a migration before this one',
  });
  return true;
}

/** Trigger, policy, rule: in contract; the definition is known. */
function dropPart(ctx: PlanContext, statement: DropStmt, object: Node): void {
  const parts = strings(as(object, 'List')?.items);
  const name = parts.at(-1) ?? '';
  const range = { relname: parts.at(-2) ?? '', ...(parts.length > 2 ? { schemaname: parts.at(-3) ?? '' } : {}) };
  const table = statement.missing_ok ? ctx.overlay.find(range) : ctx.overlay.need(range, ctx.where());
  const kind =
    { OBJECT_TRIGGER: 'trigger', OBJECT_POLICY: 'policy', OBJECT_RULE: 'rule' }[
      statement.removeType as 'OBJECT_TRIGGER'
    ] ?? 'trigger';
  const list: readonly { name: string; definition: string }[] = !table
    ? []
    : kind === 'trigger'
      ? table.triggers
      : kind === 'policy'
        ? table.policies
        : table.rules;
  const part = list.find((p) => p.name === name);
  if (!table || !part) {
    if (!statement.missing_ok)
      throw ctx.problem('NoSuchObject', `${kind} ${shown(name)} does not exist`, { value: name });
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `${kind} ${shown(name)} does not exist: nothing to do, as IF EXISTS says`,
    });
    return;
  }
  const trigger = table.triggers.find((t) => t.name === name);
  const state = { D: 'DISABLE', R: 'ENABLE REPLICA', A: 'ENABLE ALWAYS' }[trigger?.enabled ?? ''];
  const drop = `DROP ${kind.toUpperCase()} IF EXISTS ${ident(name)} ON ${relation(table)}`;
  const mode: LockMode = 'ACCESS EXCLUSIVE';
  ctx.add({
    phase: 'contract',
    action: `drop_${kind}`,
    title: `drop ${kind} ${shown(name)} of ${shownRelation(table)}`,
    run: transaction([drop], {
      lockFirst: table.kind === 'table' || table.kind === 'partitioned' ? [lockTarget(table, mode)] : [],
    }),
    undo: [
      transaction([
        guarded(
          relationExists(table),
          drop,
          part.definition,
          ...(kind === 'trigger' && state ? [`ALTER TABLE ${relation(table)} ${state} TRIGGER ${ident(name)}`] : []),
        ),
      ]),
    ],
    wayBack: { statement: part.definition, lossless: true },
    locks: [plannedLock(table, mode)],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.overlay.change(table, (t) => ({
    ...t,
    triggers: kind === 'trigger' ? t.triggers.filter((p) => p.name !== name) : t.triggers,
    policies: kind === 'policy' ? t.policies.filter((p) => p.name !== name) : t.policies,
    rules: kind === 'rule' ? t.rules.filter((p) => p.name !== name) : t.rules,
  }));
  ctx.asked(`- ${kind} ${name} on ${shownRelation(table)}`);
}

function dropWithoutWayBack(ctx: PlanContext, statement: DropStmt, object: Node): void {
  const what = (statement.removeType ?? '')
    .replace(/^OBJECT_/, '')
    .replaceAll('_', ' ')
    .toLowerCase();
  if (
    !withoutWayBack(
      ctx,
      `a dropped ${what} is not kept, and its definition is not known to the planner`,
      'allow no_way_back, and keep the definition',
    )
  )
    return;
  try {
    dropSql(statement, object, false);
  } catch {
    return refuseAsWritten(ctx, {
      rule: 'not_understood',
      message: `this DROP ${what} is not understood by this version`,
      alternative: 'run it by hand',
    });
  }
  ctx.add({
    phase: 'contract',
    action: 'drop_object',
    title: `drop ${what} ${namedObject(object).name}`,
    run: transaction([dropSql(statement, object, statement.missing_ok ?? false)]),
    undo: [],
    wayBack: null,
    because: 'its definition is not kept',
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: 'high' }),
  });
}
