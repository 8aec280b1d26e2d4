/** The world of the part `switch`: two Postgres servers and a PgBouncer (transaction pooling) before the first, all on loopback and gone with the bench. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { anyFreePort } from '../worker/embedded/ports';
import { startPostgres } from '../worker/embedded/postgres';
import type { RunningPostgres } from '../worker/embedded/postgres';
import { removeDataFolder, unprivilegedUser } from '../worker/embedded/user';
import { PAIR_FILES, on } from './stack';
import type { Bench } from './stack';

export const DATABASE = 'shop';
/** The clients' role. */
export const ROLE = 'bench_app';
const SETTINGS = { shared_buffers: '512MB', max_wal_size: '8GB', checkpoint_timeout: '15min' } as const;
const PROGRAM = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/usr/local/bin/pgbouncer'].find((path) =>
  existsSync(path),
);
export const hasPgbouncer = PROGRAM !== undefined;

export interface World {
  readonly blue: RunningPostgres;
  readonly green: RunningPostgres;
  readonly databasesFile: string;
  /** Where clients come in. */
  readonly clients: string;
  readonly close: () => Promise<void>;
}

function startPooler(home: string, port: number, blue: RunningPostgres): ChildProcess {
  const runAs = unprivilegedUser();
  const file = (name: string, text: string): string => {
    const path = join(home, name);
    writeFileSync(path, text, { mode: 0o640 });
    if (runAs) chownSync(path, runAs.uid, runAs.gid);
    return path;
  };
  const databases = file(
    'databases.ini',
    `[databases]\n${DATABASE} = host=127.0.0.1 port=${blue.port} dbname=${DATABASE}\n`,
  );
  const users = file('users.txt', `"postgres" ""\n"${ROLE}" ""\n`);
  const settings = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    unix_socket_dir: home,
    auth_type: 'trust',
    auth_file: users,
    admin_users: 'postgres',
    pool_mode: 'transaction',
    default_pool_size: 20,
    max_client_conn: 200,
    logfile: join(home, 'pgbouncer.log'),
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}`);
  const ini = file('pgbouncer.ini', `%include ${databases}\n[pgbouncer]\n${lines.join('\n')}\n`);
  return spawn(PROGRAM ?? '', ['-q', ini], { stdio: 'ignore', ...(runAs ? { uid: runAs.uid, gid: runAs.gid } : {}) });
}

export async function openWorld(bench: Bench): Promise<World> {
  const home = mkdtempSync(join(tmpdir(), 'pgshift-bench-switch-'));
  chmodSync(home, 0o755);
  const runAs = unprivilegedUser();
  if (runAs) chownSync(home, runAs.uid, runAs.gid);
  const bin = bench.stack.postgresBin?.path ?? '';
  const server = async (name: string): Promise<RunningPostgres> =>
    startPostgres({
      bin,
      data: join(home, name),
      port: await anyFreePort(),
      logFile: join(home, `${name}.log`),
      settings: SETTINGS,
      password: null, // on loopback, for the time of the bench
    });
  const blue = await server('blue');
  const green = await server('green');
  for (const one of [blue, green])
    await on(one.url, async (client) => {
      await client.query(`CREATE ROLE ${ROLE} LOGIN`);
      await client.query(`CREATE DATABASE ${DATABASE}`);
    });
  const port = await anyFreePort();
  const pooler = startPooler(home, port, blue);
  const gone = new Promise<void>((resolve) => pooler.once('exit', () => resolve()));
  const urls = {
    blue: blue.urlOf(DATABASE),
    green: green.urlOf(DATABASE),
    pool: `postgresql://postgres@127.0.0.1:${port}/pgbouncer`,
  };
  for (const [name, file] of Object.entries(PAIR_FILES))
    writeFileSync(join(bench.stack.home, file), `${urls[name as keyof typeof PAIR_FILES]}\n`, { mode: 0o600 });
  const close = async (): Promise<void> => {
    pooler.kill('SIGKILL');
    await gone;
    await Promise.all([blue.stop(), green.stop()]);
    for (const name of ['blue', 'green']) removeDataFolder(join(home, name));
    rmSync(home, { recursive: true, force: true });
  };
  return {
    blue,
    green,
    databasesFile: join(home, 'databases.ini'),
    clients: `postgresql://${ROLE}@127.0.0.1:${port}/${DATABASE}`,
    close,
  };
}
