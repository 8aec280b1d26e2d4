/** Readings of a pair from real databases: sessions of each side, and what routers counted of the old side before the first stage. */
import { Client } from 'pg';
import { lifelong, read } from '../../activities/readings';
import { Counting } from '../../plan/model/counters';
import type { Watched } from '../../plan/model/health';
import { freshCondition, judge } from '../../plan/model/health';
import { DEFAULT_SETTINGS } from '../../plan/model/state';
import { withSession } from '../../postgres/session';
import { install } from '../../postgres/state/install';
import { target } from '../../postgres/types';
import { loadConfig } from '../../worker/config';
import { createLogger } from '../../worker/logger';
import { createMetrics } from '../../worker/metrics';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';

let blue: FreshDatabase;
let green: FreshDatabase;
const open: Client[] = [];
beforeAll(async () => {
  [blue, green] = await Promise.all([freshDatabase(), freshDatabase()]);
  await withSession(target('blue', blue.url), { purpose: 'test' }, (session) => install(session));
});
afterAll(async () => {
  await Promise.all(open.map((one) => one.end()));
  await Promise.all([blue.drop(), green.drop()]);
});
const deps = () => ({
  config: loadConfig({ env: { PGSHIFT_DATABASE_BLUE: blue.url, PGSHIFT_DATABASE_GREEN: green.url }, useDev: false }),
  ...{ log: createLogger('silent'), metrics: createMetrics(), settings: DEFAULT_SETTINGS },
});
const places = {
  ...{ database: 'blue', sides: { blue: 'blue', green: 'green' } },
  routes: [{ route: 'app', sides: { blue: 'old', green: 'new' } }],
};
const condition = (more: Partial<Watched>): Watched => ({
  ...{ name: 'c', source: 'connections', interval: '1s', initialDelay: '0s', failureLimit: 0 },
  ...{ consecutiveErrorLimit: 4, onFail: 'rollback', onInconclusive: 'hold', dryRun: false },
  ...more,
});
const come = async (of: FreshDatabase): Promise<void> => {
  const client = new Client({ connectionString: of.url, application_name: 'shop' });
  await client.connect();
  open.push(client);
};

test('connections of both sides are compared: nobody on green, although somebody should be', async () => {
  const none = condition({ failWhen: 'green < 1 and blue * 50 >= 100' });
  const said = async () => {
    const reading = await read(none, places, deps(), { brakes: {} });
    return [reading.blue, reading.green, judge(none, freshCondition, reading, null, '').last];
  };
  expect(await said()).toEqual([0, 0, 'passed']);
  await come(blue);
  await come(blue);
  expect(await said()).toEqual([2, 0, 'failed']);
  await come(green);
  expect(await said()).toEqual([2, 1, 'passed']);
});

test('the baseline of what routers count is all that they counted of the old side; a rate is measured', async () => {
  const slower = condition({ source: 'router', query: 'latency_p95', failWhen: 'value > 2 * baseline' });
  expect(await lifelong(slower, places, deps())).toBeNull();
  const counting = new Counting();
  for (let i = 0; i < 100; i += 1) counting.query('old', 10, i < 3);
  await blue.query(
    `INSERT INTO pgshift.routers (route, instance, epoch, backend_pid, counters)
     VALUES ('app', 'one', 1, 1, $1)`,
    [JSON.stringify(counting.now)],
  );
  const baseline = await lifelong(slower, places, deps());
  expect(baseline).toBeGreaterThanOrEqual(10);
  expect(baseline).toBeLessThan(15);
  const error = condition({ source: 'router', query: 'error_rate', failWhen: 'value > 2 * baseline' });
  expect(await lifelong(error, places, deps())).toBe(0.03);
  const now = (value: number) =>
    judge(slower, freshCondition, { value, blue: null, green: value, error: null, ageMs: 0 }, baseline ?? null, '')
      .last;
  expect([now(15), now(40)]).toEqual(['passed', 'failed']);
  expect(await lifelong(condition({ source: 'router', query: 'throughput' }), places, deps())).toBeUndefined();
  expect(await lifelong(condition({ source: 'sql', query: 'SELECT 1' }), places, deps())).toBeUndefined();
});
