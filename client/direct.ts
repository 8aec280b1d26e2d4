/**
 * The CLI's own connections to databases: what `plan`, `lint`, the way back as a script and masked differences need, without Temporal. It only
 * reads, except where a large plan is put down for the worker (`pgshift.plans`).
 */
import { createHash } from 'node:crypto';
import { Client } from 'pg';
import type { Catalog } from '../plan/model/catalog';
import { Problem, isProblem } from '../plan/model/errors';
import type { SchemaPlan } from '../plan/model/steps';
import { readCatalog } from '../postgres/catalog/read';
import { addressOf, connectionString, withSession } from '../postgres/session';
import type { Session } from '../postgres/session';
import { install } from '../postgres/state/install';
import { toProblem } from '../postgres/toProblem';
import type { Target } from '../postgres/types';
import { resolveTarget } from '../worker/config';
import type { Context } from './context';

const CONNECT_MS = 10_000;

/** @throws Problem UnknownDatabase, InvalidConfig. */
export const targetOf = async (context: Context, database: string): Promise<Target> =>
  resolveTarget(await context.config(), database);

/** A connection of the driver itself, as the catalogue's reader wants it. @throws Problem Unreachable, LoginFailed, TlsFailed. */
export async function catalogOf(target: Target): Promise<Catalog> {
  const { where, role } = addressOf(target);
  const peer = { name: target.name, where, role };
  const client = new Client({
    connectionString: connectionString(target),
    application_name: 'pgshift/plan',
    connectionTimeoutMillis: CONNECT_MS,
  });
  client.on('error', () => undefined); // a broken connection is told by the query that waits for it
  try {
    await client.connect();
    return await readCatalog(client);
  } catch (error) {
    throw isProblem(error) ? error : toProblem(error, peer);
  } finally {
    await client.end().catch(() => undefined);
  }
}

export const onDatabase = <T>(target: Target, purpose: string, work: (session: Session) => Promise<T>): Promise<T> =>
  withSession(target, { purpose, connectTimeoutMs: CONNECT_MS }, work);

/** Puts a plan that is too large for a workflow's argument where the worker finds it. @returns the reference: the same plan, the same one. */
export async function storeLargePlan(target: Target, name: string, body: unknown): Promise<string> {
  const text = JSON.stringify(body);
  const id = `${name}/${createHash('sha256').update(text).digest('hex').slice(0, 32)}`;
  await onDatabase(target, 'start', async (session) => {
    await install(session);
    await session.run(
      'INSERT INTO pgshift.plans (id, name, body) VALUES ($1, $2, $3::jsonb) ON CONFLICT (id) DO NOTHING',
      [id, name, text],
    );
  });
  return id;
}

export interface StoredMigration {
  readonly name: string;
  readonly status: string;
  readonly checksum: string;
  readonly workflowId: string | null;
  readonly plan: SchemaPlan | null;
  /** Ids of the steps that may have left something. */
  readonly begun: readonly string[];
}

/** null: the database has no schema pgshift, or no migration of that name. */
export async function storedMigration(target: Target, name: string): Promise<StoredMigration | null> {
  return onDatabase(target, 'read', async (session) => {
    const here = await session.one<{ there: boolean }>(
      `SELECT pg_catalog.to_regclass('pgshift.migrations') IS NOT NULL AS there`,
    );
    if (here?.there !== true) return null;
    const row = await session.one<{
      name: string;
      status: string;
      checksum: string;
      workflow_id: string | null;
      plan: SchemaPlan | null;
    }>('SELECT m.name, m.status, m.checksum, m.workflow_id, m.plan FROM pgshift.migrations AS m WHERE m.name = $1', [
      name,
    ]);
    if (row === undefined) return null;
    const steps = await session.rows<{ step_id: string }>(
      `SELECT s.step_id FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.status NOT IN ('pending', 'undone')`,
      [name],
    );
    return {
      name: row.name,
      status: row.status,
      checksum: row.checksum,
      workflowId: row.workflow_id,
      plan: row.plan,
      begun: steps.map((step) => step.step_id),
    };
  });
}

/** Is this what `UnknownDatabase` and its like say: the CLI cannot see the database, though the worker may? */
export const isOutOfSight = (error: unknown): boolean =>
  isProblem(error) &&
  ['UnknownDatabase', 'Unreachable', 'LoginFailed', 'TlsFailed', 'InvalidConfig'].includes(error.code);

/** 18 -> 180000, 180006 stays. @throws Problem InvalidUsage. */
export function versionNumber(given: number): number {
  const version = given < 1_000 ? given * 10_000 : given;
  if (version < 130_000 || version >= 1_000_000)
    throw new Problem('InvalidUsage', `--server-version ${given}: PostgreSQL 13 and later, as 18 or 180006`);
  return version;
}
