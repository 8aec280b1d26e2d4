/** Workflow `dataMigration` with `transfer: streaming` and `incremental`: followed until a person ends it; whatever happens, nothing is left on the source. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { contents, eventually, needPostgresTools } from '../support/copy';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';
import { forgetSlots, leftOn } from '../support/stream';
import { drawnTests } from '../support/whole';
import type { Harness } from './harness';

const often = drawnTests();
import { failure, harness, progressOf, reportOf, send, until } from './harness';

const SHOP = `
CREATE TABLE customer (id serial PRIMARY KEY, name text UNIQUE); INSERT INTO customer (name) SELECT 'c' || g FROM generate_series(1, 1000) g;
CREATE TABLE orders (id bigserial PRIMARY KEY, customer int REFERENCES customer, note text);
INSERT INTO orders (customer, note) SELECT 1 + g % 1000, 'n' || g FROM generate_series(1, 5000) g; ANALYZE;`;

let source: FreshDatabase;
let h: Harness;
let counter = 0;

beforeEach(async () => {
  await needPostgresTools();
  source = await freshDatabase(18, SHOP);
  h = await harness(undefined, { heartbeatMs: 2_500 }, { old: source.url });
});
afterEach(async () => {
  await h.close();
  await forgetSlots(source);
  await source.drop();
});

const start = (plan: Record<string, unknown> = {}): Promise<WorkflowHandle> => {
  counter += 1;
  return h.client.workflow.start('dataMigration', {
    workflowId: `test/${h.database.name}/${counter}`,
    taskQueue: h.taskQueue,
    args: [
      {
        name: `move_${counter}`,
        source: 'old',
        target: 'app',
        transfer: 'streaming',
        streaming: { flush: '50ms' },
        ...plan,
      },
    ],
  });
};

const following = (handle: WorkflowHandle) =>
  until(handle, ({ waitingFor, step }) => waitingFor?.gate === 'finish' && step === 'follow');
const count = async (sql: string): Promise<number> =>
  (await h.database.query<{ n: number }>(sql).catch(() => []))[0]?.n ?? -1;
const userTables = () =>
  h.database.query(`SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'`);

test('a writer all the time: followed, paused and resumed, verified behind the stream, finished; nothing is left', async () => {
  const client = await source.client();
  let writing = true;
  const writer = (async () => {
    for (let n = 0; writing; n += 1) {
      await client.query(`INSERT INTO orders (customer, note) VALUES (1 + $1 % 1000, 'live')`, [n]);
      await client.query(`UPDATE orders SET note = note || '.' WHERE id = 1 + $1 % 4000`, [n]);
      await client.query(`DELETE FROM orders WHERE id = 4001 + $1`, [n]);
      await sleep(3);
    }
  })();
  try {
    const handle = await start();
    const waiting = await following(handle);
    expect(waiting).toMatchObject({ status: 'waiting', phase: 'gate', wayBack: { possible: true } });
    await eventually(async () => (await count(`SELECT count(*)::int AS n FROM orders WHERE note = 'live'`)) > 50);
    await send(handle, 'pause', { by: 'ann' });
    await until(handle, ({ status }) => status === 'paused');
    await eventually(
      async () =>
        (await source.query(`SELECT 1 FROM pg_replication_slots WHERE active AND database = current_database()`))
          .length === 0,
    );
    await send(handle, 'resume', { by: 'ann' });
    await eventually(async () => (await progressOf(handle)).lagBytes !== null);
    await send(handle, 'approve', { by: 'ann', gate: 'finish' });
    await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
    const report = await reportOf(handle);
    expect(report.proof.map(({ equal, differing }) => [equal, differing])).toEqual([
      [true, 0],
      [true, 0],
    ]);
    expect(report.measured).toMatchObject({
      verified: { tables: 2, differing: 0 },
      stream: { skipped: 0, sequences: 2 },
    });
    expect(await leftOn(source)).toEqual([]);
    writing = false;
    await writer;
    // What was there when it ended is there whole.
    const rows = await count(`SELECT count(*)::int AS n FROM orders WHERE note LIKE 'live%'`);
    expect(rows).toBeGreaterThan(50);
  } finally {
    writing = false;
    await writer;
  }
});

often('reject and cancel while it is followed take everything back, on both sides', async () => {
  const rejected = await start();
  await following(rejected);
  expect(await leftOn(source)).toHaveLength(2);
  await send(rejected, 'reject', { by: 'ann', gate: 'finish' });
  await expect(failure(rejected)).resolves.toMatchObject({ type: 'RolledBack', details: { cause: 'Rejected' } });
  expect([await userTables(), await leftOn(source)]).toEqual([[], []]);
  const cancelled = await start({ gates: { copy: 'manual' } });
  await until(cancelled, ({ waitingFor }) => waitingFor?.gate === 'copy');
  expect(await leftOn(source)).toHaveLength(2);
  await cancelled.cancel();
  await expect(failure(cancelled)).resolves.toMatchObject({ type: 'CancelledFailure' });
  expect([await userTables(), await leftOn(source)]).toEqual([[], []]);
});

often(
  'a change that the target refuses holds the stream; retry and skip by signal; equal rows at the end',
  async () => {
    const handle = await start({ streaming: { flush: '50ms', onError: 'retry' }, verify: 'none' });
    await following(handle);
    await h.database.query(
      `ALTER TABLE customer ADD CONSTRAINT no_x CHECK (name <> 'x'); ALTER TABLE orders ADD CONSTRAINT no_y CHECK (note <> 'y')`,
    );
    await source.query(`UPDATE customer SET name = 'x' WHERE id = 5`);
    const held = await until(handle, ({ lastError }) => lastError !== null);
    expect(held.lastError).toMatchObject({ code: 'StepFailed' });
    expect((await progressOf(handle)).tables).toContainEqual(
      expect.objectContaining({ table: 'public.customer', state: 'quarantined' }),
    );
    await h.database.query(`ALTER TABLE customer DROP CONSTRAINT no_x`);
    await send(handle, 'retry', { by: 'ann', target: 'public.customer' });
    await eventually(async () => (await count(`SELECT id AS n FROM customer WHERE name = 'x'`)) === 5);
    await source.query(`UPDATE orders SET note = 'y' WHERE id = 9`);
    await until(handle, ({ lastError }) => lastError !== null);
    await send(handle, 'approve', { by: 'ann', gate: 'finish' });
    await until(handle, ({ waitingFor }) => waitingFor?.type === 'person');
    await send(handle, 'skip', { by: 'ann', target: 'public.orders' });
    await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
    expect((await reportOf(handle)).measured).toMatchObject({ stream: { skipped: 1 } });
    expect(
      await h.database.query(`SELECT table_name, key FROM pgshift.quarantine WHERE table_name = 'public.orders'`),
    ).toEqual([{ table_name: 'public.orders', key: { id: '9' } }]);
    expect(await leftOn(source)).toEqual([]);
  },
);

often(
  'a stream that cannot go on is taken back, or waits for a person where the plan says so; long histories are renewed',
  async () => {
    await h.stopWorker();
    await h.startWorker({ continueAsNewEvents: 60, watchMs: 300 });
    const handle = await start({ onFailure: 'pause', gates: { finish: { type: 'manual', expires: '10m' } } });
    await following(handle);
    const first = (await handle.describe()).runId;
    await eventually(async () => (await handle.describe()).runId !== first, 60_000);
    await h.database.query(`ALTER TABLE customer ADD CONSTRAINT no_x CHECK (name <> 'x')`);
    await source.query(`UPDATE customer SET name = 'x' WHERE id = 5`);
    const paused = await until(handle, ({ status }) => status === 'paused');
    expect(paused.lastError).toMatchObject({ code: 'StepFailed' });
    await h.database.query(`ALTER TABLE customer DROP CONSTRAINT no_x`);
    await send(handle, 'resume', { by: 'ann' });
    await eventually(async () => (await count(`SELECT id AS n FROM customer WHERE name = 'x'`)) === 5);
    await send(handle, 'approve', { by: 'ann', gate: 'finish' });
    await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
    expect((await contents(h.database)).rows).toEqual((await contents(source)).rows);
  },
);

often('increments on a schedule until a person ends them; one pass without a schedule', async () => {
  const handle = await start({
    transfer: 'incremental',
    streaming: undefined,
    incremental: { column: 'id', every: '* * * * * *' },
  });
  await following(handle);
  const rows = () => count(`SELECT count(*)::int AS n FROM orders`);
  await source.query(`INSERT INTO orders (customer, note) SELECT 1, 'new' FROM generate_series(1, 100)`);
  await eventually(async () => (await rows()) === 5100);
  await source.query(`INSERT INTO orders (customer, note) SELECT 1, 'newer' FROM generate_series(1, 100)`);
  await send(handle, 'approve', { by: 'ann', gate: 'finish' });
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  expect((await contents(h.database)).rows).toEqual((await contents(source)).rows);
  expect((await reportOf(handle)).proof.every(({ equal }) => equal)).toBe(true);
  await h.database.query(`DROP TABLE customer, orders CASCADE`);
  const once = await start({
    transfer: 'incremental',
    streaming: undefined,
    incremental: { column: 'id' },
    map: { orders: { to: 'moved', where: 'id > 100', columns: { remark: { sql: 'upper(note)' } }, omit: ['note'] } },
    gates: { follow: 'manual' },
  });
  await until(once, ({ waitingFor }) => waitingFor?.gate === 'follow');
  await source.query(`INSERT INTO orders (customer, note) SELECT 1, 'last' FROM generate_series(1, 50)`);
  await send(once, 'approve', { by: 'ann', gate: 'follow' });
  await expect(once.result()).resolves.toMatchObject({ status: 'completed' });
  expect(
    await count(`SELECT count(*)::int AS n FROM moved WHERE remark IN ('NEW', 'NEWER', 'LAST') OR remark LIKE 'N%'`),
  ).toBe(5150);
  expect((await reportOf(once)).proof).toMatchObject([{ equal: true }, { equal: true }]);
});

often('what cannot be followed is refused before anything is written', async () => {
  const refused = async (plan: Record<string, unknown>) => (await failure(await start(plan))).type;
  expect(await refused({ streaming: { capture: 'triggers', slot: 'a' } })).toBe('InvalidPlan');
  expect(await refused({ transfer: 'full' })).toBe('InvalidPlan');
  expect(await refused({ transfer: 'incremental', streaming: undefined })).toBe('InvalidPlan');
  expect(await refused({ transfer: 'incremental', streaming: undefined, incremental: { column: 'name' } })).toBe(
    'PreflightFailed',
  );
  await source.query(`CREATE TABLE nameless (a int)`);
  expect(await refused({})).toBe('PreflightFailed');
  await source.query(`DROP TABLE nameless; CREATE UNLOGGED TABLE fast (a int PRIMARY KEY)`);
  const { type, message } = await failure(await start());
  expect([type, message]).toEqual(['PreflightFailed', expect.stringContaining('public.fast')]);
  await source.query(`DROP TABLE fast`);
  await source.query(`SELECT pg_create_logical_replication_slot('mine_${h.database.name}', 'pgoutput')`);
  expect(await refused({ streaming: { slot: `mine_${h.database.name}` } })).toBe('PreflightFailed');
  expect(
    await source.query(`SELECT 1 FROM pg_replication_slots WHERE slot_name = 'mine_${h.database.name}'`),
  ).toHaveLength(1);
  expect(await userTables()).toEqual([]);
  const dry = await start({ mode: 'dry-run' });
  await expect(dry.result()).resolves.toMatchObject({ status: 'completed' });
  expect(await leftOn(source)).toHaveLength(1);
});
