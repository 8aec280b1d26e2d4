/**
 * Each guardrail is seen to fail: on a real server or database that is made to be what it is there for. Keeps true: none is left out, so that a check
 * which could not fail, or which nobody has seen failing, is found here.
 */
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CHECKS, runGuardrails } from '../../../postgres/switch/guardrails';
import type { Guardrail, GuardrailInput } from '../../../postgres/switch/guardrails';
import type { Session } from '../../../postgres/session';
import { openSession } from '../../../postgres/session';
import { install } from '../../../postgres/state/install';
import { openGuards } from '../../../postgres/switch/guard';
import { target } from '../../../postgres/types';
import { needPostgresTools } from '../../support/copy';
import type { FreshDatabase } from '../../support/database';
import { freshDatabase, hasVersion } from '../../support/database';
import { startOwnPostgres } from '../../support/ownServers';
import { forget } from '../../support/pair';
import { serverHome } from '../../support/serverHome';

const MIGRATION = 'each';
beforeAll(needPostgresTools);
const failed = new Set<string>();
const opened: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});
const keep = <T>(one: T, close: (one: T) => Promise<unknown>): T => {
  opened.push(() => close(one));
  return one;
};
const database = async (...of: Parameters<typeof freshDatabase>): Promise<FreshDatabase> =>
  keep(await freshDatabase(...of), async (one) => {
    await forget(one).catch(() => undefined);
    await one.drop();
  });
const session = async (side: 'blue' | 'green', url: string): Promise<Session> =>
  keep(await openSession(target(side, url), { purpose: 'test' }), (one) => one.close());

interface Urls {
  readonly blue: string;
  readonly green: string;
}

/** What fails between these two, with what was seen. */
async function look(urls: Urls, more: Partial<GuardrailInput> = {}): Promise<Map<string, Guardrail>> {
  const blue = target('blue', urls.blue);
  const green = target('green', urls.green);
  const both = more.both ?? { blue: await session('blue', urls.blue), green: await session('green', urls.green) };
  const found = await runGuardrails({
    pair: { migration: MIGRATION, blue, green },
    peers: { blue, green },
    stage: 'before',
    direction: 'forward',
    limits: { maxTransactionAgeMs: 60_000, maxLagBytes: 1024 ** 2 },
    applicationRoles: [],
    ...more,
    both,
  });
  const bad = found.filter(({ verdict }) => verdict === 'fail');
  for (const { check, remedy, evidence } of bad) {
    failed.add(check);
    expect(`${check} ${remedy} ${evidence}`).toMatch(/^\w+ .+ .+/);
  }
  return new Map(bad.map((one) => [`${one.check} ${one.side}`, one]));
}

const evidenceOf = (found: ReadonlyMap<string, Guardrail>, names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.map((name) => [name, found.get(name)?.evidence ?? 'it did not fail']));

