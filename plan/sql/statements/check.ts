/** CHECK: NOT VALID and then validated; rows that it refuses are counted by preflight, or mended in batches as `up` says. */
import { expressionSql, qualified } from '../ast';
import { batchesOf, plannedLock, risk } from '../figures';
import { chooseConstraintName } from '../indexNames';
import { ident, relation, shown, shownRelation } from '../../model/quote';
import { bareName, batchKey, columnLabel, columnsIn, withRows } from './shared';
import { keptValues } from './kept';
import { transformOf, upExpression } from './setNotNull';
import { addNotValid, leftToTypeChange } from './notValid';
import { callsKnown } from '../volatility';
import type { Constraint as ConstraintNode } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';
import type { AddOptions } from './constraints';

export function planCheck(ctx: PlanContext, table: Table, node: ConstraintNode, options: AddOptions): void {
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
  const askable =
    ctx.overlay.wasThere(table, columns) && !ctx.overlay.rowsChange(table) && callsKnown(node.raw_expr, ctx.catalog);
  if (mended.length === 0 && !skip && !options.fresh && askable)
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
  for (const part of withRows(ctx, table)) {
    const kept = keptValues(ctx, part, column, phase);
    if (!kept) continue;
    const { keep, ...back } = kept;
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
        ...(keep ? { keep } : {}),
      },
      ...back,
      locks: [plannedLock(part, 'ROW EXCLUSIVE', 'batch')],
      work: 'batches',
      estimate: batchesOf(part),
      risk: risk({ performance: 'medium', dataLoss: 'medium' }),
    });
  }
}
