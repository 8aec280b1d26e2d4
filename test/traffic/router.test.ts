/** The router's adapter and the router library together, on two real databases. */
import { setTimeout as sleep } from 'node:timers/promises';
import { createRouter } from '../../client/router';
import type { Router } from '../../client/router';
import { routerAdapter } from '../../plan/model/traffic';
import { withSession } from '../../postgres/session';
import { install } from '../../postgres/state/install';
import { grantRouting } from '../../postgres/state/routes';
import { target } from '../../postgres/types';
import { routerTraffic } from '../../traffic/router/adapter';
import type { ShareAsked, TrafficAdapter, TrafficCall } from '../../traffic/types';
import type { FreshDatabase } from '../support/database';
import { freshDatabase, hasVersion } from '../support/database';
import { codeOf, until } from '../support/engine';
import { countWrites, writing } from '../support/writers';

const SETUP = `CREATE TABLE writes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, client int NOT NULL, n int NOT NULL)`;
const call = (more: Partial<TrafficCall> = {}): TrafficCall => ({
  idempotencyKey: 'w/r/switch',
  deadlineMs: 5_000,
  signal: new AbortController().signal,
  ...more,
});

describe('router adapter', () => {
  let blue: FreshDatabase;
  let green: FreshDatabase;
  let closing: { close(): Promise<void> }[];

  beforeEach(async () => {
    closing = [];
    [blue, green] = await Promise.all([freshDatabase(18, SETUP), freshDatabase(hasVersion(15) ? 15 : 18, SETUP)]);
    for (const one of [blue, green]) await withSession(target('app', one.url), { purpose: 'test' }, install);
  });
  afterEach(async () => {
    await Promise.all(closing.map((one) => one.close()));
    await Promise.all([blue.drop(), green.drop()]);
  });

  const adapter = (urls: { blue?: string; green?: string } = {}): TrafficAdapter => {
    const made = routerTraffic(routerAdapter.parse({ type: 'router', route: 'app' }), {
      sides: { blue: target('blue', urls.blue ?? blue.url), green: target('green', urls.green ?? green.url) },
    });
    closing.push(made);
    return made;
  };
  const router = (urls = { blue: blue.url, green: green.url }, max = 8): Router => {
    const made = createRouter({ route: 'app', connections: urls, pool: { max } });
    closing.push(made);
    return made;
  };
  const rows = () =>
    Promise.all(
      [blue, green].map(
        async (one) =>
          (await one.query(`SELECT side, epoch::int, paused, token::int FROM pgshift.routes WHERE route = 'app'`))[0],
      ),
    );

  test('clients that write all the time see no error over switches there and back, and nothing is lost', async () => {
    const traffic = adapter();
    const apps = [router(), router()];
    await Promise.all(apps.map((app) => app.ready()));
    await until(async () => (await traffic.check(call())).length === 0);
    expect(await traffic.status(call())).toEqual({ target: 'blue', paused: false, drained: false, because: null });
    const pauses: number[] = [];
    const switching = async () => {
      for (const side of ['green', 'blue', 'green', 'blue'] as const) {
        await sleep(150);
        const from = side === 'green' ? blue : green;
        const began = performance.now();
        expect(await traffic.pause(call())).toEqual({
          target: side === 'green' ? 'blue' : 'green',
          paused: true,
          drained: true,
          because: null,
        });
        const count = await countWrites(from);
        await sleep(60);
        expect(await countWrites(from)).toBe(count);
        expect(await traffic.point(side, call())).toMatchObject({ target: side, paused: true, drained: true });
        expect(await traffic.resume(call())).toMatchObject({ target: side, paused: false });
        pauses.push(performance.now() - began);
      }
      await sleep(150);
    };
    let done: () => void = () => undefined;
    const over = new Promise<void>((resolve) => (done = resolve));
    const [first, second] = await Promise.all([
      writing(8, (apps[0] as Router).pool(), () => switching().finally(done)),
      writing(8, (apps[1] as Router).pool(), () => over),
    ]);
    const [b, g] = await Promise.all([countWrites(blue), countWrites(green)]);
    expect(b + g).toBe(first + second);
    expect(Math.min(b, g)).toBeGreaterThan(0);
    expect(pauses.length).toBe(4);
  });

  test('each call may be made again; every change takes a higher epoch, in both databases', async () => {
    const traffic = adapter();
    for (let again = 0; again < 2; again++) await traffic.pause(call({ token: 7 }));
    expect(await rows()).toEqual(Array(2).fill({ side: 'blue', epoch: 1, paused: true, token: 7 }));
    for (let again = 0; again < 2; again++) await traffic.point('green', call({ token: 7 }));
    for (let again = 0; again < 2; again++) await adapter().resume(call({ token: 7 }));
    expect(await rows()).toEqual(Array(2).fill({ side: 'green', epoch: 3, paused: false, token: 7 }));
    for (let again = 0; again < 2; again++) await adapter().undo('blue', call({ token: 8 }));
    expect(await rows()).toEqual(Array(2).fill({ side: 'blue', epoch: 4, paused: false, token: 8 }));
    // An attempt that was given up.
    expect(await codeOf(traffic.point('green', call({ token: 7 })))).toBe('FenceBroken');
    expect(await codeOf(traffic.pause(call({ token: 7 })))).toBe('FenceBroken');
    expect(await rows()).toEqual(Array(2).fill({ side: 'blue', epoch: 4, paused: false, token: 8 }));
  });

  test('a router that does not acknowledge makes the pause fail, and everybody goes on', async () => {
    const traffic = adapter();
    const app = router();
    const busy = await app.pool().connect();
    await until(async () => (await blue.query('SELECT 1 FROM pgshift.routers')).length === 1);
    await expect(traffic.pause(call({ deadlineMs: 600 }))).rejects.toMatchObject({
      code: 'SwitchOverran',
      message: expect.stringContaining('1 of 1 routers have not acknowledged'),
    });
    expect(await traffic.status(call())).toMatchObject({ target: 'blue', paused: false });
    await app.pool().query('SELECT 1');
    busy.release();
    expect(await traffic.pause(call())).toMatchObject({ drained: true });
    await traffic.resume(call());
  });

  test('a router that died does not hold a switch up for ever, one that froze does', async () => {
    const traffic = adapter();
    for (const one of [blue, green])
      await one.query(`INSERT INTO pgshift.routers (route, instance, epoch, backend_pid, seen_at) VALUES
        ('app', 'died', 0, 0, clock_timestamp() - interval '6 s')`);
    expect(await traffic.pause(call())).toMatchObject({ drained: true });
    await traffic.resume(call());
    // Its session is still there.
    const client = await blue.client();
    const [{ pid } = { pid: 0 }] = (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows;
    await blue.query(`UPDATE pgshift.routers SET backend_pid = ${pid}`);
    expect(await codeOf(traffic.pause(call({ deadlineMs: 300 })))).toBe('SwitchOverran');
  });

  test('goes forward and back with one side dead, but begins nothing', async () => {
    const gone = 'postgresql://127.0.0.1:1/gone';
    await adapter().pause(call());
    const half = adapter({ blue: gone });
    expect(await half.point('green', call())).toMatchObject({ target: 'green', paused: true });
    expect(await half.resume(call())).toMatchObject({ target: 'green', paused: false });
    expect(await codeOf(half.pause(call()))).toBe('TrafficFailed');
    expect(await codeOf(half.point('blue', call()))).toBe('TrafficFailed');
    expect(await codeOf(adapter({ blue: gone, green: gone }).status(call()))).toBe('TrafficFailed');
    // Blue comes back with what it last heard: the higher epoch is true, and a router that sees both goes to green.
    expect((await rows()).map((row) => row?.side)).toEqual(['blue', 'green']);
    expect(await router().current()).toBe('green');
    await adapter().resume(call());
    expect((await rows()).map((row) => row?.side)).toEqual(['green', 'green']);
    expect((await half.check(call())).map(({ check }) => check)).toContain('router.databases');
  });

  test('a pause outlives nobody: routers go on when its time is over, and the adapter sees it', async () => {
    const traffic = adapter();
    const app = router();
    await app.pool().query('SELECT 1');
    await traffic.pause(call({ lastsMs: 500 }));
    const from = performance.now();
    await app.pool().query('SELECT 1');
    expect(performance.now() - from).toBeLessThan(2_000);
    expect(await traffic.status(call())).toMatchObject({ paused: false, drained: false, because: expect.any(String) });
    expect(await traffic.undo('blue', call())).toMatchObject({ target: 'blue', paused: false, because: null });
  });

  test('who waits in the queue of a side that is left is served by the other', async () => {
    const app = router(undefined, 1);
    const busy = await app.pool().connect();
    const waiting = Array.from({ length: 3 }, () =>
      app.pool().query<{ name: string }>('SELECT current_database() AS name'),
    );
    // A switch that this router slept through: it hears of the end alone.
    await adapter().undo('green', call());
    await until(() => Promise.resolve(app.state().side === 'green'));
    busy.release();
    const served = await Promise.all(waiting);
    expect(served.map(({ rows: [row] }) => row?.name)).toEqual(Array(3).fill(green.name));
  });

  test('a connection that breaks while it is out and does nothing ends no process; the next query on it fails', async () => {
    const client = await router().pool().connect();
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const gone = new Promise((resolve) => client.once('end', () => resolve(true)));
    await blue.query(`SELECT pg_terminate_backend(${rows[0]?.pid})`);
    expect(await gone).toBe(true);
    await expect(client.query('SELECT 1')).rejects.toThrow();
    client.release(true);
  });

  test('writers of one route at the same moment take one after the other', async () => {
    const codes = await Promise.all(
      Array.from({ length: 6 }, (_, i) =>
        codeOf(i % 2 === 0 ? adapter().undo('green', call()) : adapter().undo('blue', call())),
      ),
    );
    expect(codes.filter((code) => code !== 'none' && code !== 'TrafficFailed')).toEqual([]);
    const [b, g] = await rows();
    expect(b).toEqual(g);
    const before = Number(b?.epoch);
    await adapter().undo(b?.side === 'blue' ? 'green' : 'blue', call());
    expect((await rows())[1]?.epoch).toBe(before + 1);
  });

  test("an application's role needs no more than the grants of docs/grants.md", async () => {
    const role = `web_${blue.name}`;
    const both = green.version === blue.version ? [blue] : [blue, green];
    for (const one of both) await one.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`);
    for (const one of [blue, green])
      await withSession(target('app', one.url), { purpose: 'test' }, (session) => grantRouting(session, [role]));
    const as = (one: FreshDatabase): string => {
      const url = new URL(one.url);
      url.username = role;
      url.password = 'x';
      return url.toString();
    };
    const app = router({ blue: as(blue), green: as(green) });
    const trouble: unknown[] = [];
    app.on('trouble', (_, error) => trouble.push(error));
    await app.pool().query('SELECT 1');
    const traffic = adapter();
    await until(async () => (await blue.query('SELECT 1 FROM pgshift.routers')).length === 1);
    expect(await traffic.pause(call())).toMatchObject({ drained: true });
    await traffic.resume(call());
    expect(trouble).toEqual([]);
    await app.close();
    for (const one of [blue, green]) await one.query(`DROP OWNED BY ${role}`);
    for (const one of both) await one.query(`DROP ROLE ${role}`);
  });

  describe('the share of a canary', () => {
    const share = { salt: 's', percent: 36, keys: ['42'], moves: 'reads' as const };
    const asked = (number: number, run = 'r1', percent: number | null = 36): ShareAsked => ({
      share: percent === null ? null : { ...share, percent },
      run,
      number,
    });
    const shares = () =>
      Promise.all(
        [blue, green].map(
          async (one) =>
            (
              await one.query<{ p: number | null }>(
                `SELECT (details->'share'->>'percent')::float8 AS p FROM pgshift.routes`,
              )
            )[0]?.p,
        ),
      );
    const reads = async (app: Router, key: string): Promise<string> => {
      const { rows: found } = await app.for(key).read<{ name: string }>('SELECT current_database() AS name');
      return found[0]?.name === blue.name ? 'blue' : 'green';
    };

    test('is heard by every router, and reads go over only while they are said to be fresh', async () => {
      const traffic = adapter();
      const apps = [router(), router()];
      await Promise.all(apps.map((app) => app.ready()));
      await until(async () => (await traffic.check(call())).length === 0);
      await until(async () => (await traffic.share?.(asked(1), call()))?.alive === 2);
      expect(await traffic.share?.(asked(1), call())).toEqual({ alive: 2, heard: 2 });
      expect(await shares()).toEqual([36, 36]);
      const [app] = apps as [Router];
      expect([await reads(app, '1'), await reads(app, '42'), await reads(app, '43')]).toEqual(['blue', 'blue', 'blue']);
      await traffic.keepFresh?.(60_000, call());
      await until(async () => (await reads(app, '1')) === 'green'); // bucket 3541
      expect(await reads(app, '42')).toBe('green'); // by name
      expect(await traffic.share?.(asked(2, 'r1', null), call())).toEqual({ alive: 2, heard: 2 });
      expect([await reads(app, '1'), await shares()]).toEqual(['blue', [null, null]]);
      // A pause and a flip in between do not forget it, and it does not forget them.
      await traffic.share?.(asked(3), call());
      await traffic.pause(call());
      await traffic.point('green', call());
      await traffic.resume(call());
      expect(await shares()).toEqual([36, 36]);
      await traffic.share?.(asked(4, 'r1', null), call());
      expect(await traffic.status(call())).toMatchObject({ target: 'green', paused: false });
    });

    test('a change that was given up and comes late changes nothing, nor does one of an earlier run', async () => {
      const traffic = adapter();
      await traffic.share?.(asked(3, 'r1', 20), call({ token: 1 }));
      await traffic.share?.(asked(4, 'r1', null), call({ token: 1 }));
      expect(await codeOf(adapter().share?.(asked(3, 'r1', 20), call({ token: 1 })) ?? Promise.resolve())).toBe(
        'FenceBroken',
      );
      await traffic.share?.(asked(1, 'r2', 5), call({ token: 2 }));
      expect(await codeOf(adapter().share?.(asked(9, 'r1', 20), call({ token: 1 })) ?? Promise.resolve())).toBe(
        'FenceBroken',
      );
      expect(await shares()).toEqual([5, 5]);
    });

    test('nobody is sent over while a database is away; everybody is sent home by the one that is there', async () => {
      const gone = 'postgresql://127.0.0.1:1/gone';
      await adapter().share?.(asked(1), call());
      const half = adapter({ green: gone });
      expect(await codeOf(half.share?.(asked(2, 'r1', 50), call()) ?? Promise.resolve())).toBe('TrafficFailed');
      expect(await shares()).toEqual([36, 36]);
      await half.share?.(asked(3, 'r1', null), call());
      expect(await shares()).toEqual([null, 36]);
      // The one that was away has the lower epoch: nobody believes it.
      const app = router();
      await app.ready();
      await adapter().keepFresh?.(60_000, call());
      expect(await reads(app, '1')).toBe('blue');
    });
  });
});
