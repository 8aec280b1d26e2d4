/** Who may read `pgshift.routes` of a pair: applications with the router library, and proxies that ask whether reads may go over. Both may be granted again. */
import { Problem } from '../plan/model/errors';
import type { Session } from '../postgres/session';
import { grantLooking, grantRouting } from '../postgres/state/routes';
import type { OpenPair } from './pairSessions';

/** Those of these roles that the server has, without our own. */
const there = async (session: Session, roles: readonly string[]): Promise<string[]> =>
  (
    await session.rows<{ name: string }>(
      `SELECT r.rolname::text AS name FROM pg_catalog.pg_roles AS r WHERE r.rolname = ANY ($1::text[]) AND r.rolname <> current_user`,
      [[...roles]],
    )
  ).map(({ name }) => name);

/** Roles with which a proxy asks green whether reads may go there. @throws Problem GuardrailFailed when green would never answer them. */
export async function grantLooks({ both: { green }, control }: OpenPair): Promise<void> {
  for (const one of control.traffic) {
    if (one.type !== 'haproxy' || one.reads === undefined) continue;
    const { user, database } = one.reads.check;
    const seen = await green.one<{ database: string; exists: boolean; connects: boolean | null }>(
      `SELECT pg_catalog.current_database()::text AS database, r.oid IS NOT NULL AS exists,
              r.rolcanlogin AND pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT') AS connects
         FROM pg_catalog.pg_database AS d LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = $1
        WHERE d.datname = pg_catalog.current_database()`,
      [user],
    );
    const what = `traffic: HAProxy asks ${green.name} (backend ${one.reads.backend})`;
    if (seen && seen.database !== database)
      throw refused(`${what} in database ${database}, which is called ${seen.database}`, 'set reads.check.database');
    if (seen?.exists !== true)
      throw refused(`${what} as role ${user}, which is not there`, `CREATE ROLE ${user} LOGIN  on its server`);
    if (seen.connects !== true)
      throw refused(
        `${what} as role ${user}, which may not log in there`,
        'it needs LOGIN, and CONNECT on the database',
      );
    await grantLooking(green, await there(green, [user]));
  }
}

const refused = (message: string, hint: string): Problem => new Problem('GuardrailFailed', message, { hint });

/** Roles that follow routes on blue follow them on green too. */
export async function grantRoutes({ both, control }: OpenPair): Promise<void> {
  if (!control.traffic.some(({ type }) => type === 'router')) return;
  const granted = await both.blue.rows<{ name: string }>(
    `SELECT DISTINCT g.rolname::text AS name FROM pg_catalog.pg_class AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS x
       JOIN pg_catalog.pg_roles AS g ON g.oid = x.grantee
      WHERE c.oid = 'pgshift.routes'::regclass AND x.privilege_type = 'SELECT' AND g.oid <> c.relowner`,
  );
  await grantRouting(both.blue, await there(both.blue, control.applicationRoles));
  await grantRouting(
    both.green,
    await there(both.green, [...control.applicationRoles, ...granted.map(({ name }) => name)]),
  );
}
