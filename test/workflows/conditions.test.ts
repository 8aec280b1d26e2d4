import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findPostgresBin } from '../../worker/embedded/tools';
import { drawnTests } from '../support/whole';
import type { Harness } from './harness';

const often = drawnTests();
import { failure, harness, reportOf, send, statusOf, until } from './harness';

let h: Harness;
let tables = 0;
beforeAll(async () => {
  process.env.PGSHIFT_POSTGRES_BIN ??= (await findPostgresBin()).path;
  h = await harness('CREATE TABLE reading (value float8); INSERT INTO reading VALUES (1);', { watchMs: 2_000 });
});
afterAll(async () => h.close());

async function table(rows = 100): Promise<string> {
  tables += 1;
  const name = `con${tables}`;
  await h.database.query(
    `CREATE TABLE ${name} (id serial PRIMARY KEY, amount numeric(10,2) NOT NULL DEFAULT 0);
     INSERT INTO ${name} (amount) SELECT i / 100.0 FROM generate_series(1, ${rows}) i; ANALYZE ${name};`,
  );
  return name;
}
const retype = (name: string) => `ALTER TABLE ${name} ALTER COLUMN amount TYPE numeric(14,4);`;
const set = (value: number | null) => h.database.query(`UPDATE reading SET value = ${value ?? 'NULL'}`);
const condition = { name: 'errors', source: 'sql', query: 'SELECT value FROM reading', interval: '100ms' };
beforeEach(() => set(1));

often('a health condition that fails while a gate waits takes the change back, with reason and time', async () => {
  const name = await table();
  const handle = await h.start({
    sql: retype(name),
    gates: { contract: 'manual' },
    health: [{ ...condition, failWhen: 'value > 5' }],
    hooks: { 'after:validate': [{ name: 'tells', run: ['false'], onFail: 'ignore' }] },
  });
  await until(handle, (s) => s.status === 'waiting');
  await set(9);
  const ended = await failure(handle);
  expect(ended).toMatchObject({ type: 'RolledBack', details: { cause: 'HealthFailed' } });
  expect(ended.message).toContain('errors: value > 5 (value 9)');
  // The hook that failed and was ignored is not why.
  expect((await statusOf(handle)).lastError).toMatchObject({ code: 'HealthFailed', message: ended.message });
  expect((await reportOf(handle)).health.at(-1)).toMatchObject({ name: 'errors', verdict: 'failed', value: 9 });
});

often('failures are counted, pause waits for a person, alert does nothing', async () => {
  const name = await table();
  const handle = await h.start({
    sql: retype(name),
    gates: { contract: 'manual' },
    hold: '0s',
    health: [
      { ...condition, failWhen: 'value > 5', failureLimit: 2, onFail: 'pause' },
      { ...condition, name: 'alerting', failWhen: 'value > 2', onFail: 'alert' },
    ],
  });
  await until(handle, (s) => s.status === 'waiting');
  await set(9);
  await until(handle, (s) => s.status === 'paused');
  await send(handle, 'approve', { by: 'ann' });
  const paused = await until(handle, (s) => s.waitingFor?.type === 'health');
  expect(paused).toMatchObject({ status: 'paused' });
  await set(1);
  await send(handle, 'resume', { by: 'ann' });
  await handle.result();
});

often('what is not known holds back the contract, until it is known', async () => {
  const name = await table();
  await set(null);
  const handle = await h.start({ sql: retype(name), hold: '0s', health: [{ ...condition, failWhen: 'value > 5' }] });
  const waiting = await until(handle, (s) => s.waitingFor?.type === 'health');
  expect(waiting.waitingFor?.reason).toContain('not known to be well: errors');
  await set(1);
  await handle.result();
});

often('a condition that cannot be read is an error, and too many errors fail', async () => {
  const name = await table();
  const handle = await h.start({
    sql: retype(name),
    gates: { contract: 'manual' },
    health: [{ ...condition, query: 'SELECT nothing FROM nowhere', failWhen: 'value > 5', consecutiveErrorLimit: 2 }],
  });
  const ended = await failure(handle);
  expect(ended).toMatchObject({ type: 'RolledBack', details: { cause: 'HealthFailed' } });
  expect(ended.message).toBe('errors: could not be read 3 times in a row');
});

often('a baseline is measured before the first step, and compared with', async () => {
  const name = await table();
  await set(10);
  const handle = await h.start({
    sql: retype(name),
    gates: { contract: 'manual' },
    health: [{ ...condition, failWhen: 'value > 1.5 * baseline' }],
  });
  await until(handle, (s) => s.status === 'waiting');
  await set(14);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect((await statusOf(handle)).status).toBe('waiting');
  await set(16);
  expect(await failure(handle)).toMatchObject({ details: { cause: 'HealthFailed' } });
});

