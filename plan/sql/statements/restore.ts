/**
 * Ways back that must read the table: NOT NULL and constraints that come back NOT VALID first and are validated after, so that a
 * rollback blocks nobody either. Each is right when the step never happened and when it runs twice.
 */
import { ident, literal, relation } from '../../model/quote';
import {
  alter,
  bareName,
  batchKey,
  columnExists,
  columnIsNotNull,
  columnLabel,
  constraintExists,
  guarded,
  not,
  relationExists,
  transaction,
  withRows,
} from './shared';
import type { Column, Constraint, Table } from '../../model/catalog';
import type { RelationName, StepRun } from '../../model/steps';
import type { PlanContext } from '../context';

/** The NOT NULL constraint's own name (18 on), so that it comes back under it. */
const notNullName = (table: Table, column: Column): string | null =>
  table.constraints.find((c) => c.type === 'not-null' && c.columns.length === 1 && c.columns[0] === column.name)
    ?.name ?? null;

const isTrue = (sql: string): string => `(${sql})`;

/**
 * Rows that are NULL by now are listed first (they cannot go back); then NOT NULL, where no such row is left. With rows left the column
 * stays nullable and a warning says so: a rollback must not stop half way.
 */
export function restoreNotNull(
  ctx: PlanContext,
  table: Table,
  column: Column,
  target: RelationName = table,
): StepRun[] {
  const name = ident(column.name);
  const given = notNullName(table, column);
  const modern = ctx.catalog.serverVersion >= 180000;
  const check = modern
    ? (given ?? `${table.name}_${column.name}_not_null`)
    : ctx.names.make('nnback', table.schema, table.name, column.name);
  const proofs = withRows(ctx, table).map((part): StepRun => ({
    kind: 'proof',
    table: part === table ? bareName(target) : bareName(part),
    key: batchKey(part),
    checks: [
      {
        column: columnLabel(part, column.name),
        remaining: `t.${name} IS NULL`,
        differing: 'false',
        oldImage: `ROW(t.${name})`,
        newImage: `ROW(t.${name})`,
      },
    ],
    onDiffer: 'report',
    message: 'rows are NULL and stay so: the column cannot be NOT NULL again',
  }));
  const missing = `${columnExists(target, column.name)} AND ${not(columnIsNotNull(target, column.name))} AND ${not(constraintExists(target, check))}`;
  const add = modern
    ? `ADD CONSTRAINT ${ident(check)} NOT NULL ${name} NOT VALID`
    : `ADD CONSTRAINT ${ident(check)} CHECK (${name} IS NOT NULL) NOT VALID`;
  const drop = alter(target, `DROP CONSTRAINT ${ident(check)}`);
  const validate = `DO ${literal(
    `BEGIN IF ${constraintExists(target, check)} THEN EXECUTE ${literal(alter(target, `VALIDATE CONSTRAINT ${ident(check)}`))}; END IF; ` +
      `EXCEPTION WHEN not_null_violation OR check_violation THEN RAISE WARNING 'rows are NULL: the column stays nullable'; EXECUTE ${literal(drop)}; END`,
  ).trimStart()}`;
  return [
    ...proofs,
    transaction([guarded(missing, alter(target, add))]),
    transaction([validate], { long: true }),
    ...(modern
      ? []
      : [
          transaction([
            guarded(constraintExists(target, check), alter(target, `ALTER COLUMN ${name} SET NOT NULL`), drop),
          ]),
        ]),
  ];
}

/** A CHECK, FOREIGN KEY or NOT NULL comes back NOT VALID, then is validated if it was valid. Its comment comes with it. */
export function restoreConstraint(table: Table, constraint: Constraint, target: RelationName = table): StepRun[] {
  const name = ident(constraint.name);
  const definition = constraint.definition.replace(/ NOT VALID$/, '');
  const canWait =
    (constraint.type === 'check' || constraint.type === 'foreign' || constraint.type === 'not-null') &&
    constraint.enforced;
  const add = alter(target, `ADD CONSTRAINT ${name} ${definition}${canWait ? ' NOT VALID' : ''}`);
  const comment =
    constraint.comment === null
      ? []
      : [`COMMENT ON CONSTRAINT ${name} ON ${relation(target)} IS ${literal(constraint.comment)}`];
  const missing = `${relationExists(target)} AND ${isTrue(not(constraintExists(target, constraint.name)))}`;
  const validate = alter(target, `VALIDATE CONSTRAINT ${name}`);
  return [
    transaction([guarded(missing, add, ...comment)]),
    ...(canWait && constraint.validated
      ? [transaction([guarded(constraintExists(target, constraint.name), validate)], { long: true })]
      : []),
  ];
}
