/**
 * One type change with everything that belongs to the column, collected once: what `expand`, `build`, `swap` and `back` then write. Keeps
 * true: every object that mentions the column is in exactly one of the lists here, or was refused by name before.
 */
import { ident, literal, relation } from '../../model/quote';
import { bareName, isWantedConstraint } from '../statements/shared';
import { PREFIX } from '../names';
import { renameColumn } from './rename';
import { resolveType } from './types';
import type { Column, Constraint, Index, Sequence, Statistics, Table, Trigger } from '../../model/catalog';
import type { RelationName } from '../../model/steps';
import type { PlanContext } from '../context';
import type { Formula } from './formula';
import type { TypeRef } from './types';

export interface Transforms {
  readonly up: Formula;
  /** null: nothing is kept in step after the swap, and there is no way back. */
  readonly down: Formula | null;
}

export interface IndexTwin {
  readonly index: Index;
  /** Of the shadow, until the swap. */
  readonly twin: string;
  /** Of the old column's own, during the hold. */
  readonly kept: string;
  /** Of the one that the way back builds. */
  readonly back: string;
  readonly constraint: Constraint | null;
  /** Asked for by this plan: the visible column has none. */
  readonly wanted: boolean;
  /**
   * May stay on the old column during the hold: it can refuse no write that the new shape accepts. Unique ones could (another equality), and
   * so could those with an expression (an overflow).
   */
  readonly stays: boolean;
}

export interface ConstraintTwin {
  readonly constraint: Constraint;
  /** The table that has it: another one for incoming foreign keys. */
  readonly on: RelationName;
  readonly twin: string;
  readonly back: string;
  /** Asked for by this plan: on the shadow alone. */
  readonly wanted: boolean;
}

export interface Change {
  readonly ctx: PlanContext;
  readonly table: Table;
  readonly column: Column;
  readonly from: TypeRef;
  readonly to: TypeRef;
  readonly collation: string | null;
  readonly transforms: Transforms;
  readonly shadow: string;
  readonly old: string;
  readonly label: string;
  readonly indexes: readonly IndexTwin[];
  readonly checks: readonly ConstraintTwin[];
  /** Both ways: of this table to others, of others to this one. */
  readonly foreign: readonly ConstraintTwin[];
  /** 18 on: the constraint's name; before: null although the column is NOT NULL. */
  readonly notNull: {
    readonly constraint: Constraint | null;
    readonly twin: string;
    readonly back: string;
    /** Asked for by this plan: the visible column takes NULLs until the swap, and again after a way back. */
    readonly wanted: boolean;
  } | null;
  readonly statistics: readonly { readonly statistics: Statistics; readonly twin: string }[];
  readonly triggers: readonly Trigger[];
  readonly policies: readonly Table['policies'][number][];
  readonly rules: readonly Table['rules'][number][];
  readonly sequence: Sequence | null;
  /** Of the old column as it is now, and of the new one as asked. */
  readonly defaults: { readonly before: string | null; readonly after: string | null };
  /** SET clauses of functions and SET LOCAL of batches where a setting decides the result. */
  readonly pinned: Readonly<Record<string, string>>;
}

export const quotedTable = (change: Change): string => relation(change.table);
export const tableName = (change: Change): RelationName => bareName(change.table);

/** `_pgshift_<kind>_<column>`, hashed when it would be longer than 63 bytes. */
export function columnName(ctx: PlanContext, table: Table, kind: 'new' | 'old', column: string): string {
  const name = `${PREFIX}${kind}_${column}`;
  return Buffer.byteLength(name, 'utf8') <= 63 ? name : ctx.names.make(kind, table.schema, table.name, column);
}

/** Short and the same each time: for functions and triggers. */
export function digestName(change: Change, kind: string): string {
  const made = change.ctx.names.make(kind, change.table.schema, change.table.name, change.column.name);
  return `${kind}_${made.slice(-8)}`;
}

