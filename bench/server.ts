/** A Postgres server for one part of the bench, in a folder of its own, on loopback without a password, gone with the part. */
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { anyFreePort } from '../worker/embedded/ports';
import { startPostgres } from '../worker/embedded/postgres';
import type { RunningPostgres } from '../worker/embedded/postgres';
import { removeDataFolder, unprivilegedUser } from '../worker/embedded/user';
import { SETTINGS, on } from './stack';
import type { Urls } from './engine';

export const FROM = 'bench_from';
export const TO = 'bench_to';

export interface Server {
  readonly postgres: RunningPostgres;
  readonly urls: Urls;
  /** An empty one in the target's place. */
  readonly emptyTarget: () => Promise<void>;
  readonly emptySource: () => Promise<void>;
  /** The target as a copy of the source, where nobody is connected. */
  readonly targetFromSource: () => Promise<void>;
  readonly close: () => Promise<void>;
}

const make = (admin: string, name: string, template = 'template0'): Promise<void> =>
  on(admin, async (client) => {
    await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    await client.query(`CREATE DATABASE ${name} TEMPLATE ${template}`);
  });

/** @param bin folder with initdb and postgres. */
export async function openServer(bin: string, settings: Readonly<Record<string, string>> = {}): Promise<Server> {
  // What the engine runs in this process takes pg_dump and pg_restore from there: of the server's own major.
  process.env.PGSHIFT_POSTGRES_BIN = bin;
  const home = mkdtempSync(join(tmpdir(), 'pgshift-bench-server-'));
  chmodSync(home, 0o755);
  const runAs = unprivilegedUser();
  if (runAs) chownSync(home, runAs.uid, runAs.gid);
  const postgres = await startPostgres({
    bin,
    data: join(home, 'data'),
    port: await anyFreePort(),
    logFile: join(home, 'server.log'),
    settings: { ...SETTINGS, ...settings },
    password: null, // on loopback, for the time of the bench
  });
  for (const name of [FROM, TO]) await make(postgres.url, name);
  return {
    postgres,
    urls: { from: postgres.urlOf(FROM), to: postgres.urlOf(TO) },
    emptyTarget: () => make(postgres.url, TO),
    emptySource: () => make(postgres.url, FROM),
    targetFromSource: () => make(postgres.url, TO, FROM),
    close: async () => {
      await postgres.stop();
      removeDataFolder(join(home, 'data'));
      rmSync(home, { recursive: true, force: true });
    },
  };
}
