/** UNIQUE and PRIMARY KEY made again for a way back: the index concurrently, then attached, then what hung on the index. */
import { ident, literal, relation } from '../../model/quote';
import { alter, both, constraintExists, guarded, not, relationExists, transaction } from './shared';
import type { Constraint, Index, Table } from '../../model/catalog';
import type { StepRun } from '../../model/steps';

/** pg_get_indexdef() text as a concurrent build. */
export const concurrently = (definition: string): string =>
  definition.replace(
    /^CREATE (UNIQUE )?INDEX /,
    (_, unique: string | undefined) => `CREATE ${unique ?? ''}INDEX CONCURRENTLY `,
  );

/** What pg_get_indexdef() does not say. */
export function indexExtras(table: Table, index: Index): string[] {
  const name = relation(index);
  return [
    ...(index.comment === null ? [] : [`COMMENT ON INDEX ${name} IS ${literal(index.comment)}`]),
    ...index.statisticsTargets.map((s) => `ALTER INDEX ${name} ALTER COLUMN ${s.number} SET STATISTICS ${s.target}`),
    ...(index.clustered ? [`ALTER TABLE ${relation(table)} CLUSTER ON ${ident(index.name)}`] : []),
    ...(index.replicaIdentity
      ? [`ALTER TABLE ${relation(table)} REPLICA IDENTITY USING INDEX ${ident(index.name)}`]
      : []),
    ...(index.tablespace === null ? [] : [`ALTER INDEX ${name} SET TABLESPACE ${ident(index.tablespace)}`]),
  ];
}

export const buildBack = (table: Table, index: Index): StepRun => ({
  kind: 'create-index',
  index: { schema: index.schema, name: index.name },
  table: { schema: table.schema, name: table.name },
  statement: concurrently(index.definition),
  unique: index.unique,
});

export function addBack(table: Table, constraint: Constraint, index: Index): StepRun[] {
  const name = ident(constraint.name);
  const deferred = constraint.deferrable ? ` DEFERRABLE${constraint.deferred ? ' INITIALLY DEFERRED' : ''}` : '';
  const kind = constraint.type === 'primary' ? 'PRIMARY KEY' : 'UNIQUE';
  const add = alter(table, `ADD CONSTRAINT ${name} ${kind} USING INDEX ${ident(index.name)}${deferred}`);
  const comment =
    constraint.comment === null
      ? []
      : [`COMMENT ON CONSTRAINT ${name} ON ${relation(table)} IS ${literal(constraint.comment)}`];
  const missing = both(relationExists(index), not(constraintExists(table, constraint.name)));
  return [buildBack(table, index), transaction([guarded(missing, add, ...comment, ...indexExtras(table, index))])];
}
