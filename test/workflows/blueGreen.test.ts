/** Workflow `blueGreen`: the whole road under writes, the way back from before and after the switch, a drill, a budget that is overrun, bad input. */
import type { WorkflowHandle } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { diffCatalog } from '../../postgres/catalog/diff';
import type { Report } from '../../plan/model/status';
import { contents } from '../support/copy';
import type { PairWorld } from '../support/blueGreen';
import { missing, pairWorld, startWriters } from '../support/blueGreen';
import type { Harness } from './harness';
import { failure, harness, reportOf, send, statusOf, until } from './harness';

let world: PairWorld;
let h: Harness;
let counter = 0;

beforeEach(async () => {
  world = await pairWorld();
  h = await harness(undefined, {}, world.databases);
});
afterEach(async () => {
  await h.close();
  await world.drop();
});

const start = (plan: Record<string, unknown> = {}): Promise<WorkflowHandle> => {
  counter += 1;
  return h.client.workflow.start('blueGreen', {
    workflowId: `test/${h.database.name}/${counter}`,
    taskQueue: h.taskQueue,
    args: [world.plan(plan)],
  });
};
const holding = (handle: WorkflowHandle) =>
  until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 90_000);
const say = (report: Report): void =>
  void process.stderr.write(
    `${JSON.stringify(report.switches?.map(({ purpose, pausedMs, outcome }) => ({ purpose, pausedMs, outcome })))}\n`,
  );

/** With PGSHIFT_STORE_HISTORIES=1: for the test that replays them. */
async function storeHistory(handle: WorkflowHandle, name: string): Promise<void> {
  if (!process.env.PGSHIFT_STORE_HISTORIES) return;
  const text = JSON.stringify(JSON.parse(historyToJSON(await handle.fetchHistory()))).replaceAll(
    /\d+@[\w.-]+/g,
    'pgshift',
  );
  writeFileSync(join(__dirname, `../histories/blueGreen-${name}.json`), `${text}\n`);
}

test('the whole road under writes: nothing is lost, no client sees an error, the old side is fenced, and what replicates goes', async () => {
  const ledger = startWriters(world.router());
  const handle = await start({ gates: { decommission: 'none' } });
  const waiting = await until(handle, ({ waitingFor }) => waitingFor?.type === 'gate', 90_000);
  expect(waiting).toMatchObject({
    kind: 'blue-green',
    database: 'blue',
    phase: 'gate',
    writableSide: 'blue',
    waitingFor: { gate: 'switch_traffic', evidence: { verified: { passed: true, differing: 0 }, trouble: [] } },
    wayBack: { possible: true, lossless: true },
  });
  expect(waiting.waitingFor?.commands[0]).toContain('--gate switch_traffic');
  // A stray writer on green is refused from the beginning on.
  await expect(world.green.query(`INSERT INTO customer (name) VALUES ('stray')`)).rejects.toMatchObject({
    code: '25006',
  });
  await send(handle, 'approve', { by: 'ann', gate: 'switch_traffic' });
  const held = await holding(handle);
  expect(held).toMatchObject({ writableSide: 'green', wayBack: { possible: true, lossless: true } });
  expect(await world.fence()).toMatchObject({ writable: 'green', guard: held.name, green: { gaps: [] } });
  await sleep(300);
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(ledger.acknowledged.size).toBeGreaterThan(50);
  expect(await missing(ledger, world.green)).toEqual([]);
  await expect(world.blue.query(`INSERT INTO customer (name) VALUES ('late')`)).rejects.toMatchObject({
    code: '25006',
  });
  const report = await reportOf(handle);
  say(report);
  expect(report.switch).toMatchObject({
    purpose: 'switch',
    direction: 'forward',
    outcome: 'switched',
    clientErrors: 0,
  });
  expect(report.switch?.pausedMs).toBeLessThan(5_000);
  // What changed since every row was compared: row by row, and the one table without a key whole.
  expect(report.steps.find(({ id }) => id === 'catch_up')?.evidence).toMatchObject({
    compared: { changed: expect.any(Number) as number, newest: 0, unread: 0 },
  });
  expect(report.switch?.fenceLsn).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
  expect(report.steps.map(({ id }) => id)).toEqual(
    expect.arrayContaining([
      'guardrails',
      'create_green',
      'sync',
      'validate_green',
      'pause',
      'fence',
      'catch_up',
      'reverse',
      'switch_traffic',
      'probe',
      'resume',
      'monitor',
    ]),
  );
  await send(handle, 'approve', { by: 'ann', gate: 'cleanup' });
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  expect((await statusOf(handle)).wayBack.possible).toBe(false);
  expect((await world.left()).filter((one) => !/^blue (wall|guard)/.test(one))).toEqual([]);
  expect((await contents(world.green)).rows).toEqual((await contents(world.blue)).rows);
  const recorded = await world.blue.query<{ id: string }>(
    `SELECT step_id AS id FROM pgshift.steps WHERE status = 'done' AND finished_at IS NOT NULL`,
  );
  expect(recorded.map(({ id }) => id)).toEqual(
    expect.arrayContaining(['guardrails', 'fence', 'resume', 'hold', 'decommission']),
  );
  await storeHistory(handle, 'completed');
});

test('rollback before the switch: nothing is left on either side', async () => {
  const before = await world.catalog('blue');
  const empty = await world.catalog('green');
  const ledger = startWriters(world.router());
  const handle = await start({ gates: {} });
  await until(handle, ({ waitingFor }) => waitingFor?.type === 'gate', 90_000);
  await send(handle, 'rollback', { by: 'ann', reason: 'not today' });
  await expect(failure(handle)).resolves.toMatchObject({ type: 'RolledBack', details: { by: 'ann' } });
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.blue)).toEqual([]);
  expect(await world.left()).toEqual([]);
  expect(diffCatalog(before, await world.catalog('blue'))).toEqual({ added: [], removed: [] });
  expect(diffCatalog(empty, await world.catalog('green'))).toEqual({ added: [], removed: [] });
});

