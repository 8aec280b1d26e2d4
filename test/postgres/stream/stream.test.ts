/** Changes of a live source arrive once, in order, whatever they are: types, TOAST, keys that change, TRUNCATE, transactions larger than the buffer. */
import { buildRest, copyBatch, makeSchema, openSnapshot } from '../../../postgres/copy/run';
import { eventually } from '../../support/copy';
import { hasVersion } from '../../support/database';
import type { ServerVersion } from '../../support/database';
import type { StreamPair } from '../../support/stream';
import { copied, leftOn, streamPair } from '../../support/stream';

const SETUP = `
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"'); CREATE DOMAIN short AS varchar(5) CHECK (value <> ''); CREATE TYPE two AS (a int, b text);
CREATE TABLE plain (id bigserial PRIMARY KEY, v int, t text, u int UNIQUE);
INSERT INTO plain (v, t, u) SELECT g, 't' || g, g FROM generate_series(1, 500) g;
CREATE TABLE wide (id int PRIMARY KEY, small int, big text, other text); ALTER TABLE wide ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
INSERT INTO wide SELECT g, 0, repeat(chr(64 + g), 20000), repeat('x', 9000) FROM generate_series(1, 20) g;
CREATE TABLE pair (a int, b text, v text, PRIMARY KEY (b, a)); INSERT INTO pair SELECT g, 'b' || g % 3, NULL FROM generate_series(1, 30) g;
CREATE TABLE bag (a int, j json, x point); ALTER TABLE bag REPLICA IDENTITY FULL;
INSERT INTO bag SELECT g % 4, '{"a": 1}', '(1,2)' FROM generate_series(1, 20) g; INSERT INTO bag VALUES (NULL, NULL, NULL);
CREATE TABLE kinds (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n numeric, f float8, d timestamptz, i interval, b bytea, c char(5), bits bit(3),
  vc varchar(3)[], ints int[][], m mood, s short, tw two, r int4range, js jsonb, u uuid, mon money, twice int GENERATED ALWAYS AS (7 * 2) STORED);
CREATE SCHEMA "Odd S"; CREATE TABLE "Odd S"."T a" ("Key 1" text PRIMARY KEY, "select" text);
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE);
INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT g, g FROM generate_series(1, 10) g;
CREATE TABLE seen (n int PRIMARY KEY, at text); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (NEW.id, 'x'); RETURN NEW; END $$;
CREATE TRIGGER see AFTER INSERT ON parent FOR EACH ROW EXECUTE FUNCTION see();
CREATE TABLE log (at int, what text) PARTITION BY RANGE (at); CREATE TABLE log1 PARTITION OF log FOR VALUES FROM (0) TO (100);
CREATE TABLE log2 PARTITION OF log FOR VALUES FROM (100) TO (200); ALTER TABLE log1 ADD PRIMARY KEY (at); ALTER TABLE log2 ADD PRIMARY KEY (at);
INSERT INTO log SELECT g, 'w' || g FROM generate_series(1, 150) g; ANALYZE;`;

const PLAN = { tables: { include: ['*.*'] } };

