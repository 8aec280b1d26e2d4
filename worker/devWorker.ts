/** The worker as a child of `pgshift dev`: the environment in which it finds this stack and no other, its start, its health. */
import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../plan/model/errors';
import type { DevFile } from './devFile';
import { logFile, workerTitle } from './devHome';
import { endProcess, startChild } from './embedded/process';
import type { ProcessMark } from './embedded/process';
import type { Tool } from './embedded/tools';
import type { Startable } from './supervise';

const WORKER_READY_MS = 30_000;

/** What a worker or command needs to find this stack, and nothing that would lead it elsewhere. */
export function stackEnvironment(
  env: NodeJS.ProcessEnv,
  file: DevFile,
  home: string,
  more: { external: string | null; namespace: string; configFile: string | undefined; postgresBin: Tool | null },
): NodeJS.ProcessEnv {
  const made: NodeJS.ProcessEnv = { ...env, PGSHIFT_HOME: home };
  if (more.external === null) {
    // Settings and profiles for another server (TLS, keys) do not fit the embedded one.
    for (const name of Object.keys(made)) if (name.startsWith('TEMPORAL_')) delete made[name];
    const empty = join(home, 'temporal.toml');
    writeFileSync(empty, '[profile.default]\n'); // one without any profile is refused by the reader
    Object.assign(made, {
      TEMPORAL_ADDRESS: file.temporalAddress ?? '',
      TEMPORAL_NAMESPACE: more.namespace,
      TEMPORAL_CONFIG_FILE: empty,
    });
  }
  for (const [name, url] of Object.entries(file.databases)) made[`PGSHIFT_DATABASE_${name.toUpperCase()}`] = url;
  if (file.metricsUrl !== null) made.PGSHIFT_METRICS_ADDRESS = new URL(file.metricsUrl).host;
  if (more.configFile !== undefined) made.PGSHIFT_CONFIG = resolve(more.configFile);
  if (more.postgresBin) made.PGSHIFT_POSTGRES_BIN = more.postgresBin.path;
  return made;
}

/** The built worker, also when this runs from the sources. */
function workerMain(): string {
  const found = [join(__dirname, 'main.js'), join(__dirname, '..', 'dist', 'worker', 'main.js')].find((path) =>
    existsSync(path),
  );
  if (found) return found;
  throw new Problem('NoSuchFile', 'the worker is not built', { hint: 'run npm run build' });
}

export interface WorkerOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly home: string;
  /** Default: the built one. */
  readonly main?: string;
  /** Hears the pid as soon as there is one. */
  readonly note: (mark: ProcessMark) => void;
}

/** A worker waits for Postgres nearly all of the time: its heap may be collected often. A third less memory; the Dockerfile has the same. */
export const SMALL_HEAP = ['--max-semi-space-size=2', '--optimize-for-size'];
/** Without it each thread of Temporal's core keeps freed memory to itself. */
export const SMALL_HEAP_ENV = { MALLOC_ARENA_MAX: '2' } as const;

/** A worker process; its output goes to log/worker.log in the home. Throws NoSuchFile when nothing is built. */
export async function startWorker({ env, home, main, note }: WorkerOptions): Promise<Startable> {
  const child = await startChild({
    command: process.execPath,
    args: [`--title=${workerTitle(home)}`, ...SMALL_HEAP, main ?? workerMain()],
    logFile: logFile(home, 'worker'),
    env: { ...SMALL_HEAP_ENV, ...env },
  });
  note(child.mark);
  const { mark, ended } = child;
  // Running activities get their grace, then the next worker resumes them.
  const stop = async (): Promise<void> => void (await endProcess(mark, [['SIGTERM', 35_000], ['SIGKILL', 5_000]])); // prettier-ignore
  return { mark, ended, stop };
}

/** Waits for the worker's metrics page; false when it has not come in time. */
export async function workerAnswers(metricsUrl: string | null): Promise<boolean> {
  if (metricsUrl === null) return true;
  const health = new URL('/healthz', metricsUrl);
  for (const until = Date.now() + WORKER_READY_MS; Date.now() < until; await sleep(100)) {
    const ok = await fetch(health, { signal: AbortSignal.timeout(1_000) }).then(
      (answer) => answer.ok,
      () => false,
    );
    if (ok) return true;
  }
  return false;
}
