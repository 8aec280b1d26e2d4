/** Workflow `canary`: the example on the sample shop, faults of the source of metrics, a metric that fails while a person is asked, and after the switch. */
import type { WorkflowHandle } from '@temporalio/client';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse } from 'yaml';
import { makeSample } from '../../client/demo/sample';
import { bucket } from '../../plan/model/bucket';
import type { StageReport } from '../../plan/model/canary';
import type { Router } from '../../client/router';
import { diffCatalog } from '../../postgres/catalog/diff';
import { missing, pairWorld, SHOP, startWriters } from '../support/blueGreen';
import type { PairWorld } from '../support/blueGreen';
import type { Settings } from '../../plan/model/state';
import { metricServer } from '../support/metricServer';
import type { MetricServer } from '../support/metricServer';
import type { Harness } from './harness';
import { failure, harness, reportOf, send, statusOf, until } from './harness';

let world: PairWorld;
let h: Harness;
let metric: MetricServer;
let counter = 0;

async function begin(setup = SHOP, settings: Partial<Settings> = {}): Promise<void> {
  world = await pairWorld(setup);
  h = await harness(undefined, settings, world.databases);
  metric = await metricServer();
}
afterEach(async () => {
  await metric.close();
  await h.close();
  await world.drop();
});

const start = (plan: Record<string, unknown>): Promise<WorkflowHandle> => {
  counter += 1;
  return h.client.workflow.start('canary', {
    workflowId: `test/${h.database.name}/${counter}`,
    taskQueue: h.taskQueue,
    args: [world.plan({ kind: 'canary', monitor: { duration: '0s' }, ...plan })],
  });
};
const sideOf = async (router: Router, key: number): Promise<string> => {
  const { rows } = await router.for(key).read<{ db: string }>('SELECT current_database() AS db');
  return rows[0]?.db === world.green.name ? 'green' : 'blue';
};
async function soon<T>(what: () => Promise<T>, wanted: T, ms = 5_000): Promise<number> {
  const began = performance.now();
  for (;;) {
    const seen = await what();
    if (JSON.stringify(seen) === JSON.stringify(wanted)) return performance.now() - began;
    if (performance.now() - began > ms)
      throw new Error(`never ${JSON.stringify(wanted)}; last ${JSON.stringify(seen)}`);
    await sleep(50);
  }
}
const shares = async (): Promise<unknown[]> =>
  Promise.all(
    [world.blue, world.green].map(async (side) => {
      const [row] = await side.query<{ share: { percent: number } | null }>(
        `SELECT details->'share' AS share FROM pgshift.routes`,
      );
      return row?.share?.percent ?? null;
    }),
  );
const gate = (handle: WorkflowHandle, name: string) =>
  until(handle, ({ waitingFor }) => waitingFor?.gate === name, 90_000);

