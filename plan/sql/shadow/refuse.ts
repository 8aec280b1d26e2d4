/**
 * What a type change cannot take with it, each by its name. Keeps true: nothing here is solved by CASCADE, and nothing is left out in
 * silence; where no way exists `allow` does not make one.
 */
import { shown, shownRelation } from '../../model/quote';
import { columnNames, parseExpression } from '../ast';
import { publishedBy } from './publications';
import { sameTable, typeOfColumn } from './change';
import { loudTriggers } from './sync';
import { assignable, keeps } from './types';
import type { Column, Constraint, Table } from '../../model/catalog';
import type { RelationName } from '../../model/steps';
import type { PlanContext } from '../context';
import type { TypeRef } from './types';

interface Refusal {
  readonly rule: string;
  readonly message: string;
  readonly alternative: string;
  /** The object in the way, for the list of dependents. */
  readonly dependent?: { readonly type: string; readonly name: string };
  /** `allow` may go on. */
  readonly soft?: boolean;
}

const IN_TWO = 'do it in two plans, one after the other';
const DROP_FIRST = (what: string): string => `drop ${what} before and make it again after, or use a new column name`;

/** False = a finding refuses the plan: leave the statement. Throws Refused where `allow` names what cannot be done, PrivilegeMissing. */
export function mayChange(ctx: PlanContext, table: Table, column: Column, to: TypeRef): boolean {
  const label = `${shownRelation(table)}.${shown(column.name)}`;
  let ok = true;
  for (const refusal of refusals(ctx, table, column, to, label)) {
    if (refusal.dependent) ctx.dependent({ ...refusal.dependent, of: shownRelation(table), handled: 'refused' });
    const allowed = ctx.refuse({
      rule: refusal.rule,
      message: refusal.message,
      alternative: refusal.alternative,
      relation: shownRelation(table),
    });
    if (allowed && !refusal.soft)
      throw ctx.problem('Refused', `${refusal.message}; ${refusal.rule} cannot be allowed`, {
        hint: refusal.alternative,
      });
    if (!allowed) ok = false;
  }
  if (ok) askPrivilege(ctx, table, label);
  return ok;
}

function refusals(ctx: PlanContext, table: Table, column: Column, to: TypeRef, label: string): Refusal[] {
  return [
    ...shapes(ctx, table, column, label),
    ...dependents(ctx, table, column, label),
    ...shared(ctx, table, column, label),
    ...foreignTypes(ctx, table, column, to, label),
    ...publications(ctx, table, column, label),
    ...loudTriggers(table.triggers).map((t) => ({
      rule: 'trigger_always',
      message: `trigger ${shown(t.name)} of ${shownRelation(table)} is ENABLE ${t.enabled === 'A' ? 'ALWAYS' : 'REPLICA'} and would fire for every row that is filled`,
      alternative: 'make it an ordinary trigger while the change runs (ALTER TABLE ... ENABLE TRIGGER)',
      dependent: { type: 'trigger', name: t.name },
    })),
    ...table.rules
      .filter((r) => (r.enabled === 'A' || r.enabled === 'R') && / ON UPDATE /.test(r.definition))
      .map((r) => ({
        rule: 'trigger_always',
        message: `rule ${shown(r.name)} of ${shownRelation(table)} is ENABLE ${r.enabled === 'A' ? 'ALWAYS' : 'REPLICA'} and would apply to every row that is filled`,
        alternative: 'make it an ordinary rule while the change runs (ALTER TABLE ... ENABLE RULE)',
        dependent: { type: 'rule', name: r.name },
      })),
  ];
}