test('what blue holds and replication does not carry as one expects', async () => {
  const green = await database(18);
  const blue = await database(
    18,
    `CREATE TABLE a (id int PRIMARY KEY, v text UNIQUE DEFERRABLE); INSERT INTO a VALUES (1, 'x'), (2, 'y');
     CREATE TABLE keyless (a int); CREATE TABLE nokey (j json); CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
     CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;
     CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER s FOREIGN DATA WRAPPER nowhere; CREATE FOREIGN TABLE f (a int) SERVER s;
     CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
     CREATE TRIGGER always BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION t(); ALTER TABLE a ENABLE ALWAYS TRIGGER always;
     CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER noticed ON sql_drop EXECUTE FUNCTION e();
     SELECT lo_create(0); CREATE PUBLICATION theirs FOR TABLE a;
     CREATE SUBSCRIPTION theirs CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION p WITH (connect = false, slot_name = 'x')`,
  );
  await blue.query(`CREATE UNIQUE INDEX CONCURRENTLY twice ON a ((1))`).catch(() => undefined);
  await blue.query(`ALTER SUBSCRIPTION theirs ENABLE`);
  await blue.query(`SELECT pg_create_logical_replication_slot('their_${blue.name}', 'pgoutput')`);
  // As if it were there: what is asked is the catalogue.
  await blue.query(`UPDATE pg_extension SET extname = 'pg_cron', extversion = '9.9' WHERE extname = 'plpgsql'`);
  await green.query(`CREATE TABLE here (a int)`);
  const client = await blue.client();
  await client.query(`BEGIN; INSERT INTO keyless VALUES (1); PREPARE TRANSACTION '${blue.name}'; BEGIN; SELECT 1`);
  await new Promise((resolve) => setTimeout(resolve, 60));
  const found = await look(
    { blue: blue.url, green: green.url },
    { limits: { maxTransactionAgeMs: 50, maxLagBytes: 0 }, applicationRoles: ['postgres'] },
  );
  await client.query('ROLLBACK');
  await client.query(`ROLLBACK PREPARED '${blue.name}'`);
  expect(
    evidenceOf(found, [
      ...['deferrable_constraints blue', 'identity_full blue', 'replica_identity blue', 'unlogged_tables blue'],
      ...['materialized_views blue', 'foreign_tables blue', 'triggers_always blue', 'event_triggers blue'],
      ...['large_objects blue', 'other_publications blue', 'other_subscriptions blue', 'invalid_indexes blue'],
      ...['other_slots blue', 'prepared_transactions blue', 'green_empty green', 'other_engines blue'],
      ...['extensions green', 'comes_in_anyway green'],
    ]),
  ).toEqual({
    'deferrable_constraints blue': 'deferrable constraints: a_v_key of public.a',
    'identity_full blue': 'whole rows are compared: public.keyless',
    'replica_identity blue': 'no key, and types without equality: public.nokey (json)',
    'unlogged_tables blue': 'unlogged tables, which no replication carries: public.fast',
    'materialized_views blue': 'materialized views: public.m',
    'foreign_tables blue': 'foreign tables: public.f',
    'triggers_always blue': 'triggers and rules that also run for replication: always on public.a',
    'event_triggers blue': 'event triggers: noticed',
    'large_objects blue': '1 large objects',
    'other_publications blue': `other people's publications: theirs`,
    'other_subscriptions blue': `other people's subscriptions: theirs`,
    'invalid_indexes blue': 'invalid indexes: public.twice',
    'other_slots blue': `other people's logical slots: their_${blue.name}`,
    'prepared_transactions blue': '1 prepared transactions',
    'green_empty green': 'relations in green: public.here',
    'other_engines blue': 'extensions that write or replicate by themselves: pg_cron',
    'extensions green': 'not offered: pg_cron 9.9',
    'comes_in_anyway green': 'applications use postgres: their sessions are ended, but they are not kept out',
  });
  expect(found.get('long_transactions blue')?.evidence).toMatch(/^pid \d+ in /);
});

