/**
 * Looks at the live database before anything is written: is this change safe here, now. Keeps true: it only reads; every check is made and
 * reported, so that a person sees everything at once; what cannot be read says so.
 */
import { statfs } from 'node:fs/promises';
import { isProblem, Problem } from '../plan/model/errors';
import type { LockTarget, RelationName, SchemaPlan, Step, StepRun } from '../plan/model/steps';
import { formatBytes } from '../plan/model/values';
import { mustSilence } from './backfill';
import { describeBlocker, findBlockers } from './blockers';
import { ident, relation } from './ident';
import type { Session } from './session';
import { withSession } from './session';
import type { Target } from './types';

export interface PreflightCheck {
  readonly check: string;
  /** false refuses the run. A warning is ok. */
  readonly ok: boolean;
  readonly level: 'ok' | 'warning' | 'failed';
  readonly evidence: string;
  /** What a person does about it; null when nothing. */
  readonly remedy: string | null;
  /** A GRANT is missing: the run ends with PrivilegeMissing when nothing worse is wrong. */
  readonly privilege?: boolean;
}

export const OLDEST_VERSION = 140000;
export const TESTED_MAJORS: readonly number[] = [15, 18];
const LONG_TRANSACTION_S = 60;
const SPARE = 0.9;

const good = (check: string, evidence: string): PreflightCheck => ({
  check,
  ok: true,
  level: 'ok',
  evidence,
  remedy: null,
});
const warn = (check: string, evidence: string, remedy: string | null): PreflightCheck => ({
  check,
  ok: true,
  level: 'warning',
  evidence,
  remedy,
});
const bad = (check: string, evidence: string, remedy: string, privilege = false): PreflightCheck => ({
  check,
  ok: false,
  level: 'failed',
  evidence,
  remedy,
  privilege,
});

/** Every check of the plan against the database behind `session`. `target` is used to open a second session, which is closed again. */
export async function preflight(session: Session, target: Target, plan: SchemaPlan): Promise<PreflightCheck[]> {
  const version = checkVersion(session.serverVersion);
  if (!version.ok) return [version];
  const tables = tablesOf(plan.steps);
  return [
    version,
    await checkPrimary(session),
    await checkPooler(session, target),
    ...(await checkPrivileges(session, plan.steps, tables)),
    await checkDisk(session, plan.estimate.bytes[1]),
    await checkLongTransactions(session),
    await checkPrepared(session),
    await checkBlockers(session, plan.steps),
    await checkLeftovers(session, plan.steps, tables),
  ];
}

/** Throws PreflightFailed, or PrivilegeMissing when only privileges are missing; `details.checks` has every check. */
export function requireChecks(checks: readonly PreflightCheck[]): void {
  const failed = checks.filter(({ ok }) => !ok);
  if (failed.length === 0) return;
  const code = failed.every(({ privilege }) => privilege) ? 'PrivilegeMissing' : 'PreflightFailed';
  throw new Problem(code, failed.map(({ check, evidence }) => `${check}: ${evidence}`).join('; '), {
    hint: failed.map(({ remedy }) => remedy ?? '').join('\n'),
    details: { checks },
  });
}

function checkVersion(version: number): PreflightCheck {
  const major = Math.floor(version / 10_000);
  const shown = `PostgreSQL ${major}.${version % 10_000}`;
  if (version < OLDEST_VERSION) return bad('version', `${shown} is older than 14`, 'upgrade the server');
  return TESTED_MAJORS.includes(major)
    ? good('version', shown)
    : warn('version', `${shown}; pgshift is tested on ${TESTED_MAJORS.join(' and ')}`, null);
}

async function checkPrimary(session: Session): Promise<PreflightCheck> {
  const row = await session.one<{ standby: boolean }>(`SELECT pg_catalog.pg_is_in_recovery() AS standby`);
  return row?.standby === false
    ? good('primary', 'the server takes writes')
    : bad('primary', 'the server is a standby', 'connect to the primary');
}

/** Two open sessions with one backend: something in between hands backends out by transaction, and session locks mean nothing there. */
async function checkPooler(session: Session, target: Target): Promise<PreflightCheck> {
  const remedy = 'give the direct URL of the server (directUrl), past the pooler';
  return withSession(target, { purpose: 'preflight' }, async (second) => {
    const pids = await Promise.all(
      [session, second, session, second].map(async (one) =>
        one.one<{ pid: number }>(`SELECT pg_catalog.pg_backend_pid() AS pid`),
      ),
    );
    const [first, other, again, otherAgain] = pids.map((row) => row?.pid);
    return first !== other && first === again && other === otherAgain && first === session.pid
      ? good('direct connection', 'each session has its own backend')
      : bad('direct connection', 'a transaction pooler stands between us and the server', remedy);
  });
}

