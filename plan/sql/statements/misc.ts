/** Statements on single objects that need no table: enum values, sequences, policies, refresh, reindex, and those whose old state is not known. */
import { as, kindOf, nameOf, sqlOf } from '../ast';
import { brief, buildOf, plannedLock, risk } from '../figures';
import { ident, literal, relation, shown, shownRelation } from '../../model/quote';
import { refuseAsWritten } from './refused';
import { guarded, lockTarget, relationExists, transaction, withoutWayBack } from './shared';
import type {
  AlterEnumStmt,
  AlterPolicyStmt,
  AlterSeqStmt,
  Node,
  RefreshMatViewStmt,
  ReindexStmt,
  TruncateStmt,
} from 'libpg-query';
import type { PlanContext } from '../context';

export function planAlterEnum(ctx: PlanContext, statement: AlterEnumStmt): void {
  const named = nameOf(statement.typeName);
  const type = ctx.catalog.types.find(
    (t) =>
      t.kind === 'enum' &&
      t.name === named.relname &&
      (named.schemaname === undefined || t.schema === named.schemaname),
  );
  const value = statement.newVal ?? '';
  if (statement.oldVal !== undefined) return renameValue(ctx, statement, value);
  if (type?.labels.includes(value)) {
    if (statement.skipIfNewValExists)
      ctx.finding({
        rule: 'nothing_to_do',
        level: 'info',
        message: `${shown(named.relname)} has the value ${literal(value).trim()} already`,
      });
    else
      ctx.refuse({
        rule: 'name_in_use',
        message: `${shown(named.relname)} has the value ${literal(value).trim()} already`,
        alternative: 'leave the statement out, or write IF NOT EXISTS',
      });
    return;
  }
  if (
    !withoutWayBack(
      ctx,
      'Postgres cannot remove a value from an enum',
      'a text column with a CHECK, or a table of values',
    )
  )
    return;
  ctx.add({
    phase: 'expand',
    action: 'add_value',
    title: `add a value to type ${shown(named.relname)}`,
    run: transaction([ctx.statement.text]),
    undo: [],
    wayBack: null,
    because: 'Postgres cannot remove a value from an enum',
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: 'medium' }),
  });
  ctx.asked(`~ type ${shown(named.relname)}: one more value`);
}

function renameValue(ctx: PlanContext, statement: AlterEnumStmt, value: string): void {
  const go = ctx.refuse({
    rule: 'rename',
    message: `clients that write the old value fail from the moment it has another name`,
    alternative: 'add the new value, move the rows, and leave the old one',
  });
  if (!go) return;
  const back = sqlOf({ AlterEnumStmt: { ...statement, oldVal: value, newVal: statement.oldVal ?? '' } });
  ctx.add({
    phase: 'contract',
    action: 'rename_value',
    title: `rename a value of type ${nameOf(statement.typeName).relname}`,
    run: transaction([ctx.statement.text]),
    undo: [
      transaction([
        `DO $pgshift$BEGIN ${back}; EXCEPTION WHEN invalid_parameter_value OR duplicate_object OR undefined_object THEN NULL; END$pgshift$`,
      ]),
    ],
    wayBack: { statement: back, lossless: true },
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ downtime: 'high' }),
  });
  ctx.asked(`~ type ${shown(nameOf(statement.typeName).relname)}: another value`);
}

