/**
 * What every family of statements uses: transactions under the lock ladder, the locks of a table with its partitions, the key that
 * batches follow, guarded statements for ways back (right also when the step never happened).
 */
import { columnNames, sqlOf } from '../ast';
import { plannedLock } from '../figures';
import { ident, literal, relation, shown, shownRelation } from '../../model/quote';
import type { AlterTableCmd, AlterTableStmt, Node } from 'libpg-query';
import type { Column, Constraint, Index, Table } from '../../model/catalog';
import type {
  Held,
  KeyColumn,
  LockMode,
  LockTarget,
  PlannedLock,
  RelationName,
  TransactionRun,
} from '../../model/steps';
import type { PlanContext } from '../context';

interface TransactionOptions {
  readonly lockFirst?: readonly LockTarget[];
  readonly long?: boolean;
  readonly settings?: Readonly<Record<string, string>>;
}

export const transaction = (statements: readonly string[], options: TransactionOptions = {}): TransactionRun => ({
  kind: 'transaction',
  lockFirst: options.lockFirst ?? [],
  statements,
  long: options.long ?? false,
  ...(options.settings ? { settings: options.settings } : {}),
});

export const lockTarget = (name: RelationName, mode: LockMode): LockTarget => ({
  relation: { schema: name.schema, name: name.name },
  mode,
});

export const bareName = ({ schema, name }: RelationName): RelationName => ({ schema, name });

/** The table and everything below it (partitions, children), which Postgres locks too. */
export function family(ctx: PlanContext, table: Table): Table[] {
  return [
    table,
    ...table.children.flatMap((child) => {
      const found = ctx.overlay.at(child);
      return found ? family(ctx, found) : [];
    }),
  ];
}

/** The tables that hold rows: the leaves of a partitioned table, parents with inheritance children, or the table itself. */
export const withRows = (ctx: PlanContext, table: Table): Table[] =>
  family(ctx, table).filter((t) => t.kind !== 'partitioned');

export const locksOf = (ctx: PlanContext, table: Table, mode: LockMode, held: Held = 'brief'): PlannedLock[] =>
  family(ctx, table).map((t) => plannedLock(t, mode, held));

/** Sizes of a partitioned table are those of its leaves together. */
export function sized(ctx: PlanContext, table: Table): Table {
  if (table.children.length === 0) return table;
  const parts = withRows(ctx, table);
  const sum = (pick: (t: Table) => number): number => parts.reduce((n, t) => n + Math.max(0, pick(t)), 0);
  return {
    ...table,
    rows: parts.some((t) => t.rows < 0) ? -1 : sum((t) => t.rows),
    heapBytes: sum((t) => t.heapBytes),
    totalBytes: sum((t) => t.totalBytes),
  };
}

/** The unique, not-null, valid, immediate key that batches walk: the primary key, or the narrowest other one; null = ctid ranges. */
export function batchKey(table: Table): KeyColumn[] | null {
  const usable = table.indexes.filter((index) => {
    if (!index.unique || !index.valid || !index.immediate || index.predicate !== null || index.method !== 'btree')
      return false;
    return index.keys.every((key) => key !== null && (table.columns.find((c) => c.name === key)?.notNull ?? false));
  });
  const best = [...usable].sort(
    (a, b) => Number(b.primary) - Number(a.primary) || a.keys.length - b.keys.length || (a.name < b.name ? -1 : 1),
  )[0];
  if (!best) return null;
  return best.keys.map((name) => ({
    name: name ?? '',
    type: table.columns.find((c) => c.name === name)?.type ?? 'text',
  }));
}

/** One command of an ALTER TABLE as a statement of its own: the original text where it was alone, else the tree written back. */
export function commandSql(ctx: PlanContext, statement: AlterTableStmt, command: AlterTableCmd): string {
  if ((statement.cmds ?? []).length === 1) return ctx.statement.text;
  return sqlOf({ AlterTableStmt: { ...statement, cmds: [{ AlterTableCmd: command }] } });
}

/** Runs `statement` where `condition` (an SQL expression) holds, else does nothing. */
export const guarded = (condition: string, ...statements: readonly string[]): string =>
  `DO ${literal(`BEGIN IF ${condition} THEN ${statements.map((s) => `EXECUTE ${literal(s).trimStart()};`).join(' ')} END IF; END`).trimStart()}`;

const attribute = (table: RelationName, column: string, more = ''): string =>
  `EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ` +
  `WHERE n.nspname = ${literal(table.schema)} AND c.relname = ${literal(table.name)} AND a.attname = ${literal(column)} AND NOT a.attisdropped${more})`;

