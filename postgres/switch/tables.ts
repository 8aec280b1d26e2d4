/** The user's tables, as a switch sees them. Tables of extensions belong to their extension; temporary ones to their session. */
import type { RelationName } from '../../plan/model/steps';
import type { Session } from '../session';

/** `e.oid` is a pg_class row of the user's: no catalogue, nothing of ours, of an extension or of a session. */
export const ofUser = (relation: string, namespace: string): string =>
  `${relation}.relpersistence <> 't' AND ${namespace}.nspname NOT IN ('pg_catalog', 'information_schema', 'pgshift')
   AND ${namespace}.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = ${relation}.oid
                      AND d.objsubid = 0 AND d.deptype = 'e')`;

export interface UserTable extends RelationName {
  readonly oid: string;
  /** r = with rows of its own, p = partitioned. */
  readonly kind: 'r' | 'p';
  readonly unlogged: boolean;
  /** default, nothing, full, index: as pg_class has it. */
  readonly identity: 'd' | 'n' | 'f' | 'i';
  /** A primary key by which replication can tell rows apart: one that is deferrable is none. */
  readonly hasKey: boolean;
}

/** Every table that can hold or route rows, in the order in which locks are taken. */
export async function userTables(session: Session): Promise<UserTable[]> {
  return session.rows<UserTable & Record<string, unknown>>(
    `SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, c.relpersistence = 'u' AS unlogged,
            c.relreplident::text AS identity,
            EXISTS (SELECT 1 FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid) AS "hasKey"
       FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND ${ofUser('c', 'n')}
      ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`,
  );
}

/** What logical replication carries: tables with rows of their own that are written to the WAL. */
export const replicated = (tables: readonly UserTable[]): UserTable[] =>
  tables.filter(({ kind, unlogged }) => kind === 'r' && !unlogged);

/** 500 names in a statement are parsed in no time; ten thousand in one are not. */
export function* chunks<T>(all: readonly T[], size = 500): Generator<T[]> {
  for (let at = 0; at < all.length; at += size) yield all.slice(at, at + size);
}
