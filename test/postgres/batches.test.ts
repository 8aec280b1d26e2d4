import type { BackfillRun, DmlRun, InsertSelectRun } from '../../plan/model/steps';
import { BatchSize } from '../../postgres/batchSize';
import { runStep } from '../../postgres/engine';
import type { FreshDatabase } from '../support/database';
import { describeVersions } from '../support/database';
import { codeOf, doStep, engineDatabase, NO_BRAKES, running, stepOf, until } from '../support/engine';

describe('batch size', () => {
  const limits = { targetMs: 500, min: 100, max: 100_000 };
  test('grows fast at first, then by a fifth, and meets the target', () => {
    const size = new BatchSize(limits);
    const seen: number[] = [];
    for (let batch = 0; batch < 40; batch += 1) {
      seen.push(size.rows);
      size.took(size.rows, size.rows / 50); // 50 rows a millisecond: 25,000 rows are the target
    }
    expect(seen[1]).toBe(2_000);
    expect(seen.at(-1)).toBeGreaterThan(22_000);
    expect(seen.at(-1)).toBeLessThan(25_000);
    expect(Math.max(...seen)).toBeLessThan(26_000);
  });
  test('stays in its limits, halves, and keeps short when clients waited', () => {
    const size = new BatchSize(limits);
    for (let batch = 0; batch < 40; batch += 1) size.took(size.rows, 1);
    expect(size.rows).toBe(100_000);
    size.halve();
    expect(size.rows).toBe(50_000);
    size.shorten(200);
    for (let batch = 0; batch < 40; batch += 1) size.took(size.rows, size.rows / 100);
    expect(size.rows).toBeLessThan(10_000);
    for (let batch = 0; batch < 40; batch += 1) size.took(size.rows, 10_000);
    expect(size.rows).toBe(100);
  });
});

const T = { schema: 'Sch "1', name: 'ta"ble' };
const TABLE = '"Sch ""1"."ta""ble"';
const fill: BackfillRun = {
  kind: 'backfill',
  table: T,
  set: ['"B b" = t."A"::text'],
  pending: 't."B b" IS DISTINCT FROM t."A"::text',
  key: [
    { name: 'k "1', type: 'text' },
    { name: 'when', type: 'timestamp with time zone' },
    { name: 'n', type: 'numeric(20,6)' },
  ],
  quiet: false,
  column: 'ta"ble.B b',
};