function shapes(ctx: PlanContext, table: Table, column: Column, label: string): Refusal[] {
  const found: Refusal[] = [];
  if (table.kind === 'partitioned' || table.parent || table.children.length > 0 || table.inherits.length > 0)
    found.push({
      rule: 'partitioned_type_change',
      message: `${shownRelation(table)} is partitioned or has parents or children: a shadow column cannot be swapped there yet`,
      alternative: 'use a new column name, or a new table filled by the plan',
    });
  else if (table.kind !== 'table' || table.persistence === 'temporary')
    found.push({
      rule: 'no_plain_table',
      message: `${shownRelation(table)} is no plain table`,
      alternative: 'change the table itself',
    });
  if (column.generated)
    found.push({
      rule: 'generated_column',
      message: `${label} is generated`,
      alternative: 'drop the column and add it again with the new type',
    });
  for (const other of table.columns) {
    const expression = other.generated && other.default !== null ? parseExpression(other.default) : null;
    if (expression && columnNames(expression).includes(column.name))
      found.push({
        rule: 'generated_column',
        message: `generated column ${shown(other.name)} is computed from ${label}`,
        alternative: DROP_FIRST('that column'),
        dependent: { type: 'generated column', name: other.name },
      });
  }
  for (const constraint of table.constraints) {
    if (!constraint.columns.includes(column.name)) continue;
    if (constraint.type === 'exclude' || / WITHOUT OVERLAPS|PERIOD /.test(constraint.definition))
      found.push({
        rule: 'exclusion_constraint',
        message: `constraint ${shown(constraint.name)} of ${label} cannot be built without a lock that blocks writes`,
        alternative: DROP_FIRST('the constraint'),
        dependent: { type: 'constraint', name: constraint.name },
      });
  }
  for (const other of ctx.catalog.tables)
    for (const user of other.columns)
      if (sameTable(user.typeName, table) || sameTable(user.typeName, { schema: table.schema, name: `_${table.name}` }))
        found.push({
          rule: 'row_type_used',
          message: `${shownRelation(other)}.${shown(user.name)} has the row type of ${shownRelation(table)}`,
          alternative: 'give that column a type of its own first',
          dependent: { type: 'column', name: `${shownRelation(other)}.${shown(user.name)}` },
        });
  return found;
}

function dependents(ctx: PlanContext, table: Table, column: Column, label: string): Refusal[] {
  const found: Refusal[] = [];
  for (const dependent of table.dependents) {
    if (!dependent.columns.includes(column.name)) continue;
    const above = (dependent.view?.dependents ?? []).map((name) => ctx.catalog.tables.find((t) => sameTable(t, name)));
    const matview = above.find((t) => t?.kind === 'matview');
    // Constraints (foreign keys) and publications are handled elsewhere; plain views are made again.
    if (dependent.type === 'constraint' || dependent.type === 'publication') continue;
    if (dependent.type === 'view' && dependent.view && !matview) {
      found.push(...usersOf(ctx, [dependent.view, ...dependent.view.dependents], label));
      continue;
    }
    const name = matview ? shownRelation(matview) : dependent.name;
    const type = matview ? 'matview' : dependent.type;
    found.push({
      rule: 'dependent_refused',
      message: `${type === 'matview' ? 'materialized view' : type} ${name} depends on ${label}`,
      alternative: DROP_FIRST(name),
      dependent: { type, name },
    });
  }
  return found;
}

/** What leans on a view that would have to be dropped and is no view itself. */
function usersOf(ctx: PlanContext, views: readonly RelationName[], label: string): Refusal[] {
  return views.flatMap((view) => {
    const table = ctx.catalog.tables.find((t) => sameTable(t, view));
    return (table?.dependents ?? [])
      .filter((d) => d.type !== 'view' && d.type !== 'matview')
      .map((d) => ({
        rule: 'dependent_refused',
        message: `${d.type} ${d.name} depends on view ${shownRelation(view)}, which depends on ${label}`,
        alternative: DROP_FIRST(d.name),
        dependent: { type: d.type, name: d.name },
      }));
  });
}

/** Two columns of one plan in one index or key: their shadows would have to be swapped together. */
function shared(ctx: PlanContext, table: Table, column: Column, label: string): Refusal[] {
  const others = table.columns.filter((c) => c.name !== column.name && ctx.retyped(table, c.name)).map((c) => c.name);
  const parts = [...table.indexes, ...table.constraints, ...table.statistics].filter((part) =>
    part.columns.includes(column.name),
  );
  const found: Refusal[] = [];
  for (const other of others) {
    const part = parts.find((p) => p.columns.includes(other));
    if (part)
      found.push({
        rule: 'shared_type_change',
        message: `${shown(part.name)} is on ${label} and on ${shown(other)}, and both change their type`,
        alternative: IN_TWO,
      });
  }
  for (const { constraint, otherTable, otherColumns } of foreignKeys(table, column)) {
    const both = otherColumns.find((c) => ctx.retyped(otherTable, c));
    if (both !== undefined)
      found.push({
        rule: 'shared_type_change',
        message: `foreign key ${shown(constraint.name)} joins ${label} and ${shownRelation(otherTable)}.${shown(both)}, and both change their type`,
        alternative: `${IN_TWO}: while one side is wider than the other the key holds`,
      });
  }
  return found;
}

