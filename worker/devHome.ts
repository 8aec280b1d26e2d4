/**
 * The home folder of `pgshift dev`: one dev at a time, nothing left running by an earlier one that was killed, and the same ports as
 * before. Orphans are found by the pid and start time in dev.json, and, for the instant between a start and its note, by the home's
 * own paths in their command line.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../plan/model/errors';
import { liveChild } from './devFile';
import type { DevFile } from './devFile';
import { choosePort } from './embedded/ports';
import type { ClaimedPort } from './embedded/ports';
import { endPostgres } from './embedded/postgres';
import { endProcess, isAlive, markOf } from './embedded/process';
import type { ProcessMark } from './embedded/process';
import { removeDataFolder } from './embedded/user';

export const temporalFile = (home: string): string => join(home, 'temporal.db');
export const postgresFolder = (home: string): string => join(home, 'postgres');
export const logFile = (home: string, name: string): string => join(home, 'log', `${name}.log`);
/** The worker's name in the process list; also how an orphan is known. */
export const workerTitle = (home: string): string => `pgshift-worker@${home}`;

/** Takes the home for this process; answers the release. Throws InvalidUsage while another dev has it. */
export async function takeHome(home: string): Promise<() => void> {
  mkdirSync(home, { recursive: true, mode: 0o755 });
  mkdirSync(join(home, 'log'), { recursive: true });
  const path = join(home, 'dev.lock');
  const mine = JSON.stringify(markOf(process.pid));
  for (let tries = 0; tries < 10; tries += 1) {
    try {
      const file = openSync(path, 'wx', 0o600);
      writeSync(file, mine);
      closeSync(file);
      // Two that found the same stale lock may both have come here: the later one's file is the one that stands.
      await sleep(30);
      if (readLock(path) === mine) return () => readLock(path) === mine && rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = parseMark(readLock(path));
    if (holder && isAlive(holder)) {
      throw new Problem('InvalidUsage', `another pgshift dev (pid ${holder.pid}) runs on this home`, {
        value: home,
        hint: 'stop it, or choose another --home',
      });
    }
    rmSync(path, { force: true });
  }
  throw new Problem('InvalidUsage', 'the home is being taken by another pgshift dev', { value: home });
}

function readLock(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function parseMark(text: string): ProcessMark | null {
  try {
    const { pid, started } = JSON.parse(text) as Partial<ProcessMark>;
    return pid !== undefined && started !== undefined ? { pid, started } : null;
  } catch {
    return null;
  }
}

/** Ends what an earlier dev on this home left running; answers what it was, for people. The worker goes first: it uses the others. */
export async function endOrphans(home: string, before: DevFile | null): Promise<string[]> {
  const said: string[] = [];
  const data = existsSync(postgresFolder(home)) ? realpathSync(postgresFolder(home)) : null;
  const kinds = [
    { name: 'worker', argument: workerTitle(home), end: (mark: ProcessMark) => endProcess(mark, WORKER_ORPHAN) },
    { name: 'temporal', argument: temporalFile(home), end: (mark: ProcessMark) => endProcess(mark) },
    { name: 'postgres', argument: data, end: endPostgres },
  ] as const;
  for (const { name, argument, end } of kinds) {
    const noted = before && liveChild(before, name);
    const found = new Map<number, ProcessMark>(noted ? [[noted.pid, noted]] : []);
    if (argument !== null) for (const mark of withArgument(argument)) found.set(mark.pid, mark);
    for (const mark of found.values()) {
      if (!(await end(mark))) throw new Problem('InvalidUsage', `an earlier ${name} (pid ${mark.pid}) does not end`);
      said.push(`${name} of an earlier dev (pid ${mark.pid}) ended`);
    }
  }
  return said;
}

/** An orphan's work is resumed by the next worker: it needs no grace. */
const WORKER_ORPHAN = [
  ['SIGTERM', 2_000],
  ['SIGKILL', 5_000],
] as const;

/** Processes one of whose arguments is exactly this text. */
function withArgument(argument: string): ProcessMark[] {
  const pids = process.platform === 'linux' ? linuxPids(argument) : psPids(argument);
  return pids
    .filter((pid) => pid !== process.pid)
    .map((pid) => markOf(pid))
    .filter((mark) => mark !== null);
}

function linuxPids(argument: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').includes(argument);
      } catch {
        return false;
      }
    })
    .map(Number);
}

function psPids(argument: string): number[] {
  try {
    const lines = execFileSync('ps', ['-axww', '-o', 'pid=,args='], { encoding: 'utf8', maxBuffer: 16 << 20 }).split(
      '\n',
    );
    return lines.filter((line) => ` ${line} `.includes(` ${argument} `)).map((line) => Number.parseInt(line, 10));
  } catch {
    return [];
  }
}

/** Forgets everything that the home holds: data, runs, ports, logs. */
export function emptyHome(home: string): void {
  removeDataFolder(postgresFolder(home));
  for (const name of readdirSync(home)) {
    if (/^(temporal\.db.*|dev\.json|postgres\.(password|initialising)|temporal\.toml|log)$/.test(name)) {
      rmSync(join(home, name), { recursive: true, force: true });
    }
  }
  mkdirSync(join(home, 'log'), { recursive: true });
}

/** The embedded Postgres' password: made once, kept beside its data for the owner alone. */
export function embeddedPassword(home: string): string {
  const path = join(home, 'postgres.password');
  try {
    const file = openSync(path, 'wx', 0o600);
    writeSync(file, randomBytes(12).toString('hex'));
    closeSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFileSync(path, 'utf8').trim();
}

export const DEFAULT_PORTS = { temporal: 7233, ui: 8233, postgres: 54_329, metrics: 9464 } as const;
export type PortName = keyof typeof DEFAULT_PORTS;

/** A flag's port or PortInUse; else the one that this home had; else the default; a taken one of these moves on, and `log` says so. They are this process's until released. */
export async function choosePorts(
  needed: readonly PortName[],
  flags: Readonly<Partial<Record<PortName, number>>>,
  before: DevFile | null,
  log: (line: string) => void,
): Promise<{ readonly ports: Readonly<Record<PortName, number | null>>; readonly release: () => void }> {
  const ports: Record<PortName, number | null> = { temporal: null, ui: null, postgres: null, metrics: null };
  const claimed: ClaimedPort[] = [];
  const release = (): void => claimed.forEach((one) => one.release());
  for (const name of [...needed].sort((a, b) => Number(flags[b] !== undefined) - Number(flags[a] !== undefined))) {
    const given = flags[name];
    const wanted = given ?? before?.ports[name] ?? DEFAULT_PORTS[name];
    const one = await choosePort(name, wanted, given !== undefined).catch((error: unknown) => {
      release();
      throw error;
    });
    if (one.port !== wanted) log(`${name}: port ${wanted} is taken, using ${one.port}`);
    claimed.push(one);
    ports[name] = one.port;
  }
  return { ports, release };
}
