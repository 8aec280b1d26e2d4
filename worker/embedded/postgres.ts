/**
 * A Postgres of our own, on 127.0.0.1 only: made with initdb when its folder is empty, started as an unprivileged user, stopped
 * cleanly. Killed with -9 it comes up again on the same folder with everything that it had acknowledged.
 */
import { execFile } from 'node:child_process';
import { chownSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { Problem } from '../../plan/model/errors';
import { literal } from '../../postgres/ident';
import { reachableByOthers } from './cache';
import { endProcess, startChild } from './process';
import type { Child, ProcessMark } from './process';
import { placeDataFolder, unprivilegedUser } from './user';
import type { RunAs } from './user';

const run = promisify(execFile);
const SUPERUSER = 'postgres';
const START_TIMEOUT_MS = 60_000;
/** Settings that what pgshift does stands on; the user's own come after and win. */
const DEFAULTS: Readonly<Record<string, string>> = {
  wal_level: 'logical',
  max_connections: '200',
  max_replication_slots: '20',
  max_wal_senders: '20',
  max_prepared_transactions: '10',
  logging_collector: 'off',
};

export interface PostgresOptions {
  /** Folder with initdb and postgres. */
  readonly bin: string;
  /** Data folder; made when it is missing or empty. */
  readonly data: string;
  readonly port: number;
  readonly logFile: string;
  /** Written to pgshift.conf in the data folder at every start; ALTER SYSTEM still wins over them. */
  readonly settings?: Readonly<Record<string, string>>;
  /** null = trust: only for tests. Asked for at initdb; later starts must give the same. */
  readonly password: string | null;
}

export interface RunningPostgres {
  readonly port: number;
  /** Superuser's URL of database `postgres`. A secret when there is a password. */
  readonly url: string;
  /** The same server, another database. */
  readonly urlOf: (database: string) => string;
  readonly version: string;
  readonly mark: ProcessMark;
  readonly ended: Child['ended'];
  readonly stop: () => Promise<void>;
}

/** The way to end a Postgres that must keep what it has: fast shutdown, then immediate (recovery at the next start), then kill. */
export const endPostgres = (mark: ProcessMark): Promise<boolean> =>
  endProcess(mark, [
    ['SIGINT', 20_000],
    ['SIGQUIT', 5_000],
    ['SIGKILL', 5_000],
  ]);

/**
 * Makes (if need be) and starts it; answers when it takes connections. `onSpawn` hears the pid before that, so that a supervisor can
 * write it down first. Throws Unreachable with the end of the log when it does not come up.
 */
export async function startPostgres(
  options: PostgresOptions,
  onSpawn: (mark: ProcessMark) => void = () => undefined,
): Promise<RunningPostgres> {
  const user = unprivilegedUser();
  if (user !== null && !reachableByOthers(options.bin)) {
    throw new Problem('InvalidConfig', `user ${user.name} (Postgres refuses root) cannot reach ${options.bin}`, {
      hint: 'choose a folder that others may read: PGSHIFT_CACHE or PGSHIFT_POSTGRES_BIN',
    });
  }
  const data = placeDataFolder(options.data, user);
  // The mark beside the folder says that initdb has begun and not ended: what a crash in it left is no database.
  const unfinished = `${data}.initialising`;
  if (existsSync(unfinished) || !existsSync(join(data, 'PG_VERSION'))) {
    writeFileSync(unfinished, '');
    await initialise(options, data, user);
    rmSync(unfinished);
  }
  writeSettings(options, data);
  const args = ['-D', data, '-p', String(options.port), '-c', 'listen_addresses=127.0.0.1'];

  // After kill -9 the children of the old server may need a moment to notice; until then the new one refuses to start.
  const until = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const child = await startChild({
      command: join(options.bin, 'postgres'),
      args,
      logFile: options.logFile,
      cwd: data,
      env: serverEnv(),
      uid: user?.uid,
      gid: user?.gid,
    });
    onSpawn(child.mark);
    const urlOf = (database: string): string => connectionUrl(options, database);
    const version = await waitReady(child, urlOf('postgres'), data, until);
    if (version !== null) {
      return {
        port: options.port,
        url: urlOf('postgres'),
        urlOf,
        version,
        mark: child.mark,
        ended: child.ended,
        stop: async () => void (await endPostgres(child.mark)),
      };
    }
    const tail = logTail(options.logFile);
    const passing = /pre-existing shared memory block|lock file "postmaster.pid" already exists/.test(tail);
    if (!passing || Date.now() > until) {
      throw new Problem('Unreachable', `the embedded Postgres does not start on port ${options.port}`, {
        value: tail.split('\n').slice(-6).join(' | ').slice(0, 600),
        hint: `see ${options.logFile}`,
      });
    }
    await sleep(500);
  }
}

