/** Workflow `canary` without the router library: reads go over by the weights of a real HAProxy, and come home when a metric fails; then to the end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'pg';
import { missing, pairWorld, SHOP, startWriters } from '../support/blueGreen';
import type { PairWorld } from '../support/blueGreen';
import { hasVersion } from '../support/database';
import { describeHaproxy } from '../support/haproxy';
import { metricServer } from '../support/metricServer';
import type { MetricServer } from '../support/metricServer';
import { startGateway } from '../support/readsGateway';
import type { Gateway } from '../support/readsGateway';
import type { Harness } from './harness';
import { failure, harness, reportOf, send, until } from './harness';

(hasVersion(15) ? describeHaproxy : describe.skip)('a canary behind HAProxy', () => {
  let world: PairWorld;
  let gateway: Gateway;
  let metric: MetricServer;
  let h: Harness;
  let pool: Pool;
  beforeEach(async () => {
    world = await pairWorld(SHOP, [15, 18], { sameName: true });
    gateway = await startGateway(world);
    metric = await metricServer();
    h = await harness(undefined, {}, world.databases);
    const through = new URL(world.urls.blue);
    through.port = String(gateway.proxy.port);
    pool = new Pool({ connectionString: through.toString(), max: 4, maxUses: 1 });
    pool.on('error', () => undefined);
  });
  afterEach(async () => {
    await pool.end();
    await h.close();
    await metric.close();
    await gateway.stop();
    await world.drop();
  });
  const start = (name: string) =>
    h.client.workflow.start('canary', {
      workflowId: `test/${h.database.name}/${name}`,
      taskQueue: h.taskQueue,
      args: [
        world.plan({
          ...{ kind: 'canary', name, traffic: [gateway.traffic], routing: { moves: 'reads' }, maxReadLag: '3s' },
          analyses: {
            errors: {
              ...{ source: 'http', url: metric.url, jsonPath: '$.value', failWhen: 'value > 0.05', interval: '200ms' },
            },
          },
          stages: [
            { name: 'alpha', percent: 20, duration: '200ms', analysis: ['errors'], gate: 'manual' },
            { name: 'production', percent: 100, duration: '200ms', analysis: ['errors'] },
          ],
          monitor: { duration: '0s' },
        }),
      ],
    });
  /** New readers, until they are spread like that. */
  const spreads = async (wanted: Readonly<Record<number, number>>): Promise<void> => {
    const readers = Object.values(wanted).reduce((sum, n) => sum + n, 0);
    for (const end = Date.now() + 15_000; ; await sleep(100)) {
      const seen = await gateway.spread(readers).catch(() => ({}));
      if (JSON.stringify(seen) === JSON.stringify(wanted)) return;
      if (Date.now() > end) throw new Error(`last ${JSON.stringify(seen)}`);
    }
  };
  const asked = (handle: Awaited<ReturnType<typeof start>>) =>
    until(handle, ({ waitingFor }) => waitingFor?.gate === 'alpha', 90_000);

  test('a metric that fails sends reads home; nothing of the writes was ever elsewhere', async () => {
    metric.says = 0;
    const ledger = startWriters(pool, 4, 20);
    const handle = await start('home');
    await asked(handle);
    await spreads({ 15: 16, 18: 4 });
    expect((await reportOf(handle)).stages?.[0]).toMatchObject({ routers: { alive: 1, heard: 1 } });
    metric.says = 0.5;
    expect(await failure(handle)).toMatchObject({ type: 'RolledBack', details: { cause: 'HealthFailed' } });
    expect(await gateway.spread(20)).toEqual({ 15: 20 });
    await ledger.stop();
    expect(ledger.errors).toEqual([]);
    expect(await missing(ledger, world.blue)).toEqual([]);
    expect(await world.left()).toEqual([]);
  });

  test('a worker that is gone keeps nobody on green; the next one sends them there again, and the reads follow the writes', async () => {
    metric.says = 0;
    const handle = await start('there');
    await asked(handle);
    await spreads({ 15: 8, 18: 2 });
    await h.stopWorker();
    await spreads({ 15: 10 });
    await h.startWorker();
    await spreads({ 15: 8, 18: 2 });
    await send(handle, 'approve', { by: 'ann', gate: 'alpha' });
    await until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 90_000);
    await spreads({ 18: 10 });
    await send(handle, 'rollback', { by: 'ann' });
    expect(await failure(handle)).toMatchObject({ type: 'RolledBack' });
    await spreads({ 15: 10 });
    expect(await world.left()).toEqual([]);
  });
});