test('roles: rights, policies, who may pass the wall, what is set for whom, what may not be read', async () => {
  const role = `each_${randomBytes(4).toString('hex')}`;
  const blue = await database(
    18,
    `CREATE ROLE ${role} LOGIN; GRANT SET ON PARAMETER session_replication_role TO ${role};
     CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE SEQUENCE hidden`,
  );
  const green = await database(18);
  keep(role, () => blue.query(`REVOKE SET ON PARAMETER session_replication_role FROM ${role}; DROP ROLE ${role}`));
  await blue.query(
    `ALTER DATABASE "${blue.name}" SET work_mem = '5MB'; ALTER DATABASE "${blue.name}" SET datestyle = 'SQL'`,
  );
  await green.query(`ALTER DATABASE "${green.name}" SET work_mem = '6MB'`);
  const plain = await look({ blue: blue.url, green: green.url });
  expect(plain.get('passes_the_wall blue')?.evidence).toContain(role);
  expect(plain.get('role_settings green')?.evidence).toBe(
    'not the same on green: everybody: DateStyle, everybody: work_mem',
  );
  const as = (url: string): string => url.replace('postgres@', `${role}@`);
  const weak = await look({ blue: as(blue.url), green: as(green.url) });
  expect(weak.get('privileges blue')?.remedy).toContain('REPLICATION');
  expect(weak.get('row_security blue')?.evidence).toBe('tables with row security: public.a');
  expect([...weak.keys()]).toEqual(expect.arrayContaining(['reachable_from_peer blue', 'reachable_from_peer green']));
  await green.query('CREATE SEQUENCE hidden');
  const half = { blue: await session('blue', blue.url), green: await session('green', as(green.url)) };
  const found = await look({ blue: blue.url, green: as(green.url) }, { both: half });
  expect(found.get('sequences_readable both')?.evidence).toBe('may not be set: public.hidden');
});

test('one database by two names; a locale and an encoding of another kind; a server that is too old', async () => {
  const blue = await database(18);
  const same = await look({ blue: blue.url, green: blue.url });
  expect(same.get('different_databases both')?.evidence).toContain('are the same database');
  await blue.query(`UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()`);
  const name = `t_${randomBytes(6).toString('hex')}`;
  await blue.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc`);
  keep(name, () => blue.query(`DROP DATABASE ${name} WITH (FORCE)`));
  const other = new URL(blue.url);
  other.pathname = `/${name}`;
  const found = await look({ blue: blue.url, green: other.toString() });
  expect(evidenceOf(found, ['encoding both'])).toEqual({ 'encoding both': 'blue UTF8, green SQL_ASCII' });
  expect(found.get('collations both')?.evidence).toMatch(/green: C C c/);
  expect(found.get('collation_versions blue')?.evidence).toMatch(/: database$/);
  const old = Object.create(await session('green', blue.url), { serverVersion: { value: 130_000 } }) as Session;
  const aged = await look(
    { blue: blue.url, green: blue.url },
    { both: { blue: await session('blue', blue.url), green: old } },
  );
  expect(aged.get('version green')?.evidence).toBe('server_version_num 130000');
});

(hasVersion(15) ? test : test.skip)(
  'to another major: what green cannot hold, or holds in another version; programs older than blue',
  async () => {
    const old = await database(15, `CREATE EXTENSION pg_stat_statements VERSION '1.4'`);
    const blue = await database(
      18,
      `CREATE TABLE a (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL)`,
    );
    const green = await database(15);
    const down = await look({ blue: blue.url, green: green.url });
    expect(evidenceOf(down, ['generated_columns blue'])).toEqual({
      'generated_columns blue': 'virtual generated columns: public.a',
    });
    const tools = process.env.PGSHIFT_POSTGRES_BIN;
    process.env.PGSHIFT_POSTGRES_BIN = '/usr/lib/postgresql/15/bin';
    const aged = await look({ blue: blue.url, green: green.url });
    process.env.PGSHIFT_POSTGRES_BIN = '/nowhere';
    const none = await look({ blue: blue.url, green: green.url });
    process.env.PGSHIFT_POSTGRES_BIN = tools;
    expect(aged.get('tools blue')?.evidence).toMatch(/^pg_dump \(PostgreSQL\) 15\..*, and blue is 18\.\d+$/);
    expect(none.get('tools blue')?.evidence).toBe('there is no pg_dump in PGSHIFT_POSTGRES_BIN');
    const aside = await look({ blue: old.url, green: green.url });
    expect(aside.get('extension_versions green')?.evidence).toMatch(/^pg_stat_statements 1\.4 becomes 1\.\d+$/);
  },
);

test('a server without room, without roles, without logical WAL, and a standby', async () => {
  const home = serverHome('each');
  keep(home, async (path) => rmSync(path, { recursive: true, force: true }));
  const settings = {
    ...{ wal_level: 'replica', max_replication_slots: '2', max_wal_senders: '2', max_logical_replication_workers: '0' },
    ...{
      max_slot_wal_keep_size: '1GB',
      max_locks_per_transaction: '10',
      max_connections: '10',
      timezone: 'Asia/Tokyo',
    },
    max_prepared_transactions: '0',
  };
  const server = keep(await startOwnPostgres(home, { settings }), (one) => one.stop());
  const green = await server.database(
    `DO $$BEGIN FOR i IN 1..40 LOOP EXECUTE format('CREATE TABLE many%s (id int)', i); END LOOP; END$$`,
  );
  const role = `each_${randomBytes(4).toString('hex')}`;
  const blue = await database(
    18,
    `CREATE ROLE ${role}; CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a OWNER TO ${role}`,
  );
  keep(role, () => blue.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`));
  const found = await look({ blue: blue.url, green: green.url });
  expect(
    evidenceOf(found, [
      ...['wal_level green', 'replication_capacity green', 'slot_keep_size green', 'lock_table green'],
      'roles_on_green green',
    ]),
  ).toEqual({
    'wal_level green': 'wal_level = replica',
    'replication_capacity green': expect.stringContaining('max_replication_slots: 2 free') as string,
    'slot_keep_size green': 'max_slot_wal_keep_size = 1GB',
    'lock_table green': '40 tables, room for about 100 locks',
    'roles_on_green green': `missing: ${role}`,
  });
  expect(found.get('server_settings green')?.evidence).toContain('TimeZone');
  await server.kill();
  writeFileSync(join(home, 'data', 'standby.signal'), '');
  await server.start();
  const standby = await look({ blue: blue.url, green: green.url });
  expect(standby.get('primary green')?.evidence).toBe('a standby: it takes no writes');
});

