/**
 * Where the servers of the tests keep their files: in memory where there is plenty of it, since a file system on a disk costs the tests a tenth of their
 * time for files of databases that live for seconds. Nothing is lost by it: processes are killed here, never machines.
 */
import { mkdtempSync, statfsSync } from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY = '/dev/shm';
/** Bytes; what the tests write at the same time stays well below. */
const PLENTY = 12 * 1024 ** 3;

function isPlenty(): boolean {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize >= PLENTY && freemem() >= PLENTY;
  } catch {
    return false; // no such file system here
  }
}

/** A new directory. PGSHIFT_TEST_DISK=1 keeps it off the memory. */
export const serverHome = (name: string): string =>
  mkdtempSync(join(process.env.PGSHIFT_TEST_DISK !== '1' && isPlenty() ? MEMORY : tmpdir(), `pgshift-${name}-`));
