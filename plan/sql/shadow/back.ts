/**
 * The way back of the swap, while the old column is kept in step. Keeps true: it does nothing where the swap never happened; each part may
 * run twice; rows that cannot go back are shown before anything is swapped, and from then on a write that could not go back is refused
 * instead of lost.
 */
import { ident, relation } from '../../model/quote';
import { columnExists, guarded } from '../statements/shared';
import { addConstraint, comment, quotedTable, tableName } from './change';
import { columnPublications } from './publications';
import { recompiled, recreated } from './dependents';
import { moveNumbers } from './numbers';
import { indexStatement } from './rename';
import {
  attachIndex,
  dropIndex,
  identityAndCluster,
  nameIndexColumns,
  notNullName,
  QUICK,
  renameIndex,
  swapLocks,
} from './swap';
import { reverseSync, runSettings, upAfterSwap, valuesDiffer } from './sync';
import { steady } from './steady';
import { addStatistics } from './twins';
import type { KeyColumn, ProofRun, StepRun, TransactionRun } from '../../model/steps';
import type { Change, ConstraintTwin } from './change';
import type { Formula } from './formula';

/** SQL: the swap has happened and was not taken back. */
export const swapped = (change: Change): string => columnExists(tableName(change), change.old);

export function backRuns(change: Change, down: Formula, key: readonly KeyColumn[] | null): StepRun[] {
  return [
    ...change.indexes
      .filter((i) => !i.wanted && !i.stays)
      .map((i): StepRun => ({
        kind: 'create-index',
        index: { schema: i.index.schema, name: i.back },
        table: tableName(change),
        statement: indexStatement(steady(i.index.definition), {
          name: i.back,
          column: change.column.name,
          to: change.old,
          tablespace: i.index.tablespace,
        }),
        unique: i.index.unique,
        onlyWhen: swapped(change),
      })),
    misfits(change, key),
    strict(change, down),
    ...validates(change),
    misfits(change, key),
    swapBack(change, down),
    ...analyze(change),
  ];
}

/** Of the old column: what this plan only asks for does not come back. */
const wasNotNull = (change: Change): Change['notNull'] => (change.notNull?.wanted ? null : change.notNull);

const wasThere = (item: ConstraintTwin): boolean => !item.wanted;

const locked = (change: Change, statements: readonly string[], long = false): TransactionRun => ({
  kind: 'transaction',
  lockFirst: long ? [] : swapLocks(change),
  statements: [guarded(swapped(change), ...statements)],
  long,
});

/** Rows whose new value has no place in the old shape. A NOT NULL column has no place for them at all. */
function misfits(change: Change, key: readonly KeyColumn[] | null): ProofRun {
  const up = upAfterSwap(change, 't');
  const visible = `t.${ident(change.column.name)}`;
  const settings = runSettings(change);
  return {
    kind: 'proof',
    table: tableName(change),
    key,
    checks: [
      {
        column: change.label,
        remaining: 'false',
        differing: valuesDiffer(change, up, visible),
        oldImage: `ROW(${up})`,
        newImage: `ROW(${change.to.name === 'numeric' ? up : visible})`,
      },
    ],
    onDiffer: wasNotNull(change) ? 'refuse' : 'report',
    message: wasNotNull(change)
      ? `rows of ${change.label} have no valid value for ${change.from.text}, and the column is NOT NULL: correct them first`
      : `rows of ${change.label} have no valid value for ${change.from.text} and become NULL`,
    onlyWhen: swapped(change),
    ...(settings ? { settings } : {}),
  };
}

/**
 * The old rules return, not valid yet: from here on a write that does not fit is refused. The lock waits for writers that are under way, so
 * the proof after it sees every row.
 */
function strict(change: Change, down: Formula): TransactionRun {
  const on = quotedTable(change);
  const fresh = (table: string, name: string): string =>
    `ALTER TABLE ${table} DROP CONSTRAINT IF EXISTS ${ident(name)}`;
  const notNull = wasNotNull(change);
  const rule =
    change.ctx.catalog.serverVersion >= 180000
      ? `NOT NULL ${ident(change.old)}`
      : `CHECK (${ident(change.old)} IS NOT NULL)`;
  return locked(change, [
    ...reverseSync(change, down, true).create.slice(0, 1),
    ...(notNull
      ? [fresh(on, notNull.back), `ALTER TABLE ${on} ADD CONSTRAINT ${ident(notNull.back)} ${rule} NOT VALID`]
      : []),
    ...change.checks
      .filter(wasThere)
      .flatMap((item) => [fresh(on, item.back), steady(addConstraint(change, item, item.back, change.old, true))]),
    // A foreign key to this table leans on a unique index of the old column: the way back has just built it.
    ...change.foreign
      .filter(wasThere)
      .flatMap((item) => [
        fresh(relation(item.on), item.back),
        steady(addConstraint(change, item, item.back, change.old, true)),
      ]),
  ]);
}

