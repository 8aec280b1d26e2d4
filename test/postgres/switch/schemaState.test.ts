import { fence, takeBack } from '../../../postgres/switch/fence';
import { arm, closeGuard, readGuard } from '../../../postgres/switch/guard';
import { restoreIdentities, setIdentities } from '../../../postgres/switch/identity';
import { schemaChanges, schemaState } from '../../../postgres/switch/schemaState';
import { uninstall } from '../../../postgres/state/install';
import { describeVersions } from '../../support/database';
import { codeOf } from '../../support/engine';
import type { TestPair } from '../../support/pair';
import { SWITCH, testPair } from '../../support/pair';
import { fencing, patience } from '../../support/switchRun';

describeVersions('the state of a schema', (version) => {
  let t: TestPair;
  beforeEach(async () => {
    t = await testPair(
      [version, version],
      `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE keyless (x int); CREATE SEQUENCE s; CREATE TYPE e AS ENUM ('one');
       CREATE VIEW w AS SELECT id FROM a; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE gone (id int)`,
    );
  });
  afterEach(() => t.drop());

  test('what a switch does changes nothing; rows, positions and statistics neither', async () => {
    const before = await schemaState(t.both.blue);
    await setIdentities(t.both.blue, SWITCH, patience);
    const epoch = await arm(t.both, SWITCH, 'blue');
    for (const sql of [`INSERT INTO a VALUES (1, 'one')`, `SELECT nextval('s')`, 'ANALYZE', 'VACUUM a'])
      await t.blue.query(sql);
    await fence(t.both.blue, SWITCH, { from: 'blue', to: 'green', epoch }, fencing);
    await t.blue.query('CREATE PUBLICATION p FOR TABLE a');
    const fenced = await schemaState(t.both.blue);
    expect(schemaChanges(before, fenced)).toEqual([]);
    expect(fenced.digest).toBe(before.digest);
    // The row keeps what is to be put back; it cannot be closed before, nor the schema removed.
    expect(await codeOf(closeGuard(t.both.blue, SWITCH))).toBe('NotNow');
    await takeBack(t.both, SWITCH, 'blue', fencing);
    await restoreIdentities(t.both.blue, SWITCH, patience);
    expect(await codeOf(uninstall(t.both.blue))).toBe('NotNow');
    await closeGuard(t.both.blue, SWITCH);
    expect(await readGuard(t.both.blue, SWITCH)).toBeNull();
    await uninstall(t.both.blue);
    expect((await schemaState(t.both.blue)).digest).toBe(before.digest);
  });

  test('any other change is named', async () => {
    const before = await schemaState(t.both.blue);
    await t.blue
      .query(`ALTER TABLE a ADD COLUMN n int DEFAULT 5; CREATE INDEX ai ON a (v); CREATE TABLE fresh (id int); DROP TABLE gone;
      ALTER TYPE e ADD VALUE 'two'; CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'; SELECT lo_create(4711);
      GRANT SELECT ON w TO PUBLIC; ALTER SEQUENCE s INCREMENT 7; ALTER TABLE a ADD CONSTRAINT c CHECK (n > 0)`);
    const changes = schemaChanges(before, await schemaState(t.both.blue)).map(
      ({ kind, name, change }) => `${change} ${kind} ${name}`,
    );
    expect(changes.sort()).toEqual([
      'added constraint public.a.c',
      'added index public.ai',
      'added large object 4711',
      'added relation public.fresh',
      'changed function public.f()',
      'changed relation public.a',
      'changed relation public.w',
      'changed sequence public.s',
      'changed type public.e',
      'removed relation public.gone',
    ]);
  });

  test('of 1,000 tables: how long', async () => {
    await t.blue.query(
      `DO $$BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE many%s (id int PRIMARY KEY, a text, b text, c numeric)', i); END LOOP; END$$`,
    );
    await schemaState(t.both.blue);
    const began = performance.now();
    await schemaState(t.both.blue);
    process.stderr.write(
      `PG${version}: state of a schema of 1,000 tables: ${Math.round(performance.now() - began)} ms\n`,
    );
  });
});