const CHANGES = [
  `INSERT INTO plain (v, t, u) VALUES (1, 'quote " back \\ comma , {brace} NULL', 900), (2, '', 901), (3, NULL, NULL), (4, E'tab\\tnew\\nline', 903)`,
  `UPDATE plain SET v = NULL, t = NULL WHERE id = 7; UPDATE plain SET v = 8 WHERE id = 7; DELETE FROM plain WHERE id = 8`,
  // Values of a unique column change places.
  `BEGIN; UPDATE plain SET u = -1 WHERE id = 10; UPDATE plain SET u = 10 WHERE id = 11; UPDATE plain SET u = 11 WHERE id = 10; COMMIT`,
  `UPDATE plain SET id = id + 10000 WHERE id BETWEEN 20 AND 40; DELETE FROM plain WHERE id = 10020; INSERT INTO plain (id, v) VALUES (20, 1)`,
  `BEGIN; DELETE FROM plain WHERE id = 50; INSERT INTO plain (id, v, t) VALUES (50, 1, 'again'); UPDATE plain SET t = 'more' WHERE id = 50; COMMIT`,
  `BEGIN; INSERT INTO plain (id, v) VALUES (7000, 1); UPDATE plain SET id = 7001 WHERE id = 7000; DELETE FROM plain WHERE id = 7001; COMMIT`,
  `BEGIN; UPDATE plain SET v = 0; ROLLBACK`,
  `UPDATE plain SET v = v + 1 WHERE id % 2 = 0`,
  // What did not change is not sent: another column, the key, both long ones in turn, NULL over it.
  `UPDATE wide SET small = 1 WHERE id < 5; UPDATE wide SET small = 2, other = 'short' WHERE id = 2; UPDATE wide SET other = repeat('y', 9000) WHERE id = 3`,
  `UPDATE wide SET id = id + 100 WHERE id IN (5, 6); UPDATE wide SET small = 9 WHERE id = 105; UPDATE wide SET big = NULL WHERE id = 7; UPDATE wide SET small = 3 WHERE id = 7`,
  `BEGIN; UPDATE wide SET id = 8000 WHERE id = 8; UPDATE wide SET id = 8 WHERE id = 9; UPDATE wide SET id = 9 WHERE id = 8000; COMMIT`,
  `UPDATE pair SET v = 'x' WHERE a < 10; UPDATE pair SET b = 'c' || a WHERE a > 20; DELETE FROM pair WHERE a BETWEEN 11 AND 13`,
  `DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE a = 1 LIMIT 2); UPDATE bag SET j = '{"b": [1, 2]}' WHERE a = 2; UPDATE bag SET a = 5 WHERE a IS NULL; INSERT INTO bag VALUES (1, '{"a": 1}', '(1,2)'), (NULL, NULL, NULL)`,
  `INSERT INTO kinds (n, f, d, i, b, c, bits, vc, ints, m, s, tw, r, js, u, mon) VALUES
     ('NaN', '-0', 'infinity', '1 mon -3 days', '\\x00ff', 'ab', B'101', '{a,"b c",NULL,""}', '{{1,2},{3,NULL}}', 'it''s "ok"', 'abcde', ROW(1, 'a,"b'), '[1,5)', '{"k": "v\\"w"}', gen_random_uuid(), '12.34'),
     (1.00, 'Infinity', '1800-01-01 00:00:00.123456+00', '0', '', '', B'000', '{}', NULL, 'sad', NULL, ROW(NULL, ''), 'empty', 'null', NULL, '-1')`,
  `UPDATE kinds SET n = 1.000, ints = '{{9}}', tw = NULL, c = 'xyz' WHERE id = 2`,
  `INSERT INTO "Odd S"."T a" VALUES ('k''1', 'é ü 漢'), ('', NULL); UPDATE "Odd S"."T a" SET "Key 1" = 'k2' WHERE "Key 1" = ''`,
  `INSERT INTO parent VALUES (11), (12); INSERT INTO child VALUES (11, 12); DELETE FROM parent WHERE id IN (1, 2)`,
  `UPDATE log SET at = at + 100 WHERE at BETWEEN 60 AND 70; INSERT INTO log VALUES (0, 'zero'); DELETE FROM log WHERE at = 199`,
  `SELECT nextval('plain_id_seq') FROM generate_series(1, 77)`,
];

async function change(pair: StreamPair, statements: readonly string[] = CHANGES): Promise<void> {
  const client = await pair.source.client();
  for (const statement of statements) await client.query(statement);
  await client.end();
}

const ways: readonly (readonly [ServerVersion, ServerVersion, 'wal' | 'triggers'])[] = [
  [18, 18, 'wal'],
  [15, 18, 'wal'],
  [18, 18, 'triggers'],
];
for (const [from, to, capture] of ways)
  (hasVersion(from) && hasVersion(to) ? test : test.skip)(
    `every kind of change, ${from} to ${to}, ${capture}`,
    async () => {
      const pair = await streamPair(SETUP, { ...PLAN, streaming: { capture } }, [from, to]);
      try {
        const { pieces } = await openSnapshot(pair.context);
        await makeSchema(pair.context);
        // While the copy runs, while it is followed one by one, and all in one transaction of the target.
        await change(pair, ['INSERT INTO plain (v) VALUES (99)', 'DELETE FROM parent WHERE id = 3']);
        for (const { from, to } of pieces) await copyBatch(pair.context, from, to);
        await change(pair, ['UPDATE plain SET t = $$copied$$ WHERE id < 10', 'DELETE FROM child WHERE id = 4']);
        await buildRest(pair.context);
        const following = pair.follow();
        await change(pair);
        await eventually(async () => (following.looks.at(-1)?.changes ?? 0) > 300);
        await following.stop();
        expect(following.looks.at(-1)).toMatchObject({ skipped: 0 });
        await change(pair, [
          ...CHANGES.filter((_, i) => [7, 8].includes(i)),
          `INSERT INTO "Odd S"."T a" VALUES ('k9', NULL); UPDATE "Odd S"."T a" SET "select" = NULL`,
        ]);
        await pair.expectEqual();
        const [at] = await pair.target.query<{ n: number }>(`SELECT last_value::int AS n FROM plain_id_seq`);
        expect(at?.n).toBeGreaterThan(577);
      } finally {
        await pair.drop();
      }
    },
  );

