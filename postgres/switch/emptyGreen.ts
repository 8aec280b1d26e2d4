/**
 * The way back of everything that was made on green: it was empty before, and is again. Keeps true: what stood there before (schemas, extensions,
 * functions) stays, by the list that was taken then; nothing of blue is touched. Idempotent.
 */
import { ident, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { isLockProblem } from '../toProblem';
import { checkSignal } from '../work';
import { schemaChanges, schemaState } from './schemaState';
import type { SchemaState } from './schemaState';
import { ofUser } from './tables';

const DROP: Readonly<Record<string, string>> = {
  r: 'TABLE',
  p: 'TABLE',
  f: 'FOREIGN TABLE',
  v: 'VIEW',
  m: 'MATERIALIZED VIEW',
  S: 'SEQUENCE',
};

interface Relation extends Record<string, unknown> {
  readonly schema: string;
  readonly name: string;
  readonly kind: string;
}

/** Green held no relation of the user's when the run began: every one that is there is the run's own. */
export async function dropRelations(session: Session, signal: AbortSignal): Promise<number> {
  let dropped = 0;
  for (let stuck = 0; stuck < 20;) {
    checkSignal(signal);
    const [next] = await session.rows<Relation>(
      `SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind
         FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND ${ofUser('c', 'n')}
        ORDER BY c.relispartition, c.relkind = 'S', c.oid LIMIT 1`,
    );
    if (!next) return dropped;
    try {
      await inTransaction(session, async () => {
        await session.run(`SET LOCAL lock_timeout = '5s'`);
        // Everything that could hang on it is the run's own as well.
        await session.run(`DROP ${DROP[next.kind] ?? 'TABLE'} IF EXISTS ${relation(next)} CASCADE`);
      });
      dropped += 1;
    } catch (error) {
      if (!isLockProblem(error)) throw error;
      stuck += 1;
    }
  }
  return dropped;
}

const OF_SCHEMA: Readonly<Record<string, (name: string) => string>> = {
  function: (name) => `DROP ROUTINE IF EXISTS ${name} CASCADE`,
  type: (name) => `DROP TYPE IF EXISTS ${name} CASCADE`,
  schema: (name) => `DROP SCHEMA IF EXISTS ${name}`,
  extension: (name) => `DROP EXTENSION IF EXISTS ${name} CASCADE`,
};

/** What the plan's change made beside relations: told by comparison with how green was. Answers what is still there. */
export async function dropAdded(session: Session, before: SchemaState): Promise<readonly string[]> {
  for (const kind of ['function', 'type', 'extension', 'schema']) {
    const added = schemaChanges(before, await schemaState(session)).filter(
      (c) => c.kind === kind && c.change === 'added',
    );
    for (const { name } of added) await session.run(OF_SCHEMA[kind]?.(name) ?? '').catch(() => undefined);
  }
  const left = schemaChanges(before, await schemaState(session)).filter(({ change }) => change === 'added');
  return left.map(({ kind, name }) => `${kind} ${name}`);
}

/** DROP or RENAME of the other database of a server, from a database that stays. Ends its sessions; idempotent. */
export async function removeDatabase(session: Session, name: string, renameTo: string | null): Promise<void> {
  const there = await session.one(`SELECT 1 AS one FROM pg_catalog.pg_database AS d WHERE d.datname = $1`, [name]);
  if (!there) return;
  if (renameTo === null) {
    await session.run(`DROP DATABASE IF EXISTS ${ident(name)} WITH (FORCE)`);
    return;
  }
  await session.run(
    `SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
      WHERE a.datname = $1 AND a.pid <> pg_catalog.pg_backend_pid()`,
    [name],
  );
  await session.run(`ALTER DATABASE ${ident(name)} RENAME TO ${ident(renameTo)}`);
}
