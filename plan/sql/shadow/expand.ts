/**
 * The steps before the swap: shadow and trigger, filling, indexes and constraints of the shadow, proof. Keeps true: nothing here changes
 * what clients see but for one more column; each step's way back takes away exactly what it added and is right when it added nothing.
 */
import { ident, relation, shown, shownRelation } from '../../model/quote';
import { batchesOf, brief, buildOf, plannedLock, risk, scanOf } from '../figures';
import { bareName, lockTarget, transaction } from '../statements/shared';
import { addConstraint, comment, quotedTable, sameTable, tableName } from './change';
import { indexStatement } from './rename';
import { forwardSync, imagesDiffer, runSettings, upOver } from './sync';
import { dressColumn, dressIndexes } from './twins';
import type { KeyColumn, RelationName } from '../../model/steps';
import type { Change, ConstraintTwin } from './change';

export function addShadow(change: Change): void {
  const { column, ctx, shadow, table, to } = change;
  const on = quotedTable(change);
  const collate = change.collation === null ? '' : ` COLLATE ${change.collation}`;
  const probe = column.default === null || column.identity !== null ? [] : [column.default];
  const settings = runSettings(change);
  ctx.add({
    phase: 'expand',
    action: 'add_column',
    title: `add column ${change.label} (${to.text}) as ${shown(shadow)}`,
    run: transaction(
      [
        `ALTER TABLE ${on} ADD COLUMN ${ident(shadow)} ${to.sql}${collate}`,
        ...dressColumn(change),
        // The swap must not be the first to hear that a default cannot be cast: tried here, and taken off before anybody sees it.
        ...probe.flatMap((text) => [
          `ALTER TABLE ${on} ALTER COLUMN ${ident(shadow)} SET DEFAULT ${text}`,
          `ALTER TABLE ${on} ALTER COLUMN ${ident(shadow)} DROP DEFAULT`,
        ]),
        // Nothing is run: Postgres checks the types and names of the expression now, and not in the first batch.
        `EXPLAIN UPDATE ONLY ${on} AS t SET ${ident(shadow)} = ${upOver(change, 't')}`,
      ],
      { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')], ...(settings ? { settings } : {}) },
    ),
    undo: [
      transaction([`ALTER TABLE IF EXISTS ${on} DROP COLUMN IF EXISTS ${ident(shadow)}`], {
        lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')],
      }),
    ],
    wayBack: { statement: `ALTER TABLE ${on} DROP COLUMN ${ident(shadow)}`, lossless: true },
    locks: [plannedLock(table, 'ACCESS EXCLUSIVE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
}

export function addSync(change: Change): void {
  const { ctx, table } = change;
  const sync = forwardSync(change);
  const settings = runSettings(change);
  ctx.add({
    phase: 'expand',
    action: 'create_trigger',
    title: `keep ${shown(change.shadow)} in step with ${change.label}`,
    run: transaction(sync.create, {
      lockFirst: [lockTarget(table, 'SHARE ROW EXCLUSIVE')],
      ...(settings ? { settings } : {}),
    }),
    undo: [transaction(sync.drop, { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')] })],
    locks: [plannedLock(table, 'SHARE ROW EXCLUSIVE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk({ performance: 'low' }),
    own: true,
  });
}

export function fillShadow(change: Change, key: readonly KeyColumn[] | null): void {
  const { ctx, table } = change;
  const up = upOver(change, 't');
  const settings = runSettings(change);
  ctx.add({
    phase: 'backfill',
    action: 'backfill_column',
    title: `fill ${shown(change.shadow)} of ${shownRelation(table)} in batches`,
    run: {
      kind: 'backfill',
      table: tableName(change),
      // The value is given here although the trigger could make it: then WHEN finds nothing to do and no function is called.
      set: [`${ident(change.shadow)} = ${up}`],
      pending: imagesDiffer(`t.${ident(change.shadow)}`, up),
      key,
      quiet: ctx.catalog.canSetReplicationRole,
      column: change.label,
      ...(settings ? { settings } : {}),
    },
    undo: [],
    wayBack: { statement: '-- goes with the column', lossless: true },
    locks: [plannedLock(table, 'ROW EXCLUSIVE', 'batch')],
    work: 'batches',
    estimate: batchesOf(table),
    risk: risk({ performance: 'medium' }),
    own: true,
  });
}

export function buildIndexes(change: Change): void {
  const { column, ctx, table } = change;
  for (const { index, twin } of change.indexes) {
    const name: RelationName = { schema: index.schema, name: twin };
    ctx.add({
      phase: 'build',
      action: 'create_index',
      title: `build ${shown(index.name)} over the shadow, concurrently`,
      run: {
        kind: 'create-index',
        index: name,
        table: tableName(change),
        statement: indexStatement(index.definition, {
          name: twin,
          column: column.name,
          to: change.shadow,
          tablespace: index.tablespace,
        }),
        unique: index.unique,
      },
      undo: [{ kind: 'drop-index', index: name }],
      locks: [plannedLock(table, 'SHARE UPDATE EXCLUSIVE', 'scan')],
      work: 'build',
      estimate: buildOf(table),
      risk: risk({ performance: 'medium' }),
    });
    if (index.unique && !index.immediate)
      ctx.finding({
        rule: 'deferrable_key',
        level: 'warning',
        message: `${shown(index.name)} is deferrable, its twin over the shadow is checked at once until the swap`,
        alternative: 'make sure that no transaction leans on the check being late while the change runs',
        relation: shownRelation(table),
      });
  }
}

/** CHECK and NOT NULL of the shadow, not valid yet: one short lock for all of them. */
export function addRules(change: Change): void {
  const { ctx, notNull, table } = change;
  const on = quotedTable(change);
  const rule =
    ctx.catalog.serverVersion >= 180000
      ? `NOT NULL ${ident(change.shadow)}`
      : `CHECK (${ident(change.shadow)} IS NOT NULL)`;
  const names = [...change.checks.map((item) => item.twin), ...(notNull ? [notNull.twin] : [])];
  if (names.length === 0) return;
  ctx.add({
    phase: 'build',
    action: 'add_constraint',
    title: `add ${names.length === 1 ? 'the constraint' : `${names.length} constraints`} of ${change.label} to the shadow, not valid yet`,
    run: transaction(
      [
        ...change.checks.flatMap((item) => [
          addConstraint(change, item, item.twin, change.shadow, true),
          ...comment(`CONSTRAINT ${ident(item.twin)} ON ${on}`, item.constraint.comment),
        ]),
        ...(notNull
          ? [
              `ALTER TABLE ${on} ADD CONSTRAINT ${ident(notNull.twin)} ${rule} NOT VALID`,
              ...(notNull.constraint
                ? comment(`CONSTRAINT ${ident(notNull.twin)} ON ${on}`, notNull.constraint.comment)
                : []),
            ]
          : []),
      ],
      { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')] },
    ),
    undo: [
      transaction(
        names.map((name) => `ALTER TABLE IF EXISTS ${on} DROP CONSTRAINT IF EXISTS ${ident(name)}`),
        { lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')] },
      ),
    ],
    locks: [plannedLock(table, 'ACCESS EXCLUSIVE')],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
}

const otherSide = (change: Change, item: ConstraintTwin): RelationName =>
  sameTable(item.on, change.table) ? (item.constraint.references?.table ?? change.table) : item.on;

export function addForeignKeys(change: Change): void {
  const { ctx, table } = change;
  for (const item of change.foreign) {
    const other = bareName(otherSide(change, item));
    const sides = sameTable(other, table) ? [table] : [table, other];
    const on = relation(item.on);
    ctx.add({
      phase: 'build',
      action: 'add_foreign_key',
      title: `add ${shown(item.constraint.name)} of ${shownRelation(item.on)} over the shadow, not valid yet`,
      run: transaction(
        [
          addConstraint(change, item, item.twin, change.shadow, true),
          ...comment(`CONSTRAINT ${ident(item.twin)} ON ${on}`, item.constraint.comment),
        ],
        { lockFirst: sides.map((side) => lockTarget(side, 'SHARE ROW EXCLUSIVE')) },
      ),
      undo: [
        transaction([`ALTER TABLE IF EXISTS ${on} DROP CONSTRAINT IF EXISTS ${ident(item.twin)}`], {
          lockFirst: sides.map((side) => lockTarget(side, 'ACCESS EXCLUSIVE')),
        }),
      ],
      locks: sides.map((side) => plannedLock(side, 'SHARE ROW EXCLUSIVE')),
      work: 'metadata',
      estimate: brief(),
      risk: risk(),
    });
  }
}

export function analyzeShadow(change: Change): void {
  const { ctx, table } = change;
  ctx.add({
    phase: 'build',
    action: 'analyze',
    title: `statistics of the shadow of ${change.label}`,
    run: transaction(dressIndexes(change), { long: true }),
    undo: [
      transaction(
        change.statistics.map(
          ({ statistics, twin }) => `DROP STATISTICS IF EXISTS ${relation({ schema: statistics.schema, name: twin })}`,
        ),
      ),
    ].filter((run) => run.statements.length > 0),
    wayBack: { statement: '-- goes with the column', lossless: true },
    locks: [plannedLock(table, 'SHARE UPDATE EXCLUSIVE', 'scan')],
    work: 'scan',
    estimate: scanOf(table),
    risk: risk(),
    own: true,
  });
}

export function validateRules(change: Change): void {
  const { ctx, notNull, table } = change;
  const validate = (on: RelationName, name: string, what: string, other: RelationName | null): void =>
    ctx.add({
      phase: 'validate',
      action: 'validate_constraint',
      title: `validate ${what} over the shadow`,
      run: transaction([`ALTER TABLE ${relation(on)} VALIDATE CONSTRAINT ${ident(name)}`], {
        lockFirst: [lockTarget(on, 'SHARE UPDATE EXCLUSIVE')],
        long: true,
      }),
      undo: [],
      locks: [
        plannedLock(on, 'SHARE UPDATE EXCLUSIVE', 'scan'),
        ...(other && !sameTable(other, on) ? [plannedLock(other, 'ROW SHARE', 'scan')] : []),
      ],
      work: 'scan',
      estimate: scanOf(ctx.overlay.at(on) ?? table),
      risk: risk(),
    });
  for (const { constraint, on, twin } of [...change.checks, ...change.foreign])
    if (constraint.validated && constraint.enforced)
      validate(on, twin, shown(constraint.name), constraint.references?.table ?? null);
  if (notNull) validate(table, notNull.twin, `NOT NULL of ${change.label}`, null);
}

export function proveShadow(change: Change, key: readonly KeyColumn[] | null): void {
  const { ctx, table } = change;
  const up = upOver(change, 't');
  const shadow = `t.${ident(change.shadow)}`;
  const settings = runSettings(change);
  ctx.add({
    phase: 'validate',
    action: 'prove',
    title: `prove every row of ${change.label}: nothing left, old = new`,
    run: {
      kind: 'proof',
      table: tableName(change),
      key,
      checks: [
        {
          column: change.label,
          remaining: `${shadow} IS NULL AND (${up}) IS NOT NULL`,
          differing: imagesDiffer(shadow, up),
          oldImage: `ROW(${up})`,
          newImage: `ROW(${shadow})`,
        },
      ],
      onDiffer: 'refuse',
      ...(settings ? { settings } : {}),
    },
    undo: [],
    locks: [plannedLock(table, 'ACCESS SHARE', 'scan')],
    work: 'scan',
    estimate: scanOf(table),
    risk: risk(),
    own: true,
  });
}
