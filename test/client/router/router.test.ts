/** The router library against real databases. Routes are changed by plain SQL here; the adapter has its own tests. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'pg';
import { bucket, createRouter } from '../../../client/router';
import type { Router, RouterOptions } from '../../../client/router';
import { withSession } from '../../../postgres/session';
import { install } from '../../../postgres/state/install';
import { target } from '../../../postgres/types';
import type { FreshDatabase } from '../../support/database';
import { freshDatabase, hasVersion } from '../../support/database';
import { codeOf, until } from '../../support/engine';

const SETUP = `CREATE TABLE writes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, client int NOT NULL, n int NOT NULL)`;

describe('router', () => {
  let blue: FreshDatabase;
  let green: FreshDatabase;
  let routers: Router[];

  beforeEach(async () => {
    routers = [];
    [blue, green] = await Promise.all([freshDatabase(18, SETUP), freshDatabase(hasVersion(15) ? 15 : 18, SETUP)]);
    for (const one of [blue, green]) await withSession(target('app', one.url), { purpose: 'test' }, install);
  });
  afterEach(async () => {
    await Promise.all(routers.map((router) => router.close()));
    await Promise.all([blue.drop(), green.drop()]);
  });

  const router = (more: Partial<RouterOptions> = {}): Router => {
    const made = createRouter({
      route: 'app',
      connections: { blue: blue.url, green: green.url },
      pool: { max: 4 },
      waitMs: 10_000,
      ...more,
    });
    routers.push(made);
    return made;
  };
  const route = (one: FreshDatabase, side: string, epoch: number, paused = false, pauseMs: number | null = null) =>
    one.query(
      `INSERT INTO pgshift.routes (route, side, epoch, paused, pause_until)
       VALUES ('app', $1, $2, $3, clock_timestamp() + $4::float8 * interval '1 ms')
       ON CONFLICT (route) DO UPDATE SET side = excluded.side, epoch = excluded.epoch, paused = excluded.paused,
         pause_until = excluded.pause_until`,
      [side, epoch, paused, pauseMs],
    );
  const both = async (...state: [string, number, boolean?, (number | null)?]) => {
    await Promise.all([route(blue, ...state), route(green, ...state)]);
  };
  const where = async (of: Router): Promise<string> => {
    const { rows } = await of.pool().query<{ name: string }>('SELECT current_database() AS name');
    return rows[0]?.name === blue.name ? 'blue' : 'green';
  };
  const acknowledged = async (one: FreshDatabase, epoch: number): Promise<boolean> => {
    const [row] = await one.query<{ ok: boolean }>(
      `SELECT bool_and(drained AND epoch >= ${epoch}) AS ok FROM pgshift.routers`,
    );
    return row?.ok === true;
  };

  test('is a node-postgres Pool, at the first side while no database knows the route', async () => {
    const app = router();
    expect(app.pool()).toBeInstanceOf(Pool);
    expect(app.pool()).toBe(app.pool());
    expect(await app.current()).toBe('blue');
    expect(await where(app)).toBe('blue');
    const client = await app.pool().connect();
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    client.release();
    expect(app.pool().totalCount).toBe(1);
    await new Promise<void>((resolve, reject) =>
      app
        .pool()
        .query('SELECT 2 AS two', [], (error: Error | null, result) =>
          error ? reject(error) : resolve(expect(result.rows).toEqual([{ two: 2 }])),
        ),
    );
    await expect(app.pool().query('SELECT nonsense')).rejects.toMatchObject({ code: '42703' });
    expect(await where(router({ initial: 'green' }))).toBe('green');
    expect(bucket('s', '42')).toBe(3706);
  });

  test('believes the higher epoch of both, never a lower one, and one side that it can reach', async () => {
    await route(blue, 'blue', 4);
    await route(green, 'green', 5);
    const app = router();
    expect(await app.current()).toBe('green');
    await route(blue, 'blue', 4);
    await route(green, 'blue', 3);
    expect(await app.current()).toBe('green');
    expect(app.state()).toMatchObject({ side: 'green', epoch: 5, paused: false });
    const nowhere = 'postgresql://127.0.0.1:1/gone';
    expect(await router({ connections: { blue: nowhere, green: green.url } }).current()).toBe('blue');
    await route(green, 'green', 6);
    const half = router({ connections: { blue: nowhere, green: green.url } });
    expect(await half.current()).toBe('green');
    expect(await where(half)).toBe('green');
    expect(half.state().reachable).toEqual(['green']);
    const none = router({ connections: { blue: nowhere, green: nowhere }, waitMs: 300 });
    expect(await codeOf(none.current())).toBe('Unreachable');
    expect(await codeOf(none.pool().query('SELECT 1'))).toBe('TrafficFailed');
  });

  test('queues checkouts during a pause, acknowledges when the last one is back, and goes on at the new side', async () => {
    await both('blue', 1);
    const app = router({ pollMs: 60_000 });
    const held = await app.pool().connect();
    await held.query('BEGIN; INSERT INTO writes (client, n) VALUES (1, 1)');
    await both('blue', 2, true);
    await until(async () => app.state().paused);
    let served = false;
    const waiting = where(app).then((side) => ((served = true), side));
    await sleep(100);
    expect(served).toBe(false);
    expect(app.pool().waitingCount).toBe(1);
    expect(await acknowledged(blue, 2)).toBe(false);
    await held.query('COMMIT');
    held.release();
    for (const one of [blue, green]) await until(() => acknowledged(one, 2));
    expect(app.pool().totalCount).toBe(0);
    await both('green', 3, true);
    await until(async () => app.state().side === 'green');
    await sleep(100);
    expect(served).toBe(false);
    // Connected beforehand: the pause is still on.
    expect(app.pool().idleCount).toBeGreaterThan(0);
    await both('green', 4);
    expect(await waiting).toBe('green');
    expect(await blue.query('SELECT count(*)::int AS n FROM writes')).toEqual([{ n: 1 }]);
  });

  test('clients that write all the time see no error over switches there and back, and nothing is lost', async () => {
    await both('blue', 1);
    const app = router({ pool: { max: 8 } });
    await app.ready();
    let over = false;
    const written = await Promise.all([
      (async () => {
        let epoch = 1;
        for (const side of ['green', 'blue', 'blue', 'green', 'blue', 'green']) {
          await sleep(150);
          const from = app.state().side;
          await both(from, ++epoch, true);
          const paused = epoch;
          for (const one of [blue, green]) await until(() => acknowledged(one, paused));
          // What the fence does: nobody of ours is connected any more.
          const old = from === 'blue' ? blue : green;
          expect(
            await old.query(
              `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database()
                  AND application_name NOT LIKE 'pgshift%'`,
            ),
          ).toEqual([{ n: 0 }]);
          await both(side, ++epoch, true);
          await both(side, ++epoch);
        }
        await sleep(150);
        over = true;
        return 0;
      })(),
      ...Array.from({ length: 12 }, async (_, client) => {
        let n = 0;
        for (; !over; n++) {
          if (client % 3 === 0) {
            const one = await app.pool().connect();
            await one.query('BEGIN');
            await one.query('INSERT INTO writes (client, n) VALUES ($1, $2)', [client, n]);
            await one.query('COMMIT');
            one.release();
          } else await app.pool().query('INSERT INTO writes (client, n) VALUES ($1, $2)', [client, n]);
        }
        return n;
      }),
    ]);
    const count = async (one: FreshDatabase) =>
      (await one.query<{ n: number }>('SELECT count(*)::int AS n FROM writes'))[0]?.n ?? 0;
    const [b, g] = await Promise.all([count(blue), count(green)]);
    expect(b + g).toBe(written.reduce((sum, n) => sum + n, 0));
    expect(Math.min(b, g)).toBeGreaterThan(0);
  });

  test('a pause ends by itself when its time is over', async () => {
    await both('blue', 1);
    const app = router({ pollMs: 100 });
    expect(await where(app)).toBe('blue');
    await both('blue', 2, true, 600);
    await until(async () => app.state().paused);
    const from = performance.now();
    expect(await where(app)).toBe('blue');
    expect(performance.now() - from).toBeGreaterThan(200);
    expect(await acknowledged(blue, 2)).toBe(false);
    await both('green', 3);
    await until(async () => app.state().side === 'green');
    expect(await where(app)).toBe('green');
  });

  test('a checkout fails when the pause outlasts its patience, and says why', async () => {
    await both('blue', 1, true);
    const app = router({ waitMs: 200 });
    await expect(app.pool().query('SELECT 1')).rejects.toMatchObject({
      code: 'TrafficFailed',
      message: 'route app: no connection in time; it is paused',
    });
    await expect(app.pool().connect()).rejects.toMatchObject({ code: 'TrafficFailed' });
  });

  test('without notifications the polling finds it; sessions that are ended are made again', async () => {
    await both('blue', 1);
    const app = router({ pollMs: 150 });
    expect(await where(app)).toBe('blue');
    await blue.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid()`);
    for (const one of [blue, green]) await one.query('DROP TRIGGER tell_routers ON pgshift.routes');
    await both('green', 2);
    await until(async () => app.state().side === 'green');
    expect(await where(app)).toBe('green');
    await until(async () => app.state().reachable.length === 2);
  });

  test('shut out of blue without having heard of the pause, it waits and finds the new side', async () => {
    await both('blue', 1);
    const role = `app_${blue.name}`;
    const urls = await Promise.all(
      [blue, green].map(async (one, i) => {
        if (i === 0 || green.version !== blue.version) await one.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`);
        await one.query(`GRANT USAGE ON SCHEMA pgshift TO ${role}; GRANT SELECT ON pgshift.routes TO ${role};
          GRANT SELECT ON pgshift.feature_flags TO ${role}; GRANT CONNECT ON DATABASE ${one.name} TO ${role}`);
        const url = new URL(one.url);
        url.username = role;
        url.password = 'x';
        return url.toString();
      }),
    );
    const trouble: unknown[] = [];
    const app = router({ connections: { blue: urls[0] ?? '', green: urls[1] ?? '' }, pollMs: 60_000 });
    app.on('trouble', (side, error) => trouble.push(side, error));
    expect(await where(app)).toBe('blue');
    await blue.query(`REVOKE CONNECT ON DATABASE ${blue.name} FROM PUBLIC, ${role}`);
    await blue.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND usename = '${role}'`);
    await sleep(50);
    const waiting = where(app);
    await sleep(300);
    // The other side alone is told, with no notification: what is asked while waiting finds it.
    await green.query('ALTER TABLE pgshift.routes DISABLE TRIGGER tell_routers');
    await route(green, 'green', 2);
    expect(await waiting).toBe('green');
    expect(trouble.length).toBeGreaterThan(0);
    await app.close();
    for (const one of new Set(green.version === blue.version ? [blue] : [blue, green]))
      await one.query(`DROP OWNED BY ${role}`);
    if (green.version === blue.version) await green.query(`DROP OWNED BY ${role}`);
    await blue.query(`DROP ROLE ${role}`);
    if (green.version !== blue.version) await green.query(`DROP ROLE ${role}`);
  });

  test('flags come from memory, are refreshed by a notification, and outlive the database', async () => {
    await both('blue', 1);
    const setFlag = (percent: number) =>
      blue.query(
        `INSERT INTO pgshift.feature_flags (name, enabled, rollout_percentage, salt, allow, deny)
         VALUES ('new_checkout', true, ${percent}, 'checkout', '{vip}', '{never}')
         ON CONFLICT (name) DO UPDATE SET rollout_percentage = excluded.rollout_percentage`,
      );
    await setFlag(3.17);
    const app = router({ pollMs: 60_000 });
    expect(app.flag('new_checkout', 'vip')).toBe(false); // not known yet
    await app.ready();
    expect(app.flag('new_checkout', 'vip')).toBe(true);
    expect(app.flag('new_checkout', 'never')).toBe(false);
    expect(app.flag('new_checkout', 'cust-7')).toBe(false); // bucket 317
    expect(app.flag('new_checkout', null)).toBe(false);
    expect(app.flag('unknown', 'vip')).toBe(false);
    const from = performance.now();
    await setFlag(3.18);
    await until(async () => app.flag('new_checkout', 'cust-7'));
    expect(performance.now() - from).toBeLessThan(1_000);
    const admin = await freshDatabase(18);
    await admin.query(`ALTER DATABASE ${blue.name} ALLOW_CONNECTIONS false`);
    await admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${blue.name}'`);
    await sleep(300);
    expect(app.flag('new_checkout', 'cust-7')).toBe(true);
    await admin.query(`ALTER DATABASE ${blue.name} ALLOW_CONNECTIONS true`);
    await admin.drop();
  });

  test('a change of share reaches 20 routers in under a second', async () => {
    await both('blue', 1);
    const flag = `INSERT INTO pgshift.feature_flags (name, enabled, rollout_percentage) VALUES ('f', true, $1)
      ON CONFLICT (name) DO UPDATE SET rollout_percentage = excluded.rollout_percentage`;
    await blue.query(flag, [0]);
    const many = Array.from({ length: 20 }, () => router({ pollMs: 60_000 }));
    await Promise.all(many.map((one) => one.ready()));
    expect(many.map((one) => one.flag('f', 'a'))).toEqual(Array(20).fill(false));
    const from = performance.now();
    await blue.query(flag, [100]);
    await until(async () => many.every((one) => one.flag('f', 'a')));
    expect(performance.now() - from).toBeLessThan(1_000);
  });

  test('a key has its home; only keys that are being moved wait; reads may go over', async () => {
    await both('blue', 1);
    const app = router({ pollMs: 100 });
    await app.ready();
    const set = (epoch: number, share: Record<string, unknown> | null, freshMs: number | null = null) =>
      Promise.all(
        [blue, green].map((one) =>
          one.query(
            `UPDATE pgshift.routes SET epoch = $1, details = jsonb_build_object('share', $2::jsonb),
                    fresh_until = clock_timestamp() + $3::float8 * interval '1 ms'`,
            [epoch, JSON.stringify(share), freshMs],
          ),
        ),
      );
    const at = async (key: string, how: 'query' | 'read' = 'query') => {
      const { rows } = await app.for(key)[how]<{ name: string }>('SELECT current_database() AS name');
      return rows[0]?.name === blue.name ? 'blue' : 'green';
    };
    const seen = (epoch: number) => until(async () => app.state().epoch === epoch);
    const share = { to: 'green', salt: 's', percent: 36, keys: [], moves: 'keys' };
    await set(2, share);
    await seen(2);
    expect(await at('1')).toBe('green'); // bucket 3541
    expect(await at('42')).toBe('blue'); // bucket 3706
    expect(app.for('1').side).toBe('green');
    const held = await app.for('42').connect();
    await set(3, { ...share, moving: { percent: 38, keys: [] } });
    await seen(3);
    let served = false;
    const waiting = at('42').then((side) => ((served = true), side));
    expect(await at('1')).toBe('green');
    expect(await at('7')).toBe('blue');
    await sleep(50);
    expect(served).toBe(false);
    expect(await acknowledged(blue, 3)).toBe(false);
    held.release();
    await until(() => acknowledged(blue, 3));
    await set(4, { ...share, percent: 38 });
    expect(await waiting).toBe('green');
    // Reads: over only while the lag is known to be small.
    await set(5, { ...share, moves: 'reads' }, 400);
    await seen(5);
    expect(await at('1')).toBe('blue');
    expect(await at('1', 'read')).toBe('green');
    await sleep(450);
    expect(await at('1', 'read')).toBe('blue');
    // A read that fails over there is asked again at home; what was counted is told to the databases.
    await blue.query('CREATE TABLE only_here (a int)');
    await set(5, { ...share, moves: 'reads' }, 60_000);
    await until(async () => (await at('1', 'read')) === 'green');
    expect((await app.for('1').read('SELECT a FROM only_here')).rows).toEqual([]);
    await until(async () => {
      const [row] = await blue.query<{ errors: number; n: number }>(
        `SELECT (counters->'sides'->'green'->>'errors')::int AS errors, (counters->'sides'->'blue'->>'n')::int AS n FROM pgshift.routers`,
      );
      return row?.errors === 1 && row.n > 1;
    });
    // Shadow reads: the home answers, the difference is told.
    await green.query('INSERT INTO writes (client, n) VALUES (9, 9)');
    await set(6, { ...share, moves: 'shadow-reads' });
    await seen(6);
    const shadow = new Promise((resolve) => app.on('shadow', resolve));
    const { rows } = await app.for('1').read('SELECT client, n FROM writes');
    expect(rows).toEqual([]);
    expect(await shadow).toMatchObject({ equal: false, homeMs: expect.any(Number), shadowMs: expect.any(Number) });
  });

  test('says goodbye, ends every connection, and refuses to go on afterwards', async () => {
    await both('blue', 1);
    const app = router();
    await where(app);
    await until(async () => (await blue.query('SELECT 1 FROM pgshift.routers')).length === 1);
    await app.pool().end();
    await app.close();
    expect(await blue.query('SELECT 1 FROM pgshift.routers')).toEqual([]);
    expect(await codeOf(app.pool().query('SELECT 1'))).toBe('TrafficFailed');
    await until(async () => {
      const rows = await blue.query(`SELECT 1 FROM pg_stat_activity WHERE datname = current_database()`);
      return rows.length <= 1;
    });
    expect(() => createRouter({ route: 'app', connections: { blue: 'mysql://u:secret@h/d' } })).toThrow(
      /cannot be read/,
    );
  });
});
