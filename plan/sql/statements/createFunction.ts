/**
 * CREATE [OR REPLACE] FUNCTION or PROCEDURE. A replaced one is kept as a hidden copy: the way back gives the same object its old body, so
 * that triggers, views and defaults that call it never notice. Whether one is replaced is decided when it runs.
 */
import { as, nameOf, typeSql } from '../ast';
import { brief, risk } from '../figures';
import { ident, literal, relation, shownRelation } from '../../model/quote';
import { dropAfterHold } from './createObject';
import { transaction } from './shared';
import type { CreateFunctionStmt } from 'libpg-query';
import type { RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

const INPUT: readonly string[] = ['FUNC_PARAM_IN', 'FUNC_PARAM_INOUT', 'FUNC_PARAM_VARIADIC', 'FUNC_PARAM_DEFAULT'];

function inputTypes(statement: CreateFunctionStmt): string {
  return (statement.parameters ?? [])
    .flatMap((node) => as(node, 'FunctionParameter') ?? [])
    .filter((p) => INPUT.includes(p.mode ?? 'FUNC_PARAM_DEFAULT'))
    .map((p) => (p.argType ? typeSql(p.argType) : 'unknown'))
    .join(', ');
}

/** A DO block that gives `to` the definition of `from`; pg_get_functiondef() begins with words and name, which are exchanged. */
const copied = (word: string, from: RelationName, to: RelationName, types: string): string => {
  const source = literal(`${relation(from)}(${types})`).trimStart();
  const head = `pg_catalog.format('CREATE OR REPLACE ${word} %I.%I(', n.nspname, p.proname)`;
  const fresh = literal(`CREATE OR REPLACE ${word} ${relation(to)}(`).trimStart();
  return (
    `DECLARE d text; BEGIN SELECT ${fresh} || pg_catalog.substr(pg_catalog.pg_get_functiondef(p.oid), pg_catalog.length(${head}) + 1) INTO d ` +
    `FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = pg_catalog.to_regprocedure(${source}); ` +
    `IF d IS NOT NULL THEN EXECUTE d; END IF; END`
  );
};

export function planCreateFunction(ctx: PlanContext, statement: CreateFunctionStmt): void {
  const named = nameOf(statement.funcname);
  const name = { schema: named.schemaname ?? ctx.overlay.creationSchema, name: named.relname };
  const word = statement.is_procedure ? 'PROCEDURE' : 'FUNCTION';
  const types = inputTypes(statement);
  const copy = { schema: name.schema, name: ctx.names.make('was', word, name.schema, types, name.name) };
  const known =
    statement.replace === true && ctx.catalog.functions.some((f) => f.schema === name.schema && f.name === name.name);
  const drop = `DROP ${word} IF EXISTS ${relation(name)}(${types})`;
  const dropCopy = `DROP ${word} IF EXISTS ${relation(copy)}(${types})`;
  const isThere = `pg_catalog.to_regprocedure(${literal(`${relation(copy)}(${types})`).trimStart()}) IS NOT NULL`;
  const block = (body: string): string => `DO ${literal(body).trimStart()}`;
  const restore = block(
    `BEGIN IF ${isThere} THEN EXECUTE ${literal(block(copied(word, copy, name, types))).trimStart()}; EXECUTE ${literal(dropCopy).trimStart()}; ELSE EXECUTE ${literal(drop).trimStart()}; END IF; END`,
  );
  // Twice taken back: the copy is gone, and the old function must stay. So a second pass drops nothing where the name was known before.
  const restoreOnly = block(
    `BEGIN IF ${isThere} THEN EXECUTE ${literal(block(copied(word, copy, name, types))).trimStart()}; EXECUTE ${literal(dropCopy).trimStart()}; END IF; END`,
  );
  ctx.add({
    phase: 'expand',
    action: known ? 'replace_function' : 'create_function',
    title: `${known ? 'replace' : 'create'} ${word.toLowerCase()} ${shownRelation(name)}`,
    run: transaction([...(known ? [block(copied(word, name, copy, types))] : []), ctx.statement.text]),
    undo: [transaction([known ? (sameSignature(ctx, name, statement) ? restoreOnly : restore) : drop])],
    wayBack: { statement: known ? `-- its old body, kept as ${ident(copy.name)}; or ${drop}` : drop, lossless: true },
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: known ? 'medium' : 'low' }),
  });
  if (!known) ctx.overlay.noteObject(name.name);
  if (known) dropAfterHold(ctx, `the old ${word.toLowerCase()} ${shownRelation(name)}`, dropCopy);
  ctx.asked(`${known ? '~' : '+'} ${word.toLowerCase()} ${shownRelation(name)}`);
}

/** The catalogue has one function of the name with as many arguments: then it is the one that is replaced. */
function sameSignature(ctx: PlanContext, name: RelationName, statement: CreateFunctionStmt): boolean {
  const count = (statement.parameters ?? []).filter((n) =>
    INPUT.includes(as(n, 'FunctionParameter')?.mode ?? ''),
  ).length;
  const arity = (text: string): number => (text === '' ? 0 : text.split(/,(?![^(]*\))/).length);
  return ctx.catalog.functions.some(
    (f) => f.schema === name.schema && f.name === name.name && arity(f.arguments) === count,
  );
}
