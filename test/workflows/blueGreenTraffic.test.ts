/**
 * Workflow `blueGreen` with clients behind a real PgBouncer, a hook of the application's own, and a real HAProxy: there and back under writers. And what
 * it does when a console cannot be reached, or the two servers do not reach each other, in the middle of it.
 */
import type { WorkflowHandle } from '@temporalio/client';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'pg';
import type { Report } from '../../plan/model/status';
import type { Ledger, PairWorld } from '../support/blueGreen';
import { missing, pairWorld, startWriters } from '../support/blueGreen';
import type { FreshDatabase } from '../support/database';
import { hasVersion } from '../support/database';
import { until as eventually } from '../support/engine';
import { startGate } from '../support/gate';
import { hasHaproxy, startHaproxy } from '../support/haproxy';
import { hasPgbouncer, startPgbouncer } from '../support/pgbouncer';
import { drawn } from '../support/whole';
import { wireTo } from '../support/wire';
import type { Harness } from './harness';
import { failure, harness, reportOf, send, statusOf, until } from './harness';

/** What a test opened, closed in the opposite order whatever happened. */
const opened: (() => Promise<unknown>)[] = [];
const keep = <T>(one: T, close: (one: T) => Promise<unknown>): T => {
  opened.push(() => close(one));
  return one;
};
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

const world = async (...of: Parameters<typeof pairWorld>): Promise<PairWorld> =>
  keep(await pairWorld(...of), (one) => one.drop());
const worker = async (of: PairWorld, more: Readonly<Record<string, string>> = {}): Promise<Harness> =>
  keep(await harness(undefined, {}, { ...of.databases, ...more }), (one) => one.close());
const start = (h: Harness, plan: Record<string, unknown>): Promise<WorkflowHandle> =>
  h.client.workflow.start('blueGreen', {
    workflowId: `test/${h.database.name}`,
    taskQueue: h.taskQueue,
    args: [plan],
  });
/** Of a test that fails nobody waits for its writers. */
const writers = (...of: Parameters<typeof startWriters>): Ledger =>
  keep(startWriters(...of), (one) => Promise.resolve(void one.stop()));
const pooled = (connectionString: string, more: { maxUses?: number } = {}): Pool => {
  const pool = new Pool({ connectionString, max: 6, ...more });
  pool.on('error', () => undefined);
  return keep(pool, (one) => one.end());
};
const holding = (handle: WorkflowHandle) =>
  until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 90_000);
const say = (what: string, { switches = [] }: Report): void =>
  void process.stderr.write(
    `${what}: ${switches.map((s) => `${s.purpose} ${s.outcome} ${s.pausedMs} ms`).join(', ')}\n`,
  );
