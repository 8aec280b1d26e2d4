/** A condition that fails takes a blue-green back by itself: while a person is asked, before anything moved; and after the switch, with every write. */
import type { WorkflowHandle } from '@temporalio/client';
import type { PairWorld } from '../support/blueGreen';
import { missing, pairWorld, startWriters } from '../support/blueGreen';
import type { Harness } from './harness';
import { failure, harness, reportOf, until } from './harness';

let world: PairWorld;
let h: Harness;
beforeEach(async () => {
  world = await pairWorld();
  h = await harness(undefined, {}, world.databases);
});
afterEach(async () => {
  await h.close();
  await world.drop();
});
const start = (plan: Record<string, unknown>): Promise<WorkflowHandle> =>
  h.client.workflow.start('blueGreen', {
    workflowId: `test/${h.database.name}/health`,
    taskQueue: h.taskQueue,
    args: [world.plan(plan)],
  });
const complaints = {
  ...{ name: 'complaints', source: 'sql', query: `SELECT count(*)::float8 FROM orders WHERE note = 'complaint'` },
  ...{ failWhen: 'value > 0', interval: '200ms' },
};
const complain = `INSERT INTO orders (customer, note) VALUES (1, 'complaint')`;

test('while the gate waits: nothing was moved, and nothing is left', async () => {
  const ledger = startWriters(world.router());
  const handle = await start({
    gates: {},
    backup: 'pg-dump',
    health: [{ ...complaints, database: 'blue', phases: ['gate'] }],
  });
  await until(handle, ({ waitingFor }) => waitingFor?.gate === 'switch_traffic', 90_000);
  await world.blue.query(complain);
  await expect(failure(handle)).resolves.toMatchObject({ type: 'RolledBack', details: { cause: 'HealthFailed' } });
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.blue)).toEqual([]);
  const report = await reportOf(handle);
  expect(report.switches ?? []).toEqual([]);
  expect(report.measured['backup']).toMatchObject({ bytes: expect.any(Number) as number });
  expect(report.steps.map(({ id }) => id)).toEqual(expect.arrayContaining(['backup_blue', 'decommission_green']));
  expect(await world.left()).toEqual([]);
});

test('while it monitors: the writes go back, and what was written on green is on blue', async () => {
  const router = world.router();
  const ledger = startWriters(router);
  const handle = await start({
    monitor: { duration: '10m', health: [{ ...complaints, database: 'green' }] },
  });
  const watched = await until(handle, ({ phase }) => phase === 'monitor', 90_000);
  expect(watched.writableSide).toBe('green');
  await router.pool().query(complain);
  const ended = await failure(handle);
  expect(ended).toMatchObject({ type: 'RolledBack', details: { cause: 'HealthFailed' } });
  expect(ended.message).toContain('complaints');
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.blue)).toEqual([]);
  expect(await world.blue.query(`SELECT 1 FROM orders WHERE note = 'complaint'`)).toHaveLength(1);
  expect(await reportOf(handle)).toMatchObject({
    writableSide: 'blue',
    switch: { purpose: 'back', outcome: 'switched' },
  });
  expect(await world.left()).toEqual([]);
});
