/** A real PgBouncer (Debian's) of one test's own. It refuses to run as root, as Postgres does. */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import type { Target } from '../../postgres/types';
import { target } from '../../postgres/types';
import { anyFreePort } from '../../worker/embedded/ports';
import { unprivilegedUser } from '../../worker/embedded/user';
import { until } from './engine';

const PROGRAM = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/usr/local/bin/pgbouncer'].find((path) =>
  existsSync(path),
);
export const hasPgbouncer = PROGRAM !== undefined;
export const describePgbouncer: jest.Describe = hasPgbouncer ? describe : describe.skip;

export interface Pgbouncer {
  readonly port: number;
  readonly databasesFile: string;
  /** For the console, as connection `pool`. */
  readonly admin: Target;
  /** For clients. */
  readonly url: (database: string, user?: string) => string;
  readonly console: (command: string) => Promise<Record<string, string>[]>;
  /** kill -9. */
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
  log(): string;
}

export interface PgbouncerOptions {
  /** Lines of section [databases]. */
  readonly databases: string;
  readonly settings?: Readonly<Record<string, string | number>>;
  /** Another one's, to share it. */
  readonly databasesFile?: string;
  /** Administers it, and may come in as a client. */
  readonly user: string;
  /** Who else may come in. */
  readonly users?: readonly string[];
  readonly name?: string;
}

export async function startPgbouncer(options: PgbouncerOptions): Promise<Pgbouncer> {
  const runAs = unprivilegedUser();
  const home = mkdtempSync(join(tmpdir(), 'pgshift-pgbouncer-'));
  const port = await anyFreePort();
  const databasesFile = options.databasesFile ?? join(home, 'databases.ini');
  const logFile = join(home, 'log');
  if (!options.databasesFile) writeFileSync(databasesFile, `[databases]\n${options.databases}\n`, { mode: 0o640 });
  const users = [options.user, ...(options.users ?? [])];
  writeFileSync(join(home, 'users.txt'), users.map((user) => `"${user}" ""\n`).join(''));
  const settings = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    unix_socket_dir: home,
    auth_type: 'trust',
    auth_file: join(home, 'users.txt'),
    admin_users: options.user,
    pool_mode: 'transaction',
    default_pool_size: 10,
    max_client_conn: 200,
    ignore_startup_parameters: 'extra_float_digits',
    ...options.settings,
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}`);
  writeFileSync(join(home, 'pgbouncer.ini'), `%include ${databasesFile}\n[pgbouncer]\n${lines.join('\n')}\n`);
  if (runAs) {
    for (const path of [home, databasesFile, join(home, 'users.txt'), join(home, 'pgbouncer.ini')])
      chownSync(path, runAs.uid, runAs.gid);
    chmodSync(home, 0o755);
  }
  const url = (database: string, user = options.user): string => `postgresql://${user}@127.0.0.1:${port}/${database}`;
  let running: { pid: number; ended: Promise<void> } | null = null;

  const console = async (command: string): Promise<Record<string, string>[]> => {
    const client = new Client({ connectionString: url('pgbouncer') });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query<Record<string, string>>(command)).rows;
    } finally {
      await client.end();
    }
  };
  const start = async (): Promise<void> => {
    const { openSync, closeSync } = await import('node:fs');
    const log = openSync(logFile, 'a');
    const child = spawn(PROGRAM ?? '', [join(home, 'pgbouncer.ini')], {
      stdio: ['ignore', log, log],
      ...(runAs ? { uid: runAs.uid, gid: runAs.gid } : {}),
    });
    closeSync(log);
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    running = { pid: child.pid ?? 0, ended };
    await until(() =>
      console('SHOW VERSION').then(
        () => true,
        () => false,
      ),
    );
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const one = running;
    running = null;
    if (!one) return;
    try {
      process.kill(one.pid, signal);
    } catch {
      // gone
    }
    await one.ended;
  };
  await start();
  return {
    port,
    databasesFile,
    admin: target(options.name ?? 'pool', url('pgbouncer')),
    url,
    console,
    kill: () => end('SIGKILL'),
    start,
    async stop() {
      await end('SIGKILL');
      rmSync(home, { recursive: true, force: true });
    },
    log: () => readFileSync(logFile, 'utf8'),
  };
}

export const pgbouncerVersion = (): string =>
  PROGRAM ? (execFileSync(PROGRAM, ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '') : 'none';
