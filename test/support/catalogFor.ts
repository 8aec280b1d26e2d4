/**
 * A Catalog for planner tests: a fresh database, the SQL of the test, ANALYZE, and what readCatalog() says. Real Postgres, no fixtures.
 */
import type { Catalog } from '../../plan/model/catalog';
import { readCatalog } from '../../postgres/catalog/read';
import { freshDatabase } from './database';
import type { ServerVersion } from './database';

/** Makes a database from `sql`, reads its catalogue after ANALYZE, and drops it. */
export async function catalogFor(sql: string, version: ServerVersion = 18): Promise<Catalog> {
  const database = await freshDatabase(version, sql);
  try {
    const client = await database.client();
    await client.query('ANALYZE');
    return await readCatalog(client);
  } finally {
    await database.drop();
  }
}
