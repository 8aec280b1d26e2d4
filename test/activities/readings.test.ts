/** A source of metrics that lies, hangs, answers NaN, 500 or 50 MB: what it says is never taken for well, and it holds nothing up for longer than it may. */
import { loadConfig } from '../../worker/config';
import { createLogger } from '../../worker/logger';
import { createMetrics } from '../../worker/metrics';
import { read } from '../../activities/readings';
import type { Watched } from '../../plan/model/health';
import { freshCondition, judge } from '../../plan/model/health';
import { DEFAULT_SETTINGS } from '../../plan/model/state';
import { FAULTS, metricServer } from '../support/metricServer';
import type { Fault, MetricServer } from '../support/metricServer';

let server: MetricServer;
beforeAll(async () => {
  server = await metricServer();
});
afterAll(() => server.close());

const condition = (more: Partial<Watched> = {}): Watched => ({
  ...{ name: 'errors', source: 'http', url: server.url, jsonPath: '$.value', failWhen: 'value > 0.05' },
  ...{ interval: '200ms', initialDelay: '0s', failureLimit: 0, consecutiveErrorLimit: 4 },
  ...{ onFail: 'rollback', onInconclusive: 'hold', dryRun: false },
  ...more,
});
const deps = () => ({
  config: loadConfig({ env: { PGSHIFT_DATABASE_APP: 'postgres://u:s3cret@127.0.0.1:1/app' }, useDev: false }),
  log: createLogger('silent'),
  metrics: createMetrics(),
  settings: DEFAULT_SETTINGS,
});
const ask = (c: Watched) => read(c, { database: 'app' }, deps(), { brakes: {} });
const said = (c: Watched, reading: Awaited<ReturnType<typeof ask>>) => judge(c, freshCondition, reading, null, '').last;

const MEANS: Readonly<Record<Fault, 'inconclusive' | 'error'>> = {
  nan: 'inconclusive',
  text: 'inconclusive',
  empty: 'inconclusive',
  nothing: 'error',
  garbage: 'error',
  hang: 'error',
  half: 'error',
  status: 'error',
  redirect: 'error',
  huge: 'error',
  cut: 'error',
};

test.each(FAULTS)('%s is no pass', async (fault) => {
  server.says = fault;
  const before = process.memoryUsage().rss;
  const began = performance.now();
  const reading = await ask(condition());
  expect(performance.now() - began).toBeLessThan(2_500);
  expect(process.memoryUsage().rss - before).toBeLessThan(30_000_000);
  expect([reading.value, said(condition(), reading)]).toEqual([null, MEANS[fault]]);
  expect(JSON.stringify(reading)).not.toContain('127.0.0.1');
});

test('a number is taken at its word, and one over the limit fails', async () => {
  server.says = 0.01;
  expect(said(condition(), await ask(condition()))).toBe('passed');
  server.says = 0.2;
  expect(said(condition(), await ask(condition()))).toBe('failed');
});

test('of a condition that compares sides both are asked, and one that cannot be is an error', async () => {
  server.says = 3;
  const both = condition({ url: `${server.url}?side=$side`, failWhen: 'green > 2 * blue' });
  const before = server.asked;
  const reading = await read(both, { database: 'app', sides: { blue: 'app', green: 'new' } }, deps(), { brakes: {} });
  expect([reading.blue, reading.green, server.asked - before, said(both, reading)]).toEqual([3, 3, 2, 'passed']);
  server.says = 'status';
  const failing = await read(both, { database: 'app', sides: { blue: 'app', green: 'new' } }, deps(), { brakes: {} });
  expect(said(both, failing)).toBe('error');
});

test('a database that is away is an error without its address', async () => {
  const c = condition({ source: 'sql', query: 'SELECT 1' });
  const reading = await ask(c);
  expect([reading.error, said(c, reading)]).toEqual(['Unreachable', 'error']);
});
