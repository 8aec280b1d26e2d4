/** Clients behind a real PgBouncer, moved between two real databases. */
import { statSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Pool } from 'pg';
import type { PgbouncerAdapterPlan } from '../../plan/model/traffic';
import { pgbouncerAdapter } from '../../plan/model/traffic';
import { target } from '../../postgres/types';
import { pgbouncerTraffic } from '../../traffic/pgbouncer/adapter';
import type { TrafficAdapter, TrafficCall } from '../../traffic/types';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';
import { codeOf, until } from '../support/engine';
import type { Pgbouncer } from '../support/pgbouncer';
import { describePgbouncer, startPgbouncer } from '../support/pgbouncer';
import { countWrites, writing } from '../support/writers';

const SETUP = `CREATE TABLE writes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, client int NOT NULL, n int NOT NULL)`;
const call = (deadlineMs = 5_000): TrafficCall => ({
  idempotencyKey: 'w/r/switch',
  deadlineMs,
  signal: new AbortController().signal,
});

describePgbouncer('pgbouncer', () => {
  let blue: FreshDatabase;
  let green: FreshDatabase;
  const started: Pgbouncer[] = [];
  const adapters: TrafficAdapter[] = [];
  const clients: { end(): Promise<void> }[] = [];

  beforeEach(async () => {
    [blue, green] = await Promise.all([freshDatabase(18, SETUP), freshDatabase(18, SETUP)]);
  });
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((one) => one.end().catch(() => undefined)));
    await Promise.all(adapters.splice(0).map((one) => one.close()));
    for (const one of started.splice(0)) await one.stop();
    await Promise.all([blue.drop(), green.drop()]);
  });

  const pooler = async (more: Partial<Parameters<typeof startPgbouncer>[0]> = {}): Promise<Pgbouncer> => {
    const { hostname, port, username } = new URL(blue.url);
    const one = await startPgbouncer({
      databases: `app = host=${hostname} port=${port} dbname=${blue.name} pool_size=7\nother = host=${hostname} port=${port} dbname=${blue.name}`,
      user: username,
      ...more,
    });
    started.push(one);
    return one;
  };
  const adapter = (poolers: readonly Pgbouncer[], more: Partial<PgbouncerAdapterPlan> = {}): TrafficAdapter => {
    const admin = poolers.map(({ admin: { name } }) => name);
    const made = pgbouncerTraffic(
      pgbouncerAdapter.parse({
        type: 'pgbouncer',
        admin,
        database: 'app',
        databasesFile: poolers[0]?.databasesFile,
        ...more,
      }),
      {
        sides: { blue: target('blue', blue.url), green: target('green', green.url) },
        connection: (name) =>
          poolers.find((one) => one.admin.name === name)?.admin ?? target(name, 'postgresql://127.0.0.1:1/pgbouncer'),
        log: () => undefined,
      },
    );
    adapters.push(made);
    return made;
  };
  const pool = (url: string, max = 8): Pool => {
    const one = new Pool({ connectionString: url, max });
    one.on('error', () => undefined);
    clients.push(one);
    return one;
  };
  const client = async (url: string): Promise<Client> => {
    const one = new Client({ connectionString: url });
    one.on('error', () => undefined);
    await one.connect();
    clients.push(one);
    return one;
  };

  test('clients that write all the time see no error over switches there and back, and nothing is lost', async () => {
    const one = await pooler();
    const traffic = adapter([one]);
    expect((await traffic.check(call())).filter(({ level }) => level === 'error')).toEqual([]);
    expect(await traffic.status(call())).toEqual({ target: 'blue', paused: false, drained: false, because: null });
    const before = { text: readFileSync(one.databasesFile, 'utf8'), ...statSync(one.databasesFile) };
    const written = await writing(12, pool(one.url('app')), async () => {
      for (const side of ['green', 'blue', 'green', 'blue'] as const) {
        await sleep(150);
        const from = side === 'green' ? blue : green;
        const paused = await traffic.pause(call());
        expect(paused).toMatchObject({ paused: true, drained: true });
        const count = await countWrites(from);
        await sleep(60);
        expect(await countWrites(from)).toBe(count);
        expect(await traffic.point(side, call())).toEqual({ target: side, paused: true, drained: true, because: null });
        expect(await traffic.resume(call())).toMatchObject({ target: side, paused: false });
      }
      await sleep(150);
    });
    const [b, g] = await Promise.all([countWrites(blue), countWrites(green)]);
    expect(b + g).toBe(written);
    expect(Math.min(b, g)).toBeGreaterThan(0);
    expect(readFileSync(one.databasesFile, 'utf8')).toBe(before.text);
    expect(statSync(one.databasesFile)).toMatchObject({ uid: before.uid, gid: before.gid, mode: before.mode });
  });

  test('each call may be made again, and undo is right whatever was done before', async () => {
    const one = await pooler();
    const traffic = adapter([one]);
    for (let i = 0; i < 2; i++) expect(await traffic.pause(call())).toMatchObject({ target: 'blue', drained: true });
    for (let i = 0; i < 2; i++)
      expect(await traffic.point('green', call())).toMatchObject({ target: 'green', drained: true });
    for (let i = 0; i < 2; i++) expect(await traffic.resume(call())).toMatchObject({ target: 'green', paused: false });
    for (let i = 0; i < 2; i++)
      expect(await traffic.undo('blue', call())).toMatchObject({ target: 'blue', paused: false });
    await traffic.pause(call());
    expect(await traffic.undo('blue', call())).toMatchObject({ target: 'blue', paused: false });
    expect(await traffic.point('green', call())).toMatchObject({ target: 'green', paused: true });
    // A pause whose owner died is found as it is by the next one.
    expect(await adapter([one]).pause(call())).toMatchObject({ paused: true, drained: true });
    expect(await adapter([one]).undo('blue', call())).toMatchObject({ target: 'blue', paused: false });
    expect((await pool(one.url('app')).query('SELECT current_database() AS name')).rows).toEqual([{ name: blue.name }]);
  });

  test('a pause that is late is given up, taken back, and can be made again', async () => {
    const one = await pooler();
    const traffic = adapter([one]);
    const busy = await client(one.url('app'));
    await busy.query('BEGIN; INSERT INTO writes (client, n) VALUES (1, 1)');
    const other = pool(one.url('app'));
    const from = performance.now();
    await expect(traffic.pause(call(700))).rejects.toMatchObject({
      code: 'SwitchOverran',
      message: expect.stringContaining('1 connections to the server are still in use'),
    });
    expect(performance.now() - from).toBeLessThan(4_000);
    expect(await traffic.status(call())).toMatchObject({ target: 'blue', paused: false });
    await other.query('INSERT INTO writes (client, n) VALUES (2, 1)'); // nobody hangs
    await busy.query('COMMIT');
    expect(await traffic.pause(call())).toMatchObject({ drained: true });
    await traffic.resume(call());
    await other.query('INSERT INTO writes (client, n) VALUES (2, 2)');
    expect(await countWrites(blue)).toBe(3);
    expect((await one.console('SHOW DATABASES')).filter(({ paused }) => paused === '1')).toEqual([]);
  });

  test('many new clients during the pause: none of them sees an error', async () => {
    const one = await pooler();
    const traffic = adapter([one]);
    await traffic.pause(call());
    const arriving = Array.from({ length: 40 }, async (_, n) => {
      const c = await client(one.url('app'));
      return (await c.query<{ name: string }>('SELECT current_database() AS name')).rows[0]?.name ?? `none ${n}`;
    });
    await sleep(300);
    await traffic.point('green', call());
    await traffic.resume(call());
    const from = performance.now();
    expect(new Set(await Promise.all(arriving))).toEqual(new Set([green.name]));
    // PgBouncer alone lets a pool that was cold wait for server_login_retry, 15 s; what was set for that is set back.
    expect(performance.now() - from).toBeLessThan(3_000);
    const config = await one.console('SHOW CONFIG');
    expect(config.find(({ key }) => key === 'server_login_retry')?.value).toBe('15');
  });

  test('several PgBouncers move together; one that cannot be reached or is late lets all go on', async () => {
    const first = await pooler({ name: 'pool_a' });
    const second = await pooler({ name: 'pool_b', databasesFile: first.databasesFile });
    const traffic = adapter([first, second]);
    const [a, b] = [pool(first.url('app')), pool(second.url('app'))];
    const busy = await client(second.url('app'));
    await busy.query('BEGIN; SELECT 1 FROM writes');
    expect(await codeOf(traffic.pause(call(500)))).toBe('SwitchOverran');
    await Promise.all([a, b].map((one) => one.query('SELECT 1')));
    await busy.query('COMMIT');
    await traffic.pause(call());
    expect(await traffic.point('green', call())).toMatchObject({ target: 'green', drained: true });
    await traffic.resume(call());
    await Promise.all([a, b].map((one) => one.query('INSERT INTO writes (client, n) VALUES (1, 1)')));
    expect(await countWrites(green)).toBe(2);
    // Killed in the middle of a switch and started again, it knows of no pause and reads the file as it is.
    await traffic.pause(call());
    await second.kill();
    await expect(traffic.status(call())).rejects.toMatchObject({ code: 'TrafficFailed' });
    expect(await codeOf(traffic.undo('green', call(1_500)))).toBe('TrafficFailed');
    await a.query('SELECT 1'); // the other one goes on
    await second.start();
    expect(await traffic.status(call())).toMatchObject({ target: 'green', paused: false });
    expect(await traffic.pause(call())).toMatchObject({ drained: true });
    expect(await traffic.point('blue', call())).toMatchObject({ target: 'blue', drained: true });
    await traffic.resume(call());
  });

  test('finds what would spoil a switch', async () => {
    const one = await pooler({
      settings: { pool_mode: 'session', query_wait_timeout: 5, so_reuseport: 1, server_login_retry: 15 },
    });
    // What is said of Debian's version and of a standard setting is not what these are about.
    const checks = async (of: TrafficAdapter) =>
      (await of.check(call()))
        .map(({ check, level }) => `${check} ${level}`)
        .filter((found) => !/prepared_statements|server_login_retry/.test(found))
        .sort();
    expect(await checks(adapter([one]))).toEqual([
      'pgbouncer.pool_mode warning',
      'pgbouncer.query_wait_timeout error',
      'pgbouncer.so_reuseport error',
    ]);
    const plain = await pooler();
    expect(await checks(adapter([plain], { database: 'none' }))).toEqual([
      'pgbouncer.database error',
      'pgbouncer.file error',
    ]);
    expect(await checks(adapter([plain], { servers: { blue: 'a:1', green: 'b:2' } }))).toEqual(
      expect.arrayContaining(['pgbouncer.file error', 'pgbouncer.target error']),
    );
    expect(await checks(adapter([plain], { admin: ['nowhere'] }))).toEqual(['pgbouncer.console error']);
    expect(await checks(adapter([plain], { databasesFile: '/nowhere/databases.ini' }))).toContain(
      'pgbouncer.file error',
    );
    const all = await adapter([plain]).check(call());
    expect(all.map(({ check }) => check)).toContain('pgbouncer.server_login_retry');
    const [major = 0, minor = 0] =
      ((await plain.console('SHOW VERSION'))[0]?.version ?? '').match(/\d+/g)?.map(Number) ?? [];
    expect(all.some(({ check }) => check === 'pgbouncer.prepared_statements')).toBe(major === 1 && minor < 21);
  });

  test('does not send clients where no connection is taken, nor believe a file that is not read', async () => {
    const one = await pooler();
    const gone = pgbouncerTraffic(
      pgbouncerAdapter.parse({ type: 'pgbouncer', admin: ['pool'], database: 'app', databasesFile: one.databasesFile }),
      {
        sides: { blue: target('blue', blue.url), green: target('green', 'postgresql://127.0.0.1:1/gone') },
        connection: () => one.admin,
        log: () => undefined,
      },
    );
    adapters.push(gone);
    await gone.pause(call());
    await expect(gone.point('green', call())).rejects.toMatchObject({
      code: 'TrafficFailed',
      message: expect.stringContaining('green does not take connections'),
    });
    expect(readFileSync(one.databasesFile, 'utf8')).toContain(blue.name);
    await gone.undo('blue', call());
    const elsewhere = await pooler({ name: 'elsewhere' });
    const wrong = adapter([one], { databasesFile: elsewhere.databasesFile });
    await wrong.pause(call());
    await expect(wrong.point('green', call(1_000))).rejects.toMatchObject({ code: 'TrafficFailed' });
    await wrong.undo('blue', call());
    await until(async () => (await wrong.status(call())).paused === false);
  });

  test('cancelled in the middle, it leaves nobody waiting', async () => {
    const one = await pooler();
    const traffic = adapter([one]);
    const busy = await client(one.url('app'));
    await busy.query('BEGIN; SELECT 1 FROM writes');
    const stop = new AbortController();
    const pausing = traffic.pause({ ...call(), signal: stop.signal });
    await sleep(200);
    stop.abort();
    expect(await codeOf(pausing)).not.toBe('none');
    expect(await traffic.status(call())).toMatchObject({ paused: false });
  });
});
