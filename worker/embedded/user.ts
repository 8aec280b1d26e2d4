/**
 * Postgres refuses to run as root. For root: which unprivileged user runs it, and where its data may lie (a folder that this user
 * cannot walk into is replaced by one that it can, with a link left in its place).
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Problem } from '../../plan/model/errors';
import { isRoot, reachableByOthers } from './cache';

export interface RunAs {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

const PREFERRED = ['postgres', 'nobody', 'daemon'];
const FOR_UNREACHABLE_HOMES = '/var/lib/pgshift';

/** null = as ourselves. For root: `postgres`, else `nobody`, else any other ordinary entry. initdb wants a user that has a name. */
export function unprivilegedUser(): RunAs | null {
  if (!isRoot()) return null;
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name = '', , uid, gid]): RunAs => ({ name, uid: Number(uid), gid: Number(gid) }))
    .filter((user) => user.name !== '' && user.uid > 0 && user.gid > 0);
  const found = PREFERRED.map((name) => users.find((user) => user.name === name)).find((user) => user) ?? users[0];
  if (found) return found;
  throw new Problem('InvalidConfig', 'Postgres refuses to run as root, and no other user exists on this machine', {
    hint: 'run as another user, or add one: useradd --system postgres',
  });
}

/** Makes the data folder (its parent exists afterwards, itself empty or as it was) and answers its real path. */
export function placeDataFolder(wanted: string, user: RunAs | null): string {
  const path = resolve(wanted);
  if (existsSync(path)) return realpathSync(path);
  // A link whose goal is gone (somebody emptied it): start anew.
  rmSync(path, { force: true });
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  let real = path;
  if (user !== null && !reachableByOthers(dirname(path))) {
    const mark = createHash('sha256').update(path).digest('hex').slice(0, 12);
    real = join(FOR_UNREACHABLE_HOMES, `${basename(path)}-${mark}`);
    for (const folder of [FOR_UNREACHABLE_HOMES, real]) mkdirSync(folder, { recursive: true, mode: 0o711 });
    chmodSync(FOR_UNREACHABLE_HOMES, 0o711);
    symlinkSync(real, path);
  } else {
    mkdirSync(real, { mode: 0o700 });
  }
  chmodSync(real, 0o700);
  if (user !== null) chownSync(real, user.uid, user.gid);
  return realpathSync(real);
}

/** Removes the data folder, also where `placeDataFolder` put it elsewhere. */
export function removeDataFolder(wanted: string): void {
  const path = resolve(wanted);
  if (existsSync(path) && lstatSync(path).isSymbolicLink()) {
    const real = realpathSync(path);
    if (dirname(real) === FOR_UNREACHABLE_HOMES) rmSync(real, { recursive: true, force: true });
  }
  rmSync(path, { recursive: true, force: true });
}
