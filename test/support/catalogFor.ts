/**
 * A Catalog for planner tests: a fresh database, the SQL of the test, ANALYZE, and what readCatalog() says. Real Postgres, no fixtures.
 * The server is the one that test/support starts; PGSHIFT_TEST_URL_<major> names another one (a superuser's URL).
 */
import { Client } from 'pg';
import type { Catalog } from '../../plan/model/catalog';
import { readCatalog } from '../../postgres/catalog/read';
import { ident } from '../../postgres/ident';

let made = 0;

/** Runs `work` with a client in a new empty database of that major version, and drops the database afterwards. */
export async function inFreshDatabase<Result>(
  work: (client: Client, url: string) => Promise<Result>,
  version = 18,
): Promise<Result> {
  const server = process.env[`PGSHIFT_TEST_URL_${version}`];
  if (server === undefined) throw new Error(`no Postgres ${version}: set PGSHIFT_TEST_URL_${version}`);
  made += 1;
  const name = `catalog_${process.pid}_${made}`;
  const url = new URL(server);
  url.pathname = `/${name}`;
  const admin = new Client(server);
  await admin.connect();
  try {
    await admin.query(`CREATE DATABASE ${ident(name)} TEMPLATE template0`);
    const client = new Client(url.toString());
    await client.connect();
    try {
      return await work(client, url.toString());
    } finally {
      await client.end();
      await admin.query(`DROP DATABASE IF EXISTS ${ident(name)} WITH (FORCE)`);
    }
  } finally {
    await admin.end();
  }
}

/** Makes a database from `sql`, reads its catalogue after ANALYZE, and drops it. */
export const catalogFor = (sql: string, version = 18): Promise<Catalog> =>
  inFreshDatabase(async (client) => {
    await client.query(sql);
    await client.query('ANALYZE');
    return readCatalog(client);
  }, version);
