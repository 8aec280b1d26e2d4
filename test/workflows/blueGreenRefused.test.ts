/**
 * Workflow `blueGreen` with input that is wrong in a way that only the servers show: refused by name, with what to do next, and nothing is left. And what
 * would make a switch lose rows, or hang, is found in time.
 */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { WorkflowHandle } from '@temporalio/client';
import { diffCatalog } from '../../postgres/catalog/diff';
import type { PairWorld } from '../support/blueGreen';
import { missing, pairWorld, startWriters } from '../support/blueGreen';
import { hasVersion } from '../support/database';
import { startGate } from '../support/gate';
import type { Harness } from './harness';
import { failure, harness, reportOf, until } from './harness';
import { drawnTests } from '../support/whole';

const today = drawnTests();

const opened: (() => Promise<unknown>)[] = [];
const keep = <T>(one: T, close: (one: T) => Promise<unknown>): T => {
  opened.push(() => close(one));
  return one;
};
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});
let counter = 0;
const world = async (): Promise<PairWorld> => keep(await pairWorld(), (one) => one.drop());
const worker = async (databases: Readonly<Record<string, string>>): Promise<Harness> =>
  keep(await harness(undefined, {}, databases), (one) => one.close());
const start = (h: Harness, plan: Record<string, unknown>): Promise<WorkflowHandle> => {
  counter += 1;
  return h.client.workflow.start('blueGreen', {
    workflowId: `test/${h.database.name}/${counter}`,
    taskQueue: h.taskQueue,
    args: [plan],
  });
};

/** Both databases are as they were when the run has ended. */
async function leavesNothing(pair: PairWorld, run: () => Promise<unknown>): Promise<void> {
  const before = { blue: await pair.catalog('blue'), green: await pair.catalog('green') };
  await run();
  expect(await pair.left()).toEqual([]);
  for (const side of ['blue', 'green'] as const)
    expect(diffCatalog(before[side], await pair.catalog(side))).toEqual({ added: [], removed: [] });
}

today('one database by two names, a role without REPLICATION, programs of an older major', async () => {
  const pair = await world();
  const role = `weak_${randomBytes(4).toString('hex')}`;
  // All that it needs, but REPLICATION and what a subscription wants.
  await pair.blue.query(
    `CREATE ROLE ${role} LOGIN BYPASSRLS IN ROLE pg_signal_backend, pg_read_all_stats, pg_checkpoint, pg_read_all_data; GRANT postgres TO ${role}`,
  );
  keep(role, () => pair.blue.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`));
  const weak = (url: string): string => url.replace('postgres@', `${role}@`);
  const h = await worker({
    ...pair.databases,
    again: pair.blue.url.replace('127.0.0.1', 'localhost'),
    blue_weak: weak(pair.blue.url),
    green_weak: weak(pair.green.url),
  });
  await leavesNothing(pair, async () => {
    await expect(failure(await start(h, pair.plan({ green: 'again' })))).resolves.toMatchObject({
      type: 'GuardrailFailed',
      message: expect.stringContaining('are the same database') as string,
    });
    const refused = await failure(await start(h, pair.plan({ blue: 'blue_weak', green: 'green_weak' })));
    expect(refused.type).toBe('GuardrailFailed');
    expect(JSON.stringify(refused.details)).toContain(`ALTER ROLE \\"${role}\\" REPLICATION`);
    if (!hasVersion(15)) return;
    const tools = process.env.PGSHIFT_POSTGRES_BIN;
    process.env.PGSHIFT_POSTGRES_BIN = '/usr/lib/postgresql/15/bin';
    try {
      await expect(failure(await start(h, pair.plan()))).resolves.toMatchObject({
        type: 'GuardrailFailed',
        message: expect.stringMatching(/tools \(blue\): pg_dump .* 15\..*, and blue is 18/) as string,
      });
    } finally {
      process.env.PGSHIFT_POSTGRES_BIN = tools;
    }
  });
});

today('a row that is missing on green before the switch: no switch, and nothing is left', async () => {
  const pair = await world();
  const h = await worker(pair.databases);
  // Somebody who passes the wall takes a row away when everything is copied.
  const server = createServer((_, response) => {
    void pair.green
      .query(`SET session_replication_role = replica; DELETE FROM orders WHERE id = 4711`)
      .then(() => response.writeHead(204).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  keep(server, (one) => new Promise((resolve) => one.close(resolve)));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const router = pair.router();
  await router.ready();
  await leavesNothing(pair, async () => {
    const ledger = startWriters(router);
    const handle = await start(h, pair.plan({ hooks: { 'before:validate_green': [{ name: 'thief', url }] } }));
    await expect(failure(handle)).resolves.toMatchObject({
      type: 'RolledBack',
      message: expect.stringContaining('rows differ') as string,
    });
    await ledger.stop();
    expect(ledger.errors).toEqual([]);
    expect(await missing(ledger, pair.blue)).toEqual([]);
    expect((await reportOf(handle)).switches ?? []).toEqual([]);
  });
});

today(
  'a hook that hangs in the pause, and one that lies about it: undone in time, blue takes writes, a later try works',
  async () => {
    const pair = await world();
    const gate = keep(await startGate(pair.urls), (one) => one.close());
    const h = await worker(pair.databases);
    const ledger = startWriters(gate.pool);
    keep(ledger, (one) => Promise.resolve(void one.stop()));
    gate.whenPaused(() => {
      gate.whenPaused(() => {
        gate.lie();
        return Promise.resolve();
      });
      return new Promise<void>(() => undefined);
    });
    const handle = await start(
      h,
      pair.plan({
        traffic: [{ type: 'command', url: gate.url, timeout: '1s' }],
        switch: { maxPause: '3s', maxTransactionAge: '10m', retryAfter: '1s', attempts: 5 },
      }),
    );
    await until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 90_000);
    await ledger.stop();
    const { switches = [] } = await reportOf(handle);
    process.stderr.write(`${switches.map((s) => `${s.outcome} ${s.pausedMs} ms: ${s.because ?? ''}`).join('; ')}\n`);
    expect(switches.map(({ outcome }) => outcome)).toEqual(['undone', 'undone', 'switched']);
    for (const { pausedMs } of switches) expect(pausedMs).toBeLessThan(5_000);
    expect(await missing(ledger, pair.green)).toEqual([]);
    await handle.cancel();
    await expect(failure(handle)).resolves.toMatchObject({ type: 'CancelledFailure' });
    expect(await missing(ledger, pair.blue)).toEqual([]);
    expect(await pair.left()).toEqual([]);
  },
);
