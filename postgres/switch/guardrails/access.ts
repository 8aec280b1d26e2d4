/** Guardrails about roles: what ours may do on both sides, there AND back, and who passes the fence or the wall. */
import { shown } from '../../../plan/model/quote';
import { ident } from '../../ident';
import type { Session } from '../../session';
import { stillMayConnect } from '../connect';
import { SIDES } from '../../../plan/model/traffic';
import { ofUser } from '../tables';
import type { Check, Finding } from './types';
import { ALWAYS, BEFORE, listed, none, ofEach } from './types';

interface Rights {
  readonly superuser: boolean;
  readonly replication: boolean;
  readonly create: boolean;
  readonly owner: string;
  readonly ownsDatabase: boolean;
  readonly signals: boolean;
  readonly sees: boolean;
  readonly subscribes: boolean;
  readonly notOwned: readonly string[];
  readonly database: string;
}

async function rightsOf(session: Session): Promise<Rights> {
  const row = await session.one<Rights & Record<string, unknown>>(
    `SELECT r.rolsuper AS superuser, r.rolreplication OR r.rolsuper AS replication,
            pg_catalog.has_database_privilege(d.oid, 'CREATE') AS create, o.rolname::text AS owner, d.datname::text AS database,
            pg_catalog.pg_has_role(d.datdba, 'MEMBER') AS "ownsDatabase",
            pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AS signals, pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees,
            r.rolsuper OR EXISTS (SELECT 1 FROM pg_catalog.pg_roles AS p WHERE p.rolname = 'pg_create_subscription' AND pg_catalog.pg_has_role(p.oid, 'USAGE')) AS subscribes,
            coalesce((SELECT jsonb_agg(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) ORDER BY 1)
                        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                       WHERE c.relkind IN ('r', 'p') AND ${ofUser('c', 'n')} AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')), '[]') AS "notOwned"
       FROM pg_catalog.pg_roles AS r CROSS JOIN pg_catalog.pg_database AS d JOIN pg_catalog.pg_roles AS o ON o.oid = d.datdba
      WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()`,
  );
  if (!row) throw new Error('no role');
  return row;
}

/** The statements that give what is missing, in order. */
function missingGrants(session: Session, rights: Rights): string[] {
  const role = ident(session.role);
  const grants: string[] = [];
  if (!rights.replication) grants.push(`ALTER ROLE ${role} REPLICATION`);
  if (!rights.create) grants.push(`GRANT CREATE ON DATABASE ${ident(rights.database)} TO ${role}`);
  if (!rights.ownsDatabase)
    grants.push(`GRANT ${ident(rights.owner)} TO ${role} -- owner of the database: REVOKE CONNECT`);
  if (!rights.signals) grants.push(`GRANT pg_signal_backend TO ${role}`);
  if (!rights.sees) grants.push(`GRANT pg_read_all_stats TO ${role}`);
  if (!rights.subscribes)
    grants.push(
      session.serverVersion >= 160000
        ? `GRANT pg_create_subscription TO ${role}`
        : `ALTER ROLE ${role} SUPERUSER -- a subscription, before 16`,
    );
  if (rights.notOwned.length > 0) grants.push(`GRANT <owner> TO ${role} -- owner of ${listed(rights.notOwned)}`);
  return grants;
}

export const ACCESS: readonly Check[] = [
  {
    id: 'privileges',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'run the grants shown; those on blue for a subscription are for the way back',
    look: (input) =>
      ofEach(input, async (session) => {
        const grants = missingGrants(session, await rightsOf(session));
        return {
          ok: grants.length === 0,
          evidence:
            grants.length === 0
              ? `role ${shown(session.role)} may do all of it`
              : `role ${shown(session.role)} lacks ${grants.length} rights`,
          ...(grants.length === 0 ? {} : { remedy: `${grants.join('; ')};` }),
        };
      }),
  },
  {
    id: 'roles_on_green',
    stages: BEFORE,
    severity: 'error',
    remedy: 'make the roles on the server of green first (pg_dumpall --roles-only)',
    look: async ({ both }) => {
      const used = await both.blue.rows<{ name: string }>(
        `SELECT DISTINCT r.rolname::text AS name FROM pg_catalog.pg_shdepend AS s JOIN pg_catalog.pg_roles AS r ON r.oid = s.refobjid
          WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND r.rolname !~ '^pg_'
            AND s.dbid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()) ORDER BY 1`,
      );
      const there = new Set(
        (await both.green.rows<{ name: string }>(`SELECT r.rolname::text AS name FROM pg_catalog.pg_roles AS r`)).map(
          ({ name }) => name,
        ),
      );
      const missing = used.map(({ name }) => name).filter((name) => !there.has(name));
      return [
        {
          side: 'green',
          ok: missing.length === 0,
          evidence:
            missing.length === 0
              ? `${used.length} roles that own or were granted something`
              : `missing: ${listed(missing)}`,
        },
      ];
    },
  },
  {
    id: 'passes_the_wall',
    stages: ALWAYS,
    severity: 'warning',
    remedy: 'these roles may set session_replication_role, which passes every wall: see that nobody uses them so',
    look: (input) =>
      ofEach(input, async (session) => {
        const granted =
          session.serverVersion >= 150000
            ? `UNION SELECT g.rolname::text FROM pg_catalog.pg_parameter_acl AS p CROSS JOIN LATERAL pg_catalog.aclexplode(p.paracl) AS x
                 JOIN pg_catalog.pg_roles AS g ON g.oid = x.grantee WHERE p.parname = 'session_replication_role' AND x.privilege_type = 'SET'`
            : '';
        return none(
          session,
          `SELECT r.rolname::text AS name FROM pg_catalog.pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin AND r.rolname <> current_user ${granted} ORDER BY 1`,
          'roles besides ours that may pass the wall',
        );
      }),
  },
  {
    id: 'comes_in_anyway',
    stages: ALWAYS,
    severity: 'info',
    remedy: 'the wall stops their writes; end their sessions before the switch',
    look: async ({ both, applicationRoles }) => {
      const found: Finding[] = [];
      for (const side of SIDES) {
        const superusers = (
          await both[side].rows<{ name: string }>(
            `SELECT r.rolname::text AS name FROM pg_catalog.pg_roles AS r WHERE r.rolsuper`,
          )
        ).map(({ name }) => name);
        const names = (await stillMayConnect(both[side], [])).filter((name) => superusers.includes(name));
        found.push({
          side,
          ok: names.length === 0,
          evidence: names.length === 0 ? 'nobody' : `superusers: ${listed(names)}`,
        });
        const applications = applicationRoles.filter((role) => superusers.includes(role) || role === both[side].role);
        if (applications.length > 0)
          found.push({
            side,
            ok: false,
            evidence: `applications use ${listed(applications)}: their sessions are ended, but they are not kept out`,
          });
      }
      return found;
    },
  },
  {
    id: 'row_security',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'a role with BYPASSRLS for the connection: policies would hide rows from the copy and from replication',
    look: (input) =>
      ofEach(input, async (session) => {
        const row = await session.one<{ free: boolean }>(
          `SELECT r.rolsuper OR r.rolbypassrls AS free FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user`,
        );
        if (row?.free) return { ok: true, evidence: 'our role is not subject to policies' };
        return none(
          session,
          `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name FROM pg_catalog.pg_class AS c
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relrowsecurity AND ${ofUser('c', 'n')} ORDER BY 1`,
          'tables with row security',
        );
      }),
  },
];
