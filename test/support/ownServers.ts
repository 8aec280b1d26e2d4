/** A Temporal and a Postgres of one test's own, which it may kill with -9 and start again on the same files. */
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'pg';
import { anyFreePort } from '../../worker/embedded/ports';
import { startPostgres } from '../../worker/embedded/postgres';
import type { RunningPostgres } from '../../worker/embedded/postgres';
import { startTemporal } from '../../worker/embedded/temporal';
import type { RunningTemporal } from '../../worker/embedded/temporal';
import { findPostgresBin, findTemporalCli } from '../../worker/embedded/tools';
import type { FreshDatabase } from './database';
import { serverHome } from './serverHome';

export type Victim = 'temporal' | 'postgres';

const log = () => undefined;

/** A server that dies at once and comes again where it was. */
export interface OwnServer {
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface OwnTemporal extends OwnServer {
  readonly address: string;
}

export interface OwnPostgres extends OwnServer {
  /** A new database, after `setup`. One at a time. */
  database(setup: string): Promise<FreshDatabase>;
  /** One that is there: of a standby its primary's. */
  of(name: string): FreshDatabase;
}

export async function startOwnTemporal(home: string): Promise<OwnTemporal> {
  const cli = await findTemporalCli({ log });
  const port = await anyFreePort();
  const up = () =>
    startTemporal({
      cli: cli.path,
      port,
      uiPort: null,
      file: join(home, 'temporal.db'),
      logFile: join(home, 'temporal.log'),
    });
  let running: RunningTemporal = await up();
  return {
    address: running.address,
    async kill() {
      process.kill(running.mark.pid, 'SIGKILL');
      await running.ended;
    },
    start: async () => void (running = await up()),
    stop: () => running.stop(),
  };
}

/** `data`: where its files lie, when not under `home`. */
export async function startOwnPostgres(
  home: string,
  of: { readonly data?: string; readonly settings?: Readonly<Record<string, string>> } = {},
): Promise<OwnPostgres> {
  chmodSync(home, 0o755);
  const bin = await findPostgresBin({ log });
  const port = await anyFreePort();
  const up = () =>
    startPostgres({
      bin: bin.path,
      data: of.data ?? join(home, 'data'),
      port,
      logFile: join(home, 'postgres.log'),
      password: null,
      settings: of.settings ?? {},
    });
  let running: RunningPostgres = await up();
  let name = 'postgres';
  let made = 0;
  const open = new Set<Client>();
  const connect = async () => {
    const client = new Client({ connectionString: running.urlOf(name) });
    client.on('error', () => undefined);
    await client.connect();
    open.add(client);
    return client;
  };
  const close = () => Promise.all([...open].map((client) => client.end().catch(() => undefined)));
  const use = (wanted: string): FreshDatabase => {
    name = wanted;
    return {
      name,
      version: 18,
      url: running.urlOf(name),
      client: connect,
      async query<Row extends Record<string, unknown>>(sql: string, values?: readonly unknown[]) {
        const client = await connect();
        try {
          const result: unknown = await client.query(sql, values ? [...values] : undefined);
          return (Array.isArray(result) ? (result.at(-1) as { rows: Row[] }) : (result as { rows: Row[] })).rows;
        } finally {
          open.delete(client);
          await client.end();
        }
      },
      drop: async () => void (await close()),
    };
  };
  return {
    of: use,
    async database(setup) {
      const maker = await connect();
      made += 1;
      await maker.query(`CREATE DATABASE t_own_${made}`);
      open.delete(maker);
      await maker.end();
      const database = use(`t_own_${made}`);
      await database.query(setup);
      return database;
    },
    async kill() {
      process.kill(running.mark.pid, 'SIGKILL');
      await running.ended;
    },
    start: async () => void (running = await up()),
    async stop() {
      await close();
      await running.stop();
    },
  };
}

/** Databases of this test file are made on a server where nobody else has transactions open: for what is counted to the row by who was writing when. */
export function aloneOnItsServer(): void {
  let running: RunningPostgres | null = null;
  const home = serverHome('alone');
  const shared = process.env.PGSHIFT_TEST_PG18;
  beforeAll(async () => {
    chmodSync(home, 0o755);
    const bin = (await findPostgresBin({ log })).path;
    const [data, logFile] = [join(home, 'data'), join(home, 'postgres.log')];
    running = await startPostgres({ bin, data, port: await anyFreePort(), logFile, password: null });
    process.env.PGSHIFT_TEST_PG18 = running.url;
  });
  afterAll(async () => {
    if (shared !== undefined) process.env.PGSHIFT_TEST_PG18 = shared;
    await running?.stop();
    rmSync(home, { recursive: true, force: true });
  });
}

export interface OwnServers {
  readonly temporalAddress: string;
  /** A new database, after `setup`. One at a time. */
  database(setup: string): Promise<FreshDatabase>;
  kill(victim: Victim): Promise<void>;
  start(victim: Victim): Promise<void>;
  stop(): Promise<void>;
}

export async function startOwnServers(home: string): Promise<OwnServers> {
  const servers = { temporal: await startOwnTemporal(home), postgres: await startOwnPostgres(home) };
  return {
    temporalAddress: servers.temporal.address,
    database: (setup) => servers.postgres.database(setup),
    kill: (victim) => servers[victim].kill(),
    start: (victim) => servers[victim].start(),
    stop: async () => void (await Promise.all([servers.temporal.stop(), servers.postgres.stop()])),
  };
}

/** For the tests of one file: started before all of them, stopped and swept away after. */
export function ownServersOfFile(name: string): () => OwnServers {
  const home = serverHome(name);
  let servers: OwnServers;
  beforeAll(async () => void (servers = await startOwnServers(home)));
  afterAll(async () => {
    await servers.stop();
    rmSync(home, { recursive: true, force: true });
  });
  return () => servers;
}
