/** UNIQUE and PRIMARY KEY: duplicates are looked for, the index is built concurrently under its final name, and contract attaches it. */
import { strings } from '../ast';
import { brief, risk } from '../figures';
import { chooseIndexName } from '../indexNames';
import { ident, shown, shownRelation } from '../../model/quote';
import { alter, alterIfExists, constraintTaken, lockTarget, locksOf, newConstraint, transaction } from './shared';
import { addConcurrentBuild, checkDuplicates, indexOf } from './createIndex';
import { concurrently } from './keys';
import { planNotNull } from './setNotNull';
import type { Constraint as ConstraintNode, IndexStmt, Node } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';
import type { AddOptions } from './constraints';

const element = (name: string): Node => ({
  IndexElem: { name, ordering: 'SORTBY_DEFAULT', nulls_ordering: 'SORTBY_NULLS_DEFAULT' },
});

/** The unique index that the constraint stands on. */
function indexStatement(node: ConstraintNode, table: Table): IndexStmt {
  return {
    relation: { schemaname: table.schema, relname: table.name, inh: true, relpersistence: 'p' },
    accessMethod: 'btree',
    indexParams: strings(node.keys).map(element),
    ...(node.including ? { indexIncludingParams: strings(node.including).map(element) } : {}),
    ...(node.options ? { options: node.options } : {}),
    ...(node.indexspace ? { tableSpace: node.indexspace } : {}),
    ...(node.nulls_not_distinct ? { nulls_not_distinct: true } : {}),
    unique: true,
  };
}

export function planUnique(ctx: PlanContext, table: Table, node: ConstraintNode, options: AddOptions): void {
  const primary = node.contype === 'CONSTR_PRIMARY';
  if (primary && table.constraints.some((c) => c.type === 'primary')) {
    ctx.refuse({
      rule: 'name_in_use',
      message: `${shownRelation(table)} has a primary key already`,
      alternative: 'drop the old one in a migration before this one',
      relation: shownRelation(table),
    });
    return;
  }
  if (node.indexname !== undefined) return attachGiven(ctx, table, node, primary);
  if (node.without_overlaps) return refuseOverlaps(ctx, table);
  const keys = strings(node.keys);
  const columns = keys.map((name) => ctx.overlay.needColumn(table, name, ctx.where(node.location)));
  if (refuseHard(ctx, table, keys)) return;
  const statement = indexStatement(node, table);
  const name =
    node.conname ??
    chooseIndexName(ctx, table, statement.indexParams, statement.indexIncludingParams, primary ? 'pkey' : 'key');
  if (ctx.overlay.taken({ schema: table.schema, name })) {
    ctx.refuse({
      rule: 'name_in_use',
      message: `${shownRelation({ schema: table.schema, name })} exists already`,
      alternative: 'choose another constraint name, or attach the index that is there: ADD CONSTRAINT ... USING INDEX',
      relation: shownRelation(table),
    });
    return;
  }
  if (primary)
    for (const column of columns)
      if (!column.notNull) planNotNull(ctx, table, column, { phase: options.phase, fresh: options.fresh });
  checkDuplicates(ctx, table, statement);
  // A name that an earlier statement frees is free only in contract: until then the index has one of ours.
  const built = ctx.overlay.isGone({ schema: table.schema, name })
    ? ctx.names.make('idx', table.schema, table.name, name)
    : name;
  addConcurrentBuild(ctx, table, statement, built);
  ctx.overlay.addIndex(table, {
    ...indexOf(statement, table, built),
    primary,
    constraint: name,
    immediate: !(node.deferrable ?? false),
  });
  attach(ctx, table, node, name, built, primary, false);
}

/** Cases in which Postgres offers no way over an index. */
function refuseHard(ctx: PlanContext, table: Table, keys: readonly string[]): boolean {
  const relation = shownRelation(table);
  const retyped = keys.find((key) => ctx.retyped(table, key) !== null);
  if (retyped !== undefined) {
    ctx.refuse({
      rule: 'separate_migration',
      message: `the type of ${relation}.${shown(retyped)} changes in the same plan: the constraint would be built twice`,
      alternative: 'add the constraint in a migration that depends on this one',
      relation,
    });
    return true;
  }
  if (table.kind !== 'partitioned') return false;
  ctx.refuse({
    rule: 'partitioned_unique_constraint',
    message: `Postgres cannot attach an index as a constraint of the partitioned table ${relation}: the constraint would be built while nobody can write`,
    alternative: 'CREATE UNIQUE INDEX ON the table, which is built concurrently for each partition',
    relation,
  });
  return true;
}

function refuseOverlaps(ctx: PlanContext, table: Table): void {
  ctx.refuse({
    rule: 'exclusion_constraint',
    message: `WITHOUT OVERLAPS builds its index while nobody can write to ${shownRelation(table)}`,
    alternative: 'make a new table with the constraint and move the rows',
    relation: shownRelation(table),
  });
}

/** The user's own USING INDEX: as it is; the way back builds the index again, since dropping the constraint drops it. */
function attachGiven(ctx: PlanContext, table: Table, node: ConstraintNode, primary: boolean): void {
  const indexname = node.indexname ?? '';
  const index = table.indexes.find((i) => i.name === indexname);
  if (!index)
    throw ctx.problem('NoSuchObject', `index ${shown(indexname)} of ${shownRelation(table)} does not exist`, {
      value: indexname,
    });
  if (primary)
    for (const key of index.keys) {
      const column = table.columns.find((c) => c.name === key);
      if (column && !column.notNull) planNotNull(ctx, table, column, { phase: 'expand' });
    }
  attach(ctx, table, node, node.conname ?? indexname, indexname, primary, true);
}

function attach(
  ctx: PlanContext,
  table: Table,
  node: ConstraintNode,
  name: string,
  indexname: string,
  primary: boolean,
  given: boolean,
): void {
  const index = (ctx.overlay.at(table) ?? table).indexes.find((i) => i.name === indexname);
  const deferred = `${node.deferrable ? ' DEFERRABLE' : ''}${node.initdeferred ? ' INITIALLY DEFERRED' : ''}`;
  const add = alter(
    table,
    `ADD CONSTRAINT ${ident(name)} ${primary ? 'PRIMARY KEY' : 'UNIQUE'} USING INDEX ${ident(indexname)}${deferred}`,
  );
  const drop = alterIfExists(table, `DROP CONSTRAINT IF EXISTS ${ident(name)}`);
  ctx.add({
    phase: 'contract',
    action: primary ? 'add_primary_key' : 'add_unique',
    title: `make index ${shown(indexname)} the ${primary ? 'primary key' : 'unique constraint'} of ${shownRelation(table)}`,
    run: transaction([add], { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')] }),
    undo: [
      transaction([drop]),
      ...(given && index
        ? [
            {
              kind: 'create-index' as const,
              index: { schema: index.schema, name: indexname },
              table: { schema: table.schema, name: table.name },
              statement: concurrently(index.definition),
              unique: true,
            },
          ]
        : []),
    ],
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  if (!constraintTaken(ctx, table.schema, name))
    ctx.overlay.addConstraint(
      table,
      newConstraint(table, name, primary ? 'primary' : 'unique', {
        columns: strings(node.keys),
        index: { schema: table.schema, name: indexname },
      }),
    );
  ctx.asked(`+ constraint ${name} on ${shownRelation(table)}`);
}