export function planAlterSequence(ctx: PlanContext, statement: AlterSeqStmt): void {
  const range = statement.sequence ?? {};
  const sequence = ctx.catalog.sequences.find(
    (s) =>
      s.name === range.relname &&
      (range.schemaname === undefined ? ctx.plan.searchPath.includes(s.schema) : s.schema === range.schemaname),
  );
  if (!sequence)
    throw ctx.problem('NoSuchObject', `sequence ${shown(range.relname ?? '')} does not exist`, {
      value: range.relname ?? '',
    });
  const options = (statement.options ?? []).flatMap((n) => as(n, 'DefElem')?.defname ?? []);
  const restart = options.includes('restart');
  if (
    restart &&
    !withoutWayBack(
      ctx,
      `the number that ${shownRelation(sequence)} has reached is not kept`,
      'setval by hand, or allow no_way_back',
    )
  )
    return;
  const owned = sequence.ownedBy ? `${relation(sequence.ownedBy.table)}.${ident(sequence.ownedBy.column)}` : 'NONE';
  const back =
    `ALTER SEQUENCE ${relation(sequence)} AS ${sequence.type} INCREMENT BY ${sequence.increment} MINVALUE ${sequence.min} MAXVALUE ${sequence.max} ` +
    `START WITH ${sequence.start} CACHE ${sequence.cache} ${sequence.cycle ? 'CYCLE' : 'NO CYCLE'}${options.includes('owned_by') ? ` OWNED BY ${owned}` : ''}`;
  ctx.add({
    phase: 'expand',
    action: 'alter_sequence',
    title: `alter sequence ${shownRelation(sequence)}`,
    run: transaction([ctx.statement.text]),
    undo: restart ? [] : [transaction([guarded(relationExists(sequence), back)])],
    wayBack: restart ? null : { statement: back, lossless: true },
    because: 'the number that it had reached is not kept',
    locks: [plannedLock(sequence, 'SHARE ROW EXCLUSIVE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.asked(`~ sequence ${shownRelation(sequence)}`);
}

export function planAlterPolicy(ctx: PlanContext, statement: AlterPolicyStmt): void {
  const table = ctx.overlay.need(statement.table ?? {}, ctx.where());
  const name = statement.policy_name ?? '';
  const old = table.policies.find((p) => p.name === name);
  if (!old)
    throw ctx.problem('NoSuchObject', `policy ${shown(name)} of ${shownRelation(table)} does not exist`, {
      value: name,
    });
  ctx.add({
    phase: 'expand',
    action: 'alter_policy',
    title: `alter policy ${shown(name)} of ${shownRelation(table)}`,
    run: transaction([ctx.statement.text], { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')] }),
    undo: [
      transaction([
        guarded(relationExists(table), `DROP POLICY IF EXISTS ${ident(name)} ON ${relation(table)}`, old.definition),
      ]),
    ],
    wayBack: { statement: old.definition, lossless: true },
    locks: [plannedLock(table, 'ACCESS EXCLUSIVE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.asked(`~ policy ${shown(name)} on ${shownRelation(table)}`);
}

export function planRefresh(ctx: PlanContext, statement: RefreshMatViewStmt): void {
  const view = ctx.overlay.need(statement.relation ?? {}, ctx.where(statement.relation?.location));
  const at = shownRelation(view);
  if (
    !statement.concurrent &&
    !ctx.overlay.isNew(view) &&
    !ctx.refuse({
      rule: 'refresh',
      message: `REFRESH keeps readers of ${at} out until it is done`,
      alternative: 'REFRESH MATERIALIZED VIEW CONCURRENTLY (it needs a unique index)',
      relation: at,
    })
  )
    return;
  ctx.add({
    phase: 'backfill',
    action: 'refresh',
    title: `refresh ${at}`,
    run: transaction([ctx.statement.text], { long: true }),
    undo: [],
    wayBack: { statement: '-- its rows are made from other tables', lossless: true },
    locks: [plannedLock(view, statement.concurrent ? 'EXCLUSIVE' : 'ACCESS EXCLUSIVE', 'rewrite')],
    work: 'scan',
    estimate: buildOf(view),
    risk: risk({ performance: 'medium' }),
  });
}

export function planReindex(ctx: PlanContext, statement: ReindexStmt): void {
  const kind = statement.kind ?? '';
  if (kind !== 'REINDEX_OBJECT_INDEX' && kind !== 'REINDEX_OBJECT_TABLE')
    return refuseAsWritten(ctx, {
      rule: 'not_understood',
      message: 'REINDEX of a whole schema or database',
      alternative: 'REINDEX the tables that need it',
      autocommit: true,
    });
  const found = kind === 'REINDEX_OBJECT_INDEX' ? ctx.overlay.findIndex(statement.relation ?? {}) : null;
  const table = found
    ? found.table
    : ctx.overlay.need(statement.relation ?? {}, ctx.where(statement.relation?.location));
  const others = (statement.params ?? []).filter((n) => as(n, 'DefElem')?.defname !== 'concurrently');
  const concurrently: Node = { DefElem: { defname: 'concurrently', defaction: 'DEFELEM_UNSPEC' } };
  ctx.add({
    phase: 'build',
    action: 'reindex',
    title: `build ${found ? `index ${shownRelation(found.index)}` : `the indexes of ${shownRelation(table)}`} again, concurrently`,
    run: { kind: 'autocommit', statement: sqlOf({ ReindexStmt: { ...statement, params: [concurrently, ...others] } }) },
    undo: [],
    wayBack: { statement: '-- the index is the same', lossless: true },
    locks: [plannedLock(table, 'SHARE UPDATE EXCLUSIVE', 'scan')],
    work: 'build',
    estimate: buildOf(table),
    risk: risk({ performance: 'medium' }),
  });
}

/** Of a table without rows it is nothing; otherwise refused. */
export function planTruncate(ctx: PlanContext, statement: TruncateStmt): void {
  const tables = (statement.relations ?? [])
    .flatMap((n) => as(n, 'RangeVar') ?? [])
    .map((range) => ctx.overlay.need(range, ctx.where(range.location)));
  const empty = tables.every((t) => ctx.overlay.isEmpty(t) || (t.heapBytes === 0 && !ctx.overlay.rowsChange(t)));
  if (!empty || statement.behavior === 'DROP_CASCADE')
    return refuseAsWritten(
      ctx,
      {
        rule: statement.behavior === 'DROP_CASCADE' ? 'cascade' : 'truncate',
        message: `TRUNCATE throws all rows of ${tables.map(shownRelation).join(', ')} away under a lock that stops reads and writes`,
        alternative: 'DELETE (in batches, with archive), or DROP TABLE, which is hidden first',
      },
      tables.map((t) => plannedLock(t, 'ACCESS EXCLUSIVE')),
    );
  ctx.add({
    phase: 'expand',
    action: 'truncate',
    title: `truncate ${tables.map(shownRelation).join(', ')} (no rows)`,
    run: transaction([ctx.statement.text], { lockFirst: tables.map((t) => lockTarget(t, 'ACCESS EXCLUSIVE')) }),
    undo: [],
    locks: tables.map((t) => plannedLock(t, 'ACCESS EXCLUSIVE')),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
}

/** Catalogue changes that block nobody and whose old state the planner does not read: as they are, where no way back is needed. */
export function planUnknownInverse(ctx: PlanContext): void {
  const kind = kindOf(ctx.statement.ast)
    .replace(/Stmt$/, '')
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .toLowerCase();
  if (
    !withoutWayBack(
      ctx,
      `what was there before this ${kind} is not known to the planner`,
      'write the statement that takes it back into a migration of its own, and allow no_way_back here',
    )
  )
    return;
  ctx.add({
    phase: 'expand',
    action: kind.replaceAll(' ', '_'),
    title: ctx.statement.text.replace(/\s+/g, ' ').slice(0, 80),
    run: transaction([ctx.statement.text]),
    undo: [],
    wayBack: null,
    because: 'what was there before is not known',
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: 'medium' }),
  });
}
