import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client as TemporalClient, Connection } from '@temporalio/client';
import { Client } from 'pg';
import { loadConfig, resolveTarget } from '../../worker/config';
import { liveDevFile, readDevFile, writeDevFile } from '../../worker/devFile';
import type { DevFile } from '../../worker/devFile';
import { temporalOptions } from '../../worker/temporal';
import { isAlive, markOf } from '../../worker/embedded/process';
import { serverHome } from '../support/serverHome';
import { anyFreePort } from '../../worker/embedded/ports';

const support = (name: string): string => resolve(__dirname, '../support', name);
const IDLE_WORKER = support('idleWorker.js');

interface Dev {
  readonly child: ChildProcess;
  readonly ready: DevFile & { readonly ready: true };
}

/** The environment of a shell with nothing of ours set. */
const cleanEnv = (): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(TEMPORAL_|PGSHIFT_)/.test(name) || name === 'PGSHIFT_CACHE' || name === 'PGSHIFT_TEMPORAL_CLI',
    ),
  );

let home = '';
const started: ChildProcess[] = [];

function launch(options: Record<string, unknown> = {}): ChildProcess {
  const settings = JSON.stringify({ home, workerMain: IDLE_WORKER, postgresSettings: { fsync: 'off' }, ...options });
  const args = ['-r', support('register.js'), support('devProcess.ts'), settings];
  const child = spawn(process.execPath, args, { env: cleanEnv(), stdio: ['ignore', 'pipe', 'pipe'] });
  started.push(child);
  return child;
}

async function dev(options: Record<string, unknown> = {}): Promise<Dev> {
  const child = launch(options);
  let errors = '';
  child.stderr?.on('data', (text: Buffer) => (errors += text.toString()));
  const line = await new Promise<string>((done, fail) => {
    if (child.stdout) createInterface(child.stdout).once('line', done);
    child.once('exit', (code) => fail(new Error(`dev ended with ${code}: ${errors}`)));
  });
  return { child, ready: JSON.parse(line) as Dev['ready'] };
}

async function failure(options: Record<string, unknown>): Promise<{ code: string }> {
  const child = launch(options);
  let errors = '';
  child.stderr?.on('data', (text: Buffer) => (errors += text.toString()));
  await new Promise((done) => child.once('close', done));
  return JSON.parse(errors.trim().split('\n').at(-1) ?? '') as { code: string };
}

const ended = (child: ChildProcess): Promise<number | null> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve(child.exitCode)
    : new Promise((done) => child.once('exit', done));

async function until(what: () => boolean, ms = 15_000): Promise<void> {
  for (const end = Date.now() + ms; !what(); await sleep(50)) if (Date.now() > end) throw new Error('not in time');
}

async function sql<Row extends object>(url: string, text: string): Promise<Row[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end();
  }
}

async function withTemporal<T>(address: string, work: (client: TemporalClient) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await work(new TemporalClient({ connection }));
  } finally {
    await connection.close();
  }
}

const alive = (pid: number | null): boolean => pid !== null && markOf(pid) !== null;

beforeEach(() => {
  home = serverHome('dev');
  chmodSync(home, 0o755);
});

afterEach(async () => {
  for (const child of started.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await ended(child);
  }
  const left = readDevFile(home);
  for (const [name, pid] of Object.entries(left?.pids ?? {})) {
    const mark = left?.started[name as keyof DevFile['started']];
    if (pid !== null && mark && isAlive({ pid, started: mark })) process.kill(pid, 'SIGKILL');
  }
  rmSync(home, { recursive: true, force: true });
});

