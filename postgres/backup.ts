/**
 * pg_dump in its custom format, read back by pg_restore --list before it counts as a backup. Keeps true: the password is never in an
 * argument or a message (it goes by PGPASSWORD in the child's environment alone), a file appears under its name only when it is whole, and
 * its mode is 0600.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Client } from 'pg';
import { Problem } from '../plan/model/errors';
import type { RelationName } from '../plan/model/steps';
import { relation } from './ident';
import { addressOf } from './session';
import type { Target } from './types';

export interface BackupRequest {
  readonly target: Target;
  readonly directory: string;
  /** Name of the file, without `.dump`. */
  readonly name: string;
  /** Nothing = the whole database, without schema pgshift. */
  readonly tables?: readonly RelationName[];
  readonly signal?: AbortSignal;
}

export interface Backup {
  readonly file: string;
  readonly bytes: number;
  /** Entries that pg_restore sees in it. */
  readonly entries: number;
  readonly seconds: number;
}

/** Folder by PGSHIFT_POSTGRES_BIN, else PATH. */
export function postgresTool(name: 'pg_dump' | 'pg_restore'): string {
  const folder = process.env.PGSHIFT_POSTGRES_BIN;
  if (folder === undefined || folder === '') return name;
  const path = join(folder, name);
  if (!existsSync(path)) throw new Problem('BackupFailed', `there is no ${name} in PGSHIFT_POSTGRES_BIN`);
  return path;
}

/** Dumps and verifies. A file of that name is replaced only by a whole one. Throws BackupFailed, DiskFull. */
export async function backUp(request: BackupRequest): Promise<Backup> {
  const started = performance.now();
  const file = join(request.directory, `${request.name.replace(/[^A-Za-z0-9_.-]/g, '_')}.dump`);
  const unfinished = `${file}.unfinished`;
  const env = environment(request.target);
  try {
    await mkdir(request.directory, { recursive: true, mode: 0o700 });
    const which = request.tables
      ? request.tables.flatMap((table) => ['--table', relation(table)])
      : ['--exclude-schema', 'pgshift'];
    const args = ['--format=custom', '--no-password', '--lock-wait-timeout=10000', ...which, '--file', unfinished];
    await tool('pg_dump', args, env, request.signal);
    const listed = await tool('pg_restore', ['--list', unfinished], env, request.signal);
    const entries = listed.split('\n').filter((line) => line !== '' && !line.startsWith(';')).length;
    if (entries === 0) throw new Problem('BackupFailed', 'the backup holds nothing');
    await chmod(unfinished, 0o600);
    await rename(unfinished, file);
    const { size } = await stat(file);
    return { file, bytes: size, entries, seconds: (performance.now() - started) / 1000 };
  } catch (error) {
    await rm(unfinished, { force: true }).catch(() => undefined);
    throw asProblem(error);
  }
}

function asProblem(error: unknown): unknown {
  const code = (error as { code?: unknown } | null)?.code;
  if (code === 'ENOSPC') return new Problem('DiskFull', 'no space left where the backup is written');
  if (code === 'ENOENT')
    return new Problem('BackupFailed', 'pg_dump or pg_restore is not there', { hint: 'set PGSHIFT_POSTGRES_BIN' });
  if (code === 'EACCES' || code === 'EROFS' || code === 'ENOTDIR')
    return new Problem('BackupFailed', `the backup cannot be written (${code})`);
  return error;
}

/** libpq's variables for the child: nothing of the connection is an argument, which every user of the machine can read. */
export function environment(target: Target): NodeJS.ProcessEnv {
  addressOf(target);
  const client = new Client({ connectionString: target.url });
  const settings: Record<string, string | undefined> = {
    PGHOST: client.host,
    PGPORT: String(client.port),
    PGUSER: client.user,
    PGDATABASE: client.database,
    PGPASSWORD: typeof client.password === 'string' ? client.password : undefined,
    PGAPPNAME: 'pgshift/backup',
  };
  for (const [parameter, variable] of [
    ['sslmode', 'PGSSLMODE'],
    ['sslrootcert', 'PGSSLROOTCERT'],
    ['sslcert', 'PGSSLCERT'],
    ['sslkey', 'PGSSLKEY'],
  ] as const)
    settings[variable] = new URLSearchParams(target.url.split('?')[1] ?? '').get(parameter) ?? process.env[variable];
  const given = Object.entries(settings).filter(([, value]) => value !== undefined && value !== '');
  return { ...process.env, ...Object.fromEntries(given) };
}

const KEPT_OUTPUT = 4_000_000;

export function tool(
  name: 'pg_dump' | 'pg_restore',
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(postgresTool(name), [...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(signal ? { signal } : {}),
    });
    let out = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => (out.length < KEPT_OUTPUT ? (out += chunk.toString()) : undefined));
    child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-2_000)));
    child.once('error', reject);
    child.once('close', (exit) => {
      if (exit === 0) resolve(out);
      else if (/No space left on device/i.test(errors))
        reject(new Problem('DiskFull', 'no space left where the backup is written'));
      // Its stderr may quote data or a connection string: only the line that says what failed, without DETAIL and CONTEXT.
      else reject(new Problem('BackupFailed', `${name} ended with ${exit ?? 'a signal'}: ${firstError(errors)}`));
    });
  });
}

function firstError(stderr: string): string {
  const line = stderr.split('\n').find((text) => /error:/.test(text)) ?? '';
  const said = line
    .replace(/^.*?error:\s*/, '')
    .replace(/(postgres(ql)?:\/\/)\S+/g, '$1...')
    .replace(/password\S*/gi, '...');
  return said === '' ? 'no message' : said.slice(0, 300);
}
