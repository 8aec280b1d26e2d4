/** The writer's ledger sees a lost write; its figures count a stall for everything that waited behind it. */
import { percentile } from '../../../client/demo/latency';
import { planGrowth } from '../../../client/demo/growth';
import { readTables } from '../../../client/demo/dumpTables';
import { makeSample } from '../../../client/demo/sample';
import { makeWorkload } from '../../../client/demo/workload';
import { Writer } from '../../../client/demo/writer';
import { freshDatabase } from '../../support/database';
import type { FreshDatabase } from '../../support/database';

describe('the writer', () => {
  let database: FreshDatabase;
  let writer: Writer;

  beforeAll(async () => {
    database = await freshDatabase(18);
    const client = await database.client();
    await makeSample(client, { payments: 3_000 });
    const table = (await readTables(client)).find((t) => t.name === 'payment');
    const growth = table ? planGrowth(table, 3_000) : 'missing';
    if (typeof growth === 'string') throw new Error(growth);
    writer = await Writer.start(database.url, await makeWorkload(client, growth, 'amount'));
  });
  afterAll(async () => {
    writer.kill();
    await database.drop();
  });

  test('measures stalls, counts cached plans, and finds the write that is not there', async () => {
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const whole = await writer.check();
    expect(whole.acknowledged).toBeGreaterThan(50);
    expect(whole.wrong).toBe(0);

    writer.period('during');
    const client = await database.client();
    await client.query('BEGIN');
    await client.query('LOCK TABLE payment IN ACCESS EXCLUSIVE MODE');
    await new Promise((resolve) => setTimeout(resolve, 400));
    await client.query('DROP VIEW revenue_by_month');
    await client.query('ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4)');
    await client.query('COMMIT');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect((await writer.check()).wrong).toBe(0);

    await client.query('UPDATE payment SET amount = 77');
    expect((await writer.check()).wrong).toBeGreaterThan(0);

    const periods = await writer.stop();
    const [before, during] = periods;
    expect(periods.map((p) => p.period)).toEqual(['before', 'during']);
    expect(during?.longestMs).toBeGreaterThan(390);
    expect(during?.longestMs).toBeGreaterThan(before?.longestMs ?? Infinity);
    expect([before?.errors, during?.errors]).toEqual([{}, {}]);
    expect(during?.cachedPlans).toBeGreaterThan(0);
    expect(during?.cachedPlansPerStatement).toBe(1);
  });
});

test('percentiles are those of the sorted values', () => {
  const values = Array.from({ length: 200 }, (_, i) => i + 1);
  expect([percentile(values, 0.5), percentile(values, 0.99), percentile([], 0.5)]).toEqual([100, 198, 0]);
});
