/**
 * Where downloads are kept. Postgres never runs as root, so for root the folder must be one that another user can walk into:
 * a cache under /root would hold binaries that nobody can start.
 */
import { chmodSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

export const isRoot = (): boolean => process.getuid?.() === 0;

/** Can a user who owns nothing here reach `path`? Every existing folder up to the root must have the x bit for others. */
export function reachableByOthers(path: string): boolean {
  for (let at = resolve(path); ; at = dirname(at)) {
    if (existsSync(at)) {
      const mode = statSync(at).mode;
      if ((mode & 0o001) === 0) return false;
    }
    if (dirname(at) === at) return true;
  }
}

function userCache(env: NodeJS.ProcessEnv): string {
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'pgshift');
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'pgshift');
}

/** The cache folder, made if it is missing: PGSHIFT_CACHE, else the user's own, for root one that others can read. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  const wanted = env.PGSHIFT_CACHE ? resolve(env.PGSHIFT_CACHE) : userCache(env);
  const folder = isRoot() && !reachableByOthers(wanted) ? '/var/cache/pgshift' : wanted;
  const fresh = !existsSync(folder);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  if (fresh && isRoot()) chmodSync(folder, 0o755); // whatever the umask says
  return folder;
}
