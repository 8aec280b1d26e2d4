/** Workflow `dataMigration`: from start to a proven copy; a table that fails is set aside and decided about; cancel and reject leave nothing. */
import type { WorkflowHandle } from '@temporalio/client';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';
import { contents, needPostgresTools } from '../support/copy';
import { drawnTests } from '../support/whole';
import type { Harness } from './harness';

const often = drawnTests();
import { failure, harness, progressOf, reportOf, send, statusOf, until } from './harness';

const SHOP = `
CREATE TABLE customer (id serial PRIMARY KEY, name text UNIQUE); INSERT INTO customer (name) SELECT 'c' || g FROM generate_series(1, 3000) g;
CREATE TABLE orders (id bigserial PRIMARY KEY, customer int REFERENCES customer, note text); CREATE INDEX ON orders (customer);
INSERT INTO orders (customer, note) SELECT 1 + g % 3000, repeat(md5(g::text), 3) FROM generate_series(1, 30000) g;
CREATE TABLE tiny (a int); INSERT INTO tiny VALUES (1), (1), (NULL); CREATE MATERIALIZED VIEW best AS SELECT customer, count(*) n FROM orders GROUP BY 1; ANALYZE;`;

let source: FreshDatabase;
let h: Harness;
let counter = 0;

beforeEach(async () => {
  await needPostgresTools();
  source = await freshDatabase(18, SHOP);
  h = await harness(undefined, {}, { old: source.url });
});
afterEach(async () => {
  await h.close();
  await source.drop();
});

const start = (plan: Record<string, unknown> = {}): Promise<WorkflowHandle> => {
  counter += 1;
  return h.client.workflow.start('dataMigration', {
    workflowId: `test/${h.database.name}/${counter}`,
    taskQueue: h.taskQueue,
    args: [{ name: `move_${counter}`, source: 'old', target: 'app', parallel: { rangeSize: '1MB' }, ...plan }],
  });
};

const userTables = () =>
  h.database.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'`,
  );
const holders = async () =>
  (
    await source.query(
      `SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '%snapshot-%' AND datname = current_database()`,
    )
  ).length;

test('every row once, proven; gates are waited for; the name is used', async () => {
  const handle = await start({ gates: { finish: 'manual' } });
  const waiting = await until(handle, ({ waitingFor }) => waitingFor?.type === 'gate');
  expect(waiting).toMatchObject({
    kind: 'data-migration',
    phase: 'gate',
    waitingFor: { gate: 'finish' },
    wayBack: { possible: true },
  });
  await send(handle, 'approve', { by: 'ann' });
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  expect((await contents(h.database)).rows).toEqual((await contents(source)).rows);
  const report = await reportOf(handle);
  expect(report.proof).toHaveLength(3);
  expect(report.proof.every(({ equal }) => equal)).toBe(true);
  expect(report.measured).toMatchObject({ epochs: 1, copy: { tables: 3, copied: 3, rows: 33003, skippedTables: 0 } });
  expect(await progressOf(handle)).toMatchObject({ percent: 100 });
  expect(await holders()).toBe(0);
  const [row] = await h.database.query(`SELECT kind, status FROM pgshift.migrations`);
  expect(row).toEqual({ kind: 'data-migration', status: 'completed' });
  await expect(failure(await start({ name: `move_${counter}` }))).resolves.toMatchObject({ type: 'AlreadyApplied' });
});

often('reject and cancel leave nothing, in the target and on the source', async () => {
  const rejected = await start({ gates: { build: 'manual' } });
  await until(rejected, ({ waitingFor }) => waitingFor?.type === 'gate');
  expect(await holders()).toBe(1);
  await send(rejected, 'reject', { by: 'ann', reason: 'no' });
  await expect(failure(rejected)).resolves.toMatchObject({ type: 'RolledBack', details: { cause: 'Rejected' } });
  expect(await userTables()).toEqual([]);
  const cancelled = await start({ gates: { finish: 'manual' } });
  await until(cancelled, ({ waitingFor }) => waitingFor?.type === 'gate');
  await cancelled.cancel();
  await expect(failure(cancelled)).resolves.toMatchObject({ type: 'CancelledFailure' });
  expect(await userTables()).toEqual([]);
  expect(await holders()).toBe(0);
});

