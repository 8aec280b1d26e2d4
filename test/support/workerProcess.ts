/**
 * A worker as a real child process that a test may kill, freeze and start again. Only processes that this file started are signalled.
 * Exit by SIGKILL is what crash points do; any other early exit fails the test with the tail of the worker's log.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface WorkerOptions {
  readonly taskQueue: string;
  readonly databases: Readonly<Record<string, string>>;
  readonly temporalAddress: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface WorkerProcess {
  readonly pid: number;
  /** Resolves when the process is gone: its signal, or its code. */
  readonly exited: Promise<{ readonly signal: NodeJS.Signals | null; readonly code: number | null }>;
  log(): string;
  signal(name: NodeJS.Signals): void;
  /** Until it stands still after a SIGSTOP: a SIGCONT that comes before would be lost. At once when it is gone. */
  stopped(): Promise<void>;
  /** SIGTERM, and SIGKILL after 10 s. */
  stop(): Promise<void>;
}

/** `npm test` builds first; PGSHIFT_TEST_DIST names another build. */
const dist = process.env.PGSHIFT_TEST_DIST ?? path.resolve(__dirname, '../../dist');

export function startWorkerProcess(options: WorkerOptions): WorkerProcess {
  const databases = Object.fromEntries(
    Object.entries(options.databases).map(([name, url]) => [`PGSHIFT_DATABASE_${name.toUpperCase()}`, url]),
  );
  const child: ChildProcess = spawn(process.execPath, [path.join(dist, 'worker', 'main.js')], {
    env: {
      ...process.env,
      ...databases,
      TEMPORAL_ADDRESS: options.temporalAddress,
      PGSHIFT_TASK_QUEUE: options.taskQueue,
      PGSHIFT_METRICS_ADDRESS: '127.0.0.1:0',
      PGSHIFT_LOG_LEVEL: 'info',
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  const keep = (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-200_000);
    if (process.env.PGSHIFT_TEST_LOG) appendFileSync(process.env.PGSHIFT_TEST_LOG, chunk);
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  const exited = new Promise<{ signal: NodeJS.Signals | null; code: number | null }>((resolve) =>
    child.once('exit', (code, signal) => resolve({ code, signal })),
  );
  const pid = child.pid;
  if (pid === undefined) throw new Error('the worker process did not start');
  let gone = false;
  void exited.then(() => (gone = true));
  return {
    pid,
    exited,
    log: () => log,
    signal: (name) => void child.kill(name),
    async stopped() {
      const state = (): string =>
        spawnSync('ps', ['-o', 'state=', '-p', `${pid}`])
          .stdout.toString()
          .trim();
      while (!gone && !state().startsWith('T')) await sleep(10);
    },
    async stop() {
      if (gone) return;
      child.kill('SIGCONT');
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await exited;
      clearTimeout(timer);
    },
  };
}