function connectionUrl(options: PostgresOptions, database: string): string {
  const secret = options.password === null ? '' : `:${encodeURIComponent(options.password)}`;
  return `postgresql://${SUPERUSER}${secret}@127.0.0.1:${options.port}/${encodeURIComponent(database)}`;
}

/** Whatever the caller's shell says about Postgres (PGDATA, PGPORT, locale) is not meant for this server. */
function serverEnv(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('PG') && !name.startsWith('LC_'));
  return { ...Object.fromEntries(kept), LC_ALL: 'C', TZ: 'UTC' };
}

async function initialise(options: PostgresOptions, data: string, user: RunAs | null): Promise<void> {
  for (const name of readdirSync(data)) rmSync(join(data, name), { recursive: true, force: true });
  const { stdout } = await run(join(options.bin, 'postgres'), ['--version']);
  const major = Number(/(\d+)/.exec(stdout)?.[1] ?? 0);
  const args = ['--pgdata', data, '--username', SUPERUSER, '--encoding', 'UTF8', '--locale', 'C', '--no-instructions'];
  // Unicode-aware and the same on every machine; older servers know only the C library's locales.
  if (major >= 17) args.push('--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8');
  if (options.settings?.fsync === 'off') args.push('--no-sync');
  args.push('--auth', options.password === null ? 'trust' : 'scram-sha-256');
  // Never in an argument list, where everyone can read it: a file for the moment, beside the data, for its user alone.
  const passwordFile = join(dirname(data), `.init-${process.pid}-${Date.now()}`);
  try {
    if (options.password !== null) {
      writeFileSync(passwordFile, `${options.password}\n`, { mode: 0o600, flag: 'wx' });
      if (user !== null) chownSync(passwordFile, user.uid, user.gid);
      args.push('--pwfile', passwordFile);
    }
    await run(join(options.bin, 'initdb'), args, {
      cwd: data,
      env: serverEnv(),
      uid: user?.uid,
      gid: user?.gid,
      maxBuffer: 16 << 20,
    });
  } catch (error) {
    throw new Problem('Unreachable', 'initdb failed for the embedded Postgres', {
      value: String((error as { stderr?: unknown }).stderr ?? '').slice(-400),
      hint: `check the folder ${data} and the free disk space`,
    });
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

function writeSettings(options: PostgresOptions, data: string): void {
  const conf = join(data, 'postgresql.conf');
  const include = "include_if_exists = 'pgshift.conf'";
  const before = readFileSync(conf, 'utf8');
  if (!before.includes(include)) writeFileSync(conf, `${before}\n${include}\n`);
  // A socket beside the data, when the system takes a path of that length; else 127.0.0.1 alone.
  const sockets = Buffer.byteLength(data) < 90 ? data : '';
  const settings: Record<string, string> = { ...DEFAULTS, unix_socket_directories: sockets };
  if (hasLibrary(options.bin, 'pg_stat_statements')) settings.shared_preload_libraries = 'pg_stat_statements';
  Object.assign(settings, options.settings);
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${literal(value)}`);
  // The server's user reads it; writing into the existing file keeps root's umask out of it.
  writeFileSync(join(data, 'pgshift.conf'), `${lines.join('\n')}\n`, { mode: 0o644 });
}

/** Every build keeps its modules beside bin/, in lib, lib/postgresql or lib64: look there instead of asking pg_config. */
function hasLibrary(bin: string, name: string): boolean {
  const folders = ['../lib', '../lib/postgresql', '../lib64', '../lib64/postgresql', '../lib64/pgsql', '../lib/pgsql'];
  return folders.some((folder) => ['.so', '.dylib'].some((end) => existsSync(join(bin, folder, name + end))));
}

/** The server's version when it answers and is ours; null when it has ended. Throws LoginFailed when the password is another one. */
async function waitReady(child: Child, url: string, data: string, until: number): Promise<string | null> {
  while (Date.now() < until) {
    if (!child.running()) return null;
    const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
    client.on('error', () => undefined);
    try {
      await client.connect();
      const { rows } = await client.query<{ folder: string; version: string }>(
        `SELECT current_setting('data_directory') AS folder, current_setting('server_version') AS version`,
      );
      // Somebody else's server on this port: ours will end by itself, because it cannot bind.
      if (rows[0]?.folder === data) return rows[0].version;
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      if (code === '28P01' && child.running()) {
        throw new Problem('LoginFailed', 'the embedded Postgres has another password than the one kept beside it');
      }
    } finally {
      await client.end().catch(() => undefined);
    }
    await sleep(50);
  }
  await endPostgres(child.mark);
  return null;
}

function logTail(file: string): string {
  try {
    return readFileSync(file, 'utf8').slice(-2_000).trim();
  } catch {
    return '';
  }
}
