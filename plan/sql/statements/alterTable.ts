/**
 * ALTER TABLE: each command is planned by its own family, as a statement of its own. Several commands of one ALTER TABLE are several short
 * transactions: one that held its lock for all of them would hold it longest.
 */
import { as } from '../ast';
import { shownRelation } from '../../model/quote';
import { planAddColumn } from './addColumn';
import { planAddConstraint } from './constraints';
import { planChangeType } from './changeType';
import { planDropColumn } from './dropColumn';
import { planDropConstraint } from './dropConstraint';
import { planColumnSetting } from './columnSettings';
import { planTableSetting } from './tableSettings';
import { planSetNotNull } from './setNotNull';
import { refuseAsWritten } from './refused';
import type { AlterTableCmd, AlterTableStmt } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';

export function planAlterTable(ctx: PlanContext, statement: AlterTableStmt): void {
  if (statement.objtype !== 'OBJECT_TABLE') return planTableSetting(ctx, statement, null, {});
  const table = ctx.overlay.find(statement.relation ?? {});
  if (!table) {
    if (!statement.missing_ok) ctx.overlay.need(statement.relation ?? {}, ctx.where(statement.relation?.location));
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `relation ${statement.relation?.relname ?? ''} does not exist: nothing to do, as IF EXISTS says`,
    });
    return;
  }
  if (table.kind !== 'table' && table.kind !== 'partitioned') return planTableSetting(ctx, statement, null, {});
  if (!statement.relation?.inh && table.children.length > 0) {
    refuseAsWritten(ctx, {
      rule: 'only_parent',
      message: `ONLY leaves the ${table.children.length} children of ${shownRelation(table)} as they are`,
      alternative: 'leave ONLY out',
    });
    return;
  }
  for (const node of statement.cmds ?? []) {
    const command = as(node, 'AlterTableCmd');
    const current = ctx.overlay.at(table);
    if (command && current) planCommand(ctx, current, statement, command);
  }
}

function planCommand(ctx: PlanContext, table: Table, statement: AlterTableStmt, command: AlterTableCmd): void {
  if (command.behavior === 'DROP_CASCADE') {
    ctx.refuse({
      rule: 'cascade',
      message: 'CASCADE drops what it finds when it runs, and nobody has seen that list',
      alternative: 'name what must go, each in a statement of its own',
      relation: shownRelation(table),
    });
    return;
  }
  switch (command.subtype) {
    case 'AT_AddColumn':
      return planAddColumn(ctx, table, statement, command);
    case 'AT_AddConstraint':
      return planAddConstraint(ctx, table, statement, command);
    case 'AT_SetNotNull':
      return planSetNotNull(ctx, table, ctx.overlay.needColumn(table, command.name ?? '', ctx.where()));
    case 'AT_AlterColumnType':
      return planChangeType(ctx, table, statement, command);
    case 'AT_DropColumn':
      return planDropColumn(ctx, table, command);
    case 'AT_DropConstraint':
      return planDropConstraint(ctx, table, statement, command);
    default:
      if (!planColumnSetting(ctx, table, statement, command)) planTableSetting(ctx, statement, table, command);
  }
}
