/**
 * The catalogue as later statements of the same plan see it: the snapshot with the effects of earlier statements laid over it. Only this
 * file changes it; the snapshot itself stays as it was. Names are unquoted; an unqualified name is looked up along the plan's searchPath.
 */
import { Problem } from '../model/errors';
import { shown, shownRelation } from '../model/quote';
import type { Where } from '../model/errors';
import type { Catalog, Column, Constraint, Index, Table } from '../model/catalog';
import type { RelationName } from '../model/steps';

export interface NamedRange {
  readonly schemaname?: string;
  readonly relname?: string;
}

const key = (name: RelationName): string => `${name.schema}\0${name.name}`;

export class Overlay {
  private readonly tables = new Map<string, Table>();
  private readonly made = new Set<string>();
  private readonly filled = new Set<string>();
  private readonly changedRows = new Set<string>();
  private readonly madeNames = new Set<string>();
  private readonly goneNames = new Map<string, string>();
  private readonly goneColumns = new Map<string, string>();

  constructor(
    readonly base: Catalog,
    readonly searchPath: readonly string[],
  ) {
    for (const table of base.tables) this.tables.set(key(table), table);
  }

  /** Where an unqualified name of a new object goes. */
  get creationSchema(): string {
    return this.searchPath.find((schema) => this.base.schemas.includes(schema)) ?? this.searchPath[0] ?? 'public';
  }

  /** The name as it would be made: no look-up. */
  target(range: NamedRange): RelationName {
    return { schema: range.schemaname ?? this.creationSchema, name: range.relname ?? '' };
  }

  find(range: NamedRange): Table | null {
    const name = range.relname ?? '';
    const schemas = range.schemaname === undefined ? this.searchPath : [range.schemaname];
    for (const schema of schemas) {
      const table = this.tables.get(key({ schema, name }));
      if (table) return table;
    }
    return null;
  }

  at(name: RelationName): Table | null {
    return this.tables.get(key(name)) ?? null;
  }

  /** Throws NoSuchObject. */
  need(range: NamedRange, where?: Where): Table {
    const table = this.find(range);
    if (table) return table;
    const name = range.schemaname === undefined ? shown(range.relname ?? '') : shownRelation(this.target(range));
    throw new Problem('NoSuchObject', `relation ${name} does not exist${this.goneBecause(this.target(range))}`, {
      ...(where ? { where } : {}),
      value: name,
    });
  }

  /** Throws NoSuchObject. */
  needColumn(table: Table, name: string, where?: Where): Column {
    const column = table.columns.find((c) => c.name === name);
    if (column) return column;
    const because = this.goneColumns.get(`${key(table)}\0${name}`);
    throw new Problem(
      'NoSuchObject',
      `column ${shown(name)} of ${shownRelation(table)} does not exist${because === undefined ? '' : ` (${because})`}`,
      { ...(where ? { where } : {}), value: name },
    );
  }

  all(): Table[] {
    return [...this.tables.values()];
  }

  /** Every index, with its table. */
  findIndex(range: NamedRange): { readonly table: Table; readonly index: Index } | null {
    const schemas = range.schemaname === undefined ? this.searchPath : [range.schemaname];
    for (const schema of schemas)
      for (const table of this.tables.values()) {
        if (table.schema !== schema) continue;
        const index = table.indexes.find((i) => i.name === range.relname);
        if (index) return { table, index };
      }
    return null;
  }

  /** Is a relation name (table, view, index, sequence) taken in this schema? Indexes and sequences share the name space. */
  taken(name: RelationName): boolean {
    if (this.tables.has(key(name))) return true;
    if (this.base.sequences.some((s) => s.schema === name.schema && s.name === name.name)) return true;
    return this.all().some((t) => t.schema === name.schema && t.indexes.some((i) => i.name === name.name));
  }

  /** Made by an earlier statement of this plan, so nobody uses it yet and it holds no rows but those this plan puts there. */
  isNew(name: RelationName): boolean {
    return this.made.has(key(name));
  }

  /** Made by this plan and not filled by it either. */
  isEmpty(name: RelationName): boolean {
    return this.isNew(name) && !this.filled.has(key(name));
  }

  /** Were these columns there before the plan? Preflight can only ask about those. */
  wasThere(name: RelationName, columns: readonly string[]): boolean {
    const before = this.base.tables.find((t) => t.schema === name.schema && t.name === name.name);
    return before !== undefined && columns.every((c) => before.columns.some((k) => k.name === c));
  }

  /** Rows of this table are changed by an earlier statement: counts taken before the run say nothing about it. */
  rowsChange(name: RelationName): boolean {
    return this.changedRows.has(key(name));
  }

  noteRows(name: RelationName): void {
    this.changedRows.add(key(name));
    if (this.isNew(name)) this.filled.add(key(name));
  }

  create(table: Table): void {
    this.tables.set(key(table), table);
    this.made.add(key(table));
  }

