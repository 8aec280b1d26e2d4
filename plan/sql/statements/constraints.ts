/**
 * ADD CONSTRAINT: CHECK and FOREIGN KEY as NOT VALID and a later VALIDATE, UNIQUE and PRIMARY KEY over an index that was built
 * concurrently. No table is read under a lock that keeps writers out.
 */
import { as, expressionSql, qualified, sqlOf, stringNode, strings } from '../ast';
import { batchesOf, brief, isSmall, plannedLock, risk } from '../figures';
import { chooseConstraintName } from '../indexNames';
import { ident, relation, shown, shownRelation } from '../../model/quote';
import {
  alterIfExists,
  bareName,
  batchKey,
  columnLabel,
  columnsIn,
  commandSql,
  constraintTaken,
  lockTarget,
  locksOf,
  newConstraint,
  transaction,
  wantConstraint,
  withRows,
} from './shared';
import { addValidate, planNotNull, transformOf, upExpression } from './setNotNull';
import { planUnique } from './unique';
import type { AlterTableCmd, AlterTableStmt, Constraint as ConstraintNode, Node } from 'libpg-query';
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
  if (ctx.overlay.isEmpty(table)) return asIs(ctx, table, node, commandSql(ctx, statement, command));
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
function runPlain(ctx: PlanContext, table: Table, node: ConstraintNode): void {
  asIs(ctx, table, node, addSql(table, node));
}

export const addSql = (table: Table, node: ConstraintNode): string =>
  sqlOf({
    AlterTableStmt: {
      relation: { schemaname: table.schema, relname: table.name, inh: true, relpersistence: 'p' },
      cmds: [{ AlterTableCmd: { subtype: 'AT_AddConstraint', def: { Constraint: node }, behavior: 'DROP_RESTRICT' } }],
      objtype: 'OBJECT_TABLE',
    },
  });

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

/**
 * On a column whose type changes too, the constraint speaks of the new type: the type change adds it to the shadow, and the swap brings it
 * into view. True = it was one of those.
 */
