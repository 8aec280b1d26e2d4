/** A map changes rows on their way, in SQL; what is bad is set aside with its reason, and everything that was read is accounted for. */
import { takeBackCopy, verifyCopy } from '../../../postgres/copy/run';
import { isProblem } from '../../../plan/model/errors';
import type { DataMigrationInput } from '../../../plan/model/dataMigration';
import { checkPlan, copyAll, copyPair } from '../../support/copy';
import type { CopyPair } from '../../support/copy';
import { hasVersion } from '../../support/database';
import type { ServerVersion } from '../../support/database';

const PEOPLE = `
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE country (code text PRIMARY KEY, name text);
INSERT INTO country VALUES ('de', 'Germany'), ('ie', 'Ireland');
CREATE TABLE person (id serial PRIMARY KEY, first text, last text, mail text, phone text, born text, age text, points numeric(10,2), country text,
  status text, m mood, tags text[], note text, updated timestamptz DEFAULT '2026-01-01');
INSERT INTO person (first, last, mail, phone, born, age, points, country, status, m, tags)
  SELECT 'F' || g, 'L' || g, 'm' || g || '@mail.example', '+353 1 555 ' || lpad(g::text, 4, '0'), '2000-02-29', (g % 90)::text, g, CASE WHEN g % 2 = 0 THEN 'de' ELSE 'ie' END,
    CASE g % 3 WHEN 0 THEN 'active' WHEN 1 THEN 'gone' END, 'ok', ARRAY['a', NULL, g::text] FROM generate_series(1, 2000) g;
CREATE INDEX person_last_idx ON person (last); CREATE TABLE ordering (id int PRIMARY KEY, person int, amount int);
INSERT INTO ordering SELECT g, 1 + g % 2000, g FROM generate_series(1, 4000) g; ANALYZE;`;

const run = async (
  setup: string,
  plan: Partial<DataMigrationInput>,
  work: (pair: CopyPair, counts: Awaited<ReturnType<typeof copyAll>>['counts']) => Promise<void>,
  versions: readonly [ServerVersion, ServerVersion] = [18, 18],
  targetSetup = '',
): Promise<void> => {
  const pair = await copyPair(setup, plan, versions, targetSetup);
  try {
    const { counts } = await copyAll(pair.context);
    await work(pair, counts);
    const verified = await verifyCopy(pair.context);
    expect(verified.different).toEqual([]);
  } finally {
    await pair.drop();
  }
};

const quarantined = (pair: CopyPair) =>
  pair.target.query(
    `SELECT key, column_name AS "column", rule, reason FROM pgshift.quarantine WHERE migration_name = 'copy1' ORDER BY id`,
  );

const RESHAPED: Partial<DataMigrationInput> = {
  tables: { include: ['person'] },
  parallel: { rangeSize: '64kB', rangesPerTable: 2 },
  map: {
    person: {
      to: 'crm.customer',
      where: "status IS DISTINCT FROM 'gone' AND id <= 1500",
      columns: {
        person_id: 'id',
        full_name: { sql: "first || ' ' || person.last" },
        age: { sql: 'age::int' },
        status: { lookup: { column: 'status', values: { active: 1 }, otherwise: 'null' } },
        country: { lookup: { column: 'country', table: 'country', key: 'code', value: 'name' } },
      },
      omit: ['first', 'last', 'phone', 'born'],
      nulls: { note: 'none' },
      enrich: { orders: { sql: '(SELECT count(*) FROM ordering o WHERE o.person = person.id)' } },
    },
  },
};