often('a table that fails is set aside while the others go on; skip and retry by signal', async () => {
  // Rewritten between the snapshot and the copy.
  const handle = await start({ gates: { copy: 'manual' }, verify: 'full' });
  await until(handle, ({ waitingFor }) => waitingFor?.type === 'gate');
  await source.query(`TRUNCATE tiny; DROP MATERIALIZED VIEW best; ALTER TABLE orders ALTER note TYPE varchar(200)`);
  await send(handle, 'approve', { by: 'ann' });
  const paused = await until(handle, ({ waitingFor }) => waitingFor?.type === 'person');
  expect(paused.waitingFor?.reason).toMatch(/2 tables are set aside/);
  expect(paused.waitingFor?.commands[0]).toMatch(/pgshift retry .* --target public\./);
  expect((await progressOf(handle)).tables.filter(({ state }) => state === 'quarantined')).toHaveLength(2);
  expect(await h.database.query(`SELECT count(*)::int AS n FROM customer`)).toEqual([{ n: 3000 }]);
  await send(handle, 'skip', { by: 'ann' });
  await until(handle, ({ messages }) => messages.some(({ code }) => code === 'InvalidMessage'));
  await send(handle, 'skip', { by: 'ann', target: 'public.tiny' });
  await until(handle, ({ waitingFor }) => waitingFor?.reason.startsWith('1 tables') === true);
  await source.query(`ALTER TABLE orders ALTER note TYPE text`);
  await send(handle, 'retry', { by: 'ann', target: 'public.orders' });
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  expect(await h.database.query(`SELECT count(*)::int AS n FROM orders`)).toEqual([{ n: 30000 }]);
  expect((await reportOf(handle)).measured).toMatchObject({
    epochs: 2,
    copy: { skipped: [{ table: 'public.tiny', code: 'Drift' }] },
  });
});

often('a map, bad rows within the limit, an alert, and how it adds up', async () => {
  const map = { orders: { where: 'id > 100', validate: { note: { sql: 'id % 500 <> 0' } } } };
  const handle = await start({ tables: { include: ['orders', 'tiny'] }, map, errors: { rate: 0.01 } });
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  const report = await reportOf(handle);
  expect(report.measured).toMatchObject({ mapped: { read: 30000, filtered: 100, bad: 60, loaded: 29840 } });
  expect(report.health).toMatchObject([{ name: 'bad rows of public.orders', verdict: 'alert', value: 0.002 }]);
  expect(report.proof.every(({ equal }) => equal)).toBe(true);
  expect(
    await h.database.query(`SELECT level FROM pgshift.migration_log WHERE error_details->>'alert' = 'errors'`),
  ).toEqual([{ level: 'warning' }]);
});

often('the limit of bad rows takes it back, and leaves the list', async () => {
  const handle = await start({ map: { orders: { validate: { note: { sql: 'id <> 77' } } } } });
  await expect(failure(handle)).resolves.toMatchObject({ type: 'RolledBack', details: { cause: 'ErrorBudgetSpent' } });
  expect(await userTables()).toEqual([]);
  expect(await h.database.query(`SELECT key, rule FROM pgshift.quarantine`)).toEqual([
    { key: { id: '77' }, rule: 'sql' },
  ]);
});

often('pause and tune in the middle of a copy: every row once', async () => {
  const handle = await start({ profile: 'bulk', parallel: { tables: 1 }, gates: { copy: 'manual' } });
  await until(handle, ({ waitingFor }) => waitingFor?.type === 'gate');
  await send(handle, 'approve', { by: 'ann' });
  await send(handle, 'tune', { by: 'ann', parallel: { rangesPerTable: 2 }, throttle: { parallel: 3 } });
  await send(handle, 'pause', { by: 'ann' });
  await until(handle, ({ status }) => status === 'paused' || status === 'completed');
  await send(handle, 'resume', { by: 'ann' }).catch(() => undefined);
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  expect((await contents(h.database)).rows).toEqual((await contents(source)).rows);
});

often('bad input is refused and leaves nothing', async () => {
  await expect(failure(await start({ transfer: 'incremental' }))).resolves.toMatchObject({ type: 'InvalidPlan' });
  await expect(failure(await start({ map: { orders: { where: 'nix' } } }))).resolves.toMatchObject({
    type: 'NoSuchObject',
    details: { where: { path: 'map.orders.where' } },
  });
  await expect(failure(await start({ source: 'app' }))).resolves.toMatchObject({ type: 'SameDatabase' });
  await expect(failure(await start({ source: 'nowhere' }))).resolves.toMatchObject({ type: 'UnknownDatabase' });
  await expect(failure(await start({ tables: { include: ['nix_*'] } }))).resolves.toMatchObject({
    type: 'NoSuchObject',
  });
  await h.database.query(`CREATE TABLE tiny (a int)`);
  await expect(failure(await start())).resolves.toMatchObject({ type: 'PreflightFailed' });
  const handle = await start({ mode: 'dry-run', tables: { exclude: ['tiny'] } });
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  expect((await statusOf(handle)).status).toBe('completed');
  const { plan } = await reportOf(handle);
  expect(plan?.steps.map(({ id }) => id)).toEqual(
    'preflight.1 snapshot.1 schema.1 copy.1 build.1 verify.1 finish.1'.split(' '),
  );
  expect(plan).toMatchObject({ tables: [{ table: 'public.orders', how: 'as it is' }, { table: 'public.customer' }] });
  expect(await h.database.query(`SELECT 1 FROM pg_namespace WHERE nspname = 'pgshift'`)).toEqual([]);
});
