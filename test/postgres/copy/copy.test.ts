/** A copy leaves the same rows and the same catalogue, whatever types and shapes there are; and its way back leaves nothing. */
import {
  closeSnapshot,
  copyBatch,
  makeSchema,
  openSnapshot,
  takeBackCopy,
  verifyCopy,
} from '../../../postgres/copy/run';
import { contents, copyAll, copyPair, eventually } from '../../support/copy';
import type { CopyPair } from '../../support/copy';
import { describeVersions, hasVersion } from '../../support/database';

const EVERYTHING = `
CREATE SCHEMA odd; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN posint AS int CHECK (value > 0);
CREATE TYPE pair AS (a int, m mood);
CREATE TABLE person (id bigserial PRIMARY KEY, name text NOT NULL DEFAULT 'x', m mood, ms mood[], d posint, p pair, h hstore,
  twice bigint GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO person (name, m, ms, d, p, h) SELECT 'n' || g, 'ok', '{sad,ok}', g, ROW(g, 'sad')::pair, 'a=>1' FROM generate_series(1, 500) g;
CREATE INDEX ON person (name); CREATE STATISTICS st ON id, name FROM person; COMMENT ON TABLE person IS 'people
-- TOC entry 1 (class 1 OID 2)';
CREATE TABLE pet (id int GENERATED ALWAYS AS IDENTITY (START 10) UNIQUE, owner bigint REFERENCES person ON DELETE CASCADE DEFERRABLE);
INSERT INTO pet (owner) SELECT g FROM generate_series(1, 100) g;
ALTER TABLE pet CLUSTER ON pet_id_key; ALTER TABLE pet REPLICA IDENTITY FULL;
CREATE TABLE odd."Odd ""Name" ("A b" int PRIMARY KEY, "ünï" text); INSERT INTO odd."Odd ""Name" VALUES (1, E'\\\\N'), (2, ''), (3, NULL), (4, E'tab\\tnl\\n');
CREATE TABLE types (a timestamptz, b numeric, c float8, d bytea, e int[], f jsonb, g int4multirange, h bit varying, i money, j int4range, k interval, l json, m timestamp, n inet);
INSERT INTO types VALUES ('infinity', 'NaN', '-0', '\\x00ff', '{{1,2},{3,4}}', '{"a":1}', '{[1,2),[5,7)}', B'101', 12.5, '[1,5)', '1 mon', '{"b": 2}', '0044-03-15 BC', '::1'),
  ('-infinity', '-1.00', 'NaN', '', '{}', 'null', NULL, B'', -3, 'empty', '30 days', '[]', 'infinity', '10.0.0.1/8'); INSERT INTO types (a) VALUES (NULL), (NULL);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES; CREATE TABLE none (id int);
CREATE TABLE dropped (a int, b int, c text); ALTER TABLE dropped DROP COLUMN b; INSERT INTO dropped VALUES (1, 'x'), (1, 'x');
CREATE TABLE part (id int, k int, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (10) TO (1000); INSERT INTO part SELECT g, g FROM generate_series(1, 400) g; CREATE INDEX ON part (k);
CREATE TABLE base (a int); CREATE TABLE child (b int) INHERITS (base); INSERT INTO base VALUES (1); INSERT INTO child VALUES (2, 3);
CREATE UNLOGGED TABLE quick (a int); INSERT INTO quick VALUES (7);
CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM person; CREATE UNIQUE INDEX ON mv (n); CREATE VIEW vw AS SELECT id, name FROM person;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; END$$;
CREATE TRIGGER tg BEFORE INSERT ON person FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE person DISABLE TRIGGER tg;
ALTER TABLE pet ENABLE ROW LEVEL SECURITY; CREATE POLICY po ON pet USING (owner > 0); GRANT SELECT (name) ON person TO PUBLIC; GRANT SELECT ON pet TO PUBLIC;
CREATE RULE r AS ON DELETE TO pet DO ALSO NOTHING; CREATE SEQUENCE free INCREMENT -3 MAXVALUE 100 START 50; SELECT nextval('free'), nextval('free');
ALTER TABLE person ADD CONSTRAINT short CHECK (length(name) < 100) NOT VALID; SELECT lo_from_bytea(4711, '\\x01020304');
DO $$BEGIN EXECUTE 'CREATE TABLE wide (' || (SELECT string_agg('c' || g || ' int', ',') FROM generate_series(1, 300) g) || ')'; END$$; INSERT INTO wide (c1, c300) VALUES (1, 2);
ANALYZE;`;

