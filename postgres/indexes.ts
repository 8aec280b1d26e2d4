/**
 * Looks at indexes by name: what is there, is it whole, is it the one that was asked for. A name alone proves nothing (IF NOT EXISTS is
 * never trusted): a killed CREATE INDEX CONCURRENTLY leaves an index that exists, is kept up to date, and answers no query.
 */
import { deparse } from 'pgsql-deparser';
import { parse } from 'libpg-query';
import type { CreateIndexRun, RelationName } from '../plan/model/steps';
import { ident, relation } from './ident';
import type { Session } from './session';
import { inTransaction } from './session';

export interface FoundIndex extends Record<string, unknown> {
  readonly oid: string;
  readonly kind: string;
  readonly valid: boolean;
  readonly table: RelationName;
  readonly definition: string;
  readonly columns: string[];
  readonly predicate: string | null;
  readonly nullsNotDistinct: boolean;
  readonly constraint: string | null;
}

/** The relation of that name if it is an index; `kind` other than 'i' is a partitioned index or no index at all. */
export const findIndex = (session: Session, index: RelationName): Promise<FoundIndex | undefined> =>
  session.one<FoundIndex>(
    `SELECT c.oid::text AS oid, c.relkind::text AS kind, coalesce(i.indisvalid AND i.indisready, false) AS valid,
            jsonb_build_object('schema', tn.nspname, 'name', tc.relname) AS table,
            pg_get_indexdef(c.oid) AS definition,
            ARRAY(SELECT pg_get_indexdef(c.oid, k, true) FROM generate_series(1, i.indnkeyatts) AS k) AS columns,
            pg_get_expr(i.indpred, i.indrelid, true) AS predicate,
            coalesce((to_jsonb(i)->>'indnullsnotdistinct')::boolean, false) AS "nullsNotDistinct",
            (SELECT o.conname::text FROM pg_constraint AS o WHERE o.conindid = c.oid AND o.contype IN ('p', 'u', 'x') LIMIT 1) AS constraint
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
       LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
       LEFT JOIN pg_class AS tc ON tc.oid = i.indrelid LEFT JOIN pg_namespace AS tn ON tn.oid = tc.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2`,
    [index.schema, index.name],
  );

/** Invalid indexes that a killed REINDEX CONCURRENTLY of this one left behind. */
export const findReindexLeftovers = (session: Session, index: RelationName): Promise<{ name: string }[]> =>
  session.rows<{ name: string }>(
    `SELECT c.relname::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
       JOIN pg_index AS i ON i.indexrelid = c.oid
      WHERE n.nspname = $1 AND NOT i.indisvalid AND c.relkind = 'i'
        AND left(c.relname, length($2)) = $2 AND substr(c.relname, length($2) + 1) ~ '^_cc(new|old)[0-9]*$'`,
    [index.schema, index.name],
  );

interface IndexStmt {
  relation?: { schemaname?: string; relname?: string };
  concurrent?: boolean;
  if_not_exists?: boolean;
  idxname?: string;
}

/**
 * The definition that the statement would give, in pg_get_indexdef's words: the same index is made on an empty copy of the table, read and
 * rolled back. null = the copy could not be made (then the definition is unknown, and unknown is never equal).
 */
export async function expectedDefinition(session: Session, run: CreateIndexRun): Promise<string | null> {
  const tree = await parse(run.statement);
  const node = (tree.stmts?.[0]?.stmt as { IndexStmt?: IndexStmt } | undefined)?.IndexStmt;
  if (!node?.relation) return null;
  node.concurrent = false;
  node.if_not_exists = false;
  node.idxname = run.index.name;
  node.relation.schemaname = 'pg_temp';
  node.relation.relname = run.table.name;
  const statement = await deparse(tree);
  const rollback = new Error('the copy is not kept');
  let definition: string | null = null;
  try {
    await inTransaction(session, async () => {
      const temp = `pg_temp.${ident(run.table.name)}`;
      await session.run(`CREATE TEMP TABLE ${ident(run.table.name)} (LIKE ${relation(run.table)})`);
      await session.run(statement);
      const row = await session.one<{ definition: string; schema: string }>(
        `SELECT pg_get_indexdef(i.indexrelid) AS definition, n.nspname::text AS schema FROM pg_index AS i
           JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
          WHERE i.indrelid = $1::regclass`,
        [temp],
      );
      definition = row?.definition.replace(` ON ${ident(row.schema)}.`, ' ON ') ?? null;
      throw rollback;
    });
  } catch (error) {
    if (error !== rollback) return null;
  }
  return definition === null ? null : normalised(definition);
}

/** pg_get_indexdef without schema and table names, which differ between a table and its copy. */
export const normalised = (definition: string): string =>
  definition.replace(/ ON (ONLY )?(?:(?:"(?:[^"]|"")+"|[\w$]+)\.)?(?:"(?:[^"]|"")+"|[\w$]+) USING /, ' ON USING ');
