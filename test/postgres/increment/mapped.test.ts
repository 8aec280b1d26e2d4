/** Passes through a map, with bad rows, and among rows of others: the same select as the copy's, proven at the end. */
import type { DataMigrationInput } from '../../../plan/model/dataMigration';
import { closeSnapshot, takeBackCopy } from '../../../postgres/copy/run';
import { observeBounds, runPass } from '../../../postgres/increment/run';
import { checkThere } from '../../../postgres/map/onward';
import { withSession } from '../../../postgres/session';
import { verifyBoth } from '../../../postgres/stream/verifyBoth';
import { checkPlan, contents, copyAll, copyPair } from '../../support/copy';
import type { CopyPair } from '../../support/copy';
import { codeOf } from '../../support/engine';
import { aloneOnItsServer } from '../../support/ownServers';

// Rows at a bound are read again while somebody on the server may have been writing since.
aloneOnItsServer();

const PEOPLE = `
CREATE TABLE person (id serial PRIMARY KEY, name text NOT NULL, age text, country text, active boolean NOT NULL DEFAULT true, changed timestamptz NOT NULL DEFAULT now());
INSERT INTO person (name, age, country, active) SELECT 'p' || g, (g % 90)::text, CASE WHEN g % 2 = 0 THEN 'de' ELSE 'xx' END, g % 5 <> 0 FROM generate_series(1, 300) g;`;

const MAPPED: Partial<DataMigrationInput> = {
  transfer: 'incremental',
  incremental: { column: 'changed' },
  errors: { max: 3 },
  map: {
    person: {
      to: 'crm.customer',
      where: 'active',
      columns: {
        full_name: 'name',
        age: { sql: 'age::int' },
        land: { lookup: { column: 'country', values: { de: 'Germany' }, otherwise: 'keep' } },
      },
      omit: ['country'],
      validate: { age: { min: 0 } },
    },
  },
};

const EXPECTED = `SELECT p.id, p.age::int AS age, p.active, p.changed::text, p.name AS full_name, CASE p.country WHEN 'de' THEN 'Germany' ELSE p.country END AS land
  FROM person AS p WHERE p.active AND p.age ~ '^[0-9]+$' ORDER BY 1`;
const FOUND = `SELECT c.id, c.age, c.active, c.changed::text, c.full_name, c.land FROM crm.customer AS c ORDER BY 1`;

async function begun(setup: string, plan: Partial<DataMigrationInput>, targetSetup = ''): Promise<CopyPair> {
  const pair = await copyPair(setup, plan, [18, 18], targetSetup);
  await observeBounds(pair.context);
  await copyAll(pair.context);
  await closeSnapshot(pair.context, 'copied');
  return pair;
}
const expectMapped = async (pair: CopyPair) =>
  expect(await pair.target.query(FOUND)).toEqual(await pair.source.query(EXPECTED));
const aside = async (pair: CopyPair) =>
  (await pair.target.query<{ id: number }>(`SELECT (key->>'id')::int AS id FROM pgshift.quarantine ORDER BY 1`)).map(
    ({ id }) => id,
  );
const verify = (pair: CopyPair) => verifyBoth(pair.context, () => undefined);

test('new and changed rows come through the map; bad ones are set aside once, and leave the list when they are mended', async () => {
  const pair = await begun(PEOPLE, MAPPED);
  try {
    await expectMapped(pair);
    await pair.source.query(`UPDATE person SET name = 'changed', changed = clock_timestamp() WHERE id <= 10;
      INSERT INTO person (name, age, country) SELECT 'new' || g, g::text, 'de' FROM generate_series(1, 10) g;
      INSERT INTO person (name, age, country) VALUES ('bad', 'old', 'de'), ('bad', '-5', 'de')`);
    expect(await runPass(pair.context)).toMatchObject({ rows: 18, bad: 2, behind: 0 });
    await expectMapped(pair);
    expect(await aside(pair)).toEqual([311, 312]);
    expect(await verify(pair)).toMatchObject({
      passed: true,
      notes: [expect.stringContaining('2 rows are set aside')],
    });
    await pair.source.query(`UPDATE person SET age = '5', changed = clock_timestamp() WHERE id >= 311`);
    expect(await runPass(pair.context)).toEqual({ rows: 2, tables: 1, behind: 0 });
    expect(await aside(pair)).toEqual([]);
    await expectMapped(pair);
    await pair.source.query(`UPDATE person SET active = NOT active, changed = clock_timestamp() WHERE id IN (1, 2, 5)`);
    expect(await runPass(pair.context)).toMatchObject({ rows: 1 });
    await expectMapped(pair);
    expect(await verify(pair)).toMatchObject({ passed: true, notes: [] });
    await pair.target.query(`UPDATE crm.customer SET land = 'nowhere' WHERE id = 311`);
    expect(await verify(pair)).toMatchObject({ passed: false, tables: [{ differing: 1 }] });
    await pair.source.query(
      `UPDATE person SET age = 'x', changed = clock_timestamp() WHERE id BETWEEN 3 AND 6 AND active`,
    );
    for (const _ of [1, 2]) {
      expect(await codeOf(runPass(pair.context))).toBe('ErrorBudgetSpent');
      expect(await aside(pair)).toEqual([3, 4, 5, 6]);
    }
    const [next] = await pair.target.query<{ id: number }>(
      `INSERT INTO crm.customer (full_name, active, changed) VALUES ('x', true, now()) RETURNING id`,
    );
    expect(next?.id).toBe(313);
  } finally {
    await pair.drop();
  }
});

