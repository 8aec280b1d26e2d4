/** A run as the SQL that will be sent, for people: batches show one batch, its range as $1 and $2. */
import { fillSql } from '../model/fillSql';
import { ident, relation } from '../model/quote';
import type { KeyColumn, StepRun } from '../model/steps';

function range(alias: string, key: readonly KeyColumn[] | null): string {
  if (key === null) return `${alias}.ctid >= $1 AND ${alias}.ctid < $2`;
  const columns = key.map((k) => `${alias}.${ident(k.name)}`).join(', ');
  return key.length === 1 ? `${columns} > $1 AND ${columns} <= $2` : `(${columns}) > $1 AND (${columns}) <= $2`;
}

export function describeRun(run: StepRun): string {
  switch (run.kind) {
    case 'transaction':
      return run.statements.join(';\n');
    case 'create-index':
    case 'autocommit':
      return run.statement;
    case 'drop-index':
      return `DROP INDEX CONCURRENTLY IF EXISTS ${relation(run.index)}`;
    case 'backfill':
      return fillSql(run, relation(run.table), range('t', run.key));
    case 'dml':
    case 'insert-select':
      return run.statement.replaceAll('$RANGE', range(run.alias, run.key));
    case 'proof':
      return run.checks
        .map(
          (c) =>
            `SELECT count(*) FILTER (WHERE ${c.remaining}) AS remaining, count(*) FILTER (WHERE ${c.differing}) AS differing FROM ${relation(run.table)} AS t WHERE ${range('t', run.key)}`,
        )
        .join(';\n');
    case 'duplicates':
      return `SELECT ${run.columns.join(', ')} FROM ${relation(run.table)} AS t${run.where === null ? '' : ` WHERE ${run.where}`} GROUP BY ${run.columns.map((_, i) => i + 1).join(', ')} HAVING count(*) > 1`;
    case 'archive': {
      const own =
        run.column === null ? '' : `${ident(run.column)}${run.as === undefined ? '' : ` AS ${ident(run.as)}`}`;
      const columns = run.column === null ? '*' : [...(run.key ?? []).map((k) => ident(k.name)), own].join(', ');
      const to = 'table' in run.to ? `INSERT INTO ${relation(run.to.table)} ` : '-- pg_dump: ';
      return `${to}SELECT ${columns} FROM ${relation(run.table)}`;
    }
  }
}
