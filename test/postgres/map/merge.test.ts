/** Insert and upsert into tables that hold rows; what is off for the load comes on again; the way back touches nothing that is not ours. */
import { copyBatch, finishCopy, makeSchema, openSnapshot, takeBackCopy, verifyCopy } from '../../../postgres/copy/run';
import type { DataMigrationInput } from '../../../plan/model/dataMigration';
import { contents, copyAll, copyPair } from '../../support/copy';
import type { CopyPair } from '../../support/copy';
import { describeVersions } from '../../support/database';

const SOURCE = `CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(8,2));
INSERT INTO item SELECT g, 'new ' || g, g FROM generate_series(1, 3000) g; ANALYZE;`;
/** 100 rows of other ids, 100 of ids that come, each with a column that is not loaded. */
const TARGET = `CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(8,2), own text DEFAULT 'd');
INSERT INTO item SELECT g, 'mine ' || g, 0, 'kept' FROM generate_series(2901, 3100) g;`;

const existing = (
  load: DataMigrationInput['load'],
  more: Partial<DataMigrationInput> = {},
): Partial<DataMigrationInput> => ({
  schema: 'existing',
  load,
  parallel: { rangeSize: '32kB', rangesPerTable: 2 },
  ...more,
});

const withPair = async (
  plan: Partial<DataMigrationInput>,
  work: (pair: CopyPair, before: string[]) => Promise<void>,
  [source, target] = [SOURCE, TARGET],
): Promise<void> => {
  const pair = await copyPair(source, plan, [18, 18], target);
  try {
    await work(pair, (await contents(pair.target)).rows);
  } finally {
    await pair.drop();
  }
};

const leftovers = (pair: CopyPair) =>
  pair.target.query(`SELECT relname FROM pg_class WHERE relname LIKE '\\_pgshift\\_%' AND relkind = 'r'`);

test('upsert: theirs stay, ours are new or overwritten, and the way back restores all of it', async () => {
  await withPair(existing({ method: 'upsert' }), async (pair, before) => {
    const { counts } = await copyAll(pair.context);
    expect(counts).toMatchObject({ read: 3000, loaded: 3000, ignored: 0, bad: 0 });
    expect(
      await pair.target.query(
        `SELECT count(*)::int AS n, count(*) FILTER (WHERE name LIKE 'new%')::int AS new, count(*) FILTER (WHERE own = 'kept')::int AS kept FROM item`,
      ),
    ).toEqual([{ n: 3100, new: 3000, kept: 200 }]);
    expect((await verifyCopy(pair.context)).different).toEqual([]);
    await takeBackCopy(pair.context);
    expect((await contents(pair.target)).rows).toEqual(before);
    await takeBackCopy(pair.context);
    expect(await leftovers(pair)).toEqual([]);
  });
});

test('a row that is not as it should be is found; one that somebody wrote since is told, and stays', async () => {
  await withPair(existing({ method: 'upsert' }), async (pair) => {
    await copyAll(pair.context);
    await pair.target.query(`UPDATE item SET name = 'theirs' WHERE id IN (5, 2950)`);
    const verified = await verifyCopy(pair.context);
    expect(verified.different).toEqual([]);
    expect(verified.warnings).toEqual([expect.stringMatching(/2 of the merged rows were written by somebody else/)]);
    const [aux] = await pair.target.query<{ name: string }>(
      `SELECT relname AS name FROM pg_class WHERE relname LIKE '\\_pgshift\\_loaded%' AND relkind = 'r'`,
    );
    await pair.target.query(`UPDATE pgshift.${aux?.name ?? ''} SET h = h + 1 WHERE k0 = 9`);
    expect((await verifyCopy(pair.context)).different).toMatchObject([{ table: 'public.item' }]);
    await takeBackCopy(pair.context);
    expect(await pair.target.query(`SELECT id FROM item WHERE name = 'theirs' ORDER BY id`)).toEqual([
      { id: 5 },
      { id: 2950 },
    ]);
    expect(await pair.target.query(`SELECT count(*)::int AS n FROM item`)).toEqual([{ n: 201 }]);
    const log = await pair.target.query<{ message: string }>(
      `SELECT message FROM pgshift.migration_log WHERE level = 'warning'`,
    );
    expect(log.at(-1)?.message).toMatch(/2 rows were written by somebody else since, and stay/);
  });
});

