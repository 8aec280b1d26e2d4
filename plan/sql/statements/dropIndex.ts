/** DROP INDEX, concurrently and in contract; the way back builds it again concurrently, with its comment and what else hung on it. */
import { nameOf } from '../ast';
import { as } from '../ast';
import { brief, buildOf, plannedLock, risk } from '../figures';
import { relation, shown, shownRelation } from '../../model/quote';
import { buildBack, indexExtras } from './keys';
import { lockTarget, transaction } from './shared';
import type { DropStmt } from 'libpg-query';
import type { Index, Table } from '../../model/catalog';
import type { StepRun } from '../../model/steps';
import type { PlanContext } from '../context';

export function planDropIndex(ctx: PlanContext, statement: DropStmt): void {
  for (const object of statement.objects ?? []) {
    const name = nameOf(as(object, 'List')?.items ?? []);
    const found = ctx.overlay.findIndex(name);
    if (!found) {
      if (!statement.missing_ok)
        throw ctx.problem('NoSuchObject', `index ${shown(name.relname)} does not exist`, { value: name.relname });
      ctx.finding({
        rule: 'nothing_to_do',
        level: 'info',
        message: `index ${shown(name.relname)} does not exist: nothing to do, as IF EXISTS says`,
      });
      continue;
    }
    planOne(ctx, found.table, found.index);
  }
}

function planOne(ctx: PlanContext, table: Table, index: Index): void {
  const at = shownRelation(index);
  if (index.constraint !== null) {
    ctx.refuse({
      rule: 'index_of_constraint',
      message: `index ${at} belongs to constraint ${shown(index.constraint)} of ${shownRelation(table)}`,
      alternative: `ALTER TABLE ${shownRelation(table)} DROP CONSTRAINT ${shown(index.constraint)}`,
      relation: shownRelation(table),
    });
    return;
  }
  if (index.parent !== null) {
    ctx.refuse({
      rule: 'inherited',
      message: `index ${at} is part of ${shownRelation(index.parent)}`,
      alternative: 'drop the index of the parent',
      relation: shownRelation(table),
    });
    return;
  }
  const needed = table.incoming.filter(
    (f) =>
      index.unique &&
      f.references &&
      f.references.columns.length === index.keys.length &&
      f.references.columns.every((c) => index.keys.includes(c)),
  );
  if (
    needed.length > 0 &&
    !table.indexes.some(
      (i) =>
        i !== index &&
        i.unique &&
        i.immediate &&
        i.predicate === null &&
        i.keys.length === index.keys.length &&
        i.keys.every((k) => index.keys.includes(k)),
    )
  ) {
    ctx.refuse({
      rule: 'dependents',
      message: `foreign keys need index ${at}: ${needed.map((f) => shown(f.name)).join(', ')}`,
      alternative: 'drop them first, each by its name',
      relation: shownRelation(table),
    });
    return;
  }
  if (index.replicaIdentity)
    ctx.finding({
      rule: 'replica_identity',
      level: 'warning',
      message: `index ${at} is the replica identity of ${shownRelation(table)}: without it, UPDATE and DELETE fail where the table is published`,
      alternative: 'set another REPLICA IDENTITY first',
      relation: shownRelation(table),
    });
  if (table.kind === 'partitioned') dropPartitioned(ctx, table, index);
  else dropIndexStep(ctx, table, index, { phase: 'contract', back: true });
  ctx.overlay.change(table, (t) => ({ ...t, indexes: t.indexes.filter((i) => i.name !== index.name) }));
  ctx.overlay.release({ schema: index.schema, name: index.name });
  ctx.asked(`- index ${at}`);
}

const lockedBy = 'SHARE UPDATE EXCLUSIVE';

export function dropIndexStep(
  ctx: PlanContext,
  table: Table,
  index: Index,
  how: { phase: 'contract' | 'cleanup'; back: boolean },
): void {
  const extras = indexExtras(table, index);
  const back: StepRun[] = [buildBack(table, index), ...(extras.length > 0 ? [transaction(extras)] : [])];
  ctx.add({
    phase: how.phase,
    action: 'drop_index',
    title: `drop index ${shownRelation(index)} concurrently`,
    run: { kind: 'drop-index', index: { schema: index.schema, name: index.name } },
    undo: how.back ? back : [],
    ...(how.back ? {} : { wayBack: null, because: 'it goes with its column, after the hold' }),
    locks: [plannedLock(table, lockedBy)],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ performance: 'medium', rollback: buildOf(table).seconds[1] > 60 ? 'medium' : 'low' }),
  });
}

/** The index of a partitioned table cannot be dropped concurrently: short, but under ACCESS EXCLUSIVE on all its parts. */
function dropPartitioned(ctx: PlanContext, table: Table, index: Index): void {
  const go = ctx.refuse({
    rule: 'partitioned_drop_index',
    message: `Postgres cannot drop ${shownRelation(index)} of the partitioned table ${shownRelation(table)} concurrently: it locks every partition`,
    alternative: 'allow it: the lock is short, and comes under the lock ladder',
    relation: shownRelation(table),
  });
  if (!go) return;
  ctx.add({
    phase: 'contract',
    action: 'drop_index',
    title: `drop index ${shownRelation(index)} and its parts`,
    run: transaction([`DROP INDEX IF EXISTS ${relation(index)}`], {
      lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')],
    }),
    undo: [],
    wayBack: null,
    because: `it would have to be built again for each partition: ${index.definition}`,
    locks: [plannedLock(table, 'ACCESS EXCLUSIVE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: 'medium' }),
  });
}
