/** Clients behind a real HAProxy, moved between two real servers. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import type { HaproxyAdapterPlan } from '../../plan/model/traffic';
import { haproxyAdapter } from '../../plan/model/traffic';
import { target } from '../../postgres/types';
import { haproxyTraffic } from '../../traffic/haproxy/adapter';
import { mayHoldFrontend } from '../../traffic/haproxy/api';
import type { TrafficAdapter, TrafficCall } from '../../traffic/types';
import type { FreshDatabase } from '../support/database';
import { adminUrl, freshDatabase, hasVersion } from '../support/database';
import { codeOf } from '../support/engine';
import type { Haproxy } from '../support/haproxy';
import { describeHaproxy, startHaproxy } from '../support/haproxy';
import { countWrites } from '../support/writers';

const call = (deadlineMs = 5_000): TrafficCall => ({
  idempotencyKey: 'w/r/switch',
  deadlineMs,
  signal: new AbortController().signal,
});

describe('HAProxy versions', () => {
  test.each([
    ['2.6.12-1+deb12u4', false],
    ['2.6.20', true],
    ['2.4.99', false],
    ['2.8.12-abc', true],
    ['3.0.5', false],
    ['3.0.6', true],
    ['3.2.1', true],
    ['4.0', true],
    ['', false],
  ])('%s may hold a frontend: %s', (version, may) => expect(mayHoldFrontend(version)).toBe(may));
});

// Two servers: blue is 18, green 15. A database of the same name is made on both.
(hasVersion(15) ? describeHaproxy : describe.skip)('haproxy', () => {
  let blue: FreshDatabase;
  let green: FreshDatabase;
  let proxy: Haproxy;
  const adapters: TrafficAdapter[] = [];
  const clients = new Set<Client>();
  const SETUP =
    'CREATE TABLE writes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, client int NOT NULL, n int NOT NULL)';

  const place = (one: FreshDatabase): string => new URL(one.url).host;
  beforeEach(async () => {
    [blue, green] = await Promise.all([freshDatabase(18, SETUP), freshDatabase(15, SETUP)]);
    // Clients name one database, wherever they are led.
    await green.query(`CREATE DATABASE ${blue.name}`).then(() => onGreen(SETUP));
  });
  afterEach(async () => {
    await Promise.all([...clients].map((one) => one.end().catch(() => undefined)));
    clients.clear();
    await Promise.all(adapters.splice(0).map((one) => one.close()));
    await proxy.stop();
    await green.query(`DROP DATABASE ${blue.name} WITH (FORCE)`);
    await Promise.all([blue.drop(), green.drop()]);
  });

  const onGreen = async (sql: string): Promise<{ n: number }[]> => {
    const url = new URL(adminUrl(15) ?? '');
    url.pathname = `/${blue.name}`;
    const client = new Client({ connectionString: url.toString() });
    await client.connect();
    try {
      return (await client.query<{ n: number }>(sql)).rows;
    } finally {
      await client.end();
    }
  };
  const adapter = (more: Partial<HaproxyAdapterPlan> = {}): TrafficAdapter => {
    const made = haproxyTraffic(
      haproxyAdapter.parse({
        type: 'haproxy',
        admin: [proxy.socket],
        backend: 'db',
        servers: { blue: 'b', green: 'g' },
        ...more,
      }),
      { sides: { blue: target('blue', blue.url), green: target('green', green.url) }, log: () => undefined },
    );
    adapters.push(made);
    return made;
  };
  const client = async (): Promise<Client> => {
    const url = new URL(blue.url);
    url.port = String(proxy.port);
    const one = new Client({ connectionString: url.toString() });
    one.on('error', () => undefined);
    await one.connect();
    clients.add(one);
    return one;
  };
  const versionOf = async (one: Client): Promise<number> =>
    (await one.query<{ v: number }>(`SELECT current_setting('server_version_num')::int / 10000 AS v`)).rows[0]?.v ?? 0;

  /** Connects for each write, again and again while the balancer turns it away; what was begun must be acknowledged. */
  const writer = async (n: number, isOver: () => boolean): Promise<number> => {
    let written = 0;
    while (!isOver()) {
      const one = await client().catch(() => null);
      if (one === null) {
        await sleep(20);
        continue;
      }
      await one.query('INSERT INTO writes (client, n) VALUES ($1, $2)', [n, written]);
      written++;
      await one.end();
      clients.delete(one);
    }
    return written;
  };

  test.each([
    ['two servers', () => [`b ${place(blue)}`, `g ${place(green)} disabled`], {}],
    ['one server whose address is set', () => [`s ${place(blue)}`], { servers: { blue: 's', green: 's' } }],
  ])('%s: no write that was begun fails, and none is lost', async (_, servers, more) => {
    proxy = await startHaproxy(servers());
    const traffic = adapter(more);
    expect((await traffic.check(call())).filter(({ level }) => level === 'error')).toEqual([]);
    expect(await traffic.status(call())).toEqual({ target: 'blue', paused: false, drained: false, because: null });
    let over = false;
    const writers = Array.from({ length: 4 }, (__, n) => writer(n, () => over));
    const work = Promise.all(writers);
    for (const side of ['green', 'blue', 'green'] as const) {
      await sleep(300);
      expect(await traffic.pause(call())).toMatchObject({ paused: true, drained: true });
      for (let again = 0; again < 2; again++)
        expect(await traffic.point(side, call())).toEqual({ target: side, paused: true, drained: true, because: null });
      for (let again = 0; again < 2; again++)
        expect(await traffic.resume(call())).toMatchObject({ target: side, paused: false });
    }
    await sleep(300);
    over = true;
    const written = (await work).reduce((sum, n) => sum + n, 0);
    const [row] = await onGreen('SELECT count(*)::int AS n FROM writes');
    const there = await countWrites(blue);
    expect(there + (row?.n ?? 0)).toBe(written);
    expect(Math.min(there, row?.n ?? 0)).toBeGreaterThan(0);
  });

  test('sessions that do not end by themselves are shut down; a session never crosses over', async () => {
    proxy = await startHaproxy([`b ${place(blue)}`, `g ${place(green)} disabled`]);
    const traffic = adapter({ drain: '200ms' });
    const idle = await client();
    expect(await versionOf(idle)).toBe(18);
    const from = performance.now();
    expect(await traffic.pause(call())).toMatchObject({ target: 'blue', drained: true });
    expect(performance.now() - from).toBeGreaterThan(150);
    await expect(idle.query('SELECT 1')).rejects.toThrow();
    await expect(client()).rejects.toThrow(); // turned away: this HAProxy cannot hold it
    await traffic.point('green', call());
    await traffic.resume(call());
    expect(await versionOf(await client())).toBe(15);
    // Taken back from any point, by somebody who knows nothing of it.
    expect(await adapter().undo('blue', call())).toMatchObject({ target: 'blue', paused: false });
    expect(await versionOf(await client())).toBe(18);
    await traffic.pause(call());
    expect(await adapter().undo('blue', call())).toMatchObject({ target: 'blue', paused: false });
    expect(await versionOf(await client())).toBe(18);
  });

  test('clients of a held frontend wait, where the version can', async () => {
    proxy = await startHaproxy([`b ${place(blue)}`, `g ${place(green)} disabled`]);
    const traffic = adapter({ frontend: 'db_in' });
    const warned = (await traffic.check(call())).some(({ check }) => check === 'haproxy.frontend');
    await traffic.pause(call());
    const waiting = client().then(versionOf, () => 'turned away');
    await sleep(200);
    await traffic.point('green', call());
    await traffic.resume(call());
    expect(await waiting).toBe(warned ? 'turned away' : 15);
    expect(await versionOf(await client())).toBe(15);
  });

  test('finds what would spoil a switch, and says what cannot be done', async () => {
    proxy = await startHaproxy([`b ${place(blue)}`, `g ${place(green)}`]);
    const checks = async (of: TrafficAdapter) =>
      (await of.check(call())).filter(({ level }) => level === 'error').map(({ check }) => check);
    expect(await checks(adapter())).toEqual(['haproxy.servers']);
    expect(await codeOf(adapter().pause(call()))).toBe('TrafficFailed');
    expect(await checks(adapter({ backend: 'none' }))).toEqual(['haproxy.runtime']);
    expect(await checks(adapter({ servers: { blue: 'b', green: 'none' } }))).toEqual(['haproxy.runtime']);
    expect(await checks(adapter({ admin: ['/nowhere.sock'] }))).toEqual(['haproxy.runtime']);
    expect(await codeOf(adapter({ admin: ['127.0.0.1:1'] }).status(call()))).toBe('TrafficFailed');
  });
});
