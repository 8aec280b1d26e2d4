/** What is compared beside rows: each thing that differs is named, and equal databases have nothing to say. */
import type { VerifyFinding } from '../../../plan/model/validation';
import type { FreshDatabase } from '../../support/database';
import { freshDatabase, hasVersion } from '../../support/database';
import { verify } from '../../support/verify';

const SETUP = `CREATE TYPE mood AS ENUM ('ok', 'bad');
  CREATE TABLE p (id serial PRIMARY KEY, name text DEFAULT 'x' NOT NULL, m mood, CHECK (id > 0));
  CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p, note text); CREATE INDEX by_note ON c (note) WHERE note <> '';
  CREATE SEQUENCE free; CREATE VIEW v AS SELECT name FROM p; CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
  INSERT INTO p (name) SELECT 'n' || i FROM generate_series(1, 10) AS i; INSERT INTO c SELECT i, i, 'c' FROM generate_series(1, 10) AS i;
  SELECT nextval('free') FROM generate_series(1, 5); ALTER TABLE p ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON p USING (name = current_user);
  GRANT SELECT ON p TO pg_monitor; CREATE TRIGGER t BEFORE UPDATE ON p FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger(); ANALYZE`;
const ALL = ['rows', 'schema', 'constraints', 'sequences', 'privileges', 'rls', 'orphans'];

const open: FreshDatabase[] = [];
async function twins(change = '', other: 18 | 15 = 18) {
  const [source, target] = [await freshDatabase(18, SETUP), await freshDatabase(other, SETUP)];
  open.push(source, target);
  if (change !== '') await target.query(change);
  return { source, target };
}
afterEach(async () => {
  for (const database of open.splice(0)) await database.drop();
});

const lines = (list: readonly VerifyFinding[]): string[] =>
  list.map((f) => `${f.check} ${f.table ?? '-'}: ${f.message}`).sort();

test('equal databases: no error and no warning', async () => {
  const { source, target } = await twins();
  const result = await verify(source, target, { checks: ALL });
  expect([result.errors, result.warnings]).toEqual([[], []]);
});

(hasVersion(15) ? test : test.skip)('equal databases of two majors: no error and no warning', async () => {
  const { source, target } = await twins('', 15);
  const result = await verify(source, target, { checks: ALL });
  expect([result.errors, result.warnings]).toEqual([[], []]);
});

test('each difference is named', async () => {
  const { source, target } = await twins(
    `
    DROP POLICY own ON p; DROP VIEW v; ALTER TABLE p ALTER name DROP DEFAULT, ALTER name TYPE varchar(20); DROP INDEX by_note; CREATE INDEX more ON c (id, p); DROP TRIGGER t ON p;
    ALTER TABLE c DROP CONSTRAINT c_p_fkey; ALTER TABLE c ADD CONSTRAINT c_p_fkey FOREIGN KEY (p) REFERENCES p NOT VALID;
    ALTER TABLE p DROP CONSTRAINT p_id_check; SELECT setval('free', 2); SELECT setval('p_id_seq', 3); DROP FUNCTION f;
    ALTER TYPE mood ADD VALUE 'new'; REVOKE SELECT ON p FROM pg_monitor; GRANT UPDATE (note) ON c TO PUBLIC;
    ALTER TABLE p DISABLE ROW LEVEL SECURITY; SET session_replication_role = replica; UPDATE c SET p = 77 WHERE id = 3;
    CREATE TABLE other (id int)`,
  );
  const result = await verify(source, target, { checks: ALL });
  expect(lines(result.errors)).toEqual([
    'constraints public.c: constraint FOREIGN KEY (p) REFERENCES p(id) is NOT VALID on the target, validated on the source',
    'constraints public.p: constraint CHECK ((id > 0)) is missing on the target',
    'orphans public.c: 1 rows on the target refer to no row of public.p (c_p_fkey)',
    'privileges public.c: UPDATE of note for PUBLIC is on the target only',
    'privileges public.p: SELECT for pg_monitor is missing on the target',
    'rls public.p: policy own is missing on the target',
    'rls public.p: row security is off on the target, on on the source',
    'rows public.c: 1 row differs (1 changed)',
    'schema -: enum public.mood is defined in another way on the target',
    'schema -: function public.f(integer) is missing on the target',
    'schema -: view public.v is missing on the target',
    "schema public.c: index btree (note) WHERE (note <> ''::text) is missing on the target",
    expect.stringMatching(
      /^schema public.p: column name is character varying\(20\) NOT NULL on the target, text NOT NULL DEFAULT 'x'::text on the source/,
    ),
    'schema public.p: trigger t is missing on the target',
    'sequences -: public.free is behind the source by 3: it would hand out values again',
    'sequences -: public.p_id_seq is behind the source by 7: it would hand out values again',
    'sequences -: public.p_id_seq is behind the values that stand in p.id',
  ]);
  expect(lines(result.warnings)).toEqual([
    'schema -: public.other is not compared: nothing on the source is paired with it',
    'schema public.c: index btree (id, p) is on the target only',
  ]);
});

test('performance: what was never analysed and what cannot be explained is said, and nothing fails', async () => {
  const { source, target } = await twins();
  await target.query(`CREATE TABLE big (id int); INSERT INTO big SELECT generate_series(1, 1000)`);
  await source.query(`CREATE TABLE big (id int); INSERT INTO big SELECT generate_series(1, 1000)`);
  const result = await verify(source, target, { checks: ['performance'], tables: { include: ['big'] } });
  expect(result.passed).toBe(true);
  expect(lines(result.warnings)).toEqual(
    expect.arrayContaining(['performance public.big: public.big was never analysed on the target']),
  );
});

test('a role that row security would show fewer rows is refused, not believed; the other tables are compared', async () => {
  const { source, target } = await twins();
  const role = `reader_${source.name}`;
  await source.query(`CREATE ROLE ${role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${role}`);
  const url = new URL(source.url);
  url.username = role;
  try {
    const result = await verify({ ...source, url: url.toString() }, target);
    expect(result.passed).toBe(false);
    expect(lines(result.errors)).toEqual([
      expect.stringMatching(/^rows public.p: could not be compared: PrivilegeMissing/),
    ]);
    expect(result.tables.map(({ table, equal }) => [table, equal])).toEqual([
      ['public.c', true],
      ['public.p', false],
    ]);
  } finally {
    await source.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
});