const goneBack = async (handle: WorkflowHandle): Promise<void> => {
  await send(handle, 'rollback', { by: 'ann' });
  await expect(failure(handle)).resolves.toMatchObject({ type: 'RolledBack' });
};
/** Writes go on, whoever leads them. */
const growing = async (ledgers: readonly Ledger[]): Promise<void> => {
  const before = ledgers.map(({ acknowledged }) => acknowledged.size);
  await eventually(() => Promise.resolve(ledgers.every((one, i) => one.acknowledged.size > (before[i] ?? 0) + 5)));
};
/** What the Web UI shows of the run now. */
const detailsOf = async (handle: WorkflowHandle): Promise<string> =>
  (await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata')).currentDetails ?? '';
const address = (database: FreshDatabase): string => new URL(database.url).host;

/** Each takes half a minute: one of them a day, and all of them in CI. */
const today = new Set<string>(drawn(['pgbouncer', 'haproxy', 'network']));
const testOf = (name: string, isThere: boolean) => (title: string, body: () => Promise<void>) => {
  if (today.has(name)) (isThere ? test : test.skip)(title, body);
};

testOf('pgbouncer', hasPgbouncer)(
  'pgbouncer and a hook at once, there and back; a console that goes away half way has the switch undone, and said so',
  async () => {
    const pair = await world();
    const { hostname, port, username } = new URL(pair.blue.url);
    const pooler = keep(
      await startPgbouncer({
        databases: `app = host=${hostname} port=${port} dbname=${pair.blue.name}`,
        user: username,
        users: [pair.role],
      }),
      (one) => one.stop(),
    );
    const wire = keep(await wireTo(pooler.port), (one) => one.close());
    const gate = keep(await startGate(pair.urls), (one) => one.close());
    const h = await worker(pair, { pool: wire.through(pooler.url('pgbouncer')) });
    const ledgers = [writers(pooled(pooler.url('app', pair.role))), writers(gate.pool, 4, 5, 100)];
    const traffic = [
      { type: 'pgbouncer', admin: ['pool'], database: 'app', databasesFile: pooler.databasesFile },
      { type: 'command', url: gate.url },
    ];
    gate.whenPaused(async () => {
      const paused = async () =>
        (await pooler.console('SHOW DATABASES')).some(({ name, paused: is }) => name === 'app' && String(is) === '1');
      await eventually(paused, 3_000);
      await sleep(150);
      wire.cut();
    });
    const handle = await start(h, pair.plan({ traffic }));
    const broken = await until(handle, ({ lastError }) => lastError?.code === 'TrafficFailed', 90_000);
    expect(broken.lastError?.message).toContain('pgbouncer');
    // Blue takes writes although nobody can tell the clients of that console; the others go on meanwhile.
    await eventually(() =>
      pair.blue.query('INSERT INTO writes (client, n) VALUES (99, 1)').then(
        () => true,
        () => false,
      ),
    );
    await growing(ledgers.slice(1));
    expect(gate.state()).toEqual({ target: 'blue', paused: false });
    wire.mend();
    await holding(handle);
    await growing(ledgers);
    const there = await reportOf(handle);
    expect(there.switches?.map(({ outcome }) => outcome)).toEqual(['undone', 'switched']);
    expect(there.switches?.[0]?.because).toContain('pgbouncer');
    expect(there.writableSide).toBe('green');
    await goneBack(handle);
    await growing(ledgers);
    await Promise.all(ledgers.map((one) => one.stop()));
    say('pgbouncer and command', await reportOf(handle));
    for (const one of ledgers) {
      expect(one.errors).toEqual([]);
      expect(await missing(one, pair.blue)).toEqual([]);
    }
    expect(await pair.left()).toEqual([]);
    expect(gate.state()).toEqual({ target: 'blue', paused: false });
  },
);

// Clients of a proxy name their database themselves: two servers, the same name on both.
testOf('haproxy', hasHaproxy && hasVersion(15))(
  'haproxy, from 15 to 18 and back: clients that come again lose nothing that was acknowledged',
  async () => {
    const pair = await world(undefined, [15, 18], { sameName: true });
    const proxy = keep(await startHaproxy([`b ${address(pair.blue)}`, `g ${address(pair.green)} disabled`]), (one) =>
      one.stop(),
    );
    const h = await worker(pair);
    const through = new URL(pair.urls.blue);
    through.port = String(proxy.port);
    // A proxy knows no transactions: each write comes by a connection of its own, and is turned away during the pause.
    const ledger = writers(pooled(through.toString(), { maxUses: 1 }), 4, 20);
    const traffic = [
      { type: 'haproxy', admin: [proxy.socket], backend: 'db', servers: { blue: 'b', green: 'g' }, frontend: 'db_in' },
    ];
    const handle = await start(h, pair.plan({ traffic }));
    await holding(handle);
    await growing([ledger]);
    expect(await pair.green.query(`SELECT 1 FROM writes LIMIT 1`)).toHaveLength(1);
    await goneBack(handle);
    await growing([ledger]);
    await ledger.stop();
    say(`haproxy, ${ledger.errors.length} clients turned away`, await reportOf(handle));
    expect(await missing(ledger, pair.blue)).toEqual([]);
    expect(await pair.left()).toEqual([]);
  },
);

testOf('network', true)(
  'the network between blue and green is cut in the sync, in the middle of the switch, and in the hold',
  async () => {
    const pair = await world();
    const wire = keep(await wireTo(Number(new URL(pair.blue.url).port)), (one) => one.close());
    const gate = keep(await startGate(pair.urls), (one) => one.close());
    // The worker reaches both all the time; only the servers do not reach each other.
    const h = await worker(pair, {
      blue_from_peer: wire.through(pair.blue.url),
      green_from_peer: wire.through(pair.green.url),
    });
    const ledger = writers(gate.pool);
    gate.whenPaused(() => Promise.resolve(wire.cut()));
    const handle = await start(
      h,
      pair.plan({
        traffic: [{ type: 'command', url: gate.url }],
        switch: { maxPause: '1500ms', maxTransactionAge: '10m', retryAfter: '2s' },
      }),
    );
    await until(handle, ({ phase }) => phase === 'create_green' || phase === 'sync', 60_000);
    wire.cut();
    await until(handle, ({ phase }) => phase === 'sync', 60_000);
    await sleep(2_000);
    expect((await statusOf(handle)).phase).toBe('sync');
    wire.mend();
    const undone = await until(handle, ({ waitingFor }) => waitingFor?.reason.includes('was undone') === true, 60_000);
    expect(undone).toMatchObject({ writableSide: 'blue', lastError: { code: 'SwitchOverran' } });
    await growing([ledger]);
    wire.mend();
    await holding(handle);
    wire.cut();
    await eventually(async () => (await detailsOf(handle)).includes('replication: '), 30_000);
    await growing([ledger]);
    wire.mend();
    await goneBack(handle);
    await growing([ledger]);
    await ledger.stop();
    say('network', await reportOf(handle));
    expect(ledger.errors).toEqual([]);
    expect(await missing(ledger, pair.blue)).toEqual([]);
    expect((await reportOf(handle)).switches?.map(({ outcome }) => outcome)).toEqual([
      'undone',
      'switched',
      'switched',
    ]);
    expect(await pair.left()).toEqual([]);
  },
);
