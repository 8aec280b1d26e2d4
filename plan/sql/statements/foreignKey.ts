/** FOREIGN KEY: NOT VALID under SHARE ROW EXCLUSIVE on both tables, then validated while reads and writes go on. */
import { strings } from '../ast';
import { isSmall } from '../figures';
import { chooseConstraintName } from '../indexNames';
import { ident, relation, shown, shownRelation } from '../../model/quote';
import { columnLabel, constraintTaken } from './shared';
import { addNotValid, leftToTypeChange } from './notValid';
import { runPlain } from './constraints';
import type { Constraint as ConstraintNode } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';
import type { AddOptions } from './constraints';

export function planForeignKey(ctx: PlanContext, table: Table, node: ConstraintNode, options: AddOptions): void {
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
  if (!ctx.overlay.wasThere(table, columns) || !ctx.overlay.wasThere(target, keys)) return;
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
