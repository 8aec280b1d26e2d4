/**
 * An index on a partitioned table: first the parent's own (ON ONLY, invalid, no scan), then each leaf's concurrently, then attached. The
 * parent's index becomes valid by itself when the last one is attached. Names of the parts are those that Postgres would choose.
 */
import { brief, plannedLock, risk } from '../figures';
import { chooseIndexName } from '../indexNames';
import { relation, shownRelation } from '../../model/quote';
import { not, relationExists, transaction, guarded } from './shared';
import { addConcurrentBuild, checkDuplicates, indexOf, namedIndex } from './createIndex';
import type { IndexStmt } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

export function planPartitionedIndex(ctx: PlanContext, table: Table, statement: IndexStmt, name: string): void {
  if (statement.unique) for (const leaf of leavesOf(ctx, table)) checkDuplicates(ctx, leaf, statement);
  planLevel(ctx, table, statement, name, null);
  ctx.asked(`+ index ${shownRelation({ schema: table.schema, name })}`);
}

const leavesOf = (ctx: PlanContext, table: Table): Table[] =>
  table.children.flatMap((child) => {
    const found = ctx.overlay.at(child);
    if (!found) return [];
    return found.kind === 'partitioned' ? leavesOf(ctx, found) : [found];
  });

/** `parent` is the index that this level's index is attached to. */
function planLevel(
  ctx: PlanContext,
  table: Table,
  statement: IndexStmt,
  name: string,
  parent: RelationName | null,
): void {
  const index = { schema: table.schema, name };
  if (table.kind === 'partitioned') {
    const create = namedIndex(statement, table, name, { concurrent: false, only: true });
    ctx.add({
      phase: 'build',
      action: 'create_index',
      title: `create index ${shownRelation(index)} on the parent alone, not valid yet`,
      run: transaction([guarded(not(relationExists(index)), create)], { lockFirst: [] }),
      statement: create,
      undo: [transaction([`DROP INDEX IF EXISTS ${relation(index)}`])],
      locks: [plannedLock(table, 'SHARE')],
      work: 'metadata',
      estimate: brief(),
      risk: risk(),
    });
    ctx.overlay.addIndex(table, indexOf(statement, table, name));
    for (const child of table.children) {
      const part = ctx.overlay.at(child);
      if (!part) continue;
      const childName = chooseIndexName(ctx, part, statement.indexParams, statement.indexIncludingParams, 'idx');
      planLevel(ctx, part, statement, childName, index);
    }
  } else {
    addConcurrentBuild(ctx, table, statement, name);
    ctx.overlay.addIndex(table, indexOf(statement, table, name));
  }
  if (parent) attach(ctx, table, index, parent);
}

function attach(ctx: PlanContext, table: Table, index: RelationName, parent: RelationName): void {
  ctx.add({
    phase: 'build',
    action: 'attach_index',
    title: `attach index ${shownRelation(index)} to ${shownRelation(parent)}`,
    run: transaction([`ALTER INDEX ${relation(parent)} ATTACH PARTITION ${relation(index)}`]),
    // An attached part can neither be detached nor dropped alone, so the parent's index goes first and takes its parts with it.
    undo: [transaction([`DROP INDEX IF EXISTS ${relation(parent)}`])],
    locks: [plannedLock(table, 'ACCESS SHARE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
    own: true,
  });
}
