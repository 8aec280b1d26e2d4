/** ADD CONSTRAINT ... NOT VALID under a short lock, VALIDATE later in a transaction of its own. */
import { sqlOf, strings, stringNode } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { ident, shownRelation } from '../../model/quote';
import {
  alterIfExists,
  bareName,
  columnsIn,
  lockTarget,
  locksOf,
  newConstraint,
  wantConstraint,
  transaction,
} from './shared';
import { addValidate } from './setNotNull';
import type { Constraint as ConstraintNode } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';

export const addSql = (table: Table, node: ConstraintNode): string =>
  sqlOf({
    AlterTableStmt: {
      relation: { schemaname: table.schema, relname: table.name, inh: true, relpersistence: 'p' },
      cmds: [{ AlterTableCmd: { subtype: 'AT_AddConstraint', def: { Constraint: node }, behavior: 'DROP_RESTRICT' } }],
      objtype: 'OBJECT_TABLE',
    },
  });

/** Into the overlay, so that later statements find it. */
export function note(ctx: PlanContext, table: Table, node: ConstraintNode, name: string): void {
  const types = {
    CONSTR_CHECK: 'check',
    CONSTR_FOREIGN: 'foreign',
    CONSTR_PRIMARY: 'primary',
    CONSTR_UNIQUE: 'unique',
    CONSTR_EXCLUSION: 'exclude',
    CONSTR_NOTNULL: 'not-null',
  } as const;
  const type = types[node.contype as keyof typeof types] ?? 'check';
  const target = node.pktable ? ctx.overlay.find(node.pktable) : null;
  ctx.overlay.addConstraint(
    table,
    newConstraint(table, name, type, {
      columns: type === 'check' ? columnsIn(table, node.raw_expr) : strings(node.fk_attrs ?? node.keys),
      definition: constraintText(node),
      validated: !(node.skip_validation ?? false),
      references: target ? { table: bareName(target), columns: referencedColumns(target, node) } : null,
      deferrable: node.deferrable ?? false,
      deferred: node.initdeferred ?? false,
    }),
  );
}

/** As pg_get_constraintdef() has it, close enough for copies: without name and NOT VALID. */
function constraintText(node: ConstraintNode): string {
  const { conname: _name, skip_validation: skipped, ...others } = node;
  const rest = node.is_enforced || !skipped ? others : { ...others, skip_validation: skipped };
  const valid = node.skip_validation && node.is_enforced ? { initially_valid: true } : {};
  const sql = addSqlBare({ ...rest, ...valid });
  return sql.replace(/^ALTER TABLE \S+\s+ADD\s+/, '');
}
const addSqlBare = (node: ConstraintNode): string =>
  sqlOf({
    AlterTableStmt: {
      relation: { relname: 't', inh: true, relpersistence: 'p' },
      cmds: [{ AlterTableCmd: { subtype: 'AT_AddConstraint', def: { Constraint: node }, behavior: 'DROP_RESTRICT' } }],
      objtype: 'OBJECT_TABLE',
    },
  });

const unvalidated = (node: ConstraintNode, name: string): ConstraintNode => {
  const { initially_valid: _valid, ...rest } = node;
  return { ...rest, conname: name, skip_validation: true };
};

/** NOT VALID now, VALIDATE later; `validate` false where the user wrote NOT VALID or NOT ENFORCED. */
export function addNotValid(
  ctx: PlanContext,
  table: Table,
  node: ConstraintNode,
  name: string,
  what: string,
  phase: 'expand' | 'build',
  between: (() => void) | null = null,
): void {
  const target =
    node.contype === 'CONSTR_FOREIGN' && node.pktable
      ? ctx.overlay.need(node.pktable, ctx.where(node.pktable.location))
      : null;
  const mode = target ? 'SHARE ROW EXCLUSIVE' : 'ACCESS EXCLUSIVE';
  const others = target && !(target.schema === table.schema && target.name === table.name) ? [target] : [];
  const enforced = node.is_enforced ?? false;
  const qualifiedNode =
    target && node.pktable ? { ...node, pktable: { ...node.pktable, schemaname: target.schema } } : node;
  ctx.add({
    phase,
    action: target ? 'add_foreign_key' : 'add_check',
    title: `add ${what} to ${shownRelation(table)}${enforced ? ', not valid yet' : ''}`,
    run: transaction(
      [addSql(table, enforced ? unvalidated(qualifiedNode, name) : { ...qualifiedNode, conname: name })],
      {
        lockFirst: [lockTarget(table, mode), ...others.map((t) => lockTarget(t, mode))],
      },
    ),
    undo: [transaction([alterIfExists(table, `DROP CONSTRAINT IF EXISTS ${ident(name)}`)])],
    locks: [...locksOf(ctx, table, mode), ...others.map((t) => plannedLock(t, mode))],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  between?.();
  if (enforced && !(node.skip_validation ?? false)) addValidate(ctx, table, name, what, target);
  else if (enforced)
    ctx.finding({
      rule: 'not_validated',
      level: 'warning',
      message: `${what} stays NOT VALID, as written: old rows may violate it`,
      alternative: 'leave NOT VALID out: pgshift adds it so and validates it afterwards',
      relation: shownRelation(table),
    });
  note(ctx, table, node, name);
  ctx.asked(`+ constraint ${name} on ${shownRelation(table)}`);
}

/**
 * On a column whose type changes too, the constraint speaks of the new type: the type change adds it to the shadow, and the swap brings it
 * into view. True = it was one of those.
 */
export function leftToTypeChange(
  ctx: PlanContext,
  table: Table,
  node: ConstraintNode,
  name: string,
  columns: readonly string[],
): boolean {
  const target = node.pktable ? ctx.overlay.find(node.pktable) : null;
  const there = target ? referencedColumns(target, node) : [];
  if (!columns.some((c) => ctx.retyped(table, c)) && !(target && there.some((c) => ctx.retyped(target, c))))
    return false;
  const full =
    target && node.pktable
      ? { ...node, pktable: { ...node.pktable, schemaname: target.schema }, pk_attrs: there.map(stringNode) }
      : node;
  wantConstraint(ctx, table, name);
  note(ctx, table, full, name);
  ctx.asked(`+ constraint ${name} on ${shownRelation(table)}`);
  return true;
}

/** REFERENCES without columns means the primary key. */
const referencedColumns = (target: Table, node: ConstraintNode): string[] => {
  const named = strings(node.pk_attrs);
  if (named.length > 0) return named;
  return (target.indexes.find((i) => i.primary)?.keys ?? []).flatMap((key) => key ?? []);
};