function leftToTypeChange(
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

/** Into the overlay, so that later statements find it. */
function note(ctx: PlanContext, table: Table, node: ConstraintNode, name: string): void {
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
  const { conname: _name, skip_validation: _skip, ...rest } = node;
  const valid = node.skip_validation ? { initially_valid: true } : {};
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
function addNotValid(
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

function planCheck(ctx: PlanContext, table: Table, node: ConstraintNode, options: AddOptions): void {
  const columns = columnsIn(table, node.raw_expr);
  const name = node.conname ?? chooseConstraintName(ctx, table, columns, 'check');
  if (leftToTypeChange(ctx, table, node, name, columns)) return;
  const condition = node.raw_expr
    ? qualified(
        node.raw_expr,
        't',
        table.columns.map((c) => c.name),
        [table.name],
      )
    : null;
  const refusedRows = condition ? `(${expressionSql(condition)}) IS FALSE` : 'false';
  const mended = columns.filter(
    (column) => transformOf(ctx, table, column)?.up !== undefined && ctx.retyped(table, column) === null,
  );
  const skip = (node.skip_validation ?? false) || !(node.is_enforced ?? false);
  if (mended.length === 0 && !skip && !options.fresh && !ctx.overlay.rowsChange(table) && !ctx.overlay.isNew(table))
    ctx.preCheck({
      count: `SELECT count(*) FROM ${relation(table)} AS t WHERE ${refusedRows}`,
      code: 'TransformMissing',
      message: `$COUNT rows of ${shownRelation(table)} violate the new check ${shown(name)} and nothing says what they become`,
      hint: `add transforms: { ${table.name}.${columns[0] ?? '<column>'}: { up: <expression> } }, which mends them in batches`,
      column: columnLabel(table, columns[0] ?? name),
    });
  for (const column of mended) mend(ctx, table, column, refusedRows, 'backfill');
  const phase = mended.length > 0 || ctx.overlay.rowsChange(table) ? 'build' : options.phase;
  addNotValid(ctx, table, node, name, `check ${shown(name)}`, phase, () => {
    for (const column of mended) mend(ctx, table, column, refusedRows, 'build');
  });
}

/** Only rows that the new check refuses are written, so that every valid value stays as it is. */
function mend(ctx: PlanContext, table: Table, column: string, pending: string, phase: 'backfill' | 'build'): void {
  const up = upExpression(ctx, table, transformOf(ctx, table, column)?.up ?? '');
  for (const part of withRows(ctx, table))
    ctx.add({
      phase,
      action: 'mend_rows',
      title: `mend ${columnLabel(part, column)} where the new check refuses it${phase === 'build' ? ', rows written meanwhile' : ''}`,
      run: {
        kind: 'backfill',
        table: bareName(part),
        set: [`${ident(column)} = ${up}`],
        pending,
        key: batchKey(part),
        quiet: false,
        column: columnLabel(part, column),
      },
      undo: [],
      wayBack: null,
      because: 'the values that the check refuses are not kept',
      locks: [plannedLock(part, 'ROW EXCLUSIVE', 'batch')],
      work: 'batches',
      estimate: batchesOf(part),
      risk: risk({ performance: 'medium', dataLoss: 'medium' }),
    });
}

function planForeignKey(ctx: PlanContext, table: Table, node: ConstraintNode, options: AddOptions): void {
  const columns = strings(node.fk_attrs);
  for (const column of columns) ctx.overlay.needColumn(table, column, ctx.where(node.location));
  const target = ctx.overlay.need(node.pktable ?? {}, ctx.where(node.pktable?.location));
  for (const column of strings(node.pk_attrs)) ctx.overlay.needColumn(target, column, ctx.where(node.location));
  const name = node.conname ?? chooseConstraintName(ctx, table, columns, 'fkey');
  if (constraintTaken(ctx, table.schema, name) && table.constraints.some((c) => c.name === name)) return;
  if (leftToTypeChange(ctx, table, node, name, columns)) return needsIndex(ctx, table, columns);
  if (
    table.kind === 'partitioned' &&
    ctx.catalog.serverVersion < 180000 &&
    !isSmall(table) &&
    !(node.skip_validation ?? false)
  ) {
    const go = ctx.refuse({
      rule: 'partitioned_foreign_key',
      message: `before Postgres 18 a foreign key of the partitioned table ${shownRelation(table)} cannot be added NOT VALID: it would be checked while nobody can write`,
      alternative: 'add it to each partition',
      relation: shownRelation(table),
    });
    if (go) runPlain(ctx, table, { ...node, conname: name });
    return;
  }
  const skip = (node.skip_validation ?? false) || !(node.is_enforced ?? false);
  // What this plan adds is not there yet when preflight counts.
  const live = (of: Table): Table | undefined =>
    ctx.catalog.tables.find((t) => t.schema === of.schema && t.name === of.name);
  const there =
    live(target) !== undefined && columns.every((column) => live(table)?.columns.some((c) => c.name === column));
  if (there && !skip && !options.fresh && !ctx.overlay.rowsChange(table) && !ctx.overlay.rowsChange(target))
    orphans(ctx, table, target, node, columns, name);
  addNotValid(
    ctx,
    table,
    node,
    name,
    `foreign key ${shown(name)} (${columns.map(shown).join(', ')}) to ${shownRelation(target)}`,
    options.phase,
  );
  needsIndex(ctx, table, columns);
}

function orphans(
  ctx: PlanContext,
  table: Table,
  target: Table,
  node: ConstraintNode,
  columns: readonly string[],
  name: string,
): void {
  const primary = target.indexes.find((i) => i.primary)?.keys ?? [];
  const keys = node.pk_attrs ? strings(node.pk_attrs) : primary.filter((k): k is string => k !== null);
  if (keys.length !== columns.length || node.fk_with_period) return;
  const set = columns.map((c) => `t.${ident(c)} IS NOT NULL`).join(' AND ');
  const match = columns.map((c, i) => `p.${ident(keys[i] ?? '')} = t.${ident(c)}`).join(' AND ');
  ctx.preCheck({
    count: `SELECT count(*) FROM ${relation(table)} AS t WHERE ${set} AND NOT EXISTS (SELECT 1 FROM ${relation(target)} AS p WHERE ${match})`,
    code: 'PreflightFailed',
    message: `$COUNT rows of ${shownRelation(table)} name a row of ${shownRelation(target)} that does not exist: foreign key ${shown(name)} refuses them`,
    hint: 'delete or correct these rows first',
    column: columnLabel(table, columns[0] ?? ''),
  });
}

/** Deleting a referenced row reads the referencing table: without an index, the whole of it. */
function needsIndex(ctx: PlanContext, table: Table, columns: readonly string[]): void {
  const current = ctx.overlay.at(table) ?? table;
  const covered = current.indexes.some(
    (i) => i.predicate === null && columns.every((c) => i.keys.slice(0, columns.length).includes(c)),
  );
  if (!covered && !isSmall(table))
    ctx.finding({
      rule: 'foreign_key_without_index',
      level: 'info',
      message: `no index of ${shownRelation(table)} begins with (${columns.map(shown).join(', ')}): each delete of a referenced row reads the whole table`,
      alternative: `CREATE INDEX ON ${shownRelation(table)} (${columns.map(shown).join(', ')})`,
      relation: shownRelation(table),
    });
}

export type { Node };
