/** The end of a switch whose old side is to go: who still uses it is waited for and named, it is archived first, and a person may leave it as it is. */
import type { WorkflowHandle } from '@temporalio/client';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { pairWorld } from '../support/blueGreen';
import type { PairWorld } from '../support/blueGreen';
import type { Harness } from './harness';
import { failure, harness, reportOf, send, statusOf, until } from './harness';
import { drawnTests } from '../support/whole';

const today = drawnTests();

let world: PairWorld;
let h: Harness;
let directory: string;
const clients = new Set<Client>();
beforeEach(async () => {
  world = await pairWorld(`CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)`);
  // Looks are shorter than the time for which nobody may be there: each goes on where the one before it ended.
  h = await harness(undefined, { watchMs: 1_500 }, world.databases);
  directory = mkdtempSync(join(tmpdir(), 'pgshift-archive-'));
});
afterEach(async () => {
  for (const one of clients) await one.end().catch(() => undefined);
  clients.clear();
  await h.close();
  await world.drop();
  rmSync(directory, { recursive: true, force: true });
});

/** As somebody whom the fence does not keep out. */
const client = async (): Promise<Client> => {
  const one = new Client({ connectionString: world.blue.url, application_name: 'metabase' });
  one.on('error', () => undefined);
  await one.connect();
  clients.add(one);
  return one;
};
/** In the hold, and told to end it. */
const ending = async (more: Readonly<Record<string, unknown>>): Promise<WorkflowHandle> => {
  const handle = await h.client.workflow.start('blueGreen', {
    workflowId: `test/${h.database.name}`,
    taskQueue: h.taskQueue,
    args: [
      world.plan({ unused: '2s', archive: { method: 'pg-dump', directory }, monitor: { duration: '0s' }, ...more }),
    ],
  });
  await until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 90_000);
  return handle;
};
const end = (handle: WorkflowHandle) => send(handle, 'approve', { by: 'ann', gate: 'cleanup' });
const used = (handle: WorkflowHandle) =>
  until(handle, ({ waitingFor }) => waitingFor?.reason.includes('still used by') === true, 30_000);
const databases = async (): Promise<string[]> =>
  (
    await world.green.query<{ name: string }>(
      `SELECT datname::text AS name FROM pg_database WHERE datname LIKE '${world.blue.name}%'`,
    )
  ).map(({ name }) => name);

today(
  'a side that is used is not dropped, whoever uses it is named, and the way back stays until they are gone; then it is archived',
  async () => {
    const handle = await ending({ decommission: 'drop' });
    const reporting = await client();
    await end(handle);
    const waits = await used(handle);
    expect(waits).toMatchObject({
      phase: 'decommission',
      status: 'waiting',
      wayBack: { possible: true, lossless: true },
      waitingFor: { type: 'person', reason: expect.stringContaining('application metabase): 1 session') as string },
    });
    await sleep(4_000);
    expect(await statusOf(handle)).toMatchObject({ status: 'waiting', waitingFor: { type: 'person' } });
    expect((await reporting.query('SELECT count(*)::int AS n FROM orders')).rows).toEqual([{ n: 1 }]);
    expect(await databases()).toEqual([world.blue.name]);
    await reporting.end();
    await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
    expect(await databases()).toEqual([]);
    const { measured } = await reportOf(handle);
    const { reference, bytes } = measured['archive'] as { reference: string; bytes: number };
    expect(existsSync(join(directory, reference))).toBe(true);
    expect(statSync(join(directory, reference)).size).toBe(bytes);
  },
  180_000,
);

today(
  'from there everything goes back: nothing was given up for those who still use the old side',
  async () => {
    const handle = await ending({ decommission: 'rename' });
    await client();
    await end(handle);
    await used(handle);
    await world.green.query('INSERT INTO orders VALUES (2)');
    await send(handle, 'rollback', { by: 'ann' });
    await expect(failure(handle)).resolves.toMatchObject({ type: 'RolledBack' });
    expect(await world.blue.query('SELECT id FROM orders ORDER BY 1')).toEqual([{ id: 1 }, { id: 2 }]);
    expect(await world.left()).toEqual([]);
  },
  180_000,
);

today(
  'nobody was seen for long, and a cancel: the last look goes on in new histories, and takes nothing back',
  async () => {
    await h.close();
    h = await harness(undefined, { watchMs: 500, continueAsNewEvents: 40 }, world.databases);
    const handle = await ending({ decommission: 'rename', archive: 'none', unused: '3s' });
    await end(handle);
    await until(handle, ({ wayBack }) => !wayBack.possible, 60_000);
    const someone = await client();
    await used(handle);
    const runOf = async () => (await handle.describe()).runId;
    const before = await runOf();
    for (let i = 0; (await runOf()) === before; i += 1) {
      if (i > 300) throw new Error('it never continued as new');
      await sleep(100);
    }
    await handle.cancel();
    await sleep(3_000);
    expect(await databases()).toEqual([world.blue.name]);
    expect(await statusOf(handle)).toMatchObject({ phase: 'decommission', wayBack: { possible: false } });
    await someone.end();
    await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
    expect(await databases()).toEqual([`${world.blue.name}_old`]);
  },
  240_000,
);

today(
  'a person leaves it as it is; who comes and goes between two looks was seen, too',
  async () => {
    const handle = await ending({ decommission: 'drop', unused: '6s' });
    await end(handle);
    // From when nothing of pgshift is connected there any more.
    await until(handle, ({ wayBack }) => !wayBack.possible, 60_000);
    let over = false;
    const coming = (async () => {
      while (!over) {
        const one = await client();
        await one.end();
        await sleep(2_000);
      }
    })();
    const waits = await used(handle);
    expect(waits.waitingFor?.reason).toMatch(/sessions that come and go|application metabase/);
    await send(handle, 'skip', { by: 'ann', target: 'blue' });
    await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
    over = true;
    await coming;
    expect(await databases()).toEqual([world.blue.name]);
    expect((await reportOf(handle)).measured['blue']).toBe('left as it is');
  },
  180_000,
);