describeVersions('batches', (version) => {
  let db: FreshDatabase;
  beforeEach(async () => {
    db = await engineDatabase(
      version,
      `CREATE SCHEMA "Sch ""1";
       CREATE TABLE ${TABLE} ("k ""1" text, "when" timestamptz, n numeric(20,6), "A" int, "B b" text, PRIMARY KEY ("k ""1", "when", n));
       INSERT INTO ${TABLE} SELECT 'k''"\\' || g % 7, '2026-01-01 00:00:00.123456+02'::timestamptz + (g / 70) * interval '1 us', g + 0.000001, g
         FROM generate_series(1, 7000) AS g;
       CREATE TABLE plain (id int PRIMARY KEY, v int, w int); INSERT INTO plain SELECT g, g FROM generate_series(1, 6000) AS g; ANALYZE`,
    );
  });
  afterEach(() => db.drop());

  test('walk a composite key with quoted names and microseconds', async () => {
    expect(await doStep(db, stepOf(fill))).toMatchObject({ rows: 7_000 });
    expect(await db.query(`SELECT count(*)::int AS n FROM ${TABLE} WHERE "B b" = "A"::text`)).toEqual([{ n: 7_000 }]);
  });

  test.each([[fill.key], [null]])('in several lanes at once (key %j)', async (key) => {
    const throttle = { ...NO_BRAKES, parallel: 3, batchMax: 500 };
    expect(await doStep(db, stepOf({ ...fill, key }), { throttle })).toMatchObject({ rows: 7_000 });
    const lanes = await db.query(`SELECT rows::int, done FROM pgshift.lanes`);
    expect(lanes.length).toBe(3);
    expect(lanes.every(({ done }) => done)).toBe(true);
    expect(await db.query(`SELECT count(*)::int AS n FROM ${TABLE} WHERE "B b" = "A"::text`)).toEqual([{ n: 7_000 }]);
  });

  test('by blocks over partitions and inheritance children', async () => {
    await db.query(`CREATE TABLE p (id int, v int, w int) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (500); CREATE TABLE p2 PARTITION OF p DEFAULT;
      INSERT INTO p SELECT g, g FROM generate_series(1, 2000) AS g;
      CREATE TABLE c (extra int) INHERITS (plain); INSERT INTO c SELECT g, g FROM generate_series(10001, 10500) AS g; ANALYZE`);
    const run = { ...fill, set: ['w = t.v'], pending: 't.w IS DISTINCT FROM t.v', key: null, column: 'x' };
    expect(await doStep(db, stepOf({ ...run, table: { schema: 'public', name: 'p' } }))).toMatchObject({ rows: 2_000 });
    const second = stepOf({ ...run, table: { schema: 'public', name: 'plain' } }, [], 'expand.2');
    expect(await doStep(db, second)).toMatchObject({ rows: 6_500 });
  });

  test('start over when the table is rewritten under block numbers', async () => {
    const run: BackfillRun = {
      ...fill,
      table: { schema: 'public', name: 'plain' },
      set: ['w = t.v'],
      pending: 't.w IS DISTINCT FROM t.v',
      key: null,
    };
    const at = running(db, stepOf(run), { throttle: { ...NO_BRAKES, batchMax: 200, batchMin: 100 } });
    await db.query(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.0005); RETURN new; END$$;
      CREATE TRIGGER slow BEFORE UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION slow()`);
    const done = runStep(at.context);
    await until(async () => (await db.query(`SELECT 1 FROM pgshift.chunks`)).length > 1);
    await db.query(`VACUUM FULL plain`);
    expect(await done).toMatchObject({ status: 'done' });
    expect(await db.query(`SELECT count(*)::int AS n FROM plain WHERE w = v`)).toEqual([{ n: 6_000 }]);
  });

  test('end under constant inserts', async () => {
    const writer = await db.client();
    let stop = false;
    const writing = (async () => {
      for (let id = 10_000; !stop; id += 50)
        await writer.query(`INSERT INTO plain SELECT g, g FROM generate_series($1::int, $1::int + 49) AS g`, [id]);
    })();
    const run: BackfillRun = {
      ...fill,
      table: { schema: 'public', name: 'plain' },
      set: ['w = t.v'],
      pending: 't.w IS DISTINCT FROM t.v',
      key: [{ name: 'id', type: 'integer' }],
    };
    const outcome = await doStep(db, stepOf(run), { throttle: { ...NO_BRAKES, batchMax: 200 } });
    stop = true;
    await writing;
    expect(outcome.rows).toBeGreaterThanOrEqual(6_000);
    expect(await db.query(`SELECT count(*)::int AS n FROM plain WHERE id <= 6000 AND w = v`)).toEqual([{ n: 6_000 }]);
  });

  test('go on past a row that somebody holds, without making others wait', async () => {
    const holder = await db.client();
    await holder.query('BEGIN; UPDATE plain SET v = v WHERE id = 3000');
    const run: BackfillRun = {
      ...fill,
      table: { schema: 'public', name: 'plain' },
      set: ['w = t.v'],
      pending: 't.w IS DISTINCT FROM t.v',
      key: [{ name: 'id', type: 'integer' }],
    };
    const at = running(db, stepOf(run));
    const done = runStep(at.context);
    await until(async () => at.progress.some(({ waitingFor }) => waitingFor === 'locks of others'));
    await holder.query('COMMIT');
    expect(await done).toMatchObject({ rows: 6_000 });
    await holder.query('UPDATE plain SET w = 0 WHERE id = 3000');
    await holder.query('BEGIN; UPDATE plain SET v = v WHERE id = 3000');
    const spent = { lockBudgetMs: 800 };
    expect(await codeOf(doStep(db, stepOf(run, [], 'expand.2'), spent))).toBe('LockBudgetSpent');
    await holder.query('ROLLBACK');
  });

  test('a client that waits behind a batch is served: the batch is cancelled and made shorter', async () => {
    await db.query(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.001); RETURN new; END$$;
      CREATE TRIGGER slow BEFORE UPDATE OF w ON plain FOR EACH ROW EXECUTE FUNCTION slow()`);
    const run: BackfillRun = {
      ...fill,
      table: { schema: 'public', name: 'plain' },
      set: ['w = t.v'],
      pending: 't.w IS DISTINCT FROM t.v',
      key: [{ name: 'id', type: 'integer' }],
    };
    const throttle = { ...NO_BRAKES, maxLockWaitMs: 300, batchTargetMs: 60_000, batchMin: 50 };
    const at = running(db, stepOf(run), { throttle });
    const done = codeOf(runStep(at.context));
    await until(
      async () =>
        (await db.query(`SELECT 1 FROM pg_stat_activity WHERE query LIKE 'UPDATE%plain%' AND state = 'active'`))
          .length > 0,
    );
    const client = await db.client();
    const from = performance.now();
    await client.query(`UPDATE plain SET v = v WHERE id <= 6000 AND id % 10 = 1`);
    expect(performance.now() - from).toBeLessThan(900);
    await until(async () => at.progress.some(({ waitingFor }) => waitingFor?.includes('behind a batch') === true));
    at.abort();
    expect(await done).toBe('AbortError');
  });
});

