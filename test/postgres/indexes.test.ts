import type { CreateIndexRun } from '../../plan/model/steps';
import { runStep } from '../../postgres/engine';
import type { FreshDatabase } from '../support/database';
import { describeVersions } from '../support/database';
import { codeOf, doStep, engineDatabase, running, stepOf, takeBack, until } from '../support/engine';

const T = { schema: 'Odd "Schema', name: 'Täble "x"' };
const TABLE = '"Odd ""Schema"."Täble ""x"""';
const make = (name: string, rest: string, unique = false): CreateIndexRun => ({
  kind: 'create-index',
  index: { schema: T.schema, name },
  table: T,
  statement: `CREATE ${unique ? 'UNIQUE ' : ''}INDEX CONCURRENTLY "${name}" ON ${TABLE} ${rest}`,
  unique,
});

describeVersions('concurrent indexes', (version) => {
  let db: FreshDatabase;
  beforeEach(async () => {
    db = await engineDatabase(
      version,
      `CREATE SCHEMA "Odd ""Schema"; CREATE TABLE ${TABLE} ("Id" bigint PRIMARY KEY, "Na me" text, n int);
       INSERT INTO ${TABLE} SELECT g, 'v' || g, g FROM generate_series(1, 3000) AS g`,
    );
  });
  afterEach(() => db.drop());
  const indexes = (): Promise<Record<string, unknown>[]> =>
    db.query(`SELECT c.relname AS name, i.indisvalid AS valid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
               WHERE i.indrelid = '${TABLE.replaceAll("'", "''")}'::regclass AND NOT i.indisprimary ORDER BY 1`);

  test('is built, recorded with its locks, and dropped on the way back', async () => {
    const step = stepOf(make('My Index', '(lower("Na me") DESC, n) INCLUDE ("Id") WHERE n > 5'), [
      { kind: 'drop-index', index: { schema: T.schema, name: 'My Index' } },
    ]);
    expect(await doStep(db, step)).toMatchObject({ status: 'done' });
    expect(await indexes()).toEqual([{ name: 'My Index', valid: true }]);
    expect(await takeBack(db, step)).toMatchObject({ status: 'done' });
    expect(await indexes()).toEqual([]);
  });

  test('a valid index without a record is believed only when it is the one asked for', async () => {
    const asked = make('i1', '(lower("Na me") DESC, n) INCLUDE ("Id") WHERE n > 5');
    await db.query(asked.statement);
    expect(await doStep(db, stepOf(asked))).toMatchObject({ status: 'done' });
    const error = await doStep(db, stepOf(make('i1', '(n)'), [], 'expand.2')).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'Drift' });
    await db.query(
      `CREATE TABLE other (n int); CREATE INDEX i2 ON other (n); CREATE INDEX i2 ON "Odd ""Schema"."Täble ""x""" (n)`,
    );
    expect(await codeOf(doStep(db, stepOf(make('other_name', '(n)'), [], 'expand.3')))).toBe('none');
  });

  test('an invalid leftover is dropped and built again; so are those of REINDEX', async () => {
    await db.query(make('i1', '(n)').statement);
    await db.query(`CREATE INDEX "i1_ccnew" ON ${TABLE} (n);
      UPDATE pg_index SET indisvalid = false WHERE indexrelid IN (SELECT oid FROM pg_class WHERE relname IN ('i1', 'i1_ccnew'))`);
    expect(await doStep(db, stepOf(make('i1', '(n)')))).toMatchObject({ status: 'done' });
    expect(await indexes()).toEqual([{ name: 'i1', valid: true }]);
  });

  test('duplicates are listed by key and nothing is left', async () => {
    await db.query(
      `UPDATE ${TABLE} SET n = 7 WHERE "Id" IN (100, 200, 300); UPDATE ${TABLE} SET n = 8 WHERE "Id" = 400`,
    );
    const error = await doStep(db, stepOf(make('u1', '(n)', true))).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'DuplicateRows', details: { keys: 2 } });
    expect(await db.query(`SELECT key, reason FROM pgshift.differences ORDER BY key->>'n'`)).toEqual([
      { key: { n: '7' }, reason: '4 rows have this key' },
      { key: { n: '8' }, reason: '2 rows have this key' },
    ]);
    expect(await indexes()).toEqual([]);
    const look = stepOf(
      { kind: 'duplicates', table: T, columns: ['t.n'], where: null, nullsNotDistinct: false },
      [],
      'expand.2',
    );
    expect(await codeOf(doStep(db, look))).toBe('DuplicateRows');
  });

  test('a cancel leaves no invalid index; a spent budget neither, and it names the blocker', async () => {
    const writer = await db.client();
    await writer.query(`BEGIN; UPDATE ${TABLE} SET n = n WHERE n = 1`);
    const at = running(db, stepOf(make('i1', '(n)')));
    const ended = codeOf(runStep(at.context));
    await until(async () => (await indexes()).length > 0);
    at.abort();
    // The invalid index can be dropped only when the writer lets go.
    await new Promise((resolve) => setTimeout(resolve, 500));
    await writer.query('COMMIT');
    expect(await ended).toBe('AbortError');
    expect(await indexes()).toEqual([]);

    await writer.query(`BEGIN; UPDATE ${TABLE} SET n = n WHERE n = 1`);
    const spent = doStep(db, stepOf(make('i1', '(n)')), { lockBudgetMs: 1_000 }).catch((caught: unknown) => caught);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    await writer.query('COMMIT');
    expect(await spent).toMatchObject({ code: 'LockBudgetSpent' });
    expect(JSON.stringify(await spent)).toContain('idle in transaction');
    expect(await indexes()).toEqual([]);
  });
});
