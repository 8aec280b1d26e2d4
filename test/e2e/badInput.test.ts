/**
 * Whatever is wrong with what was typed, or with the database it is for: one clear error with its code, nothing retried for ever, and the
 * catalogue and the rows exactly as before. Through the real workflow; the command line is asked where the contract shows a place.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';
import { ident } from '../../postgres/ident';
import { runCli } from '../support/cli';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';
import { endingOf, payments } from '../support/field';
import type { Ending } from '../support/field';
import { endState, FAST_WORKER } from '../support/killRun';
import type { EndState } from '../support/killRun';
import { temporalAddress } from '../support/temporal';
import { tinyDisk } from '../support/tinyDisk';
import type { TinyDisk } from '../support/tinyDisk';
import { startWorkerProcess } from '../support/workerProcess';
import type { WorkerProcess } from '../support/workerProcess';

jest.setTimeout(120_000);

const PASSWORD = 'pw-7c1e';
const DISK_MB = 8;
const setup = `${payments(500, `UPDATE payment SET reference = payment_id; UPDATE payment SET reference = 'x' WHERE payment_id IN (77, 402);`)}
  CREATE TABLE journal (id int PRIMARY KEY, entry text NOT NULL);`;

let database: FreshDatabase;
/** Nothing of ours in it, so that every privilege is asked for. */
let own: FreshDatabase;
let connection: Connection;
let client: Client;
let worker: WorkerProcess;
let disk: TinyDisk | null = null;
let before: EndState;
let folder: string;
let counter = 0;
const taskQueue = `bad-${Date.now()}`;
const tables = ['payment', 'journal'];
const role = () => `poor_${database.name}`;
const urls: Record<string, string> = {};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgshift-bad-'));
  database = await freshDatabase(18, setup);
  own = await freshDatabase(18, payments(50));
  await database.query(
    `CREATE ROLE ${ident(role())} LOGIN PASSWORD '${PASSWORD}'; CREATE ROLE ${ident(`${role()}_owner`)}`,
  );
  const asPoor = (url: string): string => {
    const poor = new URL(url);
    poor.username = role();
    poor.password = PASSWORD;
    return poor.toString();
  };
  urls['app'] = database.url;
  urls['fresh'] = own.url;
  urls['poor'] = asPoor(own.url);
  urls['stranger'] = asPoor(database.url);
  urls['gone'] = `postgres://ann:${PASSWORD}@127.0.0.1:9/shop`;
  connection = await Connection.connect({ address: temporalAddress() });
  client = new Client({ connection });
  worker = startWorkerProcess({ taskQueue, temporalAddress: temporalAddress(), databases: urls, env: FAST_WORKER });
  before = await endState(database, tables);
});

afterAll(async () => {
  await worker.stop();
  await connection.close();
  await own.drop();
  await database.drop();
  const server = await freshDatabase(18);
  await server.query(`DROP ROLE ${ident(role())}, ${ident(`${role()}_owner`)}`);
  await server.drop();
  rmSync(folder, { recursive: true, force: true });
});

type Plan = Readonly<Record<string, unknown>>;

const start = (plan: Plan): Promise<WorkflowHandle> => {
  counter += 1;
  return client.workflow.start('schemaMigration', {
    taskQueue,
    workflowId: `${taskQueue}/${counter}`,
    args: [{ name: `bad_${counter}`, database: 'app', hold: '0s', ...plan }],
  });
};

const end = async (plan: Plan): Promise<Ending> => endingOf(await start(plan));
const untouched = async () => expect(await endState(database, tables)).toEqual(before);

const cli = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runCli(args, {
    env: {
      PGSHIFT_HOME: join(folder, 'home'),
      TEMPORAL_ADDRESS: temporalAddress(),
      PGSHIFT_TASK_QUEUE: taskQueue,
      ...Object.fromEntries(Object.entries(urls).map(([name, url]) => [`PGSHIFT_DATABASE_${name.toUpperCase()}`, url])),
      ...env,
    },
  });

const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

const ADD = 'ALTER TABLE payment ADD COLUMN tier text';