const expectReshaped = async (pair: CopyPair): Promise<void> => {
  const rows = await pair.target.query(
    `SELECT count(*)::int AS n, min(full_name) AS name, bool_and(age BETWEEN 0 AND 89) AS aged, sum(orders)::int AS orders, count(status)::int AS status,
            string_agg(DISTINCT country, ',' ORDER BY country) AS country, bool_and(note = 'none') AS noted, bool_and(m = 'ok') AS m FROM crm.customer`,
  );
  const [{ n = 0 } = {}] = await pair.source.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM person WHERE status IS DISTINCT FROM 'gone' AND id <= 1500`,
  );
  expect(rows).toMatchObject([
    {
      n,
      name: 'F1001 L1001',
      aged: true,
      orders: 2 * n,
      country: 'Germany,Ireland',
      noted: true,
      m: true,
      status: 500,
    },
  ]);
  const columns = await pair.target.query<{ c: string }>(
    `SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) AS c FROM pg_attribute
      WHERE attrelid = 'crm.customer'::regclass AND attnum > 0 AND NOT attisdropped`,
  );
  expect(columns[0]?.c).toBe(
    'person_id integer, mail text, age integer, points numeric(10,2), country text, status integer, m mood, tags text[], note text, updated timestamp with time zone, full_name text, orders bigint',
  );
  const [next] = await pair.target.query<{ id: number }>(
    `INSERT INTO crm.customer (full_name) VALUES ('x') RETURNING person_id AS id`,
  );
  expect(next?.id).toBe(1501);
  await pair.target.query(`DELETE FROM crm.customer WHERE full_name = 'x'`);
};

test('new names, values, lookups and sums in a table that the map shapes', async () => {
  await run(PEOPLE, RESHAPED, async (pair, counts) => {
    expect(counts).toMatchObject({ read: 2000, filtered: 1000, loaded: 1000, bad: 0 });
    await expectReshaped(pair);
    const log = await pair.target.query<{ message: string }>(
      `SELECT message FROM pgshift.migration_log WHERE level = 'warning'`,
    );
    expect(log[0]?.message).toMatch(/public.person; not made for it: .*index person_last_idx/);
  });
});

(hasVersion(15) ? test : test.skip)('across majors', async () => {
  await run(PEOPLE, RESHAPED, expectReshaped, [15, 18]);
});

test('the way back leaves nothing of a table that the map shapes', async () => {
  const pair = await copyPair(PEOPLE, RESHAPED);
  try {
    await copyAll(pair.context);
    await takeBackCopy(pair.context);
    expect(await pair.target.query(`SELECT 1 FROM pg_namespace WHERE nspname = 'crm'`)).toEqual([]);
    expect(await pair.target.query(`SELECT 1 FROM pg_type WHERE typname = 'mood'`)).toEqual([]);
  } finally {
    await pair.drop();
  }
});

test('rules set rows aside, each with its key, column, rule and reason', async () => {
  const bad = `${PEOPLE}
    UPDATE person SET mail = 'nobody' WHERE id = 3; UPDATE person SET phone = 'call me' WHERE id = 5; UPDATE person SET born = '2001-02-29' WHERE id = 7;
    UPDATE person SET age = '190' WHERE id = 9; UPDATE person SET note = 'x' WHERE id = 11; UPDATE person SET country = 'xx' WHERE id = 13;
    UPDATE person SET mail = NULL, phone = NULL, born = NULL WHERE id = 15; UPDATE person SET age = 'old' WHERE id IN (17, 1999);`;
  await run(
    bad,
    {
      tables: { include: ['person'] },
      parallel: { rangeSize: '64kB', rangesPerTable: 2 },
      errors: { max: 8 },
      map: {
        person: {
          columns: {
            age: { sql: 'age::int' },
            born: { sql: 'born::date' },
            country: { lookup: { column: 'country', values: { de: 'DE', ie: 'IE' } } },
          },
          validate: {
            mail: 'email',
            phone: 'phone',
            born: { sql: "born ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' AND right(born, 5) <> '02-29' OR born = '2000-02-29'" },
            points: { min: 0, max: 5000 },
            note: { sql: "note IS NULL OR note <> 'x'" },
            age: { min: 0, max: 150 },
          },
        },
      },
    },
    async (pair, counts) => {
      expect(counts).toMatchObject({ read: 2000, loaded: 1992, bad: 8 });
      const rows = await quarantined(pair);
      const byKey = Object.fromEntries(rows.map(({ key, ...row }) => [(key as { id: string }).id, row]));
      expect(byKey).toMatchObject({
        3: { column: 'mail', rule: 'email' },
        5: { column: 'phone', rule: 'phone' },
        7: { column: 'born', rule: 'sql' },
        9: { column: 'age', rule: 'range', reason: 'outside its range' },
        11: { column: 'note', rule: 'sql' },
        13: { column: 'country', rule: 'lookup', reason: 'no entry for the value of country' },
        17: { column: 'age', reason: expect.stringMatching(/cannot be read as the type/) },
        1999: { column: 'age' },
      });
      expect(JSON.stringify(rows)).not.toMatch(/nobody|call me|190/);
      expect(
        await pair.target.query(`SELECT count(*)::int AS n FROM person WHERE id IN (3, 5, 7, 9, 11, 13, 17, 1999)`),
      ).toEqual([{ n: 0 }]);
    },
  );
});

test('dates are judged by the calendar, and never fail', async () => {
  const dates = [
    '2000-02-29',
    '1900-02-29',
    '2001-04-31',
    '0000-01-01',
    '2026-13-01',
    '2026-11-21 10:00',
    '2026-11-21T10:00:00.5Z',
    '2026-11-21 24:01',
    '2026-11-21 10:60:00',
    '2026-11-21 10:00:00+99',
    'x',
    '',
    '2026-1-1',
  ];
  await run(
    `CREATE TABLE d (id int PRIMARY KEY, v text); INSERT INTO d SELECT n, v FROM unnest(ARRAY[${dates.map((d) => `'${d}'`).join(',')}]) WITH ORDINALITY AS u(v, n)`,
    { errors: { max: 100 }, map: { d: { validate: { v: 'date' } } } },
    async (pair) => {
      const rows = await pair.target.query<{ v: string }>(`SELECT v FROM d ORDER BY id`);
      expect(rows.map(({ v }) => v)).toEqual(['2000-02-29', '2026-11-21 10:00', '2026-11-21T10:00:00.5Z']);
    },
  );
});

test('a number that is none is in no range', async () => {
  await run(
    `CREATE TABLE n (id int PRIMARY KEY, v numeric, f float8); INSERT INTO n VALUES (1, 'NaN', 1), (2, 1, 'NaN'), (3, 'Infinity', '-0'), (4, NULL, NULL), (5, -1, 1);`,
    { errors: { max: 100 }, map: { n: { validate: { v: { min: 0 }, f: { min: 0 } } } } },
    async (pair) => {
      expect((await pair.target.query<{ id: number }>(`SELECT id FROM n ORDER BY id`)).map(({ id }) => id)).toEqual([
        3, 4,
      ]);
    },
  );
});

test('the first bad row stops, with its place on the list; a limit is counted over ranges', async () => {
  const setup = `${PEOPLE} UPDATE person SET mail = 'x' WHERE id IN (1, 900, 1900);`;
  const map = { person: { validate: { mail: 'email' as const } } };
  const small = { rangeSize: '64kB', rangesPerTable: 1 };
  for (const [errors, bad] of [
    [{}, 1],
    [{ max: 2 }, 3],
    [{ rate: 0.001 }, 3],
  ] as const) {
    const pair = await copyPair(setup, { tables: { include: ['person'] }, map, errors, parallel: small });
    try {
      await expect(copyAll(pair.context)).rejects.toMatchObject({ code: 'ErrorBudgetSpent' });
      expect(await quarantined(pair)).toHaveLength(bad);
      // A second try finds the same, once.
      await expect(copyAll(pair.context)).rejects.toMatchObject({ code: 'ErrorBudgetSpent' });
      expect(await quarantined(pair)).toHaveLength(bad);
    } finally {
      await pair.drop();
    }
  }
  await run(
    setup,
    { tables: { include: ['person'] }, map, errors: { rate: 0.002 }, parallel: small },
    async (_, counts) => expect(counts).toMatchObject({ bad: 3, loaded: 1997 }),
  );
});

test('a share of the rows is the same one every time', async () => {
  const plan = { tables: { include: ['person'] }, map: { person: { sample: '10%' } } };
  const found: unknown[] = [];
  for (const rangeSize of ['64kB', '256MB'])
    await run(PEOPLE, { ...plan, parallel: { rangeSize } }, async (pair, counts) => {
      expect(counts?.loaded).toBeGreaterThan(130);
      expect(counts?.loaded).toBeLessThan(270);
      expect(counts?.sampledOut).toBe(2000 - (counts?.loaded ?? 0));
      found.push(await pair.target.query(`SELECT id FROM person ORDER BY id`));
    });
  expect(found[0]).toEqual(found[1]);
});

const TWICE = `CREATE TABLE log (id int PRIMARY KEY, k numeric, at timestamptz, a text, b int, tags int[]);
INSERT INTO log VALUES (1, 1.0, '2026-01-01', 'old', NULL, '{1}'), (2, 1.00, '2026-01-03', NULL, 7, NULL), (3, 1, '2026-01-02', 'mid', 5, '{2}'),
  (4, 2, NULL, 'x', 1, NULL), (5, NULL, '2026-01-01', 'n', 1, NULL), (6, NULL, '2026-01-01', 'n', 1, NULL), (7, 3, '2026-01-09', 'bad', 1, NULL), (8, 3, '2026-01-01', 'good', 1, NULL);`;

test.each([
  [
    'first',
    [
      ['1', 'old', null],
      ['2', 'x', 1],
      ['3', 'good', 1],
      [null, 'n', 1],
      [null, 'n', 1],
    ],
  ],
  [
    'last',
    [
      ['1.00', null, 7],
      ['2', 'x', 1],
      ['3', 'good', 1],
      [null, 'n', 1],
      [null, 'n', 1],
    ],
  ],
  [
    'merge',
    [
      ['1.00', 'mid', 7],
      ['2', 'x', 1],
      ['3', 'good', 1],
      [null, 'n', 1],
      [null, 'n', 1],
    ],
  ],
] as const)("of duplicates the %s is kept; NULL is nobody's; a bad row never wins", async (keep, expected) => {
  await run(
    TWICE,
    {
      errors: { max: 1 },
      map: {
        log: { deduplicate: { key: 'k', keep, order: 'at' }, validate: { a: { sql: "a IS NULL OR a <> 'bad'" } } },
      },
    },
    async (pair, counts) => {
      const rows = await pair.target.query<{ k: string; a: string; b: number }>(
        `SELECT k::text AS k, a, b FROM log ORDER BY k, id`,
      );
      const wanted = expected.map(([k, a, b]) => [k === '1' ? '1.0' : k, a, b]);
      expect(rows.map(({ k, a, b }) => [k, a, b])).toEqual(wanted);
      expect(counts).toMatchObject({ read: 8, loaded: 5, deduplicated: 2, bad: 1 });
    },
  );
});

test('duplicates of a large table are looked for in parts', async () => {
  await run(
    `CREATE TABLE dup (id int, k int, t text); INSERT INTO dup SELECT g, g % 700, repeat('x', 200) FROM generate_series(1, 20000) g; ANALYZE`,
    { parallel: { rangeSize: '1MB' }, map: { dup: { deduplicate: { key: ['k'], keep: 'last', order: ['id'] } } } },
    async (pair, counts) => {
      expect(counts).toMatchObject({ read: 20000, loaded: 700, deduplicated: 19300 });
      expect(await pair.target.query(`SELECT min(id) AS id FROM dup`)).toEqual([{ id: 19301 }]);
      const lanes = await pair.target.query(`SELECT 1 FROM pgshift.lanes WHERE scope = 'do' AND step_id LIKE 'copy%'`);
      expect(lanes.length).toBeGreaterThan(2);
    },
  );
});

test('a value that the new type would round or cut is no pass', async () => {
  const pair = await copyPair(
    `CREATE TABLE n (id int PRIMARY KEY, v numeric); INSERT INTO n VALUES (1, 1.25), (2, 3)`,
    { schema: 'existing', map: { n: { columns: { w: 'v' } } } },
    [18, 18],
    `CREATE TABLE n (id int PRIMARY KEY, w int)`,
  );
  try {
    await copyAll(pair.context);
    expect((await verifyCopy(pair.context)).different).toMatchObject([{ table: 'public.n' }]);
  } finally {
    await pair.drop();
  }
});

test('verify: sample counts all rows and compares some', async () => {
  const pair = await copyPair(PEOPLE, { tables: { include: ['person', 'country'] }, verify: 'sample' });
  try {
    await copyAll(pair.context);
    expect((await verifyCopy(pair.context)).different).toEqual([]);
    await pair.target.query(`UPDATE person SET note = 'other'`);
    expect((await verifyCopy(pair.context)).different).toMatchObject([{ table: 'public.person', sourceRows: 2000 }]);
    await pair.target.query(`UPDATE person SET note = NULL; DELETE FROM country WHERE code = 'de'`);
    expect((await verifyCopy(pair.context)).different).toMatchObject([{ table: 'public.country', targetRows: 1 }]);
  } finally {
    await pair.drop();
  }
});

describe('bad maps are refused before anything is written', () => {
  let pair: CopyPair;
  beforeAll(async () => {
    pair = await copyPair(
      PEOPLE,
      {},
      [18, 18],
      `CREATE TABLE there (id int PRIMARY KEY, must text NOT NULL); CREATE TABLE bare (id int)`,
    );
  });
  afterAll(() => pair.drop());

  const existing = { schema: 'existing' as const, tables: { include: ['person'] } };
  test.each<[Partial<DataMigrationInput>, string, string]>([
    [{ map: { nix: {} } }, 'NoSuchObject', 'map.nix'],
    [{ tables: { exclude: ['person'] }, map: { person: {} } }, 'NoSuchObject', 'map.person'],
    [{ map: { person: { where: 'nix = 1' } } }, 'NoSuchObject', 'map.person.where'],
    [{ map: { person: { where: 'id' } } }, 'InvalidPlan', 'map.person.where'],
    [{ map: { person: { where: 'count(*) > 1' } } }, 'InvalidPlan', 'map.person.where'],
    [{ map: { person: { columns: { x: 'nix' } } } }, 'NoSuchObject', 'map.person.columns.x'],
    [{ map: { person: { columns: { x: { sql: 'nosuch(id)' } } } } }, 'NoSuchObject', 'map.person.columns.x.sql'],
    [{ map: { person: { columns: { x: { sql: 'random()' } } } } }, 'InvalidPlan', 'map.person.columns.x.sql'],
    [
      { map: { person: { columns: { x: { lookup: { column: 'nix', values: {} } } } } } },
      'NoSuchObject',
      'map.person.columns.x.lookup.column',
    ],
    [
      {
        map: {
          person: { columns: { x: { lookup: { column: 'country', table: 'country', key: 'nix', value: 'name' } } } },
        },
      },
      'NoSuchObject',
      'map.person.columns.x.lookup',
    ],
    [{ map: { person: { omit: ['nix'] } } }, 'NoSuchObject', 'map.person.omit'],
    [{ map: { person: { nulls: { nix: 1 } } } }, 'NoSuchObject', 'map.person.nulls.nix'],
    [{ map: { person: { validate: { nix: 'email' } } } }, 'NoSuchObject', 'map.person.validate.nix'],
    [{ map: { person: { validate: { first: { min: 3 } } } } }, 'NoSuchObject', 'map.person.validate.first'],
    [{ map: { person: { deduplicate: { key: 'nix' } } } }, 'NoSuchObject', 'map.person.deduplicate.key'],
    [{ ...existing, map: { person: { to: 'nowhere' } } }, 'PreflightFailed', 'map.person'],
    [{ ...existing, map: { person: { to: 'bare' } } }, 'PreflightFailed', 'map.person'],
    [{ ...existing, map: { person: { to: 'there' } } }, 'PreflightFailed', 'map.person'],
    [
      { ...existing, map: { person: { to: 'bare', columns: { nix: 'first' } } } },
      'NoSuchObject',
      'map.person.columns.nix',
    ],
    [
      {
        ...existing,
        load: { method: 'upsert' },
        map: {
          person: {
            to: 'bare',
            omit: 'first last mail phone born age points country status m tags note updated'.split(' '),
          },
        },
      },
      'PreflightFailed',
      'map.person',
    ],
  ])('%j', async (plan, code, path) => {
    const error: unknown = await checkPlan(pair, plan).catch((e: unknown) => e);
    if (!isProblem(error)) throw error instanceof Error ? error : new Error('it was taken');
    expect([error.code, error.where?.path, error.message]).toEqual([code, path, expect.stringContaining(path)]);
  });
});