function validates(change: Change): TransactionRun[] {
  const notNull = wasNotNull(change);
  const items = [
    ...(notNull ? [{ on: quotedTable(change), name: notNull.back, wanted: true }] : []),
    ...[...change.checks, ...change.foreign].filter(wasThere).map((item) => ({
      on: relation(item.on),
      name: item.back,
      wanted: item.constraint.validated && item.constraint.enforced,
    })),
  ];
  return items
    .filter((item) => item.wanted)
    .map((item) => locked(change, [`ALTER TABLE ${item.on} VALIDATE CONSTRAINT ${ident(item.name)}`], true));
}

function swapBack(change: Change, down: Formula): TransactionRun {
  const { column, ctx, indexes, old, shadow } = change;
  const notNull = wasNotNull(change);
  const on = quotedTable(change);
  const modern = ctx.catalog.serverVersion >= 180000;
  const alter = (action: string): string => `ALTER TABLE ${on} ${action}`;
  const dependents = recreated(change);
  const dropped = (table: string, name: string): string =>
    `ALTER TABLE ${table} DROP CONSTRAINT IF EXISTS ${ident(name)}`;
  const renamed = (table: string, from: string, to: string): string =>
    `ALTER TABLE ${table} RENAME CONSTRAINT ${ident(from)} TO ${ident(to)}`;
  return locked(change, [
    QUICK,
    ...reverseSync(change, down).drop,
    ...dependents.drop,
    ...[...change.foreign, ...change.checks].map((item) => dropped(relation(item.on), item.constraint.name)),
    ...indexes.map((i) => dropIndex(on, i)),
    ...change.statistics.map(({ statistics }) => `DROP STATISTICS IF EXISTS ${relation(statistics)}`),
    alter(`RENAME COLUMN ${ident(column.name)} TO ${ident(shadow)}`),
    alter(`RENAME COLUMN ${ident(old)} TO ${ident(column.name)}`),
    ...(notNull && !modern ? [alter(`ALTER COLUMN ${ident(column.name)} SET NOT NULL`)] : []),
    ...moveNumbers(change, shadow, column.name, change.from),
    ...(change.notNull ? [alter(`ALTER COLUMN ${ident(shadow)} DROP NOT NULL`)] : []),
    ...(notNull ? [modern ? renamed(on, notNull.back, notNullName(change)) : dropped(on, notNull.back)] : []),
    ...indexes.filter((i) => !i.wanted && i.stays).map((i) => renameIndex(i, i.kept, i.index.name)),
    ...indexes.filter((i) => !i.wanted && !i.stays).flatMap((i) => [...attachIndex(on, i, i.back), ...indexMarks(i)]),
    ...nameIndexColumns(change, old),
    ...[...change.checks, ...change.foreign]
      .filter(wasThere)
      .flatMap((item) => [
        renamed(relation(item.on), item.back, item.constraint.name),
        ...comment(`CONSTRAINT ${ident(item.constraint.name)} ON ${relation(item.on)}`, item.constraint.comment),
      ]),
    ...(notNull?.constraint
      ? comment(`CONSTRAINT ${ident(notNull.constraint.name)} ON ${on}`, notNull.constraint.comment)
      : []),
    ...change.statistics.flatMap((item) =>
      addStatistics(
        change,
        { ...item.statistics, definition: steady(item.statistics.definition) },
        item.statistics.name,
        column.name,
      ),
    ),
    ...identityAndCluster(change),
    ...columnPublications(change),
    ...dependents.create,
    ...recompiled(change),
  ]);
}

/** Comment and statistics targets of an index that was built again. */
function indexMarks({ index }: Change['indexes'][number]): string[] {
  const name = relation({ schema: index.schema, name: index.name });
  return [
    ...comment(`INDEX ${name}`, index.comment),
    ...index.statisticsTargets.map((t) => `ALTER INDEX ${name} ALTER COLUMN ${t.number} SET STATISTICS ${t.target}`),
  ];
}

/** Statistics of expressions went with their indexes and objects. */
function analyze(change: Change): TransactionRun[] {
  const lost = change.statistics.length > 0 || change.indexes.some((i) => i.index.keys.includes(null));
  if (!lost) return [];
  return [{ kind: 'transaction', lockFirst: [], statements: [`ANALYZE ${quotedTable(change)}`], long: true }];
}
