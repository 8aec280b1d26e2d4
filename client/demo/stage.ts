/**
 * The stage of the demo: a stack of its own (embedded Temporal, Postgres and worker, in a folder of its own) and a database with data in
 * it. It never touches a configured database or a Temporal that is not its own, whatever the environment says.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Client } from 'pg';
import { Problem } from '../../plan/model/errors';
import { formatCount } from '../../plan/model/values';
import { ident, relation } from '../../postgres/ident';
import { homeFolder } from '../../worker/devFile';
import { startDevStack } from '../../worker/dev';
import type { DevStack } from '../../worker/dev';
import { SAMPLE_CHANGE } from './change';
import type { DemoChange } from './change';
import { openDatabase } from './database';
import { chooseTable, deriveChange, loadDump } from './dump';
import { readTables } from './dumpTables';
import { growTable, planGrowth } from './growth';
import { SAMPLE_PAYMENTS, makeSample } from './sample';
import type { Stop } from './stop';
import { makeWorkload } from './workload';
import type { Workload } from './workload';

export interface Stage {
  readonly stack: DevStack;
  readonly url: string;
  readonly change: DemoChange;
  readonly workload: Workload;
  /** Rows of the table that changes. */
  readonly rows: number;
  /** Connection `green`, to an empty database. A secret; null = it was not asked for. */
  readonly greenUrl: string | null;
}

/** Beside the stage's database `app`: the other one of a switch, on the same server. */
const GREEN = 'app_green';

export interface StageOptions {
  readonly data?: string | undefined;
  readonly rows?: number | undefined;
  /** Makes a second, empty database as well. */
  readonly green: boolean;
  readonly stop: Stop;
  readonly note: (line: string) => void;
}

/** Checkpoints in the middle of a short show would be measured as stalls of the change. */
const POSTGRES_SETTINGS = { shared_buffers: '256MB', max_wal_size: '4GB', wal_level: 'logical' } as const;

/** Nothing of the caller's configuration leads the demo to a server that is not its own. */
function ownEnvironment(home: string): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env };
  for (const name of Object.keys(env))
    if (/^(TEMPORAL_|PGSHIFT_DATABASE_|PGSHIFT_CONFIG$|PGSHIFT_TASK_QUEUE$|PGSHIFT_ENVIRONMENT$)/.test(name))
      delete env[name];
  return { ...env, PGSHIFT_HOME: home };
}

export async function startStage(options: StageOptions): Promise<Stage> {
  const home = resolve(homeFolder(), 'demo');
  mkdirSync(home, { recursive: true });
  const configFile = join(home, 'pgshift.config.yaml');
  // Its port is not known yet: the worker reads the file when it needs the connection.
  const greenFile = join(home, 'green.url');
  writeFileSync(configFile, options.green ? 'databases:\n  green:\n    url: file:green.url\n' : 'databases: {}\n');
  const stack = await startDevStack({
    home,
    configFile,
    env: ownEnvironment(home),
    postgres: true,
    fresh: true,
    postgresSettings: POSTGRES_SETTINGS,
    log: options.note,
  });
  try {
    const url = stack.databases.app;
    if (url === undefined) throw new Problem('Bug', 'the demo has no database of its own');
    const client = await openDatabase(url);
    try {
      const made = await options.stop.or(
        options.data === undefined ? sample(client, options) : dump(client, url, stack, options.data, options),
      );
      const greenUrl = options.green ? await makeGreen(client, url, greenFile) : null;
      return { stack, url, greenUrl, ...made };
    } finally {
      await client.end();
    }
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

async function makeGreen(client: Client, url: string, file: string): Promise<string> {
  await client.query(`CREATE DATABASE ${ident(GREEN)}`);
  const green = new URL(url);
  green.pathname = `/${GREEN}`;
  writeFileSync(file, `${green.toString()}\n`, { mode: 0o600 });
  return green.toString();
}

type Made = Omit<Stage, 'stack' | 'url' | 'greenUrl'>;

async function sample(client: Client, { rows = SAMPLE_PAYMENTS, note }: StageOptions): Promise<Made> {
  const made = await makeSample(client, { payments: rows });
  const total = Object.values(made.rows).reduce((a, b) => a + b, 0);
  note(
    `sample shop: ${formatCount(total)} rows in ${made.seconds.toFixed(1)} s, ${formatCount(made.rows.payment ?? 0)} of them payments`,
  );
  const change = SAMPLE_CHANGE;
  const table = (await readTables(client)).find((t) => t.name === change.table);
  const growth = table ? planGrowth(table, rows) : 'it is missing';
  if (typeof growth === 'string') throw new Problem('Bug', `the writer cannot write to the sample: ${growth}`);
  await settle(client);
  return { change, workload: await makeWorkload(client, growth, change.column), rows: growth.table.rows };
}

async function dump(client: Client, url: string, stack: DevStack, file: string, options: StageOptions): Promise<Made> {
  const { rows = SAMPLE_PAYMENTS, note } = options;
  const psql = join(stack.postgresBin?.path ?? '', 'psql');
  const at = new URL(url);
  await loadDump(psql, resolve(file), {
    PGHOST: at.hostname,
    PGPORT: at.port,
    PGUSER: decodeURIComponent(at.username),
    PGPASSWORD: decodeURIComponent(at.password),
    PGDATABASE: at.pathname.slice(1),
  });
  const tables = await readTables(client);
  const { growth, passedOver } = chooseTable(tables, rows);
  for (const { table, reason } of passedOver) note(`${table} is larger, but ${reason}`);
  note(
    `${growth.table.name} is the largest plain table with a key that can be grown: ${formatCount(growth.table.rows)} rows`,
  );
  const added = await growTable(client, growth, rows);
  const total = growth.table.rows + added;
  if (added > 0) note(`grown to ${formatCount(total)} rows from its own rows: ${growth.changed.join('; ')}`);
  const change = deriveChange(growth.table, tables);
  await settle(client);
  return { change, workload: await makeWorkload(client, growth, change.column), rows: total };
}

/** The load's own aftermath (hint bits, visibility map, an autovacuum that is due) is not the change's doing. */
async function settle(client: Client): Promise<void> {
  await client.query('VACUUM (ANALYZE)');
  await client.query('CHECKPOINT');
}

/** `schema.table`, quoted. */
export const tableOf = (change: DemoChange): string => relation({ schema: change.schema, name: change.table });