  /** Functions, types, schemas and the like that this plan makes, by their bare name. */
  noteObject(name: string): void {
    this.madeNames.add(name);
  }

  madeObject(name: string): boolean {
    return this.madeNames.has(name);
  }

  /** `because` is said when a later statement still names it. */
  drop(name: RelationName, because: string): void {
    this.tables.delete(key(name));
    this.goneNames.set(key(name), because);
  }

  /** Dropped by this plan: its name is free only after contract. */
  goneBecause(name: RelationName): string {
    const because = this.goneNames.get(key(name));
    return because === undefined ? '' : ` (${because})`;
  }

  /** Renamed in contract: until then it has its old name, after it no step of this plan may still speak of it. */
  moved(from: RelationName, to: RelationName, statement: number): void {
    this.drop(from, `renamed by statement ${statement}`);
    this.goneNames.set(
      key(to),
      `it has that name only after contract, see statement ${statement}; change it in a migration that depends on this one`,
    );
  }

  /** As `moved`, of a column. */
  movedColumn(name: RelationName, from: string, to: string, statement: number): void {
    this.dropColumn(name, from);
    this.goneColumns.set(`${key(name)}\0${from}`, `renamed by statement ${statement}`);
    this.laterColumn(name, to, statement);
  }

  /** A column that a rename makes, whether it is allowed or not: nothing before contract may speak of it. */
  laterColumn(name: RelationName, to: string, statement: number): void {
    this.goneColumns.set(
      `${key(name)}\0${to}`,
      `it has that name only after contract, see statement ${statement}; use it in a migration that depends on this one`,
    );
  }

  /** An index name that is free only after contract. */
  release(name: RelationName): void {
    this.goneNames.set(key(name), 'dropped in contract by this plan');
  }

  isGone(name: RelationName): boolean {
    return this.goneNames.has(key(name));
  }

  change(name: RelationName, change: (table: Table) => Table): void {
    const table = this.tables.get(key(name));
    if (table) this.tables.set(key(name), change(table));
  }

  addColumn(name: RelationName, column: Column): void {
    this.change(name, (t) => ({ ...t, columns: [...t.columns, column] }));
  }

  changeColumn(name: RelationName, column: string, change: Partial<Column>): void {
    this.change(name, (t) => ({
      ...t,
      columns: t.columns.map((c) => (c.name === column ? { ...c, ...change } : c)),
    }));
  }

  /** Also what Postgres drops with it: indexes and constraints that include the column. */
  dropColumn(name: RelationName, column: string): void {
    this.change(name, (t) => ({
      ...t,
      columns: t.columns.filter((c) => c.name !== column),
      indexes: t.indexes.filter((i) => !i.columns.includes(column)),
      constraints: t.constraints.filter((c) => !c.columns.includes(column)),
    }));
  }

  addIndex(name: RelationName, index: Index): void {
    this.change(name, (t) => ({ ...t, indexes: [...t.indexes, index] }));
  }

  addConstraint(name: RelationName, constraint: Constraint): void {
    this.change(name, (t) => ({ ...t, constraints: [...t.constraints, constraint] }));
    const target = constraint.references?.table;
    if (target) this.change(target, (t) => ({ ...t, incoming: [...t.incoming, constraint] }));
  }

  dropConstraint(name: RelationName, constraint: string): void {
    const index = this.at(name)?.indexes.find((i) => i.constraint === constraint);
    if (index) this.release({ schema: index.schema, name: index.name });
    this.change(name, (t) => ({
      ...t,
      constraints: t.constraints.filter((c) => c.name !== constraint),
      indexes: t.indexes.filter((i) => i.constraint !== constraint),
    }));
  }
}

/** A column as ADD COLUMN or CREATE TABLE makes it, for the overlay: what the text says; the rest is unknown until it exists. */
export function newColumn(name: string, type: string, typeName: RelationName, number: number): Column {
  return {
    name,
    number,
    type,
    typeName,
    typmod: -1,
    notNull: false,
    default: null,
    generated: null,
    identity: null,
    ownedSequence: null,
    collation: null,
    statisticsTarget: null,
    storage: '',
    compression: null,
    options: [],
    acl: null,
    comment: null,
    isLocal: true,
    nullFraction: null,
    averageWidth: null,
  };
}

export function newTable(name: RelationName, kind: Table['kind'], columns: readonly Column[]): Table {
  return {
    ...name,
    kind,
    persistence: 'permanent',
    owner: '',
    rows: 0,
    heapBytes: 0,
    totalBytes: 0,
    columns,
    indexes: [],
    constraints: [],
    incoming: [],
    triggers: [],
    policies: [],
    rules: [],
    statistics: [],
    dependents: [],
    parent: null,
    inherits: [],
    children: [],
    partitionKey: null,
    replicaIdentity: 'default',
    rowSecurity: false,
    options: [],
    comment: null,
    acl: null,
    extension: null,
  };
}
