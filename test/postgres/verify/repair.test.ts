/** Repair: the target becomes what the source is, and nothing else moves. */
import type { FreshDatabase, ServerVersion } from '../../support/database';
import { describeVersions, freshDatabase } from '../../support/database';
import { rowsOf } from '../../support/killRun';
import { tableOf, verify } from '../../support/verify';

const open: FreshDatabase[] = [];
async function fresh(version: ServerVersion, setup: string): Promise<FreshDatabase> {
  const database = await freshDatabase(version, setup);
  open.push(database);
  return database;
}
afterEach(async () => {
  for (const database of open.splice(0)) await database.drop();
});

const SETUP = `CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name char(5), bits bit(3), v varchar(10));
  CREATE TABLE child (a int REFERENCES parent ON DELETE CASCADE, b text, n numeric, f float8, twice numeric GENERATED ALWAYS AS (n * 2) STORED,
    j jsonb, at timestamptz, arr text[], PRIMARY KEY (a, b));
  CREATE TABLE log (x int, t text); CREATE TABLE seen (n int);
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (1); RETURN NULL; END $$;
  INSERT INTO parent (name, bits, v) SELECT 'p' || i, B'101', 'v' || i FROM generate_series(1, 50) AS i;
  INSERT INTO child (a, b, n, f, j, at, arr) SELECT i, 'b' || i, i, i, jsonb_build_object('i', i), '2026-01-01 00:00:00.123456+00', ARRAY['x', NULL, 'a,"b"'] FROM generate_series(1, 50) AS i;
  INSERT INTO log SELECT i % 5, NULL FROM generate_series(1, 100) AS i;
  CREATE TRIGGER touched AFTER INSERT OR UPDATE OR DELETE ON child FOR EACH STATEMENT EXECUTE FUNCTION touch(); ANALYZE`;
const TABLES = ['parent', 'child', 'log', 'seen'];

describeVersions('repair', (version) => {
  test('changed, missing, extra and duplicate rows: equal afterwards, listed as repaired, no trigger fired', async () => {
    const source = await fresh(version, SETUP);
    const target = await fresh(version, SETUP);
    await target.query(`SET session_replication_role = replica;
      UPDATE parent SET name = 'x', bits = B'111', v = 'longer' WHERE id = 7; DELETE FROM parent WHERE id = 8; INSERT INTO parent OVERRIDING SYSTEM VALUE VALUES (99, 'n', B'000', '');
      UPDATE child SET n = 1.00, f = '-0', j = '{}', at = 'infinity', arr = '{}' WHERE a = 3; DELETE FROM child WHERE a = 4; INSERT INTO child VALUES (5, 'extra', 1, 1);
      DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE x = 2 LIMIT 3); INSERT INTO log VALUES (3, NULL), (9, '')`);
    const before = await verify(source, target);
    expect(before.tables.map(({ table, differing }) => [table, differing])).toEqual([
      ['public.child', 3],
      ['public.log', 3],
      ['public.parent', 3],
      ['public.seen', 0],
    ]);
    const result = await verify(source, target, { repair: 'target' });
    expect(result.errors).toEqual([]);
    expect(result.passed).toBe(true);
    expect(result.statistics.repaired).toBe(9);
    expect(tableOf(result, 'public.child')).toMatchObject({ equal: true, differing: 0, repaired: 3 });
    for (const table of TABLES) expect(await rowsOf(target, table)).toEqual(await rowsOf(source, table));
    expect((await verify(source, target)).passed).toBe(true);
  });

  test('through the map, into another table of the same database', async () => {
    const both = await fresh(
      version,
      `CREATE TABLE old (id int PRIMARY KEY, cents int); INSERT INTO old SELECT i, i FROM generate_series(1, 1200) AS i;
       CREATE TABLE new (key bigint PRIMARY KEY, euros numeric(12,2)); INSERT INTO new SELECT id, cents / 100.0 FROM old WHERE id % 2 = 0`,
    );
    const map = { old: { to: 'new', columns: { key: 'id', euros: { sql: 'cents / 100.0' } } } };
    const result = await verify(both, both, { map, repair: 'target' });
    expect(result).toMatchObject({ passed: true, errors: [], statistics: { repaired: 600 } });
    expect(await both.query(`SELECT count(*)::int AS n, sum(euros)::text AS s FROM new`)).toEqual([
      { n: 1_200, s: '7206.00' },
    ]);
  });
});
