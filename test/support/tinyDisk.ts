/**
 * A file system of a few megabytes, so that a full disk is a real ENOSPC and not a pretended one. Needs root and mount(8); null where one of
 * them is missing.
 */
import { spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TinyDisk {
  readonly path: string;
  /** Unmounts it; whoever uses it must be gone. */
  remove(): void;
}

/** `owner`: a path whose owner gets the disk. */
export function tinyDisk(megabytes: number, owner: string): TinyDisk | null {
  if (process.getuid?.() !== 0) return null;
  const path = mkdtempSync(join(tmpdir(), 'pgshift-disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', path]);
  if (mounted.status !== 0) {
    rmSync(path, { recursive: true });
    return null;
  }
  const { uid, gid } = statSync(owner);
  chownSync(path, uid, gid);
  return {
    path,
    remove() {
      spawnSync('umount', ['-l', path]);
      rmSync(path, { recursive: true, force: true });
    },
  };
}