test('the example: named customers, then 5, 20 and 100 percent; reads go over while green is near; nobody is lost', async () => {
  await begin('SELECT 1', { continueAsNewEvents: 200 });
  const shop = await world.blue.client();
  await makeSample(shop, { payments: 2_000 });
  await shop.query(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${world.role}`);
  await shop.end();
  const text = readFileSync(resolve(__dirname, '../../examples/07_shop_few_at_a_time.yaml'), 'utf8');
  const example = parse(text) as {
    name: string;
    analyses: Record<string, object>;
    stages: Record<string, unknown>[];
  };
  const quick = Object.entries(example.analyses).map(([name, one]) => [name, { ...one, interval: '200ms' }] as const);
  const router = world.router();
  const handle = await start({
    ...example,
    blue: 'blue',
    green: 'green',
    traffic: [{ type: 'router', route: world.role }],
    analyses: Object.fromEntries(quick),
    stages: example.stages.map((stage) => ({ ...stage, duration: '500ms' })),
    gates: { decommission: 'none' },
    hold: '1h',
  });
  const asked = await gate(handle, 'beta');
  expect(asked).toMatchObject({
    kind: 'canary',
    phase: 'beta',
    status: 'waiting',
    writableSide: 'blue',
    waitingFor: { evidence: { stage: { name: 'beta', percent: 20, routers: { alive: 1, heard: 1 } } } },
  });
  const keys = Array.from({ length: 60 }, (_, key) => key + 1);
  const there = (key: number): boolean => key <= 2 || bucket(example.name, key) < 2_000;
  await soon(
    () => Promise.all(keys.map((key) => sideOf(router, key))),
    keys.map((key) => (there(key) ? 'green' : 'blue')),
  );
  expect(keys.filter(there).length).toBeGreaterThan(5);
  // Writes stay at home, and a read that must be exact does.
  expect((await router.for(1).query<{ db: string }>('SELECT current_database() AS db')).rows[0]?.db).toBe(
    world.blue.name,
  );
  expect(await shares()).toEqual([20, 20]);
  // Green falls behind: reads come home by themselves, and go over again when it is near.
  const [subscription] = await world.green.query<{ name: string }>('SELECT subname AS name FROM pg_subscription');
  await world.green.query(`ALTER SUBSCRIPTION ${subscription?.name} DISABLE`);
  await soon(() => sideOf(router, 1), 'blue', 4_000);
  await world.green.query(`ALTER SUBSCRIPTION ${subscription?.name} ENABLE`);
  await soon(() => sideOf(router, 1), 'green', 10_000);
  await send(handle, 'approve', { by: 'ann', gate: 'beta' });
  const switching = await gate(handle, 'switch_traffic');
  expect(switching.phase).toBe('gate');
  await send(handle, 'approve', { by: 'ann', gate: 'switch_traffic' });
  const [{ n: payments } = { n: 0 }] = await world.blue.query<{ n: number }>('SELECT count(*)::int AS n FROM payment');
  const held = await until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 90_000);
  expect(held).toMatchObject({ writableSide: 'green', wayBack: { possible: true, lossless: true } });
  expect(await shares()).toEqual([null, null]);
  expect(await sideOf(router, 3)).toBe('green');
  const report = await reportOf(handle);
  expect(report.stages?.map(({ name, percent, verdict, skipped }) => [name, percent, verdict, skipped])).toEqual([
    ['internal', 0, 'passed', false],
    ['alpha', 5, 'passed', false],
    ['beta', 20, 'passed', false],
    ['production', 100, 'passed', false],
  ]);
  expect(report.stages?.[1]?.metrics.slice(0, 2)).toMatchObject([
    { name: 'payments_there', verdict: 'passed', value: payments },
    { name: 'longest_query', verdict: 'passed' },
  ]);
  await send(handle, 'approve', { by: 'ann', gate: 'cleanup' });
  await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
  const recorded = await world.blue.query<{ id: string }>(
    `SELECT step_id AS id FROM pgshift.steps WHERE step_id LIKE 'stage.%' AND status = 'done' ORDER BY 1`,
  );
  expect(recorded.map(({ id }) => id)).toEqual(['stage.alpha', 'stage.beta', 'stage.internal', 'stage.production']);
}, 120_000);

test('what a source of metrics cannot say is no pass; a metric that fails while a person is asked takes everybody home', async () => {
  await begin();
  const before = await world.catalog('blue');
  const empty = await world.catalog('green');
  const ledger = startWriters(world.router());
  const errors = { source: 'http', url: metric.url, jsonPath: '$.value', failWhen: 'value > 0.05', interval: '200ms' };
  metric.says = 'nan';
  const handle = await start({
    routing: { moves: 'shadow-reads' },
    analyses: { errors: { ...errors, consecutiveErrorLimit: 1_000 } },
    stages: [
      { name: 'internal', percent: 0, duration: '0s', keys: ['1'], analysis: ['errors'] },
      { name: 'alpha', percent: 5, duration: '0s', analysis: ['errors'] },
      { name: 'beta', percent: 20, duration: '0s', analysis: ['errors'], gate: 'manual' },
      { name: 'production', percent: 100, duration: '0s' },
    ],
  });
  const unknown = await until(handle, ({ waitingFor }) => waitingFor?.type === 'health', 90_000);
  expect(unknown).toMatchObject({
    phase: 'internal',
    waitingFor: { reason: expect.stringContaining('errors') as string },
  });
  for (const fault of ['status', 'hang', 'huge'] as const) {
    metric.says = fault;
    await sleep(600);
    expect(await statusOf(handle)).toMatchObject({ phase: 'internal', status: 'waiting' });
  }
  await metric.kill();
  await sleep(600);
  expect(await statusOf(handle)).toMatchObject({ phase: 'internal', status: 'waiting' });
  await metric.start();
  // It speaks again: the stage passes by itself, and so does the next one until it is silent again.
  metric.says = 0.01;
  await until(handle, ({ phase }) => phase !== 'internal');
  const asked = await gate(handle, 'beta');
  const { stage } = asked.waitingFor?.evidence as { stage: StageReport };
  expect(stage.metrics[0]).toMatchObject({ name: 'errors', verdict: 'passed' });
  expect(await shares()).toEqual([20, 20]);
  await send(handle, 'pause', { by: 'ann' });
  await until(handle, ({ status }) => status === 'paused');
  metric.says = 0.5;
  const took = await soon(shares, [null, null], 15_000);
  const ended = await failure(handle);
  expect(ended).toMatchObject({ type: 'RolledBack', details: { cause: 'HealthFailed' } });
  expect(ended.message).toContain('stage beta: errors: value > 0.05 (value 0.5)');
  process.stderr.write(`everybody was home ${Math.round(took)} ms after the metric failed\n`);
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.blue)).toEqual([]);
  const { stages } = await reportOf(handle);
  expect(stages?.map(({ name, verdict }) => [name, verdict])).toEqual([
    ['internal', 'passed'],
    ['alpha', 'passed'],
    ['beta', 'failed'],
  ]);
  expect(stages?.[2]?.metrics.find(({ name }) => name === 'errors')).toMatchObject({ verdict: 'failed', value: 0.5 });
  expect(await world.left()).toEqual([]);
  expect(diffCatalog(before, await world.catalog('blue'))).toEqual({ added: [], removed: [] });
  expect(diffCatalog(empty, await world.catalog('green'))).toEqual({ added: [], removed: [] });
}, 120_000);

test('a person goes on without knowing; after a drill, what cannot be measured at the last stage switches the writes back', async () => {
  await begin();
  const ledger = startWriters(world.router());
  const errors = { source: 'http', url: metric.url, jsonPath: '$.value', failWhen: 'value > 0.05', interval: '200ms' };
  metric.says = 'empty';
  const handle = await start({
    drill: true,
    analyses: { errors: { ...errors, consecutiveErrorLimit: 2 } },
    stages: [
      { name: 'internal', percent: 1, duration: '0s', analysis: ['errors'] },
      { name: 'production', percent: 100, duration: '1h', analysis: ['errors'] },
    ],
  });
  await until(handle, ({ waitingFor }) => waitingFor?.type === 'health', 90_000);
  await send(handle, 'skip', { by: 'ann', target: 'nobody' });
  await send(handle, 'skip', { by: 'ann', target: 'internal' });
  await until(handle, ({ phase }) => phase !== 'internal');
  metric.says = 0;
  const after = await until(handle, ({ phase }) => phase === 'production', 60_000);
  expect(after).toMatchObject({ writableSide: 'green', status: 'running' });
  expect(after.messages).toMatchObject([{ name: 'skip', code: 'NotNow' }]);
  await sleep(500);
  metric.says = 'status';
  const ended = await failure(handle);
  expect(ended).toMatchObject({ type: 'RolledBack', details: { cause: 'HealthFailed' } });
  expect(ended.message).toContain('could not be read 3 times in a row');
  await ledger.stop();
  expect(ledger.errors).toEqual([]);
  expect(await missing(ledger, world.blue)).toEqual([]);
  const report = await reportOf(handle);
  expect(report).toMatchObject({ writableSide: 'blue', switch: { purpose: 'back' } });
  expect(report.switches?.map(({ purpose, direction }) => `${purpose} ${direction}`)).toEqual([
    ...['drill forward', 'drill reverse', 'switch forward', 'back reverse'],
  ]);
  expect(report.stages?.map(({ name, verdict, skipped }) => [name, verdict, skipped])).toEqual([
    ['internal', 'inconclusive', true],
    ['production', 'error', false],
  ]);
  expect(await shares()).toEqual([null, null]);
  expect(await world.left()).toEqual([]);
}, 120_000);
