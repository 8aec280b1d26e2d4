/**
 * No password and no row value leaves the database: runs that end well, fail on rows, find duplicates or cannot reach their server, with a
 * password in the URL and marked values in every row; then everything that anybody could read of them is searched.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { historyToJSON } from '@temporalio/common/lib/proto-utils';
import { Client, Connection } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';
import { runCli } from '../support/cli';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';
import { endingOf } from '../support/field';
import { FAST_WORKER } from '../support/killRun';
import { temporalAddress } from '../support/temporal';
import { startWorkerProcess } from '../support/workerProcess';
import type { WorkerProcess } from '../support/workerProcess';

jest.setTimeout(180_000);

const PASSWORD = 'pw-5d41e0c7';
/** In every row of every table; a part of each value, so that a clipped one is found too. */
const MARK = 'mark9f27';
const NUMBER = 48151623;
const SECRETS = [PASSWORD, MARK, String(NUMBER)];

const setup = `
  CREATE TABLE person (id int PRIMARY KEY, email text NOT NULL, code text, salary bigint NOT NULL, born text);
  INSERT INTO person SELECT i, '${MARK}-' || i || '@example.org', '${MARK}' || i % 700, ${NUMBER}000 + i, CASE WHEN i % 300 = 0 THEN '${MARK}' ELSE '7' END
    FROM generate_series(1, 2000) AS i;
  CREATE TABLE archive_of (id int PRIMARY KEY, what text);
  INSERT INTO archive_of SELECT i, '${MARK} old ' || i FROM generate_series(1, 100) AS i;
  ANALYZE;`;

let database: FreshDatabase;
let connection: Connection;
let client: Client;
let worker: WorkerProcess;
let folder: string;
const taskQueue = `secrets-${Date.now()}`;
const urls: Record<string, string> = {};
const handles: WorkflowHandle[] = [];
/** What was seen, by where it was seen. */
const seen = new Map<string, string>();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgshift-secrets-'));
  database = await freshDatabase(18, setup);
  const url = new URL(database.url);
  url.password = PASSWORD;
  urls['app'] = url.toString();
  urls['gone'] = `postgres://ann:${PASSWORD}@127.0.0.1:9/shop`;
  url.username = `none_${database.name}`;
  urls['nobody'] = url.toString();
  connection = await Connection.connect({ address: temporalAddress() });
  client = new Client({ connection });
  // The whole log, not the tail that is kept for messages.
  process.env.PGSHIFT_TEST_LOG ??= join(folder, 'worker.log');
  const env = { ...FAST_WORKER, PGSHIFT_LOG_LEVEL: 'trace' };
  worker = startWorkerProcess({ taskQueue, temporalAddress: temporalAddress(), databases: urls, env });
});

