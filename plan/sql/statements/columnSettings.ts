/**
 * Commands of ALTER TABLE on one column that cost Postgres nothing: as they are, each with its real inverse. True from planColumnSetting =
 * it was one of these.
 */
import { as, expressionSql } from '../ast';
import { brief, risk } from '../figures';
import { ident, literal, shownRelation } from '../../model/quote';
import { restoreNotNull } from './restore';
import { alter, columnExists, columnLabel, commandSql, guarded, lockTarget, locksOf, transaction } from './shared';
import type { AlterTableCmd, AlterTableStmt } from 'libpg-query';
import type { Column, Table } from '../../model/catalog';
import type { LockMode, StepRun } from '../../model/steps';
import type { PlanContext } from '../context';

interface Setting {
  readonly action: string;
  readonly title: string;
  readonly mode: LockMode;
  readonly undo: readonly StepRun[];
  /** Shown in place of the guarded statements. */
  readonly back: string;
}

export function planColumnSetting(
  ctx: PlanContext,
  table: Table,
  statement: AlterTableStmt,
  command: AlterTableCmd,
): boolean {
  if (!HANDLED.includes(command.subtype ?? '')) return false;
  const column = ctx.overlay.needColumn(table, command.name ?? '', ctx.where());
  const setting = settingOf(ctx, table, column, command);
  if (!setting) return true;
  ctx.add({
    phase: 'expand',
    action: setting.action,
    title: setting.title,
    run: transaction([commandSql(ctx, statement, command)], { lockFirst: [lockTarget(table, setting.mode)] }),
    undo: setting.undo,
    wayBack: { statement: setting.back, lossless: true },
    locks: locksOf(ctx, table, setting.mode),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.asked(`~ column ${columnLabel(table, column.name)}: ${setting.action}`);
  return true;
}

const HANDLED: readonly string[] = [
  'AT_ColumnDefault',
  'AT_DropNotNull',
  'AT_SetStatistics',
  'AT_SetStorage',
  'AT_SetCompression',
  'AT_SetOptions',
  'AT_ResetOptions',
];

const STORAGE: Readonly<Record<string, string>> = { p: 'PLAIN', e: 'EXTERNAL', m: 'MAIN', x: 'EXTENDED' };

function settingOf(ctx: PlanContext, table: Table, column: Column, command: AlterTableCmd): Setting | null {
  const label = columnLabel(table, column.name);
  const name = ident(column.name);
  /** Undo by one statement that is right whenever the column is there. */
  const inverse = (action: string): { undo: StepRun[]; back: string } => {
    const back = alter(table, action);
    return { undo: [transaction([guarded(columnExists(table, column.name), back)])], back };
  };
  switch (command.subtype) {
    case 'AT_ColumnDefault': {
      const set = command.def !== undefined;
      // A default of the new type may be none of the old one: the swap sets it.
      if (ctx.retyped(table, column.name)) {
        ctx.overlay.changeColumn(table, column.name, { default: command.def ? expressionSql(command.def) : null });
        ctx.asked(`~ column ${label}: ${set ? 'set_default' : 'drop_default'}`);
        return null;
      }
      const back =
        column.default === null || column.generated
          ? `ALTER COLUMN ${name} DROP DEFAULT`
          : `ALTER COLUMN ${name} SET DEFAULT ${column.default}`;
      ctx.overlay.changeColumn(table, column.name, { default: command.def ? expressionSql(command.def) : null });
      return {
        action: set ? 'set_default' : 'drop_default',
        title: `${set ? 'set' : 'drop'} the default of ${label}`,
        mode: 'ACCESS EXCLUSIVE',
        ...inverse(back),
      };
    }
    case 'AT_DropNotNull': {
      if (!column.notNull) {
        ctx.finding({
          rule: 'nothing_to_do',
          level: 'info',
          message: `${label} is nullable already`,
          relation: shownRelation(table),
        });
        return null;
      }
      ctx.overlay.changeColumn(table, column.name, { notNull: false });
      return {
        action: 'drop_not_null',
        title: `let ${label} be NULL`,
        mode: 'ACCESS EXCLUSIVE',
        undo: restoreNotNull(ctx, table, column),
        back: `${alter(table, `ALTER COLUMN ${name} SET NOT NULL`)} -- by a check that is validated first; rows that are NULL by then are listed`,
      };
    }
    case 'AT_SetStatistics':
      return {
        action: 'set_statistics',
        title: `set the statistics target of ${label}`,
        mode: 'SHARE UPDATE EXCLUSIVE',
        ...inverse(`ALTER COLUMN ${name} SET STATISTICS ${column.statisticsTarget ?? -1}`),
      };
    case 'AT_SetStorage':
      return {
        action: 'set_storage',
        title: `set the storage of ${label} (rows to come)`,
        mode: 'ACCESS EXCLUSIVE',
        ...inverse(`ALTER COLUMN ${name} SET STORAGE ${STORAGE[column.storage] ?? column.storage}`),
      };
    case 'AT_SetCompression':
      return {
        action: 'set_compression',
        title: `set the compression of ${label} (rows to come)`,
        mode: 'ACCESS EXCLUSIVE',
        ...inverse(`ALTER COLUMN ${name} SET COMPRESSION ${column.compression ?? 'default'}`),
      };
    default:
      return {
        action: 'set_options',
        title: `set options of ${label}`,
        mode: 'SHARE UPDATE EXCLUSIVE',
        ...inverse(optionsBack(column, command)),
      };
  }
}

/** Options named by the command go back to what they were. */
function optionsBack(column: Column, command: AlterTableCmd): string {
  const items = as(command.def, 'List')?.items ?? [];
  const names = items.flatMap((n) => as(n, 'DefElem')?.defname ?? []);
  const old = column.options.filter((o) => names.includes(o.split('=')[0] ?? ''));
  const reset = names.filter((n) => !old.some((o) => o.startsWith(`${n}=`)));
  const actions = [
    ...(old.length > 0
      ? [
          `ALTER COLUMN ${ident(column.name)} SET (${old.map((o) => `${o.split('=')[0] ?? ''} = ${literal(o.slice(o.indexOf('=') + 1))}`).join(', ')})`,
        ]
      : []),
    ...(reset.length > 0 ? [`ALTER COLUMN ${ident(column.name)} RESET (${reset.join(', ')})`] : []),
  ];
  return actions.join(', ') || `ALTER COLUMN ${ident(column.name)} SET STATISTICS ${column.statisticsTarget ?? -1}`;
}