test('insert: ignore leaves what is there, fail sets it aside', async () => {
  await withPair(existing({ method: 'insert', onConflict: 'ignore' }), async (pair, before) => {
    const { counts } = await copyAll(pair.context);
    expect(counts).toMatchObject({ read: 3000, loaded: 2900, ignored: 100, bad: 0 });
    expect(await pair.target.query(`SELECT count(*)::int AS n FROM item WHERE name LIKE 'mine%'`)).toEqual([
      { n: 200 },
    ]);
    expect((await verifyCopy(pair.context)).different).toEqual([]);
    await takeBackCopy(pair.context);
    expect((await contents(pair.target)).rows).toEqual(before);
  });
  await withPair(existing({ method: 'insert' }, { errors: { max: 100 } }), async (pair) => {
    const { counts } = await copyAll(pair.context);
    expect(counts).toMatchObject({ loaded: 2900, bad: 100 });
    const rows = await pair.target.query(`SELECT DISTINCT rule, reason FROM pgshift.quarantine`);
    expect(rows).toEqual([{ rule: 'conflict', reason: expect.stringMatching(/item_pkey/) }]);
    expect((await verifyCopy(pair.context)).different).toEqual([]);
    await finishCopy(pair.context, 'test');
    expect(await leftovers(pair)).toEqual([]);
  });
});

test('two tables go to one; keys that come twice are counted', async () => {
  const twins = `CREATE TABLE eu (id int, name text); CREATE TABLE us (id int, name text);
    INSERT INTO eu SELECT g, 'eu' FROM generate_series(1, 100) g; INSERT INTO us SELECT g, 'us' FROM generate_series(101, 150) g; INSERT INTO us VALUES (150, 'again');`;
  const all = 'CREATE TABLE world (id int PRIMARY KEY, name text)';
  const map = { eu: { to: 'world' }, us: { to: 'world' } };
  await withPair(
    existing({ method: 'upsert' }, { map }),
    async (pair) => {
      const { counts } = await copyAll(pair.context);
      expect(counts).toMatchObject({ read: 151, loaded: 150, superseded: 1 });
      expect(await pair.target.query(`SELECT name, count(*)::int AS n FROM world GROUP BY 1 ORDER BY 1`)).toEqual([
        { name: 'again', n: 1 },
        { name: 'eu', n: 100 },
        { name: 'us', n: 49 },
      ]);
      expect((await verifyCopy(pair.context)).different).toEqual([]);
      await takeBackCopy(pair.context);
      expect(await pair.target.query(`SELECT 1 FROM world`)).toEqual([]);
    },
    [twins, all],
  );
});

test('a new snapshot takes half a merge back and begins again: every row once', async () => {
  await withPair(existing({ method: 'upsert' }), async (pair) => {
    const { pieces } = await openSnapshot(pair.context);
    await makeSchema(pair.context);
    // Half of it, then the table is begun again in another epoch.
    const stop = new AbortController();
    let ranges = 0;
    const half = copyBatch(
      {
        ...pair.context,
        signal: stop.signal,
        admit: async () => {
          ranges += 1;
          if (ranges === 4) stop.abort();
        },
      },
      1,
      1,
    );
    await expect(half).rejects.toThrow();
    await pair.target.query(`UPDATE pgshift.copy_epochs SET ended_at = now()`);
    await pair.source.query(`DELETE FROM item WHERE id <= 1000`);
    const again = await openSnapshot(pair.context);
    expect(again.epoch).toBe(2);
    for (const { from, to } of pieces) expect((await copyBatch(pair.context, from, to)).failed).toEqual([]);
    expect(await pair.target.query(`SELECT count(*)::int AS n, min(id) AS first FROM item`)).toEqual([
      { n: 2100, first: 1001 },
    ]);
    expect((await verifyCopy(pair.context)).different).toEqual([]);
  });
});

test('upsert into tables that are made: their keys are there before the rows', async () => {
  await withPair(
    { load: { method: 'upsert' } },
    async (pair) => {
      const { counts } = await copyAll(pair.context);
      expect(counts).toMatchObject({ read: 3000, loaded: 3000 });
      expect((await contents(pair.target)).rows).toEqual((await contents(pair.source)).rows);
      expect((await verifyCopy(pair.context)).different).toEqual([]);
      await takeBackCopy(pair.context);
      expect(await leftovers(pair)).toEqual([]);
    },
    [SOURCE, 'SELECT 1'],
  );
});

