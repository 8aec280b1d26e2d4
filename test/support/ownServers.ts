/** A Temporal and a Postgres of one test's own, which it may kill with -9 and start again on the same files. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'pg';
import { anyFreePort } from '../../worker/embedded/ports';
import { startPostgres } from '../../worker/embedded/postgres';
import type { RunningPostgres } from '../../worker/embedded/postgres';
import { startTemporal } from '../../worker/embedded/temporal';
import type { RunningTemporal } from '../../worker/embedded/temporal';
import { findPostgresBin, findTemporalCli } from '../../worker/embedded/tools';
import type { FreshDatabase } from './database';

export type Victim = 'temporal' | 'postgres';

export interface OwnServers {
  readonly temporalAddress: string;
  /** A new database, after `setup`. One at a time. */
  database(setup: string): Promise<FreshDatabase>;
  kill(victim: Victim): Promise<void>;
  start(victim: Victim): Promise<void>;
  stop(): Promise<void>;
}

export async function startOwnServers(home: string): Promise<OwnServers> {
  chmodSync(home, 0o755);
  const log = () => undefined;
  const [cli, bin] = await Promise.all([findTemporalCli({ log }), findPostgresBin({ log })]);
  const temporalPort = await anyFreePort();
  const postgresPort = await anyFreePort();
  const upTemporal = () =>
    startTemporal({
      cli: cli.path,
      port: temporalPort,
      uiPort: null,
      file: join(home, 'temporal.db'),
      logFile: join(home, 'temporal.log'),
    });
  const upPostgres = () =>
    startPostgres({
      bin: bin.path,
      data: join(home, 'data'),
      port: postgresPort,
      logFile: join(home, 'postgres.log'),
      password: null,
    });
  let temporal: RunningTemporal = await upTemporal();
  let postgres: RunningPostgres = await upPostgres();
  let name = 'postgres';
  let made = 0;
  const open = new Set<Client>();
  const connect = async () => {
    const client = new Client({ connectionString: postgres.urlOf(name) });
    client.on('error', () => undefined);
    await client.connect();
    open.add(client);
    return client;
  };

  return {
    temporalAddress: temporal.address,
    async database(setup) {
      const maker = await connect();
      made += 1;
      await maker.query(`CREATE DATABASE t_own_${made}`);
      open.delete(maker);
      await maker.end();
      name = `t_own_${made}`;
      const database: FreshDatabase = {
        name,
        version: 18,
        url: postgres.urlOf(name),
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
        drop: async () => void (await Promise.all([...open].map((client) => client.end().catch(() => undefined)))),
      };
      await database.query(setup);
      return database;
    },
    async kill(victim) {
      const server = victim === 'temporal' ? temporal : postgres;
      process.kill(server.mark.pid, 'SIGKILL');
      await server.ended;
    },
    async start(victim) {
      if (victim === 'temporal') temporal = await upTemporal();
      else postgres = await upPostgres();
    },
    async stop() {
      await Promise.all([...open].map((client) => client.end().catch(() => undefined)));
      await Promise.all([temporal.stop(), postgres.stop()]);
    },
  };
}
