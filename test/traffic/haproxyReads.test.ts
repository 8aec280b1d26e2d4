/** A share of reads through a real HAProxy: it follows the weights, comes home when nobody says that green is near, and goes with the writes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { haproxyAdapter } from '../../plan/model/traffic';
import { target } from '../../postgres/types';
import { haproxyTraffic } from '../../traffic/haproxy/adapter';
import type { ShareAsked, TrafficAdapter, TrafficCall } from '../../traffic/types';
import { pairWorld } from '../support/blueGreen';
import type { PairWorld } from '../support/blueGreen';
import { hasVersion } from '../support/database';
import { codeOf } from '../support/engine';
import { describeHaproxy } from '../support/haproxy';
import { startGateway } from '../support/readsGateway';
import type { Gateway } from '../support/readsGateway';

const call = (deadlineMs = 4_000): TrafficCall => ({
  ...{ idempotencyKey: 'w/r/share', deadlineMs, signal: new AbortController().signal },
});
const asked = (number: number, percent: number | null): ShareAsked => ({
  ...{ run: 'r', number },
  share: percent === null ? null : { salt: 's', percent, keys: [], moves: 'reads' },
});

// Blue is 18, green 15: clients name one database, wherever they are led.
(hasVersion(15) ? describeHaproxy : describe.skip)('reads through HAProxy', () => {
  let world: PairWorld;
  let gateway: Gateway;
  const made: TrafficAdapter[] = [];
  const kept: (() => Promise<void>)[] = [];
  beforeEach(async () => {
    world = await pairWorld('SELECT 1', [18, 15], { sameName: true });
  });
  afterEach(async () => {
    for (const kill of kept.splice(0)) await kill();
    await Promise.all(made.splice(0).map((one) => one.close()));
    await gateway.stop();
    await world.drop();
  });
  const adapter = (more: object = {}, turned = false): TrafficAdapter => {
    const [blue, green] = turned ? [world.green, world.blue] : [world.blue, world.green];
    const sides = { blue: target('blue', blue.url), green: target('green', green.url) };
    const one = haproxyTraffic(haproxyAdapter.parse({ ...gateway.traffic, ...more }), { sides, log: () => undefined });
    made.push(one);
    return one;
  };
  const problems = async (of: TrafficAdapter) =>
    (await of.check(call())).filter(({ level }) => level === 'error').map(({ check }) => check);
  /** As a run does beside its stages, until it is killed. */
  const keeping = (of: TrafficAdapter, ms: number) => {
    const killed = new AbortController();
    const looks = (async () => {
      while (!killed.signal.aborted) {
        await of.keepFresh?.(ms, call());
        await sleep(ms / 4);
      }
    })();
    const kill = async (): Promise<void> => {
      killed.abort();
      await looks.catch(() => undefined); // of a test that failed
    };
    kept.push(kill);
    return kill;
  };

  test('a share goes over, comes home when pgshift is gone or says so, and everybody follows the writes', async () => {
    gateway = await startGateway(world);
    const traffic = adapter();
    expect(await problems(traffic)).toEqual([]);
    expect(await gateway.spread(20)).toEqual({ 18: 20 });

    // Weights alone send nobody: green is not known to be near.
    expect(await traffic.share?.(asked(1, 20), call(1_000))).toEqual({ alive: 1, heard: 0 });
    expect(await gateway.spread(10)).toEqual({ 18: 10 });
    let kill = keeping(traffic, 2_000);
    expect(await traffic.share?.(asked(2, 20), call())).toEqual({ alive: 1, heard: 1 });
    expect(await gateway.spread(50)).toEqual({ 18: 40, 15: 10 });

    // Killed: nobody says anything any more, and whoever was open there is sent away.
    const readers = await Promise.all(Array.from({ length: 10 }, () => gateway.reader()));
    const there = readers.filter(({ version }) => version === 15);
    expect(there.length).toBeGreaterThan(0);
    await kill();
    const began = performance.now();
    while (Object.keys(await gateway.spread(5)).includes('15')) {
      if (performance.now() - began > 4_000) throw new Error('reads never came home');
    }
    const homeMs = performance.now() - began;
    expect(homeMs).toBeLessThan(2_500);
    for (const { client } of there) await expect(client.query('SELECT 1')).rejects.toThrow();
    const stayed = readers.filter(({ version }) => version === 18);
    for (const { client } of stayed) await client.query('SELECT 1');
    process.stderr.write(`reads were home ${Math.round(homeMs)} ms after the last word\n`);

    // Said: at once, and for those that are open there.
    kill = keeping(traffic, 2_000);
    expect(await traffic.share?.(asked(3, 50), call())).toEqual({ alive: 1, heard: 1 });
    const again = await Promise.all(Array.from({ length: 6 }, () => gateway.reader()));
    expect(again.filter(({ version }) => version === 15)).toHaveLength(3);
    await kill();
    expect(await traffic.share?.(asked(4, null), call())).toEqual({ alive: 1, heard: 1 });
    expect(await gateway.spread(20)).toEqual({ 18: 20 });
    await sleep(50);
    for (const { client, version } of again)
      if (version === 15) await expect(client.query('SELECT 1')).rejects.toThrow();
      else await client.query('SELECT 1');
    // A change that was given up and comes late sends nobody anywhere.
    expect(await codeOf(traffic.share?.(asked(3, 50), call()) ?? Promise.resolve())).toBe('FenceBroken');
    expect(await gateway.spread(10)).toEqual({ 18: 10 });

    // The writes go over, and the reads with them, without anybody's saying that green is near; and back.
    for (const side of ['green', 'blue'] as const) {
      await traffic.pause(call());
      await traffic.point(side, call());
      await traffic.resume(call());
      await sleep(500);
      expect(await gateway.spread(10)).toEqual(side === 'green' ? { 15: 10 } : { 18: 10 });
    }
  });

  test('a proxy that was started again and knows nothing is told within a look', async () => {
    gateway = await startGateway(world);
    const traffic = adapter();
    const kill = keeping(traffic, 2_000);
    expect(await traffic.share?.(asked(1, 50), call())).toEqual({ alive: 1, heard: 1 });
    await gateway.proxy.kill();
    await gateway.proxy.start();
    await sleep(1_500);
    const spread = await gateway.spread(20);
    expect(Math.abs((spread[15] ?? 0) - 10)).toBeLessThan(2);
    await kill();
  });

  test.each([
    ['GREEN:PORT weight 0', 'haproxy.reads_check'],
    // Down, but nothing says that it would be if nobody said that green is near.
    ['127.0.0.1:1 weight 0 check inter 100ms fall 1', 'haproxy.reads_check'],
    ['GREEN:PORT weight 0 disabled', 'haproxy.reads'],
  ])('a proxy that does not ask green by itself is refused before anything is sent there: %s', async (line, check) => {
    gateway = await startGateway(world, line);
    expect(await problems(adapter())).toEqual([check]);
  });

  test('everybody goes home also when one of two proxies cannot be told', async () => {
    gateway = await startGateway(world);
    const there = adapter();
    const kill = keeping(there, 2_000);
    expect(await there.share?.(asked(1, 50), call())).toEqual({ alive: 1, heard: 1 });
    const { admin } = gateway.traffic as { readonly admin: readonly string[] };
    const both = adapter({ admin: [...admin, '/nowhere/admin.sock'] });
    expect(await codeOf(both.share?.(asked(2, 60), call(1_500)) ?? Promise.resolve())).toBe('TrafficFailed');
    await kill();
    expect(await both.share?.(asked(3, null), call(1_500))).toEqual({ alive: 2, heard: 1 });
    expect(await gateway.spread(10)).toEqual({ 18: 10 });
  });

  test('where the reads are is known by the name of the server: the next change has it for its blue', async () => {
    gateway = await startGateway(world);
    const first = adapter();
    await first.pause(call());
    await first.point('green', call());
    await first.resume(call());
    await sleep(500); // until HAProxy has asked
    expect(await problems(first)).toEqual([]);
    // The other way round, with the same names: nobody is sent anywhere by what the change before it has left.
    const swapped = { blue: 'g', green: 'b' };
    const { reads } = gateway.traffic as { readonly reads: object };
    const next = adapter({ servers: swapped, reads: { ...reads, servers: swapped } }, true);
    expect(await problems(next)).toEqual(['haproxy.reads_check']); // b has no look of its own
    await next.share?.(asked(1, null), call());
    expect(await gateway.spread(5)).toEqual({ 15: 5 });
    // Names that mean something else now.
    const renamed = adapter({ servers: { blue: 'b', green: 'g' }, reads: { ...reads, servers: swapped } });
    expect(await problems(renamed)).toContain('haproxy.reads_route');
  });
});