const ITEMS = `CREATE TABLE item (id int PRIMARY KEY, name text, changed int NOT NULL); INSERT INTO item SELECT g, 'n' || g, g FROM generate_series(1, 300) g;`;
const THEIRS = `CREATE TABLE item (id int PRIMARY KEY, name text, changed int, own text DEFAULT 'd'); INSERT INTO item SELECT g, 'mine', 0, 'kept' FROM generate_series(291, 320) g;`;
const MERGED: Partial<DataMigrationInput> = {
  transfer: 'incremental',
  incremental: { column: 'changed' },
  schema: 'existing',
  load: { method: 'upsert' },
};

test('passes go among rows of others, which stay; the way back restores what a pass overwrote', async () => {
  const pair = await begun(ITEMS, MERGED, THEIRS);
  try {
    await pair.source.query(
      `UPDATE item SET name = 'again', changed = 1000 + id WHERE id <= 20; INSERT INTO item SELECT g, 'late', 2000 + g FROM generate_series(301, 310) g`,
    );
    expect(await runPass(pair.context)).toEqual({ rows: 30, tables: 1, behind: 0 });
    const counted = `SELECT count(*)::int AS n, count(*) FILTER (WHERE name = 'mine')::int AS theirs, count(*) FILTER (WHERE own = 'kept')::int AS kept,
      count(*) FILTER (WHERE name = 'again')::int AS again FROM item`;
    expect(await pair.target.query(counted)).toEqual([{ n: 320, theirs: 10, kept: 30, again: 20 }]);
    expect(await verify(pair)).toMatchObject({ passed: true, tables: [{ sourceRows: 310, differing: 0 }] });
    await pair.target.query(`UPDATE item SET name = 'somebody' WHERE id = 7`);
    expect((await verify(pair)).notes).toEqual([expect.stringContaining('written by somebody else')]);
    await takeBackCopy(pair.context);
    expect(await pair.target.query(`SELECT id, name, own FROM item WHERE id NOT BETWEEN 291 AND 320`)).toEqual([
      { id: 7, name: 'somebody', own: 'd' },
    ]);
    expect(await pair.target.query(counted)).toEqual([{ n: 31, theirs: 30, kept: 30, again: 0 }]);
  } finally {
    await pair.drop();
  }
});

test('into tables that were there, as they are; triggers that would fire once and not again are refused', async () => {
  const existing: Partial<DataMigrationInput> = { ...MERGED, load: { method: 'copy' } };
  const pair = await begun(ITEMS, existing, `CREATE TABLE item (changed int, id bigint PRIMARY KEY, name varchar)`);
  try {
    await pair.source.query(`UPDATE item SET name = 'again', changed = 1000 + id WHERE id <= 20`);
    expect(await runPass(pair.context)).toMatchObject({ rows: 20 });
    expect(await verify(pair)).toMatchObject({ passed: true, errors: [] });
    expect((await contents(pair.target)).rows).toHaveLength(300);
    const there = () =>
      withSession(pair.context.target, { purpose: 'test' }, (session) =>
        checkThere(session, [{ schema: 'public', name: 'item' }]),
      );
    expect(await codeOf(there())).toBe('none');
    await pair.target.query(
      `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER fires BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION f()`,
    );
    expect(await codeOf(there())).toBe('PreflightFailed');
    await pair.target.query(`ALTER TABLE item DISABLE TRIGGER fires`);
    expect(await codeOf(there())).toBe('none');
  } finally {
    await pair.drop();
  }
});

test('what one row does not say by itself is refused before anything is written', async () => {
  const pair = await copyPair(PEOPLE);
  try {
    const of = (map: DataMigrationInput['map'], more: Partial<DataMigrationInput> = {}) =>
      checkPlan(pair, { ...MAPPED, ...more, map }).then(
        () => 'none',
        (error: { code?: string; where?: { path?: string } }) => `${error.code ?? ''} ${error.where?.path ?? ''}`,
      );
    const sum = '(SELECT count(*) FROM person o WHERE o.name = person.name)';
    expect(await of({ person: { enrich: { n: { sql: sum } } } })).toBe('NotYet map.person.enrich.n.sql');
    expect(await of({ person: { omit: ['id'] } })).toBe('PreflightFailed map.person');
    const streaming = { transfer: 'streaming', incremental: undefined, errors: undefined } as const;
    expect(await of({ person: { where: 'active' } }, streaming)).toBe('PreflightFailed map.person.where');
    expect(await of({ person: { columns: { id: { sql: 'id + 1' } } } }, streaming)).toBe('PreflightFailed map.person');
    expect(await of({ person: { columns: { both: { sql: 'name || age' } } } }, streaming)).toBe(
      'PreflightFailed map.person.columns.both.sql',
    );
    expect(await of({ person: { columns: { loud: { sql: 'upper(name)' } } } }, streaming)).toBe('none');
    await pair.source.query(`ALTER TABLE person REPLICA IDENTITY FULL`);
    expect(await of({ person: { where: 'active', columns: { both: { sql: 'name || age' } } } }, streaming)).toBe(
      'none',
    );
  } finally {
    await pair.drop();
  }
});
