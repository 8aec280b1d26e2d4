/** A real HAProxy (Debian's) of one test's own. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { anyFreePort } from '../../worker/embedded/ports';
import { until } from './engine';

const PROGRAM = ['/usr/sbin/haproxy', '/usr/local/sbin/haproxy', '/usr/bin/haproxy'].find((path) => existsSync(path));
export const hasHaproxy = PROGRAM !== undefined;
export const describeHaproxy: jest.Describe = hasHaproxy ? describe : describe.skip;

export interface Haproxy {
  readonly port: number;
  /** Of the frontend for reads, where it has one. */
  readonly readsPort: number;
  /** Path of the runtime API. */
  readonly socket: string;
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
  log(): string;
}

/**
 * @param servers lines `server NAME HOST:PORT ...` of backend `db`; clients come in at frontend `db_in`.
 * @param reads all lines of backend `ro`; clients come in at frontend `ro_in`.
 */
export async function startHaproxy(servers: readonly string[], reads: readonly string[] = []): Promise<Haproxy> {
  const home = mkdtempSync(join(tmpdir(), 'pgshift-haproxy-'));
  const port = await anyFreePort();
  const readsPort = await anyFreePort();
  const socket = join(home, 'admin.sock');
  const logFile = join(home, 'log');
  writeFileSync(
    join(home, 'haproxy.cfg'),
    [
      `global\n  stats socket ${socket} mode 600 level admin\n  maxconn 300`,
      'defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1m\n  timeout server 1m',
      `frontend db_in\n  bind 127.0.0.1:${port}\n  default_backend db`,
      `backend db\n${servers.map((line) => `  server ${line}`).join('\n')}\n`,
      ...(reads.length === 0 ? [] : [`frontend ro_in\n  bind 127.0.0.1:${readsPort}\n  default_backend ro`, ...reads]),
      '',
    ].join('\n'),
  );
  let running: { pid: number; ended: Promise<void> } | null = null;
  const start = async (): Promise<void> => {
    const log = openSync(logFile, 'a');
    const child = spawn(PROGRAM ?? '', ['-db', '-f', join(home, 'haproxy.cfg')], { stdio: ['ignore', log, log] });
    closeSync(log);
    running = { pid: child.pid ?? 0, ended: new Promise((resolve) => child.once('exit', () => resolve())) };
    await until(
      () =>
        new Promise((resolve) => {
          const probe = connect(socket);
          probe.on('connect', () => (probe.destroy(), resolve(true)));
          probe.on('error', () => resolve(false));
        }),
    );
  };
  const kill = async (): Promise<void> => {
    const one = running;
    running = null;
    if (!one) return;
    try {
      process.kill(one.pid, 'SIGKILL');
    } catch {
      // gone
    }
    await one.ended;
  };
  await start();
  return {
    port,
    readsPort,
    socket,
    kill,
    start,
    async stop() {
      await kill();
      rmSync(home, { recursive: true, force: true });
    },
    log: () => readFileSync(logFile, 'utf8'),
  };
}
