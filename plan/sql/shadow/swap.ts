/**
 * The swap: one short transaction under ACCESS EXCLUSIVE. Keeps true: no statement in it reads rows; after it every name that clients and
 * the catalogue knew stands on the new column; the old column has nothing left that could refuse a write.
 */
import { ident, literal, relation } from '../../model/quote';
import { comment, quotedTable, sameTable, tableName } from './change';
import { columnPublications } from './publications';
import { postgresName } from '../names';
import { constraintTaken } from '../statements/shared';
import { recompiled, recreated } from './dependents';
import { moveNumbers } from './numbers';
import { forwardSync, reverseSync } from './sync';
import type { LockTarget } from '../../model/steps';
import type { Change, ConstraintTwin, IndexTwin } from './change';

/** The table first, then the other sides of foreign keys in the order of their names. */
export function swapLocks(change: Change): LockTarget[] {
  const others = new Map<string, LockTarget>();
  for (const { on, constraint } of change.foreign)
    for (const name of [on, constraint.references?.table])
      if (name && !sameTable(name, change.table))
        others.set(relation(name), { relation: { schema: name.schema, name: name.name }, mode: 'ACCESS EXCLUSIVE' });
  const sorted = [...others.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, target]) => target);
  return [{ relation: tableName(change), mode: 'ACCESS EXCLUSIVE' }, ...sorted];
}

/** Locks that cannot be taken NOWAIT (views, sequences): all they may wait for is a moment, since the table is locked already. */
export const QUICK = `SET LOCAL lock_timeout = '20ms'`;

const dropConstraint = (item: ConstraintTwin, name: string): string =>
  `ALTER TABLE ${relation(item.on)} DROP CONSTRAINT IF EXISTS ${ident(name)}`;
const renameConstraint = (on: string, from: string, to: string): string =>
  `ALTER TABLE ${on} RENAME CONSTRAINT ${ident(from)} TO ${ident(to)}`;

export function swapStatements(change: Change): string[] {
  const { column, ctx, indexes, shadow, old, table } = change;
  const on = quotedTable(change);
  const { down } = change.transforms;
  const dependents = recreated(change);
  const modern = ctx.catalog.serverVersion >= 180000;
  const alter = (action: string): string => `ALTER TABLE ${on} ${action}`;
  return [
    QUICK,
    ...forwardSync(change).drop,
    ...dependents.drop,
    ...[...change.foreign, ...change.checks]
      .filter((item) => !item.wanted)
      .map((item) => dropConstraint(item, item.constraint.name)),
    ...indexes.filter((i) => !i.wanted && !i.stays).map((i) => dropIndex(on, i)),
    ...change.statistics.map(({ statistics }) => `DROP STATISTICS IF EXISTS ${relation(statistics)}`),
    alter(`RENAME COLUMN ${ident(column.name)} TO ${ident(old)}`),
    alter(`RENAME COLUMN ${ident(shadow)} TO ${ident(column.name)}`),
    // A valid CHECK (15 to 17) saves the scan.
    ...(change.notNull && !modern ? [alter(`ALTER COLUMN ${ident(column.name)} SET NOT NULL`)] : []),
    ...moveNumbers(change, old, column.name, change.to),
    ...(change.notNull && !change.notNull.wanted ? [alter(`ALTER COLUMN ${ident(old)} DROP NOT NULL`)] : []),
    ...(change.notNull
      ? [
          modern
            ? renameConstraint(on, change.notNull.twin, notNullName(change))
            : alter(`DROP CONSTRAINT ${ident(change.notNull.twin)}`),
        ]
      : []),
    ...indexes.filter((i) => !i.wanted && i.stays).map((i) => renameIndex(i, i.index.name, i.kept)),
    ...indexes.flatMap((i) => attachIndex(on, i, i.twin)),
    ...nameIndexColumns(change, shadow),
    ...change.checks.map((item) => renameConstraint(on, item.twin, item.constraint.name)),
    ...change.foreign.map((item) => renameConstraint(relation(item.on), item.twin, item.constraint.name)),
    ...change.statistics.map(
      ({ statistics, twin }) =>
        `ALTER STATISTICS ${relation({ schema: statistics.schema, name: twin })} RENAME TO ${ident(statistics.name)}`,
    ),
    ...identityAndCluster(change),
    ...columnPublications(change),
    ...(down ? reverseSync(change, down).create : []),
    ...dependents.create,
    ...(table.triggers.length > 0 || ctx.catalog.functions.length > 0 ? recompiled(change) : []),
  ];
}

