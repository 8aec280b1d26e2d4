/**
 * DROP CONSTRAINT. CHECK, FOREIGN KEY and NOT NULL go at once (what they refused, clients may write from then on) and come back NOT VALID
 * and validated. UNIQUE and PRIMARY KEY go in contract with their index, which the way back builds concurrently before attaching it.
 */
import { brief, isSmall, plannedLock, risk } from '../figures';
import { ident, shown, shownRelation } from '../../model/quote';
import { addBack } from './keys';
import { restoreConstraint, restoreNotNull } from './restore';
import { alter, commandSql, lockTarget, locksOf, transaction } from './shared';
import type { AlterTableCmd, AlterTableStmt } from 'libpg-query';
import type { Constraint, Table } from '../../model/catalog';
import type { StepRun } from '../../model/steps';
import type { PlanContext } from '../context';

export function planDropConstraint(
  ctx: PlanContext,
  table: Table,
  statement: AlterTableStmt,
  command: AlterTableCmd,
): void {
  const name = command.name ?? '';
  const constraint = table.constraints.find((c) => c.name === name);
  if (!constraint) {
    if (!command.missing_ok)
      throw ctx.problem('NoSuchObject', `constraint ${shown(name)} of ${shownRelation(table)} does not exist`, {
        value: name,
      });
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `constraint ${shown(name)} of ${shownRelation(table)} does not exist: nothing to do, as IF EXISTS says`,
      relation: shownRelation(table),
    });
    return;
  }
  if (constraint.inherited || constraint.hasParent) {
    ctx.refuse({
      rule: 'inherited',
      message: `constraint ${shown(name)} of ${shownRelation(table)} comes from its parent`,
      alternative: 'drop it on the parent',
      relation: shownRelation(table),
    });
    return;
  }
  const needed = table.incoming.filter(
    (f) =>
      f.type === 'foreign' &&
      constraint.index !== null &&
      f.references !== null &&
      sameColumns(f.references.columns, constraint.columns),
  );
  if (needed.length > 0) {
    for (const f of needed)
      ctx.dependent({ type: 'constraint', name: f.name, of: shownRelation(table), handled: 'refused' });
    ctx.refuse({
      rule: 'dependents',
      message: `foreign keys need ${shown(name)}: ${needed.map((f) => `${shown(f.name)} of ${shownRelation(f.table)}`).join(', ')}`,
      alternative: 'drop them first, each by its name',
      relation: shownRelation(table),
    });
    return;
  }
  dropIt(ctx, table, constraint, commandSql(ctx, statement, command));
  ctx.overlay.dropConstraint(table, name);
  ctx.asked(`- constraint ${name} on ${shownRelation(table)}`);
}

const sameColumns = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((c) => b.includes(c));

function dropIt(ctx: PlanContext, table: Table, constraint: Constraint, sql: string): void {
  const target = constraint.references ? ctx.overlay.at(constraint.references.table) : null;
  const other = target && !(target.schema === table.schema && target.name === table.name) ? target : null;
  const indexed = constraint.index !== null && constraint.type !== 'foreign';
  ctx.add({
    phase: indexed ? 'contract' : 'expand',
    action: 'drop_constraint',
    title: `drop ${constraint.type === 'foreign' ? 'foreign key' : constraint.type} constraint ${shown(constraint.name)} of ${shownRelation(table)}`,
    run: transaction([sql], {
      lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE'), ...(other ? [lockTarget(other, 'ACCESS EXCLUSIVE')] : [])],
    }),
    undo: wayBack(ctx, table, constraint),
    wayBack: {
      statement: `${alter(table, `ADD CONSTRAINT ${ident(constraint.name)} ${constraint.definition}`)} -- ${indexed ? 'over an index built concurrently' : 'not valid first, then validated'}`,
      lossless: true,
    },
    locks: [...locksOf(ctx, table, 'ACCESS EXCLUSIVE'), ...(other ? [plannedLock(other, 'ACCESS EXCLUSIVE')] : [])],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ rollback: isSmall(table) ? 'low' : 'medium' }),
  });
}

/** Everything that makes the constraint again. Rows written meanwhile may violate it: VALIDATE then says so. */
export function wayBack(ctx: PlanContext, table: Table, constraint: Constraint): StepRun[] {
  if (constraint.type === 'not-null') {
    const column = table.columns.find((c) => c.name === constraint.columns[0]);
    return column ? restoreNotNull(ctx, table, column) : [];
  }
  const index = constraint.index && table.indexes.find((i) => i.name === constraint.index?.name);
  if (index && (constraint.type === 'unique' || constraint.type === 'primary'))
    return addBack(table, constraint, index);
  return restoreConstraint(table, constraint);
}