afterAll(async () => {
  await worker.stop();
  await connection.close();
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

async function start(name: string, plan: Readonly<Record<string, unknown>>): Promise<WorkflowHandle> {
  const handle = await client.workflow.start('schemaMigration', {
    taskQueue,
    workflowId: `${taskQueue}/${name}`,
    args: [{ name, database: 'app', hold: '0s', ...plan }],
  });
  handles.push(handle);
  return handle;
}

async function run(name: string, plan: Readonly<Record<string, unknown>>): Promise<string> {
  const ending = await endingOf(await start(name, plan));
  seen.set(`error of ${name}`, JSON.stringify(ending));
  return ending.type === 'RolledBack' ? String(ending.details['cause']) : ending.type;
}

const cli = async (args: readonly string[]): Promise<void> => {
  const env = Object.fromEntries(
    Object.entries(urls).map(([name, url]) => [`PGSHIFT_DATABASE_${name.toUpperCase()}`, url]),
  );
  const result = await runCli(args, {
    env: {
      ...env,
      PGSHIFT_HOME: join(folder, 'home'),
      TEMPORAL_ADDRESS: temporalAddress(),
      PGSHIFT_TASK_QUEUE: taskQueue,
    },
  });
  seen.set(`pgshift ${args.join(' ')}`, result.stdout + result.stderr);
};

/** Payloads are base64 in the JSON of a history: searched as they are and decoded. */
async function historyOf(handle: WorkflowHandle): Promise<string> {
  const text = JSON.stringify(JSON.parse(historyToJSON(await handle.fetchHistory())));
  const decoded = [...text.matchAll(/"([A-Za-z0-9+/=]{8,})"/g)].map(([, data]) =>
    Buffer.from(data ?? '', 'base64').toString(),
  );
  return [text, ...decoded].join('\n');
}

test('no history, log, error, answer or attribute holds the password or a row value', async () => {
  const backfill = { throttle: { batch: { min: 100, max: 500 }, every: '100ms' } };
  expect(
    await run('whole', {
      sql: `ALTER TABLE person ALTER COLUMN salary TYPE numeric(20,2);
            ALTER TABLE person ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid();
            UPDATE person SET code = 'none' WHERE id < 50;
            DROP TABLE archive_of;`,
      archive: { to: 'pgshift' },
      health: [
        {
          name: 'salaries',
          source: 'sql',
          query: 'SELECT max(salary) FROM person',
          failWhen: 'value < 0',
          interval: '1s',
        },
      ],
      ...backfill,
    }),
  ).toBe('completed');
  expect(await run('unique', { sql: 'ALTER TABLE person ADD CONSTRAINT person_code_key UNIQUE (code)' })).toBe(
    'DuplicateRows',
  );
  expect(
    await run('transform', {
      sql: 'ALTER TABLE person ALTER COLUMN born TYPE int',
      transforms: { 'person.born': { up: 'born::int', down: 'born::text' } },
      ...backfill,
    }),
  ).toBe('TransformFailed');
  // Postgres quotes the row in DETAIL of the first and the value in the message of the second.
  const refused = { sql: 'UPDATE person SET salary = NULL WHERE id > 1900', archive: { to: 'pgshift' }, ...backfill };
  expect(await run('refused', refused)).toBe('StepFailed');
  const allow = ['do_block', 'no_way_back'].map((rule) => ({ rule, reason: 'test' }));
  const raised = `DO $$ BEGIN PERFORM email::int FROM person; END $$`;
  expect(await run('raised', { sql: raised, allow })).toBe('StepFailed');
  const health = [
    { name: 'top', source: 'sql', query: 'SELECT max(salary) FROM person', failWhen: 'value >', interval: '1s' },
  ];
  expect(await run('health', { sql: 'ALTER TABLE person ADD COLUMN h1 int', health })).toBe('InvalidPlan');
  expect(await run('gone', { sql: 'ALTER TABLE person ADD COLUMN g int', database: 'gone' })).toBe('Unreachable');
  expect(await run('nobody', { sql: 'ALTER TABLE person ADD COLUMN n int', database: 'nobody' })).toBe('LoginFailed');
  expect(await run('url', { sql: 'SELECT 1', database: 'unknown' })).toBe('UnknownDatabase');

  const held = await start('held', { sql: 'ALTER TABLE person ALTER COLUMN id TYPE bigint', hold: '1h' });
  while ((await held.query<{ status: string }>('status')).status !== 'holding')
    await new Promise((r) => setTimeout(r, 200));
  // What cannot go back: its key and its value lie in the database alone.
  await database.query(`INSERT INTO person (id, email, salary) VALUES (${NUMBER}0000, '${MARK}', 1)`);
  await held.signal('rollback', { by: 'test' });
  while ((await held.query<{ waitingFor: unknown }>('status')).waitingFor === null)
    await new Promise((r) => setTimeout(r, 200));
  await held.signal('reject', { by: 'test', gate: 'rollback' });
  await held.signal('approve', { by: 'test', gate: 'cleanup' });
  seen.set('error of held', JSON.stringify(await endingOf(held)));

  for (const handle of handles) {
    const name = handle.workflowId.replace(`${taskQueue}/`, '');
    seen.set(`history of ${name}`, await historyOf(handle));
    const { memo, searchAttributes, raw } = await handle.describe();
    seen.set(
      `description of ${name}`,
      JSON.stringify([memo, searchAttributes, raw], (_key, value: unknown) =>
        typeof value === 'bigint' ? String(value) : value,
      ),
    );
    for (const query of ['status', 'progress', 'report', '__temporal_workflow_metadata'])
      seen.set(
        `${query} of ${name}`,
        JSON.stringify(await handle.query(query).catch((error: unknown) => String(error))),
      );
  }
  const plan = join(folder, 'cli.yaml');
  writeFileSync(
    plan,
    `kind: schema-migration\nname: cli\ndatabase: app\nsql: ALTER TABLE person ALTER COLUMN born TYPE int\n`,
  );
  await cli(['plan', plan]);
  await cli(['plan', plan, '--database', 'gone']);
  await cli(['list']);
  for (const name of ['whole', 'unique', 'transform', 'refused']) await cli(['report', `${taskQueue}/${name}`]);
  seen.set('log of the worker', readFileSync(process.env.PGSHIFT_TEST_LOG ?? '', 'utf8'));
  seen.set('pgshift.migration_log', JSON.stringify(await database.query('SELECT * FROM pgshift.migration_log')));
  seen.set('pgshift.steps', JSON.stringify(await database.query('SELECT status, result FROM pgshift.steps')));
  seen.set('pgshift.audit', JSON.stringify(await database.query('SELECT * FROM pgshift.audit')));

  // The search itself works: there was something to be read, and the plans' own words are found in it.
  expect(seen.get('history of whole')?.includes('gen_random_uuid')).toBe(true);
  expect(seen.get('log of the worker')?.includes('worker is ready')).toBe(true);
  expect(seen.size).toBeGreaterThan(50);
  const found = [...seen].flatMap(([where, text]) =>
    SECRETS.filter((secret) => text.includes(secret)).map((secret) => {
      const at = text.indexOf(secret);
      return `${where}: ${text.slice(Math.max(0, at - 120), at + 40)}`;
    }),
  );
  expect(found).toEqual([]);
});
