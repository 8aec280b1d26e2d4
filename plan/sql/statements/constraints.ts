/**
 * ADD CONSTRAINT: CHECK and FOREIGN KEY as NOT VALID and a later VALIDATE, UNIQUE and PRIMARY KEY over an index that was built
 * concurrently. No table is read under a lock that keeps writers out.
 */
import { as, strings } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { chooseConstraintName } from '../indexNames';
import { ident, shown, shownRelation } from '../../model/quote';
import { alterIfExists, columnsIn, commandSql, lockTarget, locksOf, transaction, columnLabel } from './shared';
import { planNotNull } from './setNotNull';
import { planUnique } from './unique';
import { planCheck } from './check';
import { planForeignKey } from './foreignKey';
import { addSql, note } from './notValid';
import type { AlterTableCmd, AlterTableStmt, Constraint as ConstraintNode } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';

export interface AddOptions {
  /** 'build' when a column that it names is filled by this plan first. */
  readonly phase: 'expand' | 'build';
  /** The columns are made by this plan: rows that are there need no question. */
  readonly fresh: boolean;
}

const TOGETHER: AddOptions = { phase: 'expand', fresh: false };

export function planAddConstraint(
  ctx: PlanContext,
  table: Table,
  statement: AlterTableStmt,
  command: AlterTableCmd,
): void {
  const node = as(command.def, 'Constraint');
  if (!node) return;
  if (node.conname !== undefined && table.constraints.some((c) => c.name === node.conname)) {
    ctx.refuse({
      rule: 'name_in_use',
      message: `constraint ${shown(node.conname)} of ${shownRelation(table)} exists already`,
      alternative: 'choose another name, or drop the old constraint in a migration before this one',
      relation: shownRelation(table),
    });
    return;
  }
  if (ctx.overlay.isNew(table)) return asIs(ctx, table, node, commandSql(ctx, statement, command));
  planConstraint(ctx, table, node, TOGETHER);
}

/** Also for the constraints of ADD COLUMN, which come with their column filled in. */
export function planConstraint(ctx: PlanContext, table: Table, node: ConstraintNode, options: AddOptions): void {
  switch (node.contype) {
    case 'CONSTR_CHECK':
      return planCheck(ctx, table, node, options);
    case 'CONSTR_FOREIGN':
      return planForeignKey(ctx, table, node, options);
    case 'CONSTR_UNIQUE':
    case 'CONSTR_PRIMARY':
      return planUnique(ctx, table, node, options);
    case 'CONSTR_NOTNULL': {
      const name = strings(node.keys)[0] ?? '';
      const column = ctx.overlay.needColumn(table, name, ctx.where(node.location));
      if (!column.notNull) {
        ctx.asked(`~ column ${columnLabel(table, name)}: set_not_null`);
        if (node.conname !== undefined) ctx.asked(`+ constraint ${node.conname} on ${shownRelation(table)}`);
      } else {
        ctx.finding({
          rule: 'nothing_to_do',
          level: 'info',
          message: `${columnLabel(table, name)} is NOT NULL already`,
          relation: shownRelation(table),
        });
        return;
      }
      return planNotNull(ctx, table, column, { phase: options.phase, name: node.conname ?? null });
    }
    default: {
      const go = ctx.refuse({
        rule: node.contype === 'CONSTR_EXCLUSION' ? 'exclusion_constraint' : 'not_understood',
        message:
          node.contype === 'CONSTR_EXCLUSION'
            ? `an EXCLUDE constraint builds its index while nobody can write to ${shownRelation(table)}; Postgres has no way to build it concurrently`
            : `this constraint on ${shownRelation(table)} is not understood`,
        alternative:
          node.contype === 'CONSTR_EXCLUSION'
            ? 'make a new table with the constraint and move the rows, or allow exclusion_constraint in a quiet window'
            : null,
        relation: shownRelation(table),
      });
      if (go) runPlain(ctx, table, node);
    }
  }
}

/** Allowed by name: the user's own constraint in one transaction, under the lock ladder. */
export function runPlain(ctx: PlanContext, table: Table, node: ConstraintNode): void {
  asIs(ctx, table, node, addSql(table, node));
}

function asIs(ctx: PlanContext, table: Table, node: ConstraintNode, sql: string): void {
  const name = node.conname ?? guessName(ctx, table, node);
  const target =
    node.contype === 'CONSTR_FOREIGN' ? ctx.overlay.need(node.pktable ?? {}, ctx.where(node.pktable?.location)) : null;
  const mode = target ? 'SHARE ROW EXCLUSIVE' : 'ACCESS EXCLUSIVE';
  ctx.add({
    phase: 'expand',
    action: 'add_constraint',
    title: `add constraint ${shown(name)} to ${shownRelation(table)}`,
    run: transaction([sql], {
      lockFirst: [lockTarget(table, mode), ...(target && target.name !== table.name ? [lockTarget(target, mode)] : [])],
    }),
    undo: [transaction([alterIfExists(table, `DROP CONSTRAINT IF EXISTS ${ident(name)}`)])],
    locks: [...locksOf(ctx, table, mode), ...(target ? [plannedLock(target, mode)] : [])],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  note(ctx, table, node, name);
}

function guessName(ctx: PlanContext, table: Table, node: ConstraintNode): string {
  if (node.contype === 'CONSTR_CHECK')
    return chooseConstraintName(ctx, table, columnsIn(table, node.raw_expr), 'check');
  if (node.contype === 'CONSTR_FOREIGN') return chooseConstraintName(ctx, table, strings(node.fk_attrs), 'fkey');
  if (node.contype === 'CONSTR_PRIMARY') return `${table.name}_pkey`;
  return `${table.name}_${strings(node.keys).join('_')}_key`;
}
