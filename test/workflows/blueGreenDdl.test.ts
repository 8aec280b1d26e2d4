/** DDL while a switch runs: on blue before it, on green after it. It is noticed and named, and no row is left behind in silence. */
import type { WorkflowHandle } from '@temporalio/client';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Status } from '../../plan/model/status';
import type { PairWorld } from '../support/blueGreen';
import { missing, pairWorld, SHOP, startWriters } from '../support/blueGreen';
import type { Harness } from './harness';
import { failure, harness, send, until } from './harness';

const PARTS = `${SHOP} CREATE TABLE parts (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);`;

let world: PairWorld;
let h: Harness;
beforeEach(async () => {
  world = await pairWorld(PARTS);
  h = await harness(undefined, {}, world.databases);
});
afterEach(async () => {
  await h.close();
  await world.drop();
});
const start = (plan: Record<string, unknown>): Promise<WorkflowHandle> =>
  h.client.workflow.start('blueGreen', {
    workflowId: `test/${h.database.name}/ddl`,
    taskQueue: h.taskQueue,
    args: [world.plan(plan)],
  });
const detailsOf = async (handle: WorkflowHandle): Promise<string> =>
  (await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata')).currentDetails ?? '';

test('on blue before the switch, and on green after it: named, not followed; with it taken back the road goes on', async () => {
  const ledger = startWriters(world.router());
  const handle = await start({
    change: { sql: 'ALTER TABLE orders ADD COLUMN state text; CREATE TABLE audit (id int PRIMARY KEY)' },
    gates: { decommission: 'none' },
    onFailure: 'pause',
  });
  await until(handle, ({ waitingFor }) => waitingFor?.gate === 'switch_traffic', 90_000);
  await world.blue.query(
    'ALTER TABLE customer ADD COLUMN late int; CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2)',
  );
  await send(handle, 'approve', { by: 'ann', gate: 'switch_traffic' });
  const refused = await until(handle, ({ lastError }) => lastError?.code === 'Drift', 60_000);
  expect(refused.writableSide).toBe('blue');
  expect(refused.lastError?.message).toMatch(/relation public\.customer was changed/);
  expect(refused.lastError?.message).toContain('public.part2');
  await until(handle, ({ waitingFor }) => waitingFor?.type === 'person', 60_000);
  await world.blue.query('ALTER TABLE customer DROP COLUMN late; DROP TABLE part2');
  await send(handle, 'retry', { by: 'ann', target: 'switch' });
  await until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 90_000);

  // The plan's own may stay behind, an index holds no rows. A new partition is a table that blue does not have.
  await world.green
    .query(`INSERT INTO audit VALUES (1); CREATE INDEX ON customer (name, id); CREATE TABLE empty_one (id int);
    CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2); INSERT INTO parts VALUES (1, 2);
    CREATE TABLE extra (id int PRIMARY KEY); INSERT INTO extra VALUES (1); ALTER TABLE customer ADD COLUMN since int DEFAULT 5`);
  const noticed = ['column public.customer.since', 'table public.extra', 'table public.part2'];
  for (const end = Date.now() + 30_000; ; await sleep(200)) {
    const details = await detailsOf(handle);
    if (noticed.every((one) => details.includes(`${one} is on green alone`))) break;
    if (Date.now() > end) throw new Error(`nobody noticed: ${details}`);
  }
  // Partitions are compared under their root: a row of one that blue does not have is missing there.
  await send(handle, 'rollback', { by: 'ann' });
  const asked = ({ waitingFor }: Status) => waitingFor?.type === 'person';
  const missed = await until(handle, asked, 60_000);
  expect(missed).toMatchObject({ writableSide: 'green', lastError: { code: 'ProofFailed' } });
  expect(missed.lastError?.message).toContain('public.parts: 1 row');
  await world.green.query('DROP TABLE part2');
  await send(handle, 'retry', { by: 'ann', target: 'switch_back' });
  const held = await until(handle, (status) => asked(status) && status.lastError?.code === 'Drift', 60_000);
  expect(held.writableSide).toBe('green');
  expect(held.lastError?.message).toMatch(/: column public\.customer\.since, table public\.extra$/);
  await world.green.query('DROP TABLE extra');
  await world.blue.query('ALTER TABLE customer ADD COLUMN since int DEFAULT 5');
  await send(handle, 'retry', { by: 'ann', target: 'switch_back' });
  await expect(failure(handle)).resolves.toMatchObject({ type: 'RolledBack' });
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.blue)).toEqual([]);
  expect(await world.left()).toEqual([]);
}, 240_000);
