/**
 * Rows that are copied as they are must not fire what made them: neither the user's triggers nor the actions of foreign keys. Where the role may not
 * say so, a table that has any of these is refused with the GRANT.
 */
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import { ident } from '../ident';
import type { Session } from '../session';
import type { Shape } from './shapes';

/** For the transaction in hand. @throws Problem PrivilegeMissing. */
export async function quietly(session: Session, table: Shape): Promise<void> {
  const may = await session.one<{ may: boolean; triggers: boolean }>(
    `SELECT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user)
              ${session.serverVersion >= 150000 ? `OR has_parameter_privilege('session_replication_role', 'SET')` : ''} AS may,
            EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = $1::oid AND t.tgenabled <> 'D') AS triggers`,
    [table.oid],
  );
  if (may?.may) await session.run(`SET LOCAL session_replication_role = replica`);
  else if (may?.triggers)
    throw new Problem(
      'PrivilegeMissing',
      `${shownRelation(table)} has triggers or foreign keys, and role ${session.role} may not keep them quiet`,
      { hint: `GRANT SET ON PARAMETER session_replication_role TO ${ident(session.role)};` },
    );
}