/** SQL conditions for guarded(). */
export const columnExists = (table: RelationName, column: string): string => attribute(table, column);
export const columnIsNotNull = (table: RelationName, column: string): string =>
  attribute(table, column, ' AND a.attnotnull');
export const columnHasDefault = (table: RelationName, column: string): string =>
  attribute(table, column, ' AND a.atthasdef');
export const columnIsIdentity = (table: RelationName, column: string): string =>
  attribute(table, column, " AND a.attidentity <> ''");
export const relationExists = (name: RelationName): string =>
  `EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ${literal(name.schema)} AND c.relname = ${literal(name.name)})`;
export const constraintExists = (table: RelationName, name: string): string =>
  `EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ` +
  `WHERE n.nspname = ${literal(table.schema)} AND c.relname = ${literal(table.name)} AND k.conname = ${literal(name)})`;

/** `a AND b` of such conditions. */
export const both = (a: string, b: string): string => `${a} AND ${b}`;
export const not = (condition: string): string => `NOT ${condition}`;

/**
 * Asks whether a step without a way back may be planned: yes when the plan is forward-only, else only under `allow`. `message` says what is lost.
 */
export function withoutWayBack(
  ctx: PlanContext,
  message: string,
  alternative: string,
  table: RelationName | null = null,
): boolean {
  const draft = { rule: 'no_way_back', message, alternative, relation: table ? shownRelation(table) : null };
  if (ctx.plan.strategy !== 'forward-only') return ctx.refuse(draft);
  ctx.finding({ ...draft, level: 'info' });
  return true;
}

/** A constraint as the overlay has it; `definition` may be rough. */
export function newConstraint(
  table: RelationName,
  name: string,
  type: Constraint['type'],
  fields: Partial<Constraint> = {},
): Constraint {
  return {
    name,
    type,
    table: bareName(table),
    definition: '',
    columns: [],
    validated: true,
    deferrable: false,
    deferred: false,
    enforced: true,
    noInherit: false,
    index: null,
    references: null,
    comment: null,
    inherited: false,
    hasParent: false,
    ...fields,
  };
}

export function newIndex(table: RelationName, name: string, fields: Partial<Index> = {}): Index {
  return {
    schema: table.schema,
    name,
    definition: '',
    method: 'btree',
    unique: false,
    primary: false,
    valid: true,
    immediate: true,
    nullsNotDistinct: false,
    keys: [],
    include: [],
    columns: [],
    predicate: null,
    constraint: null,
    bytes: 0,
    clustered: false,
    replicaIdentity: false,
    comment: null,
    statisticsTargets: [],
    parent: null,
    tablespace: null,
    ...fields,
  };
}

/** Columns of this table that an expression names. */
export const columnsIn = (table: Table, expression: Node | Node[] | undefined): string[] => {
  const named = columnNames(expression);
  return table.columns.map((c) => c.name).filter((name) => named.includes(name));
};

/** Is a constraint of that name on that table, or (for choosing names) anywhere in its schema? */
export const constraintTaken = (ctx: PlanContext, schema: string, name: string): boolean =>
  ctx.overlay.all().some((t) => t.schema === schema && t.constraints.some((c) => c.name === name));

const wantedKey = (table: RelationName, name: string): string =>
  `wanted constraint ${JSON.stringify([table.schema, table.name, name])}`;
/** Marks a constraint of the overlay that only the shadow of a type change gets: the visible column never has it. */
export const wantConstraint = (ctx: PlanContext, table: RelationName, name: string): void =>
  void ctx.shared.set(wantedKey(table, name), true);
export const isWantedConstraint = (ctx: PlanContext, table: RelationName, name: string): boolean =>
  ctx.shared.has(wantedKey(table, name));

export const columnLabel = (table: RelationName, column: string): string => `${shownRelation(table)}.${shown(column)}`;
export const alter = (table: RelationName, ...actions: readonly string[]): string =>
  `ALTER TABLE ${relation(table)} ${actions.join(', ')}`;
export const alterIfExists = (table: RelationName, ...actions: readonly string[]): string =>
  `ALTER TABLE IF EXISTS ${relation(table)} ${actions.join(', ')}`;

/** A validated CHECK (column IS NOT NULL) that is there already. */
export const notNullCheck = (table: Table, column: Column): Constraint | null =>
  table.constraints.find(
    (c) =>
      c.type === 'check' &&
      c.validated &&
      !c.noInherit &&
      (c.definition === `CHECK ((${column.name} IS NOT NULL))` ||
        c.definition === `CHECK ((${ident(column.name)} IS NOT NULL))`),
  ) ?? null;
