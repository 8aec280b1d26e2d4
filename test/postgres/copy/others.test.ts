/** A target that holds things of others: they stay as they are, whatever becomes of the copy; what stands in its way is told before anything is written. */
import { takeBackCopy, verifyCopy } from '../../../postgres/copy/run';
import { refuseLargeObjects } from '../../../postgres/copy/rest';
import { withSession } from '../../../postgres/session';
import { contents, copyAll, copyPair } from '../../support/copy';
import { codeOf } from '../../support/engine';
import { verify } from '../../support/verify';

test('objects of the same name that stand in the way: the copy fails, and its way back leaves them', async () => {
  const pair = await copyPair(
    `CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE m AS ENUM ('a'); CREATE TABLE a (id serial PRIMARY KEY, m m);
     CREATE MATERIALIZED VIEW mv AS SELECT 1 AS x; CREATE VIEW v AS SELECT 1 AS x;`,
    {},
    [18, 18],
    `CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'; CREATE MATERIALIZED VIEW mv AS SELECT 2 AS x; CREATE VIEW v AS SELECT 2 AS x; CREATE SEQUENCE free;`,
  );
  try {
    const before = await contents(pair.target);
    await expect(copyAll(pair.context)).rejects.toThrow(/already exists/);
    await takeBackCopy(pair.context);
    const after = await contents(pair.target);
    expect(after.catalog.filter((line) => !/pgshift/.test(line))).toEqual(
      before.catalog.filter((line) => !/pgshift/.test(line)),
    );
    expect(after.rows).toEqual(before.rows);
  } finally {
    await pair.drop();
  }
});

test('sequences of tables that were not chosen stay where they are', async () => {
  const pair = await copyPair(
    `CREATE TABLE a (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY); INSERT INTO a SELECT FROM generate_series(1, 7); CREATE SEQUENCE free; SELECT nextval('free');
     CREATE TABLE b (id serial PRIMARY KEY); INSERT INTO b DEFAULT VALUES; CREATE SCHEMA s; CREATE SEQUENCE s.other;`,
    { tables: { include: ['a'] } },
    [18, 18],
    `CREATE TABLE b (id serial PRIMARY KEY); INSERT INTO b SELECT FROM generate_series(1, 50); CREATE SCHEMA s; CREATE SEQUENCE s.other; SELECT setval('s.other', 99);`,
  );
  const next = `SELECT nextval('a_id_seq')::int AS a, nextval('a_n_seq')::int AS n, nextval('b_id_seq')::int AS b, nextval('s.other')::int AS other`;
  try {
    await copyAll(pair.context);
    expect(await pair.target.query(next)).toEqual([{ a: 8, n: 8, b: 51, other: 100 }]);
  } finally {
    await pair.drop();
  }
});

test('values that name objects of the catalogue arrive by name, and the proof would see it', async () => {
  const pair = await copyPair(
    `CREATE TABLE a (id serial PRIMARY KEY); CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE m AS ENUM ('a'); CREATE TYPE pair AS (c regclass, n int);
     CREATE TABLE r (id int PRIMARY KEY, c regclass, p regprocedure, t regtype, cs regclass[], w pair);
     INSERT INTO r VALUES (1, 'a', 'f(int)', 'm', '{a,r}', '(a,1)'), (2, NULL, NULL, NULL, NULL, NULL);`,
    {},
    [18, 18],
    // Numbers are others there.
    `CREATE TABLE some1 (); CREATE TABLE more1 ();`,
  );
  try {
    await copyAll(pair.context);
    expect(await pair.target.query(`SELECT c::text, p::text, t::text, cs::text, w::text FROM r WHERE id = 1`)).toEqual([
      { c: 'a', p: 'f(integer)', t: 'm', cs: '{a,r}', w: '(a,1)' },
    ]);
    expect((await verifyCopy(pair.context)).different).toEqual([]);
    expect((await verify(pair.source, pair.target, { tables: { include: ['r'] } })).errors).toEqual([]);
    await pair.target.query(`UPDATE r SET c = 'some1' WHERE id = 1`);
    expect((await verifyCopy(pair.context)).different).toMatchObject([{ table: 'public.r' }]);
  } finally {
    await pair.drop();
  }
});

test('large objects that are there under the same numbers are told, never taken for ours', async () => {
  const pair = await copyPair(
    `CREATE TABLE a (lo oid); SELECT lo_from_bytea(4711, '\\x01'); SELECT lo_from_bytea(4712, '\\x02'); INSERT INTO a VALUES (4711)`,
    {},
    [18, 18],
    `SELECT lo_from_bytea(4712, '\\xff')`,
  );
  try {
    const refused = (): Promise<string> =>
      codeOf(
        withSession(pair.context.source, { purpose: 'test' }, (source) =>
          withSession(pair.context.target, { purpose: 'test' }, (target) => refuseLargeObjects(source, target)),
        ),
      );
    expect(await refused()).toBe('PreflightFailed');
    expect(await codeOf(copyAll(pair.context))).toBe('PreflightFailed');
    await takeBackCopy(pair.context);
    expect(await pair.target.query(`SELECT oid::int, lo_get(oid)::text AS v FROM pg_largeobject_metadata`)).toEqual([
      { oid: 4712, v: '\\xff' },
    ]);
    await pair.target.query(`SELECT lo_unlink(4712)`);
    expect(await refused()).toBe('none');
  } finally {
    await pair.drop();
  }
});