describe('what the plan says', () => {
  test.each<[string, string, Plan, RegExp]>([
    ['an unknown key', 'InvalidPlan', { sql: ADD, colour: 'red' }, /colour: unknown key/],
    [
      'an unknown key deep inside',
      'InvalidPlan',
      { sql: ADD, throttle: { batch: { larget: '1s' } } },
      /throttle\.batch\.larget/,
    ],
    ['a bare number as duration', 'InvalidPlan', { sql: ADD, hold: 5 }, /hold/],
    ['a number as SQL', 'InvalidPlan', { sql: 7 }, /sql/],
    ['no SQL at all', 'InvalidPlan', {}, /sql/],
    ['a phase that is none', 'InvalidPlan', { sql: ADD, gates: { contarct: 'manual' } }, /gates\.contarct/],
    ['a step that is none', 'InvalidPlan', { sql: ADD, gates: { 'contract.9': 'manual' } }, /contract\.9/],
    [
      'a URL in place of a connection',
      'InvalidPlan',
      { sql: ADD, database: `postgres://a:${PASSWORD}@h/d` },
      /never a URL/,
    ],
    ['a key that is not built yet', 'NotYet', { sql: ADD, versions: { from: 'v1', to: 'v2' } }, /versions/],
    ['a kind that is not built yet', 'NotYet', { sql: ADD, kind: 'fleet' }, /fleet/],
    ['a kind that is none', 'InvalidPlan', { sql: ADD, kind: 'schema' }, /kind/],
    ['a connection that nobody configured', 'UnknownDatabase', { sql: ADD, database: 'nobody' }, /nobody/],
    ['a syntax error', 'SqlSyntax', { sql: 'ALTER TABLE payment\n  ADD COLUM n int x' }, /syntax error/],
    ['a table that is not there', 'NoSuchObject', { sql: 'ALTER TABLE paymnt ADD COLUMN n int' }, /paymnt/],
    ['a column that is not there', 'NoSuchObject', { sql: 'ALTER TABLE payment DROP COLUMN amout' }, /amout/],
    [
      'a column that `up` names and is not there',
      'NoSuchObject',
      {
        sql: 'ALTER TABLE payment ALTER COLUMN reference TYPE bigint',
        transforms: { 'payment.reference': { up: 'length(refrence)' } },
      },
      /refrence/,
    ],
    [
      'a missing `up`',
      'TransformMissing',
      { sql: 'ALTER TABLE payment ALTER COLUMN reference TYPE bigint' },
      /payment\.reference/,
    ],
    ['itself as dependency', 'DependencyCycle', { name: 'bad_loop', sql: ADD, dependsOn: ['bad_loop'] }, /itself/],
    ['a dependency that never ran', 'DependencyMissing', { sql: ADD, dependsOn: ['not_there'] }, /not_there/],
    ['what a rule refuses', 'Refused', { sql: 'VACUUM FULL payment' }, /./],
  ])('%s: %s', async (_what, code, plan, says) => {
    const ending = await end(plan);
    expect(ending).toMatchObject({ type: code, details: { hint: expect.stringMatching(/./) } });
    expect(ending.message).toMatch(says);
    expect(JSON.stringify(ending)).not.toContain(PASSWORD);
    await untouched();
  });

  test('a syntax error has its line and column, and on the command line a caret', async () => {
    const sql = 'ALTER TABLE payment\n  ADD COLUM n int x';
    const { details } = await end({ sql });
    expect(details).toMatchObject({ where: { line: 2, column: 15 } });
    const path = file(
      'syntax.yaml',
      `kind: schema-migration\nname: syntax\ndatabase: app\nsql: |\n  ${sql.replace('\n', '\n  ')}\n`,
    );
    const result = await cli(['start', path]);
    expect(result.code).toBe(2);
    expect(result.stderr).toMatch(
      /^error\[SqlSyntax\]: .*\n {2}--> .*syntax\.yaml:6:17\n {3}\|.*ADD COLUM n int x\n {3}\| +\^/,
    );
    await untouched();
  });

  test('an unknown and a duplicate key are refused with line and column', async () => {
    const unknown = await cli([
      'start',
      file('unknown.yaml', `kind: schema-migration\nname: unknown\ndatabase: app\nsql: ${ADD}\ncolour: red\n`),
    ]);
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toMatch(/^error\[InvalidPlan\]: colour: unknown key\n {2}--> .*unknown\.yaml:5:1\n/);
    const twice = await cli([
      'start',
      file('twice.yaml', `kind: schema-migration\nname: twice\ndatabase: app\nsql: ${ADD}\nname: again\n`),
    ]);
    expect(twice.code).toBe(2);
    expect(twice.stderr).toMatch(/^error\[InvalidPlan\]: .*\n {2}--> .*twice\.yaml:5:1\n/);
    await untouched();
  });

  test('a circle through migrations that ran is found', async () => {
    // The stored ones alone: a renamed plan may be made to depend on what depends on it.
    const first = await end({ name: 'circle_a', sql: `COMMENT ON TABLE journal IS 'a'` });
    expect(first.type).toBe('completed');
    const second = await end({ name: 'circle_b', sql: `COMMENT ON TABLE journal IS 'b'`, dependsOn: ['circle_a'] });
    expect(second.type).toBe('completed');
    await database.query(
      `UPDATE pgshift.migrations SET status = 'rolled_back' WHERE name = 'circle_a'; COMMENT ON TABLE journal IS NULL`,
    );
    const third = await end({ name: 'circle_a', sql: ADD, dependsOn: ['circle_b'] });
    expect(third).toMatchObject({ type: 'DependencyCycle' });
    expect(third.message).toMatch(/circle_a.*circle_b/);
    await untouched();
  });
});