it('keeps ports, data and open runs over kill -9 of everything, and starts a killed worker again after a second', async () => {
  const first = await dev();
  expect(first.ready).toEqual({ ready: true, ...readDevFile(home) });
  expect(statSync(join(home, 'dev.json')).mode & 0o777).toBe(0o600);
  const { temporalAddress, databases, pids } = first.ready;
  const url = databases.app ?? '';
  expect(temporalAddress).toMatch(/^127\.0\.0\.1:\d+$/);

  // Other commands find it by PGSHIFT_HOME; a variable of the user's own wins.
  const env = { ...cleanEnv(), PGSHIFT_HOME: home };
  expect(temporalOptions({ env }).address).toBe(temporalAddress);
  expect(resolveTarget(loadConfig({ env }), 'app').url).toBe(url);
  expect(temporalOptions({ env: { ...env, TEMPORAL_ADDRESS: 'elsewhere:7233' } }).address).toBe('elsewhere:7233');
  const said = JSON.parse(readFileSync(join(home, 'log', 'worker.log'), 'utf8')) as Record<string, string>;
  expect(said).toMatchObject({ TEMPORAL_ADDRESS: temporalAddress, PGSHIFT_DATABASE_APP: url });

  await sql(url, 'CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept SELECT generate_series(1, 1000)');
  await withTemporal(temporalAddress ?? '', (client) =>
    client.workflow.start('schemaMigration', { workflowId: 'migration/app/open', taskQueue: 'pgshift', args: [{}] }),
  );

  const at = Date.now();
  process.kill(pids.worker ?? 0, 'SIGKILL');
  await until(() => alive(readDevFile(home)?.pids.worker ?? null) && readDevFile(home)?.pids.worker !== pids.worker);
  expect(Date.now() - at).toBeGreaterThan(900);
  const now = readDevFile(home);
  expect(now?.pids).toEqual({ ...pids, worker: now?.pids.worker });

  for (const pid of Object.values(now?.pids ?? {})) process.kill(pid ?? 0, 'SIGKILL');
  await ended(first.child);
  // Its servers die each at its own pace.
  await until(() => liveDevFile(home) === null);

  const second = await dev();
  expect(second.ready.ports).toEqual(first.ready.ports);
  expect(second.ready.databases).toEqual(databases);
  expect(await sql(url, 'SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 1000 }]);
  const status = await withTemporal(
    temporalAddress ?? '',
    async (client) => (await client.workflow.getHandle('migration/app/open').describe()).status.name,
  );
  expect(status).toBe('RUNNING');

  second.child.kill('SIGTERM');
  expect(await ended(second.child)).toBe(0);
  for (const pid of Object.values(second.ready.pids)) expect(alive(pid)).toBe(false);
  expect(readDevFile(home)?.ports).toEqual(first.ready.ports);
});

it('takes over what a killed dev left running, and refuses a second dev on one home', async () => {
  const first = await dev({ worker: false });
  expect(first.ready.pids.worker).toBeNull();
  expect(await failure({ worker: false })).toMatchObject({ code: 'InvalidUsage' });

  process.kill(first.ready.pids.dev ?? 0, 'SIGKILL');
  await ended(first.child);
  expect(alive(first.ready.pids.temporal) && alive(first.ready.pids.postgres)).toBe(true);
  expect(liveDevFile(home)?.temporalAddress).toBe(first.ready.temporalAddress);

  const second = await dev({ worker: false });
  expect(second.ready.ports).toEqual(first.ready.ports);
  expect(alive(first.ready.pids.temporal) || alive(first.ready.pids.postgres)).toBe(false);

  // A server that dies under a living dev comes back on its port.
  process.kill(second.ready.pids.postgres ?? 0, 'SIGKILL');
  await until(() => readDevFile(home)?.pids.postgres !== second.ready.pids.postgres);
  await until(() => alive(readDevFile(home)?.pids.postgres ?? null));
  second.child.kill('SIGTERM');
  expect(await ended(second.child)).toBe(0);

  const fresh = await dev({ worker: false, fresh: true });
  expect(fresh.ready.databases).not.toEqual(first.ready.databases); // a new password: new data

  // Killed in the instant between a child's start and its note: found by its command line.
  process.kill(fresh.ready.pids.dev ?? 0, 'SIGKILL');
  await ended(fresh.child);
  const nobody = { dev: null, temporal: null, postgres: null, worker: null };
  const { ready: _, ...noted } = fresh.ready;
  writeDevFile(home, { ...noted, pids: nobody, started: nobody });
  const last = await dev({ worker: false });
  expect(last.ready.ports).toEqual(fresh.ready.ports);
  expect(alive(fresh.ready.pids.temporal) || alive(fresh.ready.pids.postgres)).toBe(false);
});

it('moves from a taken default port, and refuses a taken one that was asked for', async () => {
  const taken = createServer();
  const port = await anyFreePort();
  await new Promise<void>((done) => taken.listen(port, '127.0.0.1', done));
  try {
    expect(await failure({ worker: false, ports: { postgres: port } })).toMatchObject({
      code: 'PortInUse',
      value: String(port),
    });
    expect(readDevFile(home)).toBeNull();
    const { ready } = await dev({ worker: false, ports: { temporal: port + 1 } });
    expect(ready.ports.temporal).toBe(port + 1);
  } finally {
    taken.close();
  }
});