function tableOf(run: StepRun): RelationName[] {
  switch (run.kind) {
    case 'transaction':
      return run.lockFirst.map((target) => target.relation);
    case 'insert-select':
      return [run.source, run.target];
    case 'drop-index':
    case 'autocommit':
      return [];
    default:
      return [run.table];
  }
}

function tablesOf(steps: readonly Step[]): RelationName[] {
  const all = steps.flatMap(({ run }) => tableOf(run));
  return [...new Map(all.map((name) => [relation(name), name])).values()];
}

async function checkPrivileges(
  session: Session,
  steps: readonly Step[],
  tables: readonly RelationName[],
): Promise<PreflightCheck[]> {
  const role = ident(session.role);
  const checks: PreflightCheck[] = [];
  const database = await session.one<{ may: boolean; name: string }>(
    `SELECT has_database_privilege(current_database(), 'CREATE') OR to_regnamespace('pgshift') IS NOT NULL AS may,
            current_database()::text AS name`,
  );
  if (!database?.may) {
    const grant = `GRANT CREATE ON DATABASE ${ident(database?.name ?? '')} TO ${role};`;
    checks.push(bad('privileges', `role ${session.role} may not create schema pgshift`, grant, true));
  }
  // Whoever takes more than ROW EXCLUSIVE alters the table, and only its owner may.
  const rows = await session.rows<{ table: string; owner: string; owns: boolean; schema: string; creates: boolean }>(
    `SELECT t AS table, r.rolname::text AS owner, pg_has_role(current_user, c.relowner, 'USAGE') AS owns,
            n.nspname::text AS schema, has_schema_privilege(n.oid, 'CREATE') AS creates
       FROM unnest($1::text[]) AS t JOIN pg_class AS c ON c.oid = to_regclass(t)
       JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_roles AS r ON r.oid = c.relowner`,
    [tables.map(relation)],
  );
  for (const row of rows.filter(({ owns }) => !owns)) {
    const grant = `GRANT ${ident(row.owner)} TO ${role};`;
    checks.push(bad('privileges', `role ${session.role} does not own ${row.table}`, grant, true));
  }
  for (const schema of new Set(rows.filter(({ creates }) => !creates).map((row) => row.schema))) {
    const grant = `GRANT USAGE, CREATE ON SCHEMA ${ident(schema)} TO ${role};`;
    checks.push(bad('privileges', `role ${session.role} may not create in schema ${schema}`, grant, true));
  }
  for (const { run } of steps) {
    if (run.kind !== 'backfill') continue;
    await mustSilence(session, run).catch((error: unknown) => {
      if (!isProblem(error) || error.code !== 'PrivilegeMissing') throw error;
      checks.push(bad('privileges', error.message, error.hint, true));
    });
  }
  return checks.length > 0
    ? checks
    : [good('privileges', `role ${session.role} may do all of it (${steps.length} steps)`)];
}