export function collectParts(
  ctx: PlanContext,
  table: Table,
  column: Column,
): Pick<
  Change,
  | 'indexes'
  | 'checks'
  | 'foreign'
  | 'notNull'
  | 'statistics'
  | 'triggers'
  | 'policies'
  | 'rules'
  | 'sequence'
  | 'defaults'
> {
  const name = column.name;
  const named = (kind: string, object: string): string => ctx.names.make(kind, table.schema, table.name, object);
  const of = <T extends { readonly columns: readonly string[] }>(list: readonly T[]): T[] =>
    list.filter((item) => item.columns.includes(name));
  const constraintTwin = (constraint: Constraint): ConstraintTwin => ({
    constraint,
    on: bareName(constraint.table),
    twin: ctx.names.make('twincon', constraint.table.schema, constraint.table.name, constraint.name),
    back: ctx.names.make('backcon', constraint.table.schema, constraint.table.name, constraint.name),
    wanted: isWantedConstraint(ctx, constraint.table, constraint.name),
  });
  const mine = of(table.constraints);
  const incoming = table.incoming.filter((c) => c.references?.columns.includes(name));
  const foreign = [...mine.filter((c) => c.type === 'foreign'), ...incoming];
  const notNull = mine.find((c) => c.type === 'not-null') ?? null;
  // In the database as it is, before this plan.
  const was = ctx.catalog.tables.find((t) => sameTable(t, table))?.columns.find((c) => c.name === name) ?? null;
  const owned = column.ownedSequence;
  return {
    indexes: of(table.indexes).map((index) => ({
      index,
      twin: named('twinidx', index.name),
      kept: named('keptidx', index.name),
      back: named('backidx', index.name),
      constraint:
        table.constraints.find((c) => c.name === index.constraint && (c.type === 'primary' || c.type === 'unique')) ??
        null,
      wanted: ctx.isWanted(index),
      stays: !index.unique && index.predicate === null && index.keys.every((key) => key !== null),
    })),
    checks: mine.filter((c) => c.type === 'check').map(constraintTwin),
    foreign: foreign
      .filter((c, i) => foreign.findIndex((o) => o.name === c.name && sameTable(o.table, c.table)) === i)
      .map(constraintTwin),
    notNull: column.notNull
      ? {
          constraint: notNull,
          twin: named('twinnn', name),
          back: named('backnn', name),
          wanted: !(was?.notNull ?? false) && !notNull,
        }
      : null,
    statistics: of(table.statistics).map((statistics) => ({ statistics, twin: named('twinsta', statistics.name) })),
    triggers: of(table.triggers),
    policies: of(table.policies),
    rules: of(table.rules),
    defaults: { before: (was ?? column).default, after: column.default },
    sequence: owned ? (ctx.catalog.sequences.find((s) => sameTable(s, owned)) ?? null) : null,
  };
}

export const sameTable = (a: RelationName, b: RelationName): boolean => a.schema === b.schema && a.name === b.name;

/** `ALTER TABLE x ADD CONSTRAINT name <definition over column `to`> [NOT VALID]`. */
export function addConstraint(
  change: Change,
  item: ConstraintTwin,
  name: string,
  to: string,
  notValid: boolean,
): string {
  const { constraint, on } = item;
  const local = sameTable(on, change.table) && constraint.columns.includes(change.column.name);
  const referenced =
    constraint.references !== null &&
    sameTable(constraint.references.table, change.table) &&
    constraint.references.columns.includes(change.column.name);
  const sql = `ALTER TABLE ${relation(on)} ADD CONSTRAINT ${ident(name)} ${constraint.definition}`;
  const renamed = renameColumn(sql, change.column.name, to, { local, referenced });
  const written = / NOT (VALID|ENFORCED)$/.test(constraint.definition);
  return notValid && !written ? `${renamed} NOT VALID` : renamed;
}

export const typeOfColumn = (ctx: PlanContext, column: Column): TypeRef | null =>
  resolveType(ctx.catalog, column.type, [column.typeName.schema]);

/** COMMENT ON, or nothing to say. */
export const comment = (what: string, text: string | null): string[] =>
  text === null ? [] : [`COMMENT ON ${what} IS ${literal(text).trimStart()}`];
