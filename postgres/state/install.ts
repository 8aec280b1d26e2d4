/**
 * Installs, upgrades and removes schema `pgshift`. Keeps true: one installer at a time, under an advisory lock that is polled and never
 * waited for (a session that waits holds a snapshot, and a concurrent index build would wait for it in turn: a deadlock).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../../plan/model/errors';
import { ident, literal } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { COMMENT, UPGRADES } from './schema';

const LOCK = `pg_catalog.hashtextextended('pgshift/install', 0)`;
const POLL_MS = 100;
const NEWEST = UPGRADES.at(-1)?.version ?? 0;

/**
 * Is schema `pgshift` there, and in which version? null = not installed. Throws PrivilegeMissing when another role installed it and this one
 * may not use it.
 */
export async function installedVersion(session: Session): Promise<number | null> {
  // Asked of the catalogue: to_regclass itself fails without USAGE on the schema.
  const there = await session.one<{ owner: string; may: boolean }>(
    `SELECT r.rolname::text AS owner,
            pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS may
       FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
       JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner
      WHERE n.nspname = 'pgshift' AND c.relname = 'installation'`,
  );
  if (!there) return null;
  if (!there.may)
    throw new Problem(
      'PrivilegeMissing',
      `${session.name}: role ${session.role} may not use schema pgshift, which ${there.owner} installed`,
      { hint: `GRANT ${ident(there.owner)} TO ${ident(session.role)};` },
    );
  const row = await session.one<{ version: number }>(`SELECT max(version)::int AS version FROM pgshift.installation`);
  return row?.version ?? 0;
}

/**
 * Brings schema `pgshift` to this program's version. Cheap when it is there already. Throws PrivilegeMissing with the GRANT, and
 * PreflightFailed when a newer pgshift has installed it.
 */
export async function install(session: Session, signal?: AbortSignal): Promise<void> {
  if (isNewest(await installedVersion(session))) return;
  await underInstallLock(session, signal, async () => {
    const from = await installedVersion(session);
    if (isNewest(from)) return;
    await inTransaction(session, async () => {
      await session.run(`SET LOCAL lock_timeout = '5s'`);
      if (from === null) await create(session);
      for (const upgrade of UPGRADES.filter(({ version }) => version > (from ?? 0))) {
        await session.run(upgrade.sql);
        await session.run(`INSERT INTO pgshift.installation (version) VALUES ($1)`, [upgrade.version]);
      }
    });
  });
}

function isNewest(version: number | null): boolean {
  if (version !== null && version > NEWEST)
    throw new Problem('PreflightFailed', `schema pgshift is of version ${version}; this program knows ${NEWEST}`, {
      hint: 'run the newer pgshift',
    });
  return version === NEWEST;
}

async function create(session: Session): Promise<void> {
  const may = await session.one<{ may: boolean; database: string }>(
    `SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may,
            pg_catalog.current_database()::text AS database`,
  );
  const exists = await session.one(`SELECT 1 AS one FROM pg_catalog.pg_namespace WHERE nspname = 'pgshift'`);
  if (!exists && !may?.may)
    throw new Problem('PrivilegeMissing', `${session.name}: role ${session.role} may not create schema pgshift`, {
      hint: `GRANT CREATE ON DATABASE ${ident(may?.database ?? '')} TO ${ident(session.role)};`,
    });
  await session.run(`CREATE SCHEMA IF NOT EXISTS pgshift`);
  await session.run(`COMMENT ON SCHEMA pgshift IS ${literal(COMMENT)}`);
  await session.run(
    `CREATE TABLE pgshift.installation (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())`,
  );
}

async function underInstallLock(
  session: Session,
  signal: AbortSignal | undefined,
  work: () => Promise<void>,
): Promise<void> {
  for (;;) {
    const got = await session.one<{ got: boolean }>(`SELECT pg_catalog.pg_try_advisory_lock(${LOCK}) AS got`);
    if (got?.got) break;
    await sleep(POLL_MS, undefined, signal ? { signal } : {});
  }
  try {
    await work();
  } finally {
    if (!session.lost) await session.run(`SELECT pg_catalog.pg_advisory_unlock(${LOCK})`).catch(() => undefined);
  }
}

/** Removes the schema whole. Refused (NotNow) while a migration is open or something of ours still stands on user tables. */
export async function uninstall(session: Session): Promise<void> {
  if ((await installedVersion(session)) === null) return;
  const open = await session.rows<{ name: string }>(
    `SELECT m.name FROM pgshift.migrations AS m WHERE m.status IN ('pending', 'running')
      UNION SELECT l.holder FROM pgshift.leases AS l UNION SELECT g.id FROM pgshift.guard AS g ORDER BY 1`,
  );
  if (open.length > 0)
    throw new Problem('NotNow', `open: ${open.map(({ name }) => name).join(', ')}`, {
      hint: 'wait for them to end, or cancel them',
    });
  await inTransaction(session, async () => {
    await session.run(`SET LOCAL lock_timeout = '5s'`);
    // Our own schema alone: nothing outside depends on it once every migration has ended, and then RESTRICT would refuse to drop the tables.
    const foreign = await session.rows<{ name: string }>(
      `SELECT DISTINCT t.tgrelid::regclass::text AS name FROM pg_catalog.pg_trigger AS t
         JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
        WHERE n.nspname = 'pgshift' AND c.relnamespace <> n.oid AND NOT t.tgisinternal`,
    );
    if (foreign.length > 0)
      throw new Problem('NotNow', `triggers of pgshift stand on ${foreign.map(({ name }) => name).join(', ')}`);
    await session.run(`DROP SCHEMA pgshift CASCADE`);
  });
}