/** Postgres does not tell how much disk is free. When its data directory lies on this machine, the file system does. */
async function checkDisk(session: Session, bytes: number): Promise<PreflightCheck> {
  const needs = `up to ${formatBytes(bytes)} more`;
  const local = /^(localhost|127\.|\[?::1|\/)/.test(session.where);
  const unknown = bytes > 0 ? warn : (check: string, evidence: string) => good(check, evidence);
  try {
    const row = local
      ? await session.one<{ directory: string }>(`SELECT current_setting('data_directory') AS directory`)
      : undefined;
    if (!row)
      return unknown('disk', `needs ${needs}; free space cannot be read from here`, 'make sure that it is there');
    const { bavail, bsize } = await statfs(row.directory);
    const free = bavail * bsize;
    if (bytes > free * SPARE)
      return bad('disk', `needs ${needs}, ${formatBytes(free)} are free`, 'free disk space on the server');
    return good('disk', `needs ${needs}, ${formatBytes(free)} are free`);
  } catch {
    return unknown('disk', `needs ${needs}; free space cannot be read from here`, 'make sure that it is there');
  }
}

async function checkLongTransactions(session: Session): Promise<PreflightCheck> {
  const rows = await session.rows<{ pid: number; state: string | null; seconds: number; app: string | null }>(
    `SELECT a.pid, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
            nullif(a.application_name, '') AS app
       FROM pg_stat_activity AS a
      WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
        AND a.xact_start < clock_timestamp() - make_interval(secs => $1) ORDER BY a.xact_start LIMIT 5`,
    [LONG_TRANSACTION_S],
  );
  if (rows.length === 0) return good('long transactions', `none over ${LONG_TRANSACTION_S} s`);
  const list = rows.map(
    ({ pid, state, seconds, app }) =>
      `pid ${pid} (${[state, `${Math.round(seconds)} s`, app].filter(Boolean).join(', ')})`,
  );
  return warn(
    'long transactions',
    list.join('; '),
    'concurrent index builds wait for them: end them, or expect to wait',
  );
}

async function checkPrepared(session: Session): Promise<PreflightCheck> {
  const rows = await session.rows<{ gid: string; seconds: number }>(
    `SELECT p.gid, extract(epoch FROM clock_timestamp() - p.prepared)::float8 AS seconds FROM pg_prepared_xacts AS p
      WHERE p.database = current_database() ORDER BY p.prepared LIMIT 5`,
  );
  if (rows.length === 0) return good('prepared transactions', 'none');
  const list = rows.map(({ gid, seconds }) => `${gid} (${Math.round(seconds)} s)`).join('; ');
  return warn('prepared transactions', list, 'COMMIT PREPARED or ROLLBACK PREPARED them: their locks never time out');
}

async function checkBlockers(session: Session, steps: readonly Step[]): Promise<PreflightCheck> {
  const targets: LockTarget[] = steps.flatMap(({ run }) => (run.kind === 'transaction' ? run.lockFirst : []));
  const blockers = await findBlockers(session, targets, [session.pid]);
  const old = blockers.filter(({ ageMs, kind }) => kind !== 'session' || (ageMs ?? 0) > LONG_TRANSACTION_S * 1000);
  if (old.length === 0) return good('blockers', 'nobody holds the tables for long');
  return warn('blockers', old.slice(0, 5).map(describeBlocker).join('; '), 'steps wait for them, up to lockBudget');
}

/** Objects that already have a name which the plan is going to give: left by another run. */
/** Columns, constraints and triggers are named for their table alone: those of another table are another run's. */
async function checkLeftovers(
  session: Session,
  steps: readonly Step[],
  tables: readonly RelationName[],
): Promise<PreflightCheck> {
  const names = [...new Set(JSON.stringify(steps).match(/_pgshift_[\p{L}\p{N}_$]+/gu) ?? [])];
  const rows = await session.rows<{ what: string }>(
    `SELECT 'column ' || a.attrelid::regclass::text || '.' || a.attname AS what FROM pg_attribute AS a
      WHERE a.attname = ANY ($1::text[]) AND a.attrelid = ANY (SELECT to_regclass(n) FROM unnest($2::text[]) AS n) AND NOT a.attisdropped AND (SELECT c.relkind IN ('r', 'p') FROM pg_class AS c WHERE c.oid = a.attrelid)
     UNION SELECT 'relation ' || c.oid::regclass::text FROM pg_class AS c WHERE c.relname = ANY ($1::text[])
     UNION SELECT 'constraint ' || o.conname FROM pg_constraint AS o WHERE o.conname = ANY ($1::text[]) AND o.conrelid = ANY (SELECT to_regclass(n) FROM unnest($2::text[]) AS n)
     UNION SELECT 'trigger ' || t.tgname || ' on ' || t.tgrelid::regclass::text FROM pg_trigger AS t WHERE t.tgname = ANY ($1::text[]) AND t.tgrelid = ANY (SELECT to_regclass(n) FROM unnest($2::text[]) AS n)
     UNION SELECT 'function ' || p.oid::regproc::text FROM pg_proc AS p WHERE p.proname = ANY ($1::text[]) ORDER BY 1 LIMIT 10`,
    [names, tables.map(relation)],
  );
  if (rows.length === 0) return good('leftovers', 'no object has a name that this change needs');
  const list = rows.map(({ what }) => what).join('; ');
  return bad('leftovers', list, 'roll back the run that left them (pgshift list), or drop them');
}