/** pg_dump's own way of making a partition's key (alone, then attached) leaves connoinherit where PARTITION OF does not. */
const comparable = (catalog: readonly string[]): string[] =>
  catalog
    .filter((line) => !/pgshift/.test(line))
    .map((line) => line.replace('"coninhcount":1,"connoinherit":true', '"coninhcount":1'));

const ALL = { tables: { include: ['*.*'] } };

/** Debian's 15 knows xml, the embedded 18 does not. */
const XML = `CREATE TABLE papers (x xml, a xml[]); INSERT INTO papers VALUES ('<a>b</a>', '{<a/>,<b/>}')`;

describeVersions('copy of everything', (version) => {
  let pair: CopyPair;
  beforeAll(async () => {
    pair = await copyPair(version === 15 ? `${EVERYTHING}${XML}` : EVERYTHING, ALL, [version, version]);
  });
  afterAll(() => pair.drop());

  test('same rows, same catalogue, proven', async () => {
    await copyAll(pair.context);
    const [before, after] = [await contents(pair.source), await contents(pair.target)];
    expect(after.rows).toEqual(before.rows);
    expect(comparable(after.catalog)).toEqual(comparable(before.catalog));
    const verified = await verifyCopy(pair.context);
    expect(verified.different).toEqual([]);
    expect(verified.tables).toBeGreaterThan(10);
    const [sequence] = await pair.target.query<{ v: string }>(`SELECT nextval('free')::text AS v`);
    expect(sequence?.v).toBe('44');
    const [large] = await pair.target.query<{ v: string }>(`SELECT encode(lo_get(4711), 'hex') AS v`);
    expect(large?.v).toBe('01020304');
  });

  test('the way back leaves what was there before', async () => {
    await takeBackCopy(pair.context);
    await takeBackCopy(pair.context);
    const left = await pair.target.query<{ name: string }>(
      `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'odd')
       UNION ALL SELECT extname FROM pg_extension WHERE extname = 'hstore' UNION ALL SELECT typname FROM pg_type WHERE typname IN ('mood', 'pair')
       UNION ALL SELECT nspname FROM pg_namespace WHERE nspname = 'odd' UNION ALL SELECT oid::text FROM pg_largeobject_metadata`,
    );
    expect(left).toEqual([]);
    const held = async () =>
      (
        await pair.source.query(
          `SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgshift/%snapshot%' AND datname = current_database()`,
        )
      ).length === 0;
    await eventually(held);
  });
});

(hasVersion(15) ? test : test.skip)('across majors', async () => {
  const pair = await copyPair(EVERYTHING, ALL, [15, 18]);
  try {
    await copyAll(pair.context);
    expect((await contents(pair.target)).rows).toEqual((await contents(pair.source)).rows);
    expect((await verifyCopy(pair.context)).different).toEqual([]);
  } finally {
    await closeSnapshot(pair.context, 'test');
    await pair.drop();
  }
});