/** As it was called, or as Postgres would call it. */
export const notNullName = (change: Change): string =>
  change.notNull?.constraint?.name ??
  postgresName(change.table.name, change.column.name, 'not_null', (n) =>
    constraintTaken(change.ctx, change.table.schema, n),
  );

/** A constraint's index goes with its constraint. */
export const dropIndex = (on: string, twin: IndexTwin): string =>
  twin.constraint
    ? `ALTER TABLE ${on} DROP CONSTRAINT IF EXISTS ${ident(twin.constraint.name)}`
    : `DROP INDEX IF EXISTS ${relation(twin.index)}`;

export const renameIndex = ({ index }: IndexTwin, from: string, to: string): string =>
  `ALTER INDEX ${relation({ schema: index.schema, name: from })} RENAME TO ${ident(to)}`;

/** The built index `built` takes the place of the original: as its constraint's, or by name. */
export function attachIndex(on: string, twin: IndexTwin, built: string): string[] {
  const { constraint } = twin;
  if (!constraint) return [renameIndex(twin, built, twin.index.name)];
  const kind = constraint.type === 'primary' ? 'PRIMARY KEY' : 'UNIQUE';
  const later = constraint.deferrable ? ` DEFERRABLE${constraint.deferred ? ' INITIALLY DEFERRED' : ''}` : '';
  return [
    `ALTER TABLE ${on} ADD CONSTRAINT ${ident(constraint.name)} ${kind} USING INDEX ${ident(built)}${later}`,
    ...comment(`CONSTRAINT ${ident(constraint.name)} ON ${on}`, constraint.comment),
  ];
}

/**
 * An index keeps the names that its columns had when it was built (amount, and amount1 for a second one): RENAME COLUMN of the table does
 * not reach them.
 */
export function nameIndexColumns(change: Change, built: string): string[] {
  if (change.indexes.length === 0) return [];
  const text = (value: string): string => literal(value).trimStart();
  const body =
    `DECLARE r record; BEGIN FOR r IN SELECT i.indexrelid::pg_catalog.regclass AS index, a.attname::pg_catalog.text AS name ` +
    `FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indexrelid ` +
    `WHERE i.indrelid = ${text(quotedTable(change))}::pg_catalog.regclass AND pg_catalog.starts_with(a.attname::pg_catalog.text, ${text(built)}) ` +
    `LOOP EXECUTE pg_catalog.format('ALTER TABLE %s RENAME COLUMN %I TO %I', r.index, r.name, ` +
    `${text(change.column.name)} || pg_catalog.substr(r.name, pg_catalog.length(${text(built)}) + 1)); END LOOP; END`;
  return [`DO ${text(body)}`];
}

/** Marks that hang on an index by number. */
export function identityAndCluster(change: Change): string[] {
  const on = quotedTable(change);
  const identity = change.table.replicaIdentity;
  return [
    ...(typeof identity === 'object' && change.indexes.some((i) => i.index.name === identity.index)
      ? [`ALTER TABLE ${on} REPLICA IDENTITY USING INDEX ${ident(identity.index)}`]
      : []),
    ...change.indexes
      .filter((i) => i.index.clustered)
      .map((i) => `ALTER TABLE ${on} CLUSTER ON ${ident(i.index.name)}`),
  ];
}
