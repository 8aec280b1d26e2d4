/**
 * Child processes that outlive a kill -9 of their parent are found again by pid AND start time: a pid alone may belong to somebody
 * else by then. Children write to files, never to a pipe of the parent, so that they live on when it dies.
 */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A process for certain: `started` is opaque, equal only for the same process on the same boot. */
export interface ProcessMark {
  readonly pid: number;
  readonly started: string;
}

/** The mark of a living process; null when there is none. A zombie is none, unless threads of it still live: they hold its ports. */
export function markOf(pid: number): ProcessMark | null {
  if (!Number.isSafeInteger(pid) || pid <= 0) return null;
  try {
    if (process.platform === 'linux') {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // The second field is the name in brackets and may hold anything: count from the last bracket.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'X' || (fields[0] === 'Z' && readdirSync(`/proc/${pid}/task`).length <= 1)) return null;
      const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
      return { pid, started: `${boot}:${fields[19]}` };
    }
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    return line === '' || line.startsWith('Z') ? null : { pid, started: line.replace(/^\S+\s+/, '') };
  } catch {
    return null;
  }
}

export const isAlive = (mark: ProcessMark): boolean => markOf(mark.pid)?.started === mark.started;

export type StopSignal = 'SIGTERM' | 'SIGINT' | 'SIGQUIT' | 'SIGKILL';

/** Sends each signal in turn and waits up to its time (ms); true when the process is gone. Never touches another process. */
export async function endProcess(
  mark: ProcessMark,
  signals: readonly (readonly [StopSignal, number])[] = [
    ['SIGTERM', 10_000],
    ['SIGKILL', 5_000],
  ],
): Promise<boolean> {
  for (const [signal, waitMs] of signals) {
    if (!isAlive(mark)) return true;
    try {
      process.kill(mark.pid, signal);
    } catch {
      return !isAlive(mark);
    }
    const until = Date.now() + waitMs;
    while (Date.now() < until) {
      if (!isAlive(mark)) return true;
      await sleep(20);
    }
  }
  return !isAlive(mark);
}

export interface ChildOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly logFile: string;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Run as this user: only root may ask for it. */
  readonly uid?: number;
  readonly gid?: number;
}

export interface Child {
  readonly mark: ProcessMark;
  /** Settles when the process has ended. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  readonly running: () => boolean;
}

/** Starts a child in its own session (Ctrl-C in the terminal is for the parent alone), with stdout and stderr appended to a file. */
export async function startChild(options: ChildOptions): Promise<Child> {
  mkdirSync(dirname(options.logFile), { recursive: true });
  const log = openSync(options.logFile, 'a', 0o600);
  try {
    const child = spawn(options.command, [...options.args], {
      cwd: options.cwd,
      env: options.env ?? process.env,
      uid: options.uid,
      gid: options.gid,
      detached: true,
      stdio: ['ignore', log, log],
    });
    let running = true;
    const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((done) =>
      child.once('exit', (code, signal) => {
        running = false;
        done({ code, signal });
      }),
    );
    await new Promise<void>((done, fail) => child.once('spawn', done).once('error', fail));
    // Nothing of a child keeps the parent's event loop alive: who owns the child waits for `ended`.
    child.unref();
    const pid = child.pid ?? 0;
    // A child that is gone before its start time could be read has no mark to find it by, and needs none.
    const mark = markOf(pid) ?? { pid, started: 'ended' };
    return { mark, ended, running: () => running };
  } finally {
    closeSync(log);
  }
}
