/**
 * One Temporal dev server and one Postgres of each major for a whole jest run, in a temporary home, ended with the run. What a killed
 * run leaves is found by the next one: each run writes down its processes (pid and start time) before it uses them.
 * A server whose variable is set already is used as it is and left running.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { anyFreePort } from '../../worker/embedded/ports';
import { startPostgres } from '../../worker/embedded/postgres';
import { endProcess, isAlive, markOf } from '../../worker/embedded/process';
import type { ProcessMark } from '../../worker/embedded/process';
import { startTemporal } from '../../worker/embedded/temporal';
import { findPostgresBin, findTemporalCli } from '../../worker/embedded/tools';
import { serverHome } from './serverHome';

const RECORDS = join(tmpdir(), 'pgshift-test-runs');
const DEBIAN_15 = '/usr/lib/postgresql/15/bin';
/** Tests kill processes, never machines: nothing needs the disk to be safe. */
const FAST = {
  fsync: 'off',
  full_page_writes: 'off',
  max_wal_size: '1GB',
  log_min_messages: 'warning',
  wal_level: 'logical', // tests replicate between databases
  // Subscriptions of several tests at once, on one server.
  max_worker_processes: '32',
  max_logical_replication_workers: '16',
  max_replication_slots: '40',
  max_wal_senders: '40',
  wal_retrieve_retry_interval: '200ms',
};

interface RunRecord {
  readonly owner: ProcessMark;
  readonly home: string;
  readonly children: ProcessMark[];
}

let current: RunRecord | null = null;

const recordFile = (record: RunRecord): string => join(RECORDS, `${record.owner.pid}.json`);

function remember(mark: ProcessMark): void {
  if (!current) return;
  current.children.push(mark);
  writeFileSync(recordFile(current), JSON.stringify(current));
}

/** Ends what earlier runs, which were killed, left behind. */
async function sweep(): Promise<void> {
  mkdirSync(RECORDS, { recursive: true });
  for (const name of readdirSync(RECORDS)) {
    try {
      const record = JSON.parse(readFileSync(join(RECORDS, name), 'utf8')) as RunRecord;
      if (isAlive(record.owner)) continue;
      await endRun(record);
    } catch {
      rmSync(join(RECORDS, name), { force: true }); // half written, or another run was first
    }
  }
}

async function endRun(record: RunRecord): Promise<void> {
  await Promise.all(
    record.children.map((child) =>
      endProcess(child, [
        ['SIGINT', 5_000],
        ['SIGKILL', 5_000],
      ]),
    ),
  );
  rmSync(record.home, { recursive: true, force: true });
  rmSync(recordFile(record), { force: true });
}

async function twice<T>(start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch {
    return start(); // the free port may have been taken in between
  }
}

async function postgres(home: string, bin: string, version: number): Promise<string> {
  const server = await twice(async () =>
    startPostgres(
      {
        bin,
        data: join(home, `pg${version}`),
        port: await anyFreePort(),
        logFile: join(home, 'log', `pg${version}.log`),
        settings: FAST,
        password: null,
      },
      remember,
    ),
  );
  return server.url;
}

/** Starts what is not there yet and sets PGSHIFT_TEST_HOME, PGSHIFT_TEST_TEMPORAL, PGSHIFT_TEST_PG18, PGSHIFT_TEST_PG15. */
export async function startTestServers(): Promise<void> {
  await sweep();
  const owner = markOf(process.pid);
  if (!owner) throw new Error('the process table cannot be read on this machine');
  const home = serverHome('test');
  chmodSync(home, 0o755); // Postgres runs as another user when the tests run as root
  current = { owner, home, children: [] };
  writeFileSync(recordFile(current), JSON.stringify(current));
  process.once('exit', endAtExit);
  process.env.PGSHIFT_TEST_HOME = home;
  const log = (line: string): void => void process.stderr.write(`${line}\n`);

  await Promise.all([
    (async () => {
      if (process.env.PGSHIFT_TEST_TEMPORAL) return;
      const cli = await findTemporalCli({ log });
      process.env.PGSHIFT_TEST_TEMPORAL_CLI = cli.path;
      const server = await twice(async () =>
        startTemporal(
          {
            cli: cli.path,
            port: await anyFreePort(),
            uiPort: null,
            file: null,
            logFile: join(home, 'log', 'temporal.log'),
          },
          remember,
        ),
      );
      process.env.PGSHIFT_TEST_TEMPORAL = server.address;
    })(),
    (async () => {
      const bin = await findPostgresBin({ log });
      process.env.PGSHIFT_TEST_PG18_BIN = bin.path;
      if (!process.env.PGSHIFT_TEST_PG18) process.env.PGSHIFT_TEST_PG18 = await postgres(home, bin.path, 18);
    })(),
    (async () => {
      if (process.env.PGSHIFT_TEST_PG15 || !existsSync(join(DEBIAN_15, 'initdb'))) return;
      process.env.PGSHIFT_TEST_PG15 = await postgres(home, DEBIAN_15, 15);
    })(),
  ]);
}

export async function stopTestServers(): Promise<void> {
  process.removeListener('exit', endAtExit);
  if (current) await endRun(current);
  current = null;
}

/** The run ends without its teardown (Ctrl-C, a crash): no waiting is possible here, so no mercy either. */
function endAtExit(): void {
  for (const child of current?.children ?? []) {
    try {
      if (isAlive(child)) process.kill(child.pid, 'SIGKILL');
    } catch {
      // gone meanwhile
    }
  }
}