test('rollback in the hold: every write made on green is on blue; then nothing is left', async () => {
  const before = await world.catalog('blue');
  const ledger = startWriters(world.router());
  const handle = await start({ gates: { switch_traffic: 'none', switch_back: 'manual' } });
  await holding(handle);
  await sleep(300);
  await send(handle, 'rollback', { by: 'ann' });
  const asked = await until(handle, ({ waitingFor }) => waitingFor?.gate === 'switch_back');
  expect(asked.status).toBe('rolling_back');
  await send(handle, 'approve', { by: 'bob', gate: 'switch_back' });
  await expect(failure(handle)).resolves.toMatchObject({ type: 'RolledBack' });
  await sleep(200);
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.blue)).toEqual([]);
  const report = await reportOf(handle);
  say(report);
  expect(report).toMatchObject({ writableSide: 'blue', switch: { purpose: 'back', direction: 'reverse' } });
  expect(await world.left()).toEqual([]);
  expect(diffCatalog(before, await world.catalog('blue'))).toEqual({ added: [], removed: [] });
});

test('a change on green, and a drill before the switch that stays', async () => {
  const ledger = startWriters(world.router());
  const handle = await start({
    change: {
      sql: `ALTER TABLE orders ADD COLUMN state text NOT NULL DEFAULT 'new'; ALTER TABLE customer ALTER COLUMN id TYPE bigint;
            CREATE TABLE audit (id int PRIMARY KEY)`,
    },
    drill: true,
  });
  await holding(handle);
  await sleep(200);
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.green)).toEqual([]);
  const report = await reportOf(handle);
  say(report);
  expect(report.switches?.map(({ purpose, direction }) => `${purpose} ${direction}`)).toEqual([
    'drill forward',
    'drill reverse',
    'switch forward',
  ]);
  expect(await world.green.query(`SELECT DISTINCT state FROM orders`)).toEqual([{ state: 'new' }]);
  await handle.cancel();
  await expect(failure(handle)).resolves.toMatchObject({ type: 'CancelledFailure' });
  expect(await missing(ledger, world.blue)).toEqual([]);
  expect(await world.left()).toEqual([]);
});

test('a switch that overruns its budget undoes itself, a later try works, and blue is dropped at the end', async () => {
  const router = world.router();
  await router.ready();
  const handle = await start({
    switch: { maxPause: '700ms', maxTransactionAge: '10m', retryAfter: '2s', attempts: 3 },
    gates: { decommission: 'none' },
    decommission: 'drop',
    unused: '1s',
  });
  await until(handle, ({ waitingFor }) => waitingFor?.gate === 'switch_traffic', 90_000);
  // Somebody who does not give his connection back: the pause is never complete.
  const busy = await router.pool().connect();
  await send(handle, 'approve', { by: 'ann', gate: 'switch_traffic' });
  const undone = await until(handle, ({ waitingFor }) => waitingFor?.reason.includes('was undone') === true, 30_000);
  expect(undone).toMatchObject({ phase: 'sync', writableSide: 'blue' });
  await busy.query(`INSERT INTO writes (client, n) VALUES (99, 1)`);
  busy.release();
  const ledger = startWriters(router);
  await holding(handle);
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.green)).toEqual([]);
  expect(await world.green.query(`SELECT 1 FROM writes WHERE client = 99`)).toHaveLength(1);
  expect((await reportOf(handle)).switches?.map(({ outcome }) => outcome)).toContain('undone');
  say(await reportOf(handle));
  await send(handle, 'approve', { by: 'ann', gate: 'cleanup' });
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  expect(await world.green.query(`SELECT 1 FROM pg_database WHERE datname = $1`, [world.blue.name])).toEqual([]);
  expect(await world.green.query(`SELECT kind, status FROM pgshift.migrations WHERE kind = 'blue-green'`)).toEqual([
    { kind: 'blue-green', status: 'completed' },
  ]);
});

test('bad input is refused and leaves nothing', async () => {
  await expect(failure(await start({ onDdl: 'follow' }))).resolves.toMatchObject({ type: 'NotYet' });
  await expect(failure(await start({ map: {} }))).resolves.toMatchObject({ type: 'NotYet' });
  await expect(failure(await start({ green: 'blue' }))).resolves.toMatchObject({ type: 'SameDatabase' });
  await expect(failure(await start({ traffic: [] }))).resolves.toMatchObject({ type: 'InvalidPlan' });
  await expect(failure(await start({ gates: { pause: 'manual' } }))).resolves.toMatchObject({ type: 'InvalidPlan' });
  await expect(failure(await start({ allow: [{ rule: 'green_empty', reason: 'x' }] }))).resolves.toMatchObject({
    type: 'InvalidPlan',
  });
  await world.green.query(`CREATE TABLE mine (a int)`);
  await expect(failure(await start())).resolves.toMatchObject({
    type: 'GuardrailFailed',
    message: expect.stringContaining('green_empty') as string,
  });
  expect(await world.green.query(`SELECT 1 FROM mine`)).toEqual([]);
  await world.green.query(`DROP TABLE mine`);
  const dry = await start({ mode: 'dry-run' });
  await expect(dry.result()).resolves.toMatchObject({ status: 'completed' });
  expect((await reportOf(dry)).measured['guardrails']).toMatchObject({ tables: 4 });
  expect(await world.left()).toEqual([]);
});