test('before the switch: who writes there, two writable sides, what cannot be told apart, what is not carried', async () => {
  const blue = await database(18, 'CREATE TABLE a (id int); CREATE SEQUENCE s');
  const green = await database(18, 'CREATE TABLE a (id int)');
  const both = { blue: await session('blue', blue.url), green: await session('green', green.url) };
  for (const side of ['blue', 'green'] as const) await install(both[side]);
  await openGuards(both, MIGRATION, { names: { blue: 'blue', green: 'green' } });
  await green.query(`UPDATE pgshift.guard SET writable = true`);
  const client = await green.client();
  await client.query('BEGIN; INSERT INTO a VALUES (1)');
  const found = await look({ blue: blue.url, green: green.url }, { both, stage: 'switch' });
  await client.query('ROLLBACK');
  expect(
    evidenceOf(found, [
      ...['one_writable_side both', 'identity_both_sides blue', 'identity_both_sides green', 'sequences_there both'],
      ...['all_published blue', 'other_side_fenced green'],
    ]),
  ).toEqual({
    'one_writable_side both': 'blue: true, green: true',
    'identity_both_sides blue': 'public.a',
    'identity_both_sides green': 'public.a',
    'sequences_there both': 'missing: public.s',
    'all_published blue': 'not carried: public.a',
    'other_side_fenced green': 'open: public.a',
  });
  expect(found.get('other_side_quiet green')?.evidence).toMatch(/pid \d+/);
  expect(found.get('replication_well green')?.evidence).not.toBe('');
});

test('none was left out', () => {
  // A lag is a figure of a stream that runs (guardrails.test.ts); how much WAL is kept is told, and no figure of it is wrong.
  const elsewhere = ['replication_lag', 'wal_disk'];
  const without15 = hasVersion(15) ? [] : ['generated_columns', 'extension_versions', 'tools'];
  const ids = CHECKS.map(({ id }) => id).filter((id) => ![...elsewhere, ...without15].includes(id));
  expect(ids.filter((id) => !failed.has(id))).toEqual([]);
});