test('TRUNCATE in its place: with foreign keys, with the sequence, in the middle of a transaction', async () => {
  const pair = await copied(SETUP, PLAN);
  try {
    await change(pair, [
      `INSERT INTO plain (v) VALUES (1); TRUNCATE plain RESTART IDENTITY; INSERT INTO plain (v, t) VALUES (2, 'after')`,
      `BEGIN; INSERT INTO parent VALUES (50); TRUNCATE parent CASCADE; INSERT INTO parent VALUES (51); COMMIT`,
      `TRUNCATE log; INSERT INTO log VALUES (5, 'five')`,
      `TRUNCATE seen; TRUNCATE bag; INSERT INTO bag VALUES (1, NULL, NULL)`,
    ]);
    // Somebody reads there: nothing is waited for.
    const reader = await pair.target.client();
    await reader.query('BEGIN; SELECT count(*) FROM seen');
    await pair.drain();
    await reader.query('COMMIT');
    await pair.expectEqual();
  } finally {
    await pair.drop();
  }
});

test('a transaction far larger than the buffer comes in pieces, in bounded memory, and all at once', async () => {
  const pair = await copied(
    `CREATE TABLE big (id int PRIMARY KEY, t text); INSERT INTO big SELECT g, repeat('x', 200) FROM generate_series(1, 30000) g;
     CREATE TABLE tiny (id int PRIMARY KEY);`,
    { streaming: { buffer: '2MB' } },
  );
  try {
    await pair.source.query(`UPDATE big SET t = repeat('y', 200)`);
    await pair.source.query(
      `BEGIN; DELETE FROM big WHERE id % 3 = 0; INSERT INTO big SELECT g, repeat('z', 200) FROM generate_series(30001, 45000) g; COMMIT`,
    );
    await pair.source.query(`INSERT INTO tiny VALUES (1)`);
    const watch = await pair.target.client();
    const states = new Set<string>();
    let over = false;
    const looking = (async () => {
      while (!over) {
        const { rows } = await watch.query<{ s: string }>(
          `SELECT (SELECT count(*) FILTER (WHERE t LIKE 'y%') FROM big) || '/' || (SELECT count(*) FROM tiny) AS s`,
        );
        states.add(rows[0]?.s ?? '');
      }
    })();
    const before = process.memoryUsage().rss;
    let most = 0;
    const meter = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20);
    await pair.drain();
    clearInterval(meter);
    over = true;
    await looking;
    // Whole transactions alone were ever to be seen.
    for (const state of states) expect(['0/0', '30000/0', '20000/0', '20000/1']).toContain(state);
    expect((most - before) / 1024 ** 2).toBeLessThan(120);
    await pair.expectEqual();
  } finally {
    await pair.drop();
  }
});

test('a lost snapshot: what was copied is followed from its own position, the rest from the new one', async () => {
  const pair = await streamPair(
    `CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT g, 0 FROM generate_series(1, 20000) g;
     CREATE TABLE b (id int PRIMARY KEY, v int); INSERT INTO b SELECT g, 0 FROM generate_series(1, 100) g;`,
  );
  try {
    await openSnapshot(pair.context);
    await makeSchema(pair.context);
    await pair.source.query(`UPDATE a SET v = v + 1 WHERE id < 50; UPDATE b SET v = v + 1; DELETE FROM b WHERE id = 1`);
    await copyBatch(pair.context, 1, 1);
    await pair.source.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%snapshot-1' AND datname = current_database()`,
    );
    await pair.source.query(
      `UPDATE a SET v = v + 1 WHERE id > 100; UPDATE b SET v = v + 1; INSERT INTO b VALUES (1, 7)`,
    );
    await eventually(async () => (await openSnapshot(pair.context)).epoch === 2);
    expect(await leftOn(pair.source)).toHaveLength(2);
    await pair.source.query(
      `UPDATE a SET v = v + 1 WHERE id > 200; UPDATE b SET v = v + 1; DELETE FROM b WHERE id = 2`,
    );
    await copyBatch(pair.context, 2, 2);
    await buildRest(pair.context);
    await pair.expectEqual();
  } finally {
    await pair.drop();
  }
});