test('many ranges by key and by block, with values in TOAST', async () => {
  const pair = await copyPair(
    `CREATE TABLE by_key (a int, b int, t text, PRIMARY KEY (a, b)); CREATE TABLE by_block (t text, u text);
     INSERT INTO by_key SELECT g / 10, g % 10, repeat(md5(g::text), CASE WHEN g > 15000 THEN 200 ELSE 1 END) FROM generate_series(1, 20000) g;
     ALTER TABLE by_block ALTER t SET STORAGE EXTERNAL;
     INSERT INTO by_block SELECT repeat('x', CASE WHEN g % 100 = 0 THEN 20000 ELSE 10 END), g::text FROM generate_series(1, 20000) g; ANALYZE`,
    { parallel: { rangeSize: '1MB', rangesPerTable: 3 } },
  );
  try {
    await copyAll(pair.context);
    expect((await contents(pair.target)).rows).toEqual((await contents(pair.source)).rows);
    const chunks = await pair.target.query<{ step: string; n: number; rows: number }>(
      `SELECT step_id AS step, count(*)::int AS n, sum(rows)::int AS rows FROM pgshift.chunks WHERE step_id LIKE 'copy%' AND rows > 0 GROUP BY 1`,
    );
    expect(chunks.map(({ rows }) => rows)).toEqual([20000, 20000]);
    for (const { n } of chunks) expect(n).toBeGreaterThan(2);
  } finally {
    await pair.drop();
  }
});

test('a small heap with nearly all of its bytes in TOAST is no one job: ranges weigh what their values take there', async () => {
  const pair = await copyPair(
    `CREATE TABLE doc (id int PRIMARY KEY, body text); ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
     INSERT INTO doc SELECT g, CASE WHEN g > 1800 THEN repeat('x', 60000) ELSE 'small' END FROM generate_series(1, 2000) g; ANALYZE`,
    { parallel: { rangeSize: '2MB', rangesPerTable: 2 } },
  );
  try {
    await copyAll(pair.context);
    const lanes = await pair.target.query<{ bytes: number; rows: number }>(
      `SELECT (state->>'bytes')::int AS bytes, rows::int AS rows FROM pgshift.lanes WHERE step_id LIKE 'copy%' AND rows > 0`,
    );
    const bytes = lanes.map((lane) => lane.bytes);
    expect(lanes.reduce((sum, { rows }) => sum + rows, 0)).toBe(2000);
    expect(lanes.length).toBeGreaterThanOrEqual(5);
    expect(Math.max(...bytes)).toBeLessThan((2.5 * bytes.reduce((sum, one) => sum + one, 0)) / lanes.length);
  } finally {
    await pair.drop();
  }
});

test('writes after the snapshot do not come; a truncated table is set aside, not copied empty', async () => {
  const pair = await copyPair(
    `CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 100); CREATE TABLE b (id int); INSERT INTO b VALUES (1);`,
  );
  try {
    await openSnapshot(pair.context);
    await makeSchema(pair.context);
    await pair.source.query(`INSERT INTO a VALUES (1000); DELETE FROM a WHERE id < 10; TRUNCATE b`);
    const done = await copyBatch(pair.context, 1, 2);
    expect(done.failed).toMatchObject([{ table: 'public.b', code: 'Drift' }]);
    expect(await pair.target.query(`SELECT count(*)::int AS n, max(id) AS m FROM a`)).toEqual([{ n: 100, m: 100 }]);
  } finally {
    await pair.drop();
  }
});

test('patterns choose tables; what was not asked for does not come', async () => {
  const pair = await copyPair(
    `CREATE SCHEMA s2; CREATE TYPE s2.k AS ENUM ('a'); CREATE TABLE keep (id serial, k s2.k); CREATE TABLE audit_a (id serial PRIMARY KEY);
     CREATE TABLE s2.other (id int); CREATE VIEW v AS SELECT * FROM audit_a; CREATE INDEX i ON keep (id);`,
    { tables: { exclude: ['audit_*'] }, keep: { indexes: false } },
  );
  try {
    await copyAll(pair.context);
    const names = await pair.target.query<{ name: string }>(
      `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 's2') ORDER BY 1`,
    );
    expect(names.map(({ name }) => name)).toEqual(['keep', 'keep_id_seq']);
  } finally {
    await pair.drop();
  }
});
