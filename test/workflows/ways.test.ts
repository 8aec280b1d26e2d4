import { setTimeout as sleep } from 'node:timers/promises';
import { drawn } from '../support/whole';
import { diffCatalog, fingerprintCatalog } from '../../postgres/catalog/diff';
import type { Harness } from './harness';
import { failure, harness, reportOf, send, until } from './harness';

let h: Harness;
let tables = 0;
beforeAll(async () => {
  h = await harness();
});
afterAll(async () => h.close());

/** A table of its own for each test, with what a type change has to carry along. */
async function table(rows = 3_000): Promise<string> {
  tables += 1;
  const name = `pay${tables}`;
  await h.database.query(`
    CREATE TABLE ${name} (id serial PRIMARY KEY, amount numeric(10,2) NOT NULL DEFAULT 0 CHECK (amount >= 0), note text);
    COMMENT ON COLUMN ${name}.amount IS 'in euro';
    CREATE INDEX ${name}_amount ON ${name} (amount DESC) WHERE amount > 1;
    INSERT INTO ${name} (amount, note) SELECT i / 100.0, 'n' || i FROM generate_series(1, ${rows}) i;
    ANALYZE ${name};`);
  return name;
}

const fingerprint = async (): Promise<string[]> => {
  const client = await h.database.client();
  try {
    return await fingerprintCatalog(client);
  } finally {
    await client.end();
  }
};

const sumOf = async (name: string) => (await h.database.query(`SELECT count(*), sum(amount), max(id) FROM ${name}`))[0];
const retype = (name: string) => `ALTER TABLE ${name} ALTER COLUMN amount TYPE numeric(14,4);`;

const PHASES = ['expand', 'backfill', 'build', 'validate', 'contract'] as const;

describe.each(['cancel', 'rollback'] as const)('%s', (way) => {
  test.each(drawn(PHASES))('before %s: catalogue and rows as before', async (phase) => {
    const name = await table();
    const [before, rows] = [await fingerprint(), await sumOf(name)];
    const handle = await h.start({ sql: retype(name), gates: { [phase]: 'manual' } });
    await until(handle, (s) => s.waitingFor?.gate === phase);
    if (way === 'cancel') await handle.cancel();
    else await send(handle, 'rollback', { by: 'ann', reason: 'changed my mind' });
    const ended = await failure(handle);
    expect(ended.type).toBe(way === 'cancel' ? 'CancelledFailure' : 'RolledBack');
    expect((await reportOf(handle)).status).toBe(way === 'cancel' ? 'cancelled' : 'rolled_back');
    expect(await sumOf(name)).toEqual(rows);
    const diff = diffCatalog(before, await fingerprint());
    expect(diff).toEqual({ added: [], removed: [] });
  });

  test('in the hold: swapped back, what was written since is kept', async () => {
    const name = await table();
    const handle = await h.start({ sql: retype(name), hold: '1h' });
    await until(handle, (s) => s.status === 'holding');
    await h.database.query(`INSERT INTO ${name} (amount, note) VALUES (12.34, 'written since')`);
    const rows = await sumOf(name);
    if (way === 'cancel') await handle.cancel();
    else await send(handle, 'rollback', { by: 'ann' });
    expect((await failure(handle)).type).toBe(way === 'cancel' ? 'CancelledFailure' : 'RolledBack');
    expect(Number((await sumOf(name))?.['sum'])).toBeCloseTo(Number(rows?.['sum']), 4);
    const [row] = await h.database.query(
      `SELECT status, applied_at FROM pgshift.migrations WHERE workflow_id = '${handle.workflowId}'`,
    );
    expect(row).toEqual({ status: 'rolled_back', applied_at: null });
    expect((await reportOf(handle)).catalogDiff).toEqual({ asked: [], other: [] });
  });
});

test('rows that cannot go back are shown first, and a person decides', async () => {
  const name = await table(100);
  await h.database.query(`ALTER TABLE ${name} ALTER COLUMN amount DROP NOT NULL`);
  const handle = await h.start({ sql: retype(name), hold: '1h' });
  await until(handle, (s) => s.status === 'holding');
  await h.database.query(`INSERT INTO ${name} (amount, note) VALUES (1234567890.1234, 'too wide')`);
  await send(handle, 'rollback', { by: 'ann' });
  const asked = await until(handle, (s) => s.waitingFor?.gate === 'rollback');
  expect(asked).toMatchObject({ status: 'rolling_back' });
  expect(asked.waitingFor?.reason).toMatch(/^1 rows have no valid value/);
  await send(handle, 'reject', { by: 'bob', gate: 'rollback', reason: 'that row is money' });
  await until(handle, (s) => s.status === 'holding');
  await send(handle, 'rollback', { by: 'ann', requestId: 'second' });
  await until(handle, (s) => s.waitingFor?.gate === 'rollback');
  await send(handle, 'approve', { by: 'bob', gate: 'rollback' });
  expect((await failure(handle)).type).toBe('RolledBack');
});

test('a way back that fails waits for a person: retry, or leave the change as it is', async () => {
  const name = await table(100);
  const handle = await h.start({ sql: retype(name), hold: '1h' });
  await until(handle, (s) => s.status === 'holding');
  await h.database.query(`INSERT INTO ${name} (amount, note) VALUES (1234567890.1234, 'too wide')`);
  const tryBack = async () => {
    await send(handle, 'rollback', { by: 'ann' });
    await until(handle, (s) => s.waitingFor?.gate === 'rollback');
    await send(handle, 'approve', { by: 'bob', gate: 'rollback' });
    const stuck = await until(handle, (s) => s.waitingFor?.type === 'person');
    expect(stuck.lastError?.code).toBe('ProofFailed');
  };
  await tryBack();
  await send(handle, 'skip', { by: 'bob', target: 'contract.1' });
  await until(handle, (s) => s.status === 'holding');
  await tryBack();
  await h.database.query(`UPDATE ${name} SET amount = 1 WHERE note = 'too wide'`);
  await send(handle, 'retry', { by: 'bob', target: 'contract.1' });
  expect((await failure(handle)).type).toBe('RolledBack');
});

test('cancel and rollback in the middle of a backfill', async () => {
  for (const way of ['cancel', 'rollback'] as const) {
    const name = await table(20_000);
    const [before, rows] = [await fingerprint(), await sumOf(name)];
    const throttle = { batch: { target: '20ms', min: 50, max: 50 } };
    const handle = await h.start({ sql: retype(name), throttle });
    await until(handle, (s) => s.step?.startsWith('backfill') === true);
    await sleep(300);
    if (way === 'cancel') await handle.cancel();
    else await send(handle, 'rollback', { by: 'ann' });
    expect((await failure(handle)).type).toBe(way === 'cancel' ? 'CancelledFailure' : 'RolledBack');
    expect(await sumOf(name)).toEqual(rows);
    expect(diffCatalog(before, await fingerprint())).toEqual({ added: [], removed: [] });
  }
});

test('a step that fails is taken back by itself, or waits for a person', async () => {
  const name = await table(500);
  await h.database.query(`INSERT INTO ${name} (amount, note) VALUES (1, 'n1')`);
  const before = await fingerprint();
  const sql = `CREATE UNIQUE INDEX ${name}_note ON ${name} (note);`;
  const handle = await h.start({ sql });
  const ended = await failure(handle);
  expect(['RolledBack', 'DuplicateRows']).toContain(ended.type);
  expect(diffCatalog(before, await fingerprint())).toEqual({ added: [], removed: [] });
});
