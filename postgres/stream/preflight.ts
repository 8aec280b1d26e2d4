/**
 * What a stream needs of the two servers, asked before anything is written. Keeps true: nothing that we do makes a statement of the application fail
 * (an UPDATE of a published table without a replica identity would).
 */
import { Problem } from '../../plan/model/errors';
import { shown, shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import { ident, relation } from '../ident';
import type { Session } from '../session';

interface TableFacts extends RelationName, Record<string, unknown> {
  readonly unlogged: boolean;
  readonly identified: boolean;
  readonly mine: boolean;
  readonly owner: string;
}

const FACTS = `
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relpersistence = 'u' AS unlogged, r.rolname::text AS owner,
       pg_has_role(c.relowner, 'USAGE') AS mine,
       CASE c.relreplident WHEN 'f' THEN true
            WHEN 'd' THEN EXISTS (SELECT 1 FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
            WHEN 'i' THEN EXISTS (SELECT 1 FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid)
            ELSE false END AS identified
  FROM jsonb_to_recordset($1::jsonb) AS f(schema text, name text)
  JOIN pg_namespace AS n ON n.nspname = f.schema JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = f.name
  JOIN pg_roles AS r ON r.oid = c.relowner WHERE c.relkind = 'r' ORDER BY 1, 2`;

const some = (tables: readonly RelationName[]): string =>
  `${tables.slice(0, 5).map(shownRelation).join(', ')}${tables.length > 5 ? ` and ${tables.length - 5} more` : ''}`;

const refuse = (message: string, hint: string, checks: readonly unknown[] = []): Problem =>
  new Problem('PreflightFailed', message, { hint, details: { checks: checks.slice(0, 50) } });

/** `slot`: the name that the plan gives. Triggers ask nothing of the server; making them says by itself what is missing. Throws PreflightFailed, PrivilegeMissing. */
export async function checkStream(
  source: Session,
  target: Session,
  chosen: readonly RelationName[],
  { capture, slot }: { readonly capture: 'wal' | 'triggers'; readonly slot?: string | undefined },
): Promise<void> {
  if (capture === 'triggers') return checkTarget(target);
  await checkServer(source, slot);
  const tables = await source.rows<TableFacts>(FACTS, [
    JSON.stringify(chosen.map(({ schema, name }) => ({ schema, name }))),
  ]);
  const unlogged = tables.filter((table) => table.unlogged);
  if (unlogged.length > 0)
    throw refuse(
      `${source.name}: changes of unlogged tables are in no log: ${some(unlogged)}`,
      'exclude them',
      unlogged.map(shownRelation),
    );
  const nameless = tables.filter(({ identified }) => !identified);
  if (nameless.length > 0)
    throw refuse(
      `${source.name}: rows of ${some(nameless)} have no replica identity: once published, every UPDATE and DELETE of them would fail`,
      `${nameless
        .slice(0, 3)
        .map((table) => `ALTER TABLE ${relation(table)} REPLICA IDENTITY FULL;`)
        .join(' ')} or give them a primary key, or exclude them`,
      nameless.map(shownRelation),
    );
  const foreign = tables.find(({ mine }) => !mine);
  if (foreign)
    throw new Problem(
      'PrivilegeMissing',
      `${source.name}: ${source.role} does not own ${shownRelation(foreign)} and cannot publish it`,
      { hint: `GRANT ${ident(foreign.owner)} TO ${ident(source.role)};` },
    );
  await checkTarget(target);
}

async function checkServer(source: Session, slot: string | undefined): Promise<void> {
  const found = await source.one<{
    level: string;
    standby: boolean;
    may: boolean;
    create: boolean;
    free: number;
    senders: number;
    taken: boolean;
  }>(
    `SELECT current_setting('wal_level') AS level, pg_is_in_recovery() AS standby,
            (SELECT r.rolreplication OR r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) AS may,
            has_database_privilege(current_database(), 'CREATE') AS create,
            current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots) AS free,
            current_setting('max_wal_senders')::int - (SELECT count(*)::int FROM pg_stat_replication) AS senders,
            EXISTS (SELECT 1 FROM pg_replication_slots AS s WHERE s.slot_name = $1) AS taken`,
    [slot ?? ''],
  );
  if (!found) throw new Problem('Bug', 'the server did not answer');
  if (found.standby) throw refuse(`${source.name} is a standby`, 'name the primary as source');
  if (found.level !== 'logical')
    throw refuse(
      `${source.name}: wal_level is ${found.level}`,
      'ALTER SYSTEM SET wal_level = logical; and restart the server; or say  capture: triggers',
    );
  if (!found.may)
    throw new Problem('PrivilegeMissing', `${source.name}: role ${shown(source.role)} may not read the log`, {
      hint: `ALTER ROLE ${ident(source.role)} REPLICATION;`,
    });
  if (!found.create)
    throw new Problem('PrivilegeMissing', `${source.name}: role ${shown(source.role)} may not make a publication`, {
      hint: `grant it CREATE on the database`,
    });
  if (found.taken)
    throw refuse(`${source.name}: there is a slot of the name streaming.slot already`, 'choose another name');
  // Two at once: the stream's, and that of a snapshot that is taken later.
  if (found.free < 2 || found.senders < 2)
    throw refuse(
      `${source.name}: ${found.free} replication slots and ${found.senders} WAL senders are free, 2 are needed`,
      'raise max_replication_slots and max_wal_senders',
    );
}

/** Replayed changes must not fire triggers: what those did comes as changes of its own. */
export async function checkTarget(target: Session): Promise<void> {
  await target.run('BEGIN');
  try {
    await target.run('SET LOCAL session_replication_role = replica');
  } finally {
    if (!target.lost) await target.run('ROLLBACK').catch(() => undefined);
  }
}
