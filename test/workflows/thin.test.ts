import type { Harness } from './harness';
import { failure, harness, reportOf, send, until } from './harness';

const SETUP = `
  CREATE TABLE store (id int PRIMARY KEY, name text);
  INSERT INTO store SELECT i, 'store ' || i FROM generate_series(1, 10) i;
  CREATE TABLE payment (id serial PRIMARY KEY, store_id int, amount numeric(10,2) NOT NULL DEFAULT 0, note text);
  CREATE INDEX payment_amount ON payment (amount);
  INSERT INTO payment (store_id, amount, note) SELECT 1 + i % 10, i / 100.0, 'note ' || i FROM generate_series(1, 5000) i;
  ANALYZE;`;

let h: Harness;
beforeEach(async () => {
  h = await harness(SETUP);
});
afterEach(async () => h.close());

test('a column is added: done in a moment', async () => {
  const began = Date.now();
  const handle = await h.start({ sql: 'ALTER TABLE payment ADD COLUMN tier text' });
  const result = (await handle.result()) as Record<string, unknown>;
  const ms = Date.now() - began;
  expect(result).toMatchObject({ status: 'completed', id: handle.workflowId });
  const report = await reportOf(handle);
  expect(report.status).toBe('completed');
  expect(report.catalogDiff.other).toEqual([]);
  expect(await h.database.query('SELECT status FROM pgshift.migrations')).toEqual([{ status: 'completed' }]);
  expect(ms).toBeLessThan(4_000);
  process.stdout.write(`add column: ${ms} ms; ${JSON.stringify(report.catalogDiff)}\n`);
});

test('type change, index and foreign key, with a manual gate and a hold', async () => {
  const handle = await h.start({
    sql: `ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4);
CREATE INDEX ON payment (note);
ALTER TABLE payment ADD CONSTRAINT payment_store FOREIGN KEY (store_id) REFERENCES store (id);`,
    gates: { contract: 'manual' },
    hold: '1h',
  });
  const waiting = await until(handle, (s) => s.status === 'waiting' || s.endedAt !== null);
  expect(waiting).toMatchObject({ status: 'waiting', phase: 'gate', waitingFor: { type: 'gate', gate: 'contract' } });
  await send(handle, 'approve', { by: 'ann', gate: 'contract' });
  const holding = await until(handle, (s) => s.status === 'holding');
  expect(holding.approvals).toMatchObject([{ gate: 'contract', by: 'ann', verdict: 'approved', via: 'signal' }]);
  expect(
    await h.database.query(
      `SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attname = 'amount'`,
    ),
  ).toEqual([{ type: 'numeric(14,4)' }]);
  await send(handle, 'approve', { by: 'ann', gate: 'cleanup' });
  await handle.result();
  const report = await reportOf(handle);
  expect(report.catalogDiff.other).toEqual([]);
  expect(report.proof.length).toBeGreaterThan(0);
  expect(await h.database.query(`SELECT action, gate, by FROM pgshift.audit ORDER BY id`)).toEqual([
    { action: 'approve', gate: 'contract', by: 'ann' },
    { action: 'approve', gate: 'cleanup', by: 'ann' },
  ]);
});

test('rejected: everything is taken back', async () => {
  const handle = await h.start({
    sql: `ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4);`,
    gates: { contract: 'manual' },
  });
  await until(handle, (s) => s.status === 'waiting');
  await send(handle, 'reject', { by: 'bob', reason: 'not today' });
  const ended = await failure(handle);
  expect(ended).toMatchObject({ type: 'RolledBack', details: { cause: 'Rejected', by: 'bob' } });
  const report = await reportOf(handle);
  expect(report.status).toBe('rolled_back');
  expect(report.catalogDiff).toEqual({ asked: [], other: [] });
});
