import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { fingerprintOf } from '../../activities/catalogue';
import { isProblem } from '../../plan/model/errors';
import { inTransaction, openSession, withSession } from '../../postgres/session';
import { sqlstate } from '../../postgres/toProblem';
import { target } from '../../postgres/types';
import type { FreshDatabase } from '../support/database';
import { adminUrl, describeVersions, freshDatabase } from '../support/database';
import { codeOf } from '../support/engine';

const caught = async (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('nothing was thrown'),
    (error: unknown) => error as Error,
  );
const whole = (error: Error): string => JSON.stringify([error, error.message, error.stack]);

describeVersions('a session', (version) => {
  let db: FreshDatabase;
  let role: string;
  beforeAll(async () => {
    db = await freshDatabase(version);
    role = `r_${db.name}`;
    await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'hunter2secret'; CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v < 100));
      REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO ${role}`);
  });
  afterAll(async () => {
    await db.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    await db.drop();
  });
  const as = (user: string, password: string): string => {
    const url = new URL(db.url);
    url.username = user;
    url.password = password;
    return url.toString();
  };

  test('keeps every digit, and shows what it is for', async () => {
    await withSession(target('app', db.url), { purpose: 'expand.1', migration: 'm1' }, async (session) => {
      const row = await session.one(
        `SELECT 9007199254740993::int8 AS a, 1.10::numeric AS b, '2026-01-01 00:00:00.123456+00'::timestamptz AS c, true AS d, 2::int4 AS e,
                current_setting('application_name') AS f, current_setting('search_path') AS g, ARRAY['x', NULL] AS h`,
      );
      expect(row).toMatchObject({
        a: '9007199254740993',
        b: '1.10',
        d: true,
        e: 2,
        f: 'pgshift/m1/expand.1',
        g: 'pg_catalog',
        h: ['x', null],
      });
      expect(String(row!.c)).toContain('.123456');
      expect(Math.floor(session.serverVersion / 10_000)).toBe(version);
    });
  });

  test('is not broken by what the role has set', async () => {
    await db.query(`ALTER ROLE ${role} SET statement_timeout = '50ms'; ALTER ROLE ${role} SET lock_timeout = '1ms';
      ALTER ROLE ${role} SET DateStyle = 'SQL, DMY'; ALTER ROLE ${role} SET default_transaction_read_only = on; ALTER ROLE ${role} SET search_path = nowhere`);
    await withSession(target('app', as(role, 'hunter2secret')), { purpose: 'test' }, async (session) => {
      const row = await session.one(
        `SELECT pg_sleep(0.1)::text, current_setting('lock_timeout') AS l, current_setting('DateStyle') AS d, current_setting('transaction_read_only') AS r`,
      );
      expect(row).toMatchObject({ l: '0', d: 'ISO, MDY', r: 'off' });
    });
    await db.query(`ALTER ROLE ${role} SET statement_timeout = '1ms'`);
    expect(await fingerprintOf(target('app', as(role, 'hunter2secret')))).toEqual(
      await fingerprintOf(target('app', db.url)),
    );
    await db.query(`ALTER ROLE ${role} RESET ALL`);
  });

  test('says who refuses the login, never the password', async () => {
    const wrong = await caught(openSession(target('app', as('no_such_role', 'hunter2secret')), { purpose: 'test' }));
    expect(wrong).toMatchObject({ code: 'LoginFailed' });
    expect(whole(wrong)).not.toContain('hunter2secret');
    const missing = new URL(db.url);
    missing.pathname = '/no_such_database';
    expect(await codeOf(openSession(target('app', missing.toString()), { purpose: 'test' }))).toBe('LoginFailed');
    expect(await codeOf(openSession(target('app', 'not a url: hunter2secret'), { purpose: 'test' }))).not.toBe('none');
  });

  test('says which server does not answer', async () => {
    const server = createServer((socket) => socket.pause()).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const silent = target('app', `postgres://u:hunter2secret@127.0.0.1:${port}/d`);
    const mute = await caught(openSession(silent, { purpose: 'test', connectTimeoutMs: 300 }));
    expect(mute).toMatchObject({ code: 'Unreachable' });
    expect(mute.message).toContain(`127.0.0.1:${port}/d`);
    server.close();
    const refused = await caught(openSession(silent, { purpose: 'test', connectTimeoutMs: 300 }));
    expect(refused).toMatchObject({ code: 'Unreachable' });
    expect(whole(refused)).not.toContain('hunter2secret');
    const tls = new URL(adminUrl(version) ?? '');
    tls.searchParams.set('sslmode', 'require');
    expect(await codeOf(openSession(target('app', tls.toString()), { purpose: 'test' }))).toBe('TlsFailed');
  });

  test('turns what Postgres says into codes, without values', async () => {
    await withSession(target('app', db.url), { purpose: 'test' }, async (session) => {
      const cases: [string, string][] = [
        ['SELECT 1 FRM x', 'SqlSyntax'],
        ['SELECT * FROM nowhere', 'NoSuchObject'],
        [`SELECT 'topsecret'::int`, 'StepFailed'],
        [`INSERT INTO public.t VALUES (1, 4711)`, 'StepFailed'],
        [`DO $$BEGIN RAISE EXCEPTION 'topsecret'; END$$`, 'StepFailed'],
        [`INSERT INTO public.t VALUES (4712, 1), (4712, 2)`, 'DuplicateRows'],
      ];
      for (const [sql, code] of cases) {
        const error = await caught(session.run(sql));
        expect([sql, isProblem(error) && error.code]).toEqual([sql, code]);
        expect(whole(error)).not.toMatch(/topsecret|4711|4712/);
      }
      const check = await caught(session.run(`INSERT INTO public.t VALUES (1, 4711)`));
      expect(check).toMatchObject({ details: { sqlstate: '23514', table: 't', constraint: 't_v_check' } });
      expect(sqlstate(check)).toBe('23514');
    });
  });

  test('names the GRANT that is missing', async () => {
    await withSession(target('app', as(role, 'hunter2secret')), { purpose: 'test' }, async (session) => {
      const hints: [string, string][] = [
        ['CREATE TABLE public.x (i int)', `GRANT USAGE, CREATE ON SCHEMA "public" TO "${role}";`],
        ['CREATE SCHEMA s', `GRANT CREATE ON DATABASE "${db.name}" TO "${role}";`],
        ['SELECT * FROM public.t', `ON "t" TO "${role}";`],
        ['ALTER TABLE public.t ADD COLUMN x int', `TO "${role}";`],
      ];
      for (const [sql, grant] of hints) {
        const error = await caught(session.run(sql));
        expect(error).toMatchObject({ code: 'PrivilegeMissing' });
        expect((error as unknown as { hint: string }).hint).toContain(grant);
      }
      const silence = await caught(session.run(`SET session_replication_role = replica`));
      expect(silence).toMatchObject({ code: 'PrivilegeMissing' });
      expect((silence as unknown as { hint: string }).hint).toContain(
        `GRANT SET ON PARAMETER session_replication_role TO "${role}";`,
      );
    });
  });

  test('that was ended says so, and never ends the process', async () => {
    const session = await openSession(target('app', db.url), { purpose: 'test' });
    await db.query(`SELECT pg_terminate_backend(${session.pid})`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(session.lost).toBe(true);
    expect(['Unreachable', 'ServerRestarting']).toContain(await codeOf(session.run('SELECT 1')));
    await session.close();
    const other = await openSession(target('app', db.url), { purpose: 'test' });
    const ended = codeOf(inTransaction(other, () => other.run('SELECT pg_sleep(10)')));
    await db.query(`SELECT pg_terminate_backend(${other.pid})`);
    expect(await ended).toBe('ServerRestarting');
    await other.close();
  });
});
