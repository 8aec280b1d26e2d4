/** The catalogue through a connection of the driver itself, as its reader wants it: the role's own settings, nothing pinned but that time never ends it. */
import { Client } from 'pg';
import type { Catalog } from '../plan/model/catalog';
import { fingerprintCatalog } from '../postgres/catalog/diff';
import { readCatalog } from '../postgres/catalog/read';
import { addressOf, connectionString, noTimeout } from '../postgres/session';
import type { Session } from '../postgres/session';
import { toProblem } from '../postgres/toProblem';
import type { Target } from '../postgres/types';

async function onClient<T>(target: Target, purpose: string, work: (client: Client) => Promise<T>): Promise<T> {
  const peer = { name: target.name, ...addressOf(target) };
  const client = new Client({
    connectionString: connectionString(target),
    application_name: `pgshift/${purpose}`,
    connectionTimeoutMillis: 10_000,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await noTimeout((text) => client.query(text).catch((error: unknown) => Promise.reject(toProblem(error, peer))));
    return await work(client);
  } catch (error) {
    throw toProblem(error, peer);
  } finally {
    await client.end().catch(() => undefined);
  }
}

export const catalogOf = (target: Target): Promise<Catalog> => onClient(target, 'preflight', readCatalog);
export const fingerprintOf = (target: Target): Promise<string[]> =>
  onClient(target, 'catalogue', (client) => fingerprintCatalog(client));

const beforeId = (migration: string): string => `before/${migration}`;

/** The catalogue as it was, kept until the run ends. The first one stays: a second attempt must not take the change for what was there. */
export async function keepBefore(session: Session, migration: string, lines: readonly string[]): Promise<void> {
  await session.run(
    `INSERT INTO pgshift.plans (id, name, body) VALUES ($1, $2, $3::jsonb) ON CONFLICT (id) DO NOTHING`,
    [beforeId(migration), migration, JSON.stringify(lines)],
  );
}

export async function readBefore(session: Session, migration: string): Promise<readonly string[] | null> {
  const row = await session.one<{ body: string[] }>(`SELECT body FROM pgshift.plans WHERE id = $1`, [
    beforeId(migration),
  ]);
  return row?.body ?? null;
}

export const forgetBefore = (session: Session, migration: string): Promise<number> =>
  session.run(`DELETE FROM pgshift.plans WHERE id = $1`, [beforeId(migration)]);
