/** From a statement's type to the family that plans it. What nobody here knows is refused: nothing runs that was not understood. */
import { kindOf } from '../ast';
import { planAlterTable } from './alterTable';
import { planCreateIndex } from './createIndex';
import { planRefused } from './refused';
import type { Node } from 'libpg-query';
import type { PlanContext } from '../context';

type Family = (ctx: PlanContext, fields: never) => void;

const FAMILIES: Readonly<Record<string, Family>> = {
  AlterTableStmt: planAlterTable,
  IndexStmt: planCreateIndex,
} as Readonly<Record<string, Family>>;

export function planStatement(ctx: PlanContext): void {
  const { ast } = ctx.statement;
  const kind = kindOf(ast);
  const family = FAMILIES[kind];
  if (family) family(ctx, (ast as Record<string, unknown>)[kind] as never);
  else planRefused(ctx);
}

export type { Node };