function foreignKeys(
  table: Table,
  column: Column,
): {
  readonly constraint: Constraint;
  readonly otherTable: RelationName;
  readonly otherColumns: readonly string[];
  readonly partner: string;
}[] {
  const out = table.constraints.flatMap((constraint) => {
    if (constraint.type !== 'foreign' || !constraint.references || !constraint.columns.includes(column.name)) return [];
    const partner = constraint.references.columns[constraint.columns.indexOf(column.name)] ?? '';
    return [
      { constraint, otherTable: constraint.references.table, otherColumns: constraint.references.columns, partner },
    ];
  });
  const incoming = table.incoming.flatMap((constraint) => {
    const at = constraint.references?.columns.indexOf(column.name) ?? -1;
    if (at < 0) return [];
    return [
      {
        constraint,
        otherTable: constraint.table,
        otherColumns: constraint.columns,
        partner: constraint.columns[at] ?? '',
      },
    ];
  });
  return [...out, ...incoming];
}

const FAMILIES = [['int2', 'int4', 'int8'], ['text', 'varchar'], ['numeric']];

function foreignTypes(ctx: PlanContext, table: Table, column: Column, to: TypeRef, label: string): Refusal[] {
  return foreignKeys(table, column).flatMap(({ constraint, otherTable, partner }) => {
    const other = ctx.overlay.at(otherTable)?.columns.find((c) => c.name === partner);
    const type = other ? typeOfColumn(ctx, other) : null;
    const fits =
      type === null ||
      (type.name === to.name && type.schema === to.schema) ||
      FAMILIES.some((f) => f.includes(type.name) && f.includes(to.name)) ||
      (type.info?.kind === 'domain' && (assignable(ctx.catalog, type, to) || keeps(ctx.catalog, to, type) !== 'no'));
    if (fits) return [];
    return [
      {
        rule: 'foreign_key_type',
        message: `foreign key ${shown(constraint.name)} joins ${label} to ${shownRelation(otherTable)}.${shown(partner)} (${type.text}), which cannot be compared with ${to.text}`,
        alternative: 'change a new column pair and drop the old ones, or drop the foreign key first',
        dependent: { type: 'constraint', name: constraint.name },
      },
    ];
  });
}

function publications(ctx: PlanContext, table: Table, column: Column, label: string): Refusal[] {
  return publishedBy(ctx.catalog.publications, table).flatMap((p): Refusal[] => {
    const filter = p.where === null ? null : parseExpression(p.where);
    const dependent = { type: 'publication', name: p.name };
    if (filter && columnNames(filter).includes(column.name))
      return [
        {
          rule: 'published_filter',
          message: `the row filter of publication ${shown(p.name)} names ${label}`,
          alternative: 'take the table out of the publication first',
          dependent,
        },
      ];
    if (p.columns !== null) return [];
    return [
      {
        rule: 'published_table',
        message: `publication ${shown(p.name)} publishes every column of ${shownRelation(table)}: subscribers do not know the shadow column and stop`,
        alternative:
          'give the publication a column list, or allow it when every subscriber has the columns or none is connected',
        dependent,
        soft: true,
      },
    ];
  });
}

/** Batches run as `replica`, so that the user's triggers do not see the filling as updates of theirs. */
function askPrivilege(ctx: PlanContext, table: Table, label: string): void {
  if (ctx.catalog.canSetReplicationRole || !firesOnUpdate(table)) return;
  throw ctx.problem(
    'PrivilegeMissing',
    `filling ${label} would fire the triggers or rules of ${shownRelation(table)}`,
    {
      hint: `GRANT SET ON PARAMETER session_replication_role TO ${shown(ctx.catalog.user)};`,
    },
  );
}

/** UPDATE triggers that would see a batch: those that watch other columns only sleep anyway. */
export const firesOnUpdate = (table: Table): boolean =>
  table.rules.some((r) => r.enabled !== 'D' && / ON UPDATE /.test(r.definition)) ||
  table.triggers.some((t) => t.enabled !== 'D' && t.events.includes('update') && !/ UPDATE OF /.test(t.definition));
