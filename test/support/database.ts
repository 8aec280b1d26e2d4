/**
 * A database of its own for each test, on a real server. `drop()` ends every session in it, so a test that leaves a lock or a client
 * behind disturbs no other.
 */
import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { ident } from '../../postgres/ident';
import { isDrawn } from './whole';

export type ServerVersion = 18 | 15;

export interface FreshDatabase {
  /** Also a valid connection's name. */
  readonly name: string;
  readonly version: ServerVersion;
  readonly url: string;
  /** A new connection, ended by `drop()` at the latest. */
  readonly client: () => Promise<Client>;
  /** One statement or several, on a connection of their own; rows of the last one. */
  readonly query: <Row extends Record<string, unknown>>(sql: string, values?: readonly unknown[]) => Promise<Row[]>;
  readonly drop: () => Promise<void>;
}

/** Superuser's URL of the server's database `postgres`; null when that server does not run here. */
export function adminUrl(version: ServerVersion): string | null {
  return process.env[`PGSHIFT_TEST_PG${version}`] || null;
}

export const hasVersion = (version: ServerVersion): boolean => adminUrl(version) !== null;

/** The versions that run here; 15 is there where Debian's is installed. */
export const versions = (): ServerVersion[] => ([18, 15] as const).filter(hasVersion);

/** `describe` once for each major; the one that is missing here is shown as skipped. Of whoever draws for himself. */
export function describeBothVersions(title: string, body: (version: ServerVersion) => void): void {
  for (const version of [18, 15] as const) describeOn(version, title, body);
}

/** The same; whether the older major is asked too is drawn. */
export function describeVersions(title: string, body: (version: ServerVersion) => void): void {
  for (const version of isDrawn(title) ? ([18, 15] as const) : ([18] as const)) describeOn(version, title, body);
}

const describeOn = (version: ServerVersion, title: string, body: (version: ServerVersion) => void): void =>
  (hasVersion(version) ? describe : describe.skip)(`${title} (Postgres ${version})`, () => body(version));

async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url, application_name: 'pgshift-test' });
  client.on('error', () => undefined); // ended by drop() or by a test's kill
  await client.connect();
  return client;
}

async function asAdmin(version: ServerVersion, sql: string): Promise<void> {
  const url = adminUrl(version);
  if (url === null) throw new Error(`no Postgres ${version} runs here`);
  const client = await connect(url);
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/**
 * An empty database, after `setup` (any SQL) ran in it; or a copy of `template`, where nobody is connected. `name` only where another server has one
 * of that name too. Call `drop()` in afterEach or afterAll.
 */
export async function freshDatabase(
  version: ServerVersion = 18,
  setup?: string,
  template?: FreshDatabase,
  name = `t_${randomBytes(6).toString('hex')}`,
): Promise<FreshDatabase> {
  await asAdmin(version, `CREATE DATABASE ${ident(name)}${template ? ` TEMPLATE ${ident(template.name)}` : ''}`);
  const address = new URL(adminUrl(version) ?? '');
  address.pathname = `/${name}`;
  const url = address.toString();
  const open = new Set<Client>();

  const database: FreshDatabase = {
    name,
    version,
    url,
    client: async () => {
      const client = await connect(url);
      open.add(client);
      return client;
    },
    query: async <Row extends Record<string, unknown>>(sql: string, values?: readonly unknown[]): Promise<Row[]> => {
      const client = await connect(url);
      try {
        const result: unknown = await client.query(sql, values ? [...values] : undefined);
        const last = Array.isArray(result) ? (result.at(-1) as { rows: Row[] }) : (result as { rows: Row[] });
        return last.rows;
      } finally {
        await client.end();
      }
    },
    drop: async () => {
      await Promise.all([...open].map((client) => client.end().catch(() => undefined)));
      open.clear();
      await asAdmin(version, `DROP DATABASE IF EXISTS ${ident(name)} WITH (FORCE)`);
    },
  };
  if (setup) await database.query(setup);
  return database;
}
