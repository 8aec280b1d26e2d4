/**
 * Is a database used by anybody but us? Keeps true: a session that is open is seen at each look, and one that came and went between two looks is counted by
 * the server; what cannot be seen is never called unused.
 */
import type { Session } from '../session';
import type { Client } from './clients';
import { usersOf } from './clients';

export interface Use {
  /** Roles and applications with the number of their sessions, in one order; null = nobody. */
  readonly by: string | null;
  /** The same without numbers: who it is, however many of them. */
  readonly who: readonly string[];
  /** Sessions of clients that the server has counted since its statistics began, ours too. */
  readonly sessions: number;
}

const SHOWN = 5;
const WHO_MAX = 50;

/** `role reporting (application metabase): 2 sessions` */
function describeUsers(clients: readonly Client[]): Pick<Use, 'by' | 'who'> {
  const groups = new Map<string, number>();
  for (const { role, applicationName } of clients) {
    const who = `role ${role ?? 'unknown'}${applicationName === null ? '' : ` (application ${applicationName})`}`;
    groups.set(who, (groups.get(who) ?? 0) + 1);
  }
  if (groups.size === 0) return { by: null, who: [] };
  const said = [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
  const more = said.length > SHOWN ? ` and ${said.length - SHOWN} more` : '';
  const named = said.slice(0, SHOWN).map(([who, n]) => `${who}: ${n} ${n === 1 ? 'session' : 'sessions'}`);
  return { by: `${named.join(', ')}${more}`, who: said.slice(0, WHO_MAX).map(([who]) => who) };
}

/**
 * Every transaction of a client has a session, so that sessions tell more than pg_stat_database.xact_commit, in which autovacuum and replication count, too.
 * The count of sessions is of client backends alone.
 */
export async function useOf(session: Session): Promise<Use> {
  const clients = await usersOf(session);
  const row = await session.one<{ sessions: number }>(
    `SELECT pg_catalog.pg_stat_get_db_sessions(d.oid)::float8 AS sessions
       FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()`,
  );
  return { ...describeUsers(clients), sessions: row?.sessions ?? NaN };
}
