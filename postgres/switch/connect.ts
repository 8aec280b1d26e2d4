/**
 * Who may connect: taken away before the fence and given back after it, exactly. Keeps true: what was there is written into the guard row in the
 * transaction that takes it away, so there is no moment at which it is known to nobody. This keeps clients out; the wall keeps their writes out.
 */
import { ident } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import type { ConnectGrant, GuardRow } from './guard';
import { updateGuard } from './guard';

interface Entry extends ConnectGrant, Record<string, unknown> {
  /** How many grants lie between the owner and this one. */
  readonly owner: string;
}

const DATABASE = `(SELECT d.datname FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())`;

/** CONNECT of everybody who was given it, the default grants included; the owner's own grants come first. */
export const connectGrants = (session: Session): Promise<Entry[]> =>
  session.rows<Entry>(
    `SELECT e.grantee, e.grantor, e.grantable, e.owner FROM (
       SELECT g.rolname::text AS grantee, o.rolname::text AS grantor, bool_or(x.is_grantable) AS grantable, w.rolname::text AS owner
         FROM pg_catalog.pg_database AS d
         CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS x
         JOIN pg_catalog.pg_roles AS o ON o.oid = x.grantor JOIN pg_catalog.pg_roles AS w ON w.oid = d.datdba
         LEFT JOIN pg_catalog.pg_roles AS g ON g.oid = x.grantee
        WHERE d.datname = pg_catalog.current_database() AND x.privilege_type = 'CONNECT' AND (x.grantee = 0 OR g.oid IS NOT NULL)
        GROUP BY 1, 2, 4) AS e
      ORDER BY e.grantor <> e.owner, e.grantor COLLATE "C", e.grantee COLLATE "C" NULLS FIRST`,
  );

const who = (grantee: string | null): string => (grantee === null ? 'PUBLIC' : ident(grantee));
const sameGrant = (a: ConnectGrant, b: ConnectGrant): boolean => a.grantee === b.grantee && a.grantor === b.grantor;

/** Runs as the one who gave it: an ACL knows its grantors, and only they can take back. Within a transaction. */
async function as(session: Session, entry: Entry | ConnectGrant, owner: string, work: () => Promise<unknown>) {
  // What the owner's members and superusers grant or revoke is done in the owner's name anyway.
  if (entry.grantor === owner) return void (await work());
  await session.run(`SET LOCAL ROLE ${ident(entry.grantor)}`);
  await work();
  await session.run('RESET ROLE');
}

/**
 * Takes CONNECT from everybody but `keep` (our role and the one that replication comes in with; they get one of their own if they only had it
 * through PUBLIC). Runs again: what was granted meanwhile is added to the record. Throws FenceBroken, PrivilegeMissing.
 */
export async function revokeConnect(session: Session, seen: GuardRow, keep: readonly string[]): Promise<GuardRow> {
  const kept = [...new Set([session.role, ...keep])];
  return inTransaction(session, async () => {
    await session.run(`SET LOCAL lock_timeout = '2s'`);
    const entries = await connectGrants(session);
    const owner = entries[0]?.owner ?? '';
    const database = ident((await session.one<{ name: string }>(`SELECT ${DATABASE}::text AS name`))?.name ?? '');
    const mine = entries.filter(({ grantee }) => grantee !== null && kept.includes(grantee));
    const taken = entries.filter((entry) => !mine.includes(entry));
    const given = kept.filter((role) => !mine.some(({ grantee }) => grantee === role));
    const before = seen.details.connect ?? [];
    const row = await updateGuard(session, seen, {
      patch: {
        connect: [...before, ...taken.filter((one) => !before.some((old) => sameGrant(old, one))).map(bare)],
        connectAdded: [...new Set([...seen.details.connectAdded, ...given])],
      },
    });
    for (const role of given) await session.run(`GRANT CONNECT ON DATABASE ${database} TO ${ident(role)}`);
    // Grants of others first: the owner's revoke would have to cascade over them.
    for (const entry of [...taken].reverse())
      await as(session, entry, owner, () =>
        session.run(`REVOKE CONNECT ON DATABASE ${database} FROM ${who(entry.grantee)} CASCADE`),
      );
    // A cascade may have taken what a kept role had from somebody who lost it.
    for (const entry of mine.filter(({ grantor }) => grantor !== owner))
      await as(session, entry, owner, () =>
        session.run(`GRANT CONNECT ON DATABASE ${database} TO ${who(entry.grantee)}`),
      ).catch(() => undefined);
    return row;
  });
}

const bare = ({ grantee, grantor, grantable }: ConnectGrant): ConnectGrant => ({ grantee, grantor, grantable });

/** Gives back what was recorded and takes away what we added. Roles that were dropped meanwhile are left out. Idempotent. */
export async function restoreConnect(session: Session, seen: GuardRow): Promise<GuardRow> {
  const { connect, connectAdded } = seen.details;
  if (connect === null && connectAdded.length === 0) return seen;
  return inTransaction(session, async () => {
    await session.run(`SET LOCAL lock_timeout = '2s'`);
    const row = await updateGuard(session, seen, { patch: { connect: null, connectAdded: [] } });
    const roles = new Set(
      (await session.rows<{ name: string }>(`SELECT r.rolname::text AS name FROM pg_catalog.pg_roles AS r`)).map(
        ({ name }) => name,
      ),
    );
    const owner = (await connectGrantsOwner(session)) ?? '';
    const database = ident((await session.one<{ name: string }>(`SELECT ${DATABASE}::text AS name`))?.name ?? '');
    for (const role of connectAdded.filter((name) => roles.has(name)))
      await session.run(`REVOKE CONNECT ON DATABASE ${database} FROM ${ident(role)} CASCADE`);
    // As recorded, the owner's first: only then may the others grant in their turn.
    for (const entry of connect ?? []) {
      if (!roles.has(entry.grantor) || (entry.grantee !== null && !roles.has(entry.grantee))) continue;
      const option = entry.grantable && entry.grantee !== null && entry.grantee !== owner ? ' WITH GRANT OPTION' : '';
      await as(session, entry, owner, () =>
        session.run(`GRANT CONNECT ON DATABASE ${database} TO ${who(entry.grantee)}${option}`),
      );
    }
    return row;
  });
}

const connectGrantsOwner = async (session: Session): Promise<string | undefined> =>
  (
    await session.one<{ owner: string }>(
      `SELECT r.rolname::text AS owner FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_roles AS r ON r.oid = d.datdba
        WHERE d.datname = pg_catalog.current_database()`,
    )
  )?.owner;

/** Roles that can still log in to the database besides ours: superusers, and members of a role that kept CONNECT. The wall is for them. */
export const stillMayConnect = async (session: Session, keep: readonly string[]): Promise<string[]> =>
  (
    await session.rows<{ name: string }>(
      `SELECT r.rolname::text AS name FROM pg_catalog.pg_roles AS r
        WHERE r.rolcanlogin AND NOT (r.rolname = ANY ($1::text[]))
          AND (r.rolsuper OR pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')) ORDER BY 1`,
      [[session.role, ...keep]],
    )
  ).map(({ name }) => name);