test('a partitioned target takes rows, and gives them back', async () => {
  await withPair(
    existing({ method: 'upsert' }),
    async (pair, before) => {
      const { counts } = await copyAll(pair.context);
      expect(counts).toMatchObject({ loaded: 3000 });
      expect((await verifyCopy(pair.context)).different).toEqual([]);
      await takeBackCopy(pair.context);
      expect((await contents(pair.target)).rows).toEqual(before);
    },
    [
      SOURCE,
      `CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(8,2)) PARTITION BY RANGE (id);
       CREATE TABLE item1 PARTITION OF item FOR VALUES FROM (0) TO (1500); CREATE TABLE item2 PARTITION OF item DEFAULT; INSERT INTO item VALUES (7, 'theirs', 1), (9000, 'x', 1)`,
    ],
  );
});

const GUARDED = `CREATE TABLE kind (id int PRIMARY KEY); CREATE TABLE seen (n int); INSERT INTO seen VALUES (0);
CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(8,2) CONSTRAINT cheap CHECK (price < 100000), kind int CONSTRAINT of_kind REFERENCES kind);
CREATE INDEX item_name_idx ON item (name); COMMENT ON INDEX item_name_idx IS 'by name'; CREATE UNIQUE INDEX item_u ON item (id, name); COMMENT ON CONSTRAINT cheap ON item IS 'cheap';
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE seen SET n = n + 1; RETURN new; END$$;
CREATE TRIGGER a AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION f(); CREATE TRIGGER b AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION f();
ALTER TABLE item ENABLE ALWAYS TRIGGER b; CREATE TRIGGER c AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE item DISABLE TRIGGER c;`;

describeVersions('load.disable', (version) => {
  const plan = existing({ method: 'copy', disable: ['indexes', 'constraints', 'triggers'] });
  const off = (pair: CopyPair) => pair.target.query(`SELECT kind, name FROM pgshift.copy_disabled ORDER BY 1, 2`);

  test('off for the load, on again after it, as they were', async () => {
    const pair = await copyPair(SOURCE, plan, [18, version], GUARDED);
    try {
      const before = (await contents(pair.target)).catalog;
      await openSnapshot(pair.context);
      let during: unknown[] = [];
      const admit = async (): Promise<void> => {
        if (during.length === 0) during = await off(pair);
      };
      expect((await copyBatch({ ...pair.context, admit }, 1, 1)).failed).toEqual([]);
      expect(during).toEqual([
        { kind: 'constraint', name: 'cheap' },
        { kind: 'constraint', name: 'of_kind' },
        { kind: 'index', name: 'item_name_idx' },
        { kind: 'trigger', name: 'a' },
        { kind: 'trigger', name: 'b' },
      ]);
      expect(await off(pair)).toEqual([]);
      expect((await contents(pair.target)).catalog).toEqual(before);
      expect(await pair.target.query(`SELECT n FROM seen`)).toEqual([{ n: 0 }]);
      expect(await pair.target.query(`SELECT count(*)::int AS n FROM item`)).toEqual([{ n: 3000 }]);
    } finally {
      await pair.drop();
    }
  });

  test('a load that fails leaves them off, on the list; the way back puts them on', async () => {
    const pair = await copyPair(`${SOURCE} UPDATE item SET price = 200000 WHERE id = 7;`, plan, [18, version], GUARDED);
    try {
      const before = (await contents(pair.target)).catalog;
      await openSnapshot(pair.context);
      const { failed } = await copyBatch(pair.context, 1, 1);
      expect(failed).toMatchObject([
        { table: 'public.item', message: expect.stringMatching(/constraint cheap does not come back/) },
      ]);
      expect(await off(pair)).toContainEqual({ kind: 'constraint', name: 'cheap' });
      await takeBackCopy(pair.context);
      expect(await off(pair)).toEqual([]);
      expect((await contents(pair.target)).catalog).toEqual(before);
      expect(await pair.target.query(`SELECT 1 FROM item`)).toEqual([]);
    } finally {
      await pair.drop();
    }
  });
});