describeVersions('the user’s own DML in batches', (version) => {
  let db: FreshDatabase;
  beforeEach(async () => {
    db = await engineDatabase(
      version,
      `CREATE TABLE plain (id int PRIMARY KEY, v int, w int); INSERT INTO plain SELECT g, g FROM generate_series(1, 6000) AS g;
       CREATE TABLE kept (LIKE plain); CREATE TABLE copy (id int, v int); ANALYZE`,
    );
  });
  afterEach(() => db.drop());
  const table = { schema: 'public', name: 'plain' };
  const key = [{ name: 'id', type: 'integer' }];
  const throttle = { ...NO_BRAKES, batchMax: 500 };
  const update: DmlRun = {
    kind: 'dml',
    verb: 'update',
    table,
    key,
    statement: `UPDATE plain AS p SET v = v + 1 WHERE $RANGE AND (p.v % 2 = 0)`,
    where: 'p.v % 2 = 0',
    alias: 'p',
    archive: { schema: 'public', name: 'kept' },
  };

  test.each([[key], [null]])(
    'an UPDATE that is not idempotent runs once for each row, old rows kept (key %j)',
    async (by) => {
      expect(await doStep(db, stepOf({ ...update, key: by }), { throttle })).toMatchObject({ rows: 3_000 });
      expect(await db.query(`SELECT count(*)::int AS n FROM plain WHERE v = id + 1 AND id % 2 = 0`)).toEqual([
        { n: 3_000 },
      ]);
      expect(await db.query(`SELECT count(*)::int AS n FROM kept WHERE v = id`)).toEqual([{ n: 3_000 }]);
    },
  );

  test('DELETE keeps what it deletes', async () => {
    const run: DmlRun = {
      ...update,
      verb: 'delete',
      statement: `DELETE FROM plain AS p WHERE $RANGE AND (p.v % 2 = 0)`,
    };
    expect(await doStep(db, stepOf(run), { throttle })).toMatchObject({ rows: 3_000 });
    expect(await db.query(`SELECT count(*)::int AS n FROM kept`)).toEqual([{ n: 3_000 }]);
  });

  test.each([[key], [null]])('INSERT ... SELECT copies each row once (key %j)', async (by) => {
    const run: InsertSelectRun = {
      kind: 'insert-select',
      target: { schema: 'public', name: 'copy' },
      source: table,
      key: by,
      statement: `INSERT INTO copy SELECT s.id, s.v FROM plain AS s WHERE $RANGE`,
      alias: 's',
    };
    expect(await doStep(db, stepOf(run), { throttle })).toMatchObject({ rows: 6_000 });
    expect(await db.query(`SELECT count(*)::int AS n, count(DISTINCT id)::int AS d FROM copy`)).toEqual([
      { n: 6_000, d: 6_000 },
    ]);
  });

  test('a partition with its columns in another order is archived by their names, a hidden column under its own', async () => {
    await db.query(`CREATE TABLE whole (id int NOT NULL, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
      CREATE TABLE one PARTITION OF whole FOR VALUES FROM (0) TO (100); CREATE TABLE two (v int, id int NOT NULL);
      ALTER TABLE whole ATTACH PARTITION two FOR VALUES FROM (100) TO (1000); INSERT INTO whole SELECT g, -g FROM generate_series(1, 500) g`);
    for (const by of [key, null]) {
      const to = { table: { schema: 'attic', name: by ? 'keyed' : 'unkeyed' } };
      const run = { kind: 'archive', table: { schema: 'public', name: 'whole' }, column: null, key: by, to } as const;
      await doStep(db, stepOf(run, [], by ? 'cleanup.1' : 'cleanup.2'));
      expect(await db.query(`SELECT count(*)::int AS n FROM attic.${to.table.name} WHERE v = -id`)).toEqual([
        { n: 500 },
      ]);
    }
    const to = { table: { schema: 'attic', name: 'one' } };
    await doStep(db, stepOf({ kind: 'archive', table, column: 'v', as: 'was', key, to }, [], 'cleanup.3'));
    expect(await db.query(`SELECT count(was)::int AS n, count(id)::int AS ids FROM attic.one`)).toEqual([
      { n: 6_000, ids: 6_000 },
    ]);
  });

  test.each([['v'], [null]])('what is dropped later is archived with its key (column %s)', async (column) => {
    const to = { table: { schema: 'attic', name: 'plain' } };
    expect(await doStep(db, stepOf({ kind: 'archive', table, column, key, to }))).toMatchObject({ rows: 6_000 });
    const [row] = await db.query(
      `SELECT count(*)::int AS n, (SELECT count(*)::int FROM pg_attribute WHERE attrelid = 'attic.plain'::regclass AND attnum > 0) AS columns FROM attic.plain`,
    );
    expect(row).toEqual({ n: 6_000, columns: column === null ? 3 : 2 });
    await db.query(`CREATE TABLE attic.other (x int)`);
    const other = { table: { schema: 'attic', name: 'other' } };
    expect(await codeOf(doStep(db, stepOf({ kind: 'archive', table, column, key, to: other }, [], 'cleanup.2')))).toBe(
      'Drift',
    );
  });
});