often('a metric gate opens by itself', async () => {
  const name = await table();
  await set(50);
  const gate = {
    type: 'metric',
    ...condition,
    name: 'quiet',
    successWhen: 'value < 10',
    failWhen: 'value > 1000',
    count: 2,
    onInconclusive: 'ignore',
  };
  const handle = await h.start({ sql: retype(name), gates: { contract: gate }, hold: '0s' });
  const waiting = await until(handle, (s) => s.status === 'waiting');
  expect(waiting.waitingFor).toMatchObject({ type: 'gate', gate: 'contract' });
  await set(3);
  await handle.result();
  expect((await reportOf(handle)).approvals).toMatchObject([{ gate: 'contract', verdict: 'opened', by: 'pgshift' }]);
});

often('HTTP conditions and hooks: called once with a key, and a hook that fails stops the run', async () => {
  const calls: Record<string, unknown>[] = [];
  let answer = 500;
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      if (request.method === 'POST') calls.push(JSON.parse(body) as Record<string, unknown>);
      response.writeHead(request.method === 'POST' ? answer : 200).end('{"data":{"items":[{"load":0.5}]}}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const folder = mkdtempSync(join(tmpdir(), 'pgshift-hook-'));
  const plan = async (name: string) => ({
    sql: retype(name),
    hold: '0s',
    health: [
      {
        name: 'load',
        source: 'http',
        url,
        jsonPath: '$.data.items[0].load',
        successWhen: 'value < 1',
        interval: '100ms',
      },
    ],
    hooks: {
      'before:contract': [{ name: 'tell', url }],
      'after:contract': [{ name: 'note', run: ['sh', '-c', `env | grep ^PGSHIFT_ | sort > ${folder}/seen`] }],
      'after:cleanup': [{ name: 'never mind', run: ['/nowhere/at/all'], onFail: 'ignore' }],
    },
  });
  const refused = await h.start(await plan(await table()));
  expect(await failure(refused)).toMatchObject({ type: 'RolledBack', details: { cause: 'HookFailed' } });
  expect(new Set(calls.map((call) => call['idempotencyKey'])).size).toBe(1);
  expect(calls.length).toBeGreaterThan(1);
  answer = 204;
  const handle = await h.start(await plan(await table()));
  await handle.result();
  const seen = readFileSync(join(folder, 'seen'), 'utf8');
  expect(seen).toContain('PGSHIFT_HOOK=after:contract');
  expect(seen).toContain('PGSHIFT_PHASE=contract');
  expect(seen).not.toContain('PGSHIFT_DATABASE_');
  server.close();
});

often('a window: waits for it, and says until when', async () => {
  const name = await table();
  const far = new Date(Date.now() + 5 * 86_400_000);
  const window = { cron: `0 3 ${far.getUTCDate()} ${far.getUTCMonth() + 1} *`, duration: '1h' };
  const handle = await h.start({ sql: retype(name), window });
  const waiting = await until(handle, (s) => s.waitingFor?.type === 'window');
  expect(waiting).toMatchObject({ status: 'waiting', phase: 'gate' });
  expect(Date.parse(waiting.waitingFor?.until ?? '')).toBeGreaterThan(Date.now());
  await send(handle, 'rollback', { by: 'ann' });
  expect((await failure(handle)).type).toBe('RolledBack');
  const open = await h.start({ sql: retype(await table()), window: { cron: '* * * * *', duration: '2m' }, hold: '0s' });
  await open.result();
});

often('timeout: the way back, or a person', async () => {
  const throttle = { batch: { target: '20ms', min: 10, max: 10 } };
  // 40,000 rows by tens: thousands of transactions, so that no machine is done within the timeout.
  const handle = await h.start({ sql: retype(await table(40_000)), throttle, timeout: '1500ms' });
  expect(await failure(handle)).toMatchObject({ type: 'RolledBack', details: { cause: 'Timeout' } });
  const name = await table(40_000);
  const asks = await h.start({ sql: retype(name), throttle, timeout: '1500ms', onFailure: 'pause', hold: '0s' });
  const waiting = await until(asks, (s) => s.waitingFor?.type === 'person');
  expect(waiting).toMatchObject({ status: 'paused', lastError: { code: 'Timeout' } });
  await asks.executeUpdate('tune', { args: [{ by: 'ann', timeout: '1h', throttle: 'none' }] });
  await send(asks, 'retry', { by: 'ann', target: waiting.waitingFor?.reason.split(' ')[0] ?? '' });
  await asks.result();
});

often('mode safe makes a backup and proves it', async () => {
  const handle = await h.start({ sql: retype(await table()), mode: 'safe', hold: '0s' });
  await handle.result();
  expect((await reportOf(handle)).measured['backup']).toMatchObject({ bytes: expect.any(Number) });
});