describe('what the database says', () => {
  test('a run that is refused does not even leave schema pgshift', async () => {
    const refused = [{ sql: 'ALTER TABEL x' }, { sql: 'VACUUM FULL payment' }, { sql: ADD, dependsOn: ['not_there'] }];
    const endings = await Promise.all(refused.map((plan) => end({ database: 'fresh', ...plan })));
    expect(endings.map(({ type }) => type)).toEqual(['SqlSyntax', 'Refused', 'DependencyMissing']);
    expect(await own.query(`SELECT to_regnamespace('pgshift') AS schema`)).toEqual([{ schema: null }]);
  });

  test('a server that does not answer: exit 4 and the address without the password; the run says so and ends', async () => {
    const path = file('gone.yaml', `kind: schema-migration\nname: gone\ndatabase: gone\nsql: ${ADD}\n`);
    const result = await cli(['plan', path]);
    expect(result.code).toBe(4);
    expect(result.stderr).toMatch(/^error\[Unreachable\]: gone: 127\.0\.0\.1:9/);
    const ending = await end({ database: 'gone', sql: ADD });
    expect(ending.type).toBe('Unreachable');
    expect(ending.message).toContain('127.0.0.1:9');
    expect(result.stdout + result.stderr + JSON.stringify(ending) + worker.log()).not.toContain(PASSWORD);
  });

  test('`up` that fails on some rows: taken back, and which rows lies in pgshift.differences', async () => {
    const ending = await end({
      name: 'some_rows',
      sql: 'ALTER TABLE payment ALTER COLUMN reference TYPE bigint',
      transforms: { 'payment.reference': { up: 'reference::bigint', down: 'reference::text' } },
    });
    expect(ending).toMatchObject({ type: 'RolledBack', details: { cause: 'TransformFailed' } });
    const rows = await database.query<{ key: unknown }>(
      `SELECT key FROM pgshift.differences WHERE migration_name = 'some_rows' ORDER BY key::text`,
    );
    expect(JSON.stringify(rows)).toMatch(/\b402\b.*\b77\b|\b77\b.*\b402\b/);
    expect(rows).toHaveLength(2);
    await untouched();
  });

  test('missing privileges: the exact GRANTs, all at once, and they are all that was missing', async () => {
    const name = ident(role());
    await own.query(`ALTER TABLE payment OWNER TO ${ident(`${role()}_owner`)}`);
    const was = await endState(own, ['payment']);
    const first = await end({ database: 'poor', sql: ADD });
    expect(first.type).toBe('PrivilegeMissing');
    const grants = String(first.details['hint']).split('\n');
    expect(grants).toEqual([
      `GRANT CREATE ON DATABASE ${ident(own.name)} TO ${name};`,
      `GRANT ${ident(`${role()}_owner`)} TO ${name};`,
      ...(grants.length > 2 ? [`GRANT USAGE, CREATE ON SCHEMA "public" TO ${name};`] : []),
    ]);
    expect(await endState(own, ['payment'])).toEqual(was);
    for (const grant of grants) await own.query(grant);
    expect(await end({ database: 'poor', sql: ADD })).toMatchObject({ type: 'completed' });
  });

  test('schema pgshift of another role: whose it is, and the GRANT', async () => {
    const ending = await end({ database: 'stranger', sql: ADD });
    expect(ending).toMatchObject({ type: 'PrivilegeMissing' });
    expect(ending.message).toMatch(/may not use schema pgshift/);
    expect(String(ending.details['hint'])).toMatch(/^GRANT ".+" TO ".+";$/);
    await untouched();
  });

  test('a name that is used: running, completed, changed; free again after rollback', async () => {
    const name = 'named';
    const sql = 'ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4)';
    const first = await start({ name, sql, gates: { contract: 'manual' } });
    const claimed = `SELECT status FROM pgshift.migrations WHERE name = 'named'`;
    while ((await database.query(claimed).catch(() => [])).length === 0) await new Promise((r) => setTimeout(r, 100));
    expect(await end({ name, sql })).toMatchObject({ type: 'NameInUse' });
    expect(await end({ name, sql: ADD })).toMatchObject({ type: 'NameInUse' });
    await first.signal('rollback', { by: 'test' });
    expect(await endingOf(first)).toMatchObject({ type: 'RolledBack' });
    await untouched();

    expect(await end({ name, sql: `COMMENT ON TABLE journal IS 'used'` })).toMatchObject({ type: 'completed' });
    const after = await endState(database, tables);
    expect(await end({ name, sql: `COMMENT ON TABLE journal IS 'used'` })).toMatchObject({ type: 'AlreadyApplied' });
    expect(await end({ name, sql: `COMMENT ON TABLE journal IS 'other'` })).toMatchObject({ type: 'ChecksumMismatch' });
    expect(await endState(database, tables)).toEqual(after);
    await database.query('COMMENT ON TABLE journal IS NULL');
    await untouched();
  });

  test('a disk that is full: taken back whole', async () => {
    const [{ directory } = { directory: '/' }] = await database.query<{ directory: string }>(
      `SELECT current_setting('data_directory') AS directory`,
    );
    disk = tinyDisk(DISK_MB, directory);
    if (disk === null) {
      process.stderr.write('skipped: a full disk needs root and mount(8)\n');
      return;
    }
    const space = ident(`tiny_${database.name}`);
    try {
      await database.query(`CREATE TABLESPACE ${space} LOCATION '${disk.path}'`);
      await database.query(`CREATE TABLE wide (id int PRIMARY KEY, n int, filler text) TABLESPACE ${space};
        ALTER TABLE wide ALTER COLUMN filler SET STORAGE PLAIN;
        INSERT INTO wide SELECT i, i, repeat('x', 1000) FROM generate_series(1, 6000) AS i; ANALYZE wide`);
      const was = await endState(database, ['wide']);
      const ending = await end({ sql: 'ALTER TABLE wide ALTER COLUMN n TYPE bigint' });
      expect(ending).toMatchObject({ type: 'RolledBack', details: { cause: 'DiskFull' } });
      expect(await endState(database, ['wide'])).toEqual(was);
    } finally {
      await database.query('DROP TABLE IF EXISTS wide');
      await database.query(`DROP TABLESPACE IF EXISTS ${space}`);
      disk.remove();
    }
    await untouched();
  });
});
