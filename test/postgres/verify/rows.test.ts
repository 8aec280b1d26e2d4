/** Rows on real servers: one corrupt row is found and named, and nothing that is equal is called different. */
import type { FreshDatabase, ServerVersion } from '../../support/database';
import { describeVersions, freshDatabase, hasVersion } from '../../support/database';
import { codeOf } from '../../support/engine';
import { samplesOf, tableOf, verify } from '../../support/verify';

const open: FreshDatabase[] = [];
async function fresh(version: ServerVersion, setup: string): Promise<FreshDatabase> {
  const database = await freshDatabase(version, setup);
  open.push(database);
  return database;
}
afterEach(async () => {
  for (const database of open.splice(0)) await database.drop();
});

/** The same tables on both sides, then `change` on the target. */
async function twins(version: ServerVersion, setup: string, change = '', other = version) {
  return { source: await fresh(version, setup), target: await fresh(other, `${setup}; ${change}`) };
}

const ORDERS = `CREATE TABLE orders (id int PRIMARY KEY, note text, amount numeric(12,2));
  INSERT INTO orders SELECT i, 'note ' || i, i FROM generate_series(1, 250000) AS i; ANALYZE orders`;

describeVersions('rows', (version) => {
  test('one changed, one missing and one extra row among 250,000 are found and named', async () => {
    const { source, target } = await twins(
      version,
      ORDERS,
      `UPDATE orders SET amount = 7 WHERE id = 171717; DELETE FROM orders WHERE id = 42; INSERT INTO orders VALUES (900000, 'x', 1)`,
    );
    const result = await verify(source, target);
    expect(result.passed).toBe(false);
    const table = tableOf(result, 'public.orders');
    expect(table).toMatchObject({
      sourceRows: 250_000,
      targetRows: 250_000,
      equal: false,
      differing: 3,
      complete: true,
    });
    expect(samplesOf(table)).toEqual([
      'changed {"id":"171717"} amount: 171717.00 -> 7.00',
      'extra {"id":"900000"} amount: null -> 1.00, id: null -> 900000, note: null -> x',
      'missing {"id":"42"} amount: 42.00 -> null, id: 42 -> null, note: note 42 -> null',
    ]);
    expect(result.errors).toEqual([
      { check: 'rows', table: 'public.orders', message: '3 rows differ (1 missing, 1 extra, 1 changed)' },
    ]);
  });

  test('what looks alike and is not: NULL and empty, scale, sign of zero, months and days, NaN', async () => {
    const setup = `CREATE TABLE v (id int PRIMARY KEY, t text, n numeric, f float8, i interval, b bytea, j jsonb);
      INSERT INTO v VALUES (1, NULL, 1.0, 0, '1 mon', NULL, '{"a": 1.0}'), (2, '', 1, 'NaN', '1 day', '', 'null'),
        (3, 'same', 'NaN', '-0', '24:00', '\\x00', NULL), (4, 'a', 4, 'Infinity', '0', NULL, '[]')`;
    const { source, target } = await twins(
      version,
      setup,
      `UPDATE v SET t = '' WHERE id = 1; UPDATE v SET n = 1.00 WHERE id = 2; UPDATE v SET f = 0 WHERE id = 3;
       INSERT INTO v VALUES (5, NULL, NULL, NULL, NULL, NULL, NULL)`,
    );
    await target.query(
      `UPDATE v SET i = '30 days', j = '{"a": 1.00}' WHERE id = 1; UPDATE v SET b = '\\x00' WHERE id = 2`,
    );
    const table = tableOf(await verify(source, target), 'public.v');
    expect(samplesOf(table)).toEqual([
      'changed {"id":"1"} i: 1 mon -> 30 days, j: {"a": 1.0} -> {"a": 1.00}, t: null -> ',
      'changed {"id":"2"} b: \\x -> \\x00, n: 1 -> 1.00',
      'changed {"id":"3"} f: -0 -> 0',
      'extra {"id":"5"} id: null -> 5',
    ]);
  });

  test('a table without key: duplicates count, NULLs are rows', async () => {
    const { source, target } = await twins(
      version,
      `CREATE TABLE log (a int, b text); INSERT INTO log SELECT i % 100, 'x' FROM generate_series(1, 5000) AS i;
       INSERT INTO log VALUES (NULL, NULL), (NULL, NULL); ANALYZE log`,
      `DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE a = 7); INSERT INTO log VALUES (NULL, NULL), (NULL, '')`,
    );
    expect(await verify(source, source, { map: { log: { to: 'log' } } }).catch((e: { code: string }) => e.code)).toBe(
      'SameDatabase',
    );
    const table = tableOf(await verify(source, target), 'public.log');
    expect(table).toMatchObject({ sourceRows: 5_002, targetRows: 5_003, differing: 3 });
    expect(
      (table.samples ?? []).map(({ kind, columns }) => [kind, ...columns.map((c) => c.source ?? c.target)]).sort(),
    ).toEqual([['extra'], ['extra', ''], ['missing', '7', 'x']]);
    const equal = await twins(version, `CREATE TABLE log (a int); INSERT INTO log VALUES (1), (1), (NULL)`);
    expect((await verify(equal.source, equal.target)).passed).toBe(true);
  });

  test('quoted names, 300 columns, zero columns, zero rows, dropped columns, other order of columns, text keys', async () => {
    const wide = Array.from({ length: 300 }, (_, i) => `"c ${i}" int DEFAULT ${i}`).join(', ');
    const common = `CREATE SCHEMA "Odd.Schema";
      CREATE TABLE "Odd.Schema"."a ""b"" é" ("Key, 1" text, "k2" uuid, "Välue" text, PRIMARY KEY ("Key, 1", k2));
      INSERT INTO "Odd.Schema"."a ""b"" é" SELECT 'ä' || i, md5(i::text)::uuid, 'v' || i FROM generate_series(1, 3000) AS i;
      CREATE TABLE wide (id int PRIMARY KEY, ${wide}); INSERT INTO wide (id) SELECT generate_series(1, 500);
      CREATE TABLE none (); INSERT INTO none DEFAULT VALUES; INSERT INTO none DEFAULT VALUES; CREATE TABLE empty (id int PRIMARY KEY);`;
    const source = await fresh(
      version,
      `${common} CREATE TABLE moved (id int PRIMARY KEY, gone int, a text, b text);
      INSERT INTO moved SELECT i, i, 'a' || i, 'b' || i FROM generate_series(1, 100) AS i; ALTER TABLE moved DROP COLUMN gone`,
    );
    const target = await fresh(
      version,
      `${common} CREATE TABLE moved (b text, id int PRIMARY KEY, a text);
      INSERT INTO moved SELECT 'b' || i, i, 'a' || i FROM generate_series(1, 100) AS i`,
    );
    const plan = { tables: { include: ['*.*'] } };
    const equal = await verify(source, target, plan);
    expect(equal.errors).toEqual([]);
    expect(equal.tables.map(({ table, sourceRows }) => [table, sourceRows])).toEqual([
      ['"Odd.Schema"."a ""b"" é"', 3_000],
      ['public.empty', 0],
      ['public.moved', 100],
      ['public.none', 2],
      ['public.wide', 500],
    ]);
    await target.query(`UPDATE wide SET "c 299" = NULL WHERE id = 77; DELETE FROM none WHERE ctid = '(0,1)';
      UPDATE "Odd.Schema"."a ""b"" é" SET "Välue" = 'it''s' WHERE "Key, 1" = 'ä17'`);
    const result = await verify(source, target, plan);
    expect(samplesOf(tableOf(result, 'public.wide'))).toEqual(['changed {"id":"77"} c 299: 299 -> null']);
    expect(tableOf(result, 'public.none')).toMatchObject({ sourceRows: 2, targetRows: 1, differing: 1 });
    expect(samplesOf(tableOf(result, '"Odd.Schema"."a ""b"" é"'))).toEqual([
      expect.stringMatching(/^changed \{"k2":"[0-9a-f-]+","Key, 1":"ä17"\} Välue: v17 -> it's$/),
    ]);
  });

  test('a column or a table that one side lacks is never left out in silence', async () => {
    const source = await fresh(version, `CREATE TABLE a (id int PRIMARY KEY, x int, y int); CREATE TABLE b (id int)`);
    const target = await fresh(version, `CREATE TABLE a (id int PRIMARY KEY, x int, z int)`);
    const result = await verify(source, target);
    expect(result.passed).toBe(false);
    expect(result.errors.map(({ table, message }) => `${table}: ${message}`).sort()).toEqual([
      'public.a: column y is on the source only',
      'public.a: column z is on the target only',
      'public.b: public.b is not there on the target',
    ]);
    expect(await codeOf(verify(source, target, { map: { nothing: {} } }))).toBe('NoSuchObject');
    expect(await codeOf(verify(source, target, { tables: { include: ['nothing_*'] } }))).toBe('NoSuchObject');
  });

  test('through the map: another name, renamed and computed columns, a filter, other types, within one database', async () => {
    const source = await fresh(
      version,
      `CREATE TYPE mood AS ENUM ('ok', 'bad');
       CREATE TABLE customer (id int PRIMARY KEY, first text, last text, cents int, active bool, at timestamptz, m mood);
       INSERT INTO customer SELECT i, 'f' || i, 'l' || i, i * 100, i % 2 = 0, '2026-01-01'::timestamptz + i * '1 s'::interval, 'ok' FROM generate_series(1, 2000) AS i;
       CREATE SCHEMA new; CREATE TABLE new.client (client_id bigint PRIMARY KEY, name varchar(100), euros numeric(12,2), at timestamptz, m text);
       INSERT INTO new.client SELECT id, first || ' ' || last, cents / 100.0, at, m::text FROM customer WHERE active; ANALYZE`,
    );
    const map = {
      customer: {
        to: 'new.client',
        where: 'active',
        columns: { client_id: 'id', name: { sql: `first || ' ' || last` }, euros: { sql: 'cents / 100.0' } },
        omit: ['active'],
      },
    };
    const equal = await verify(source, source, { map });
    expect(equal.errors).toEqual([]);
    expect(tableOf(equal, 'public.customer')).toMatchObject({ to: 'new.client', sourceRows: 1_000, targetRows: 1_000 });
    await source.query(
      `UPDATE new.client SET euros = 1 WHERE client_id = 8; DELETE FROM new.client WHERE client_id = 10`,
    );
    expect(samplesOf(tableOf(await verify(source, source, { map }), 'public.customer'))).toEqual([
      'changed {"client_id":"8"} euros: 8.0000000000000000 -> 1.00',
      expect.stringMatching(/^missing \{"client_id":"10"\}/),
    ]);
  });
});

(hasVersion(15) ? test : test.skip)('across majors every type that breaks copiers is compared right', async () => {
  const setup = `CREATE TYPE mood AS ENUM ('ok', 'bad'); CREATE DOMAIN posint AS int CHECK (value > 0); CREATE TYPE pair AS (a int, b text);
    CREATE TABLE types (id int PRIMARY KEY, m mood, ms mood[], d posint, p pair, ts timestamptz[], n numeric[], j json, jb jsonb, bits varbit,
      c char(5), mr int4multirange, tv tsvector, money money, inet inet, rc regclass, big text, dates date, iv interval, box box);
    INSERT INTO types VALUES (1, 'ok', '{ok,NULL,bad}', 3, '(1,"x y")', '{infinity,-infinity,1899-01-01 00:00+00}', '{1.0,NaN,NULL}', '{"a" : 1}', '{"b": 1.0}',
      B'101', 'ab', '{[1,3),[5,9)}', to_tsvector('simple', 'a b a'), 12.34, '10.0.0.1/8', 'pg_class', repeat('é', 2000000), '0044-03-15 BC', '1 mon -3 days', '(1,2),(3,4)'),
      (2, 'bad', '{}', 1, NULL, '[2:3]={now,now}'::timestamptz[], '{{1,2},{3,4}}', NULL, NULL, '', '', '{}', '', 0, '::1', 'pg_type', '\\N', 'infinity', '0', NULL);
    UPDATE types SET ts = NULL WHERE id = 2`;
  const { source, target } = await twins(15, setup, '', 18);
  expect((await verify(source, target)).errors).toEqual([]);
  expect((await verify(target, source)).errors).toEqual([]);
  await target.query(
    `UPDATE types SET ms = '{ok,bad}', p = '(1,"xy")' WHERE id = 1; UPDATE types SET m = 'ok', big = E'\\\\n' WHERE id = 2`,
  );
  expect(samplesOf(tableOf(await verify(source, target), 'public.types'))).toEqual([
    'changed {"id":"1"} ms: {ok,NULL,bad} -> {ok,bad}, p: (1,"x y") -> (1,xy)',
    'changed {"id":"2"} big: \\N -> \\n, m: bad -> ok',
  ]);
});
