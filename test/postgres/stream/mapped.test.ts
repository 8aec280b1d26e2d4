/** A stream through a map: names, columns, values and a filter, row by row; rows that come into the filter and leave it; proven beside the stream. */
import type { DataMigrationInput } from '../../../plan/model/dataMigration';
import { endCopyStream } from '../../../postgres/stream/run';
import { verifyBoth } from '../../../postgres/stream/verifyBoth';
import { copied, leftOn } from '../../support/stream';

const SETUP = `
CREATE TYPE mood AS ENUM ('ok', 'bad'); CREATE FUNCTION loud(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper(t)';
CREATE TABLE person (id serial PRIMARY KEY, name text, age text, country text, active boolean, m mood, big text, note text); ALTER TABLE person ALTER big SET STORAGE EXTERNAL;
INSERT INTO person (name, age, country, active, m, big) SELECT 'p' || g, (g % 90)::text, CASE g % 3 WHEN 0 THEN 'de' WHEN 1 THEN 'ie' END, g % 4 <> 0, 'ok', repeat('x', 9000)
  FROM generate_series(1, 200) g;
CREATE TABLE plain (id int PRIMARY KEY, v text); INSERT INTO plain SELECT g, 'v' || g FROM generate_series(1, 20) g; ANALYZE;`;

const MAP: DataMigrationInput['map'] = {
  person: {
    to: 'crm.customer',
    where: `active AND age::int < 80`,
    columns: {
      full_name: { sql: 'loud(name)' },
      years: { sql: 'age::int' },
      land: { lookup: { column: 'country', values: { de: 'Germany', ie: 'Ireland' }, otherwise: 'null' } },
      mood: 'm',
      wide: { sql: `left(big, 3) || '/' || name` },
    },
    omit: ['country', 'age', 'name'],
    nulls: { note: 'none' },
  },
};

const CHANGES = [
  `INSERT INTO person (name, age, country, active, m, big) VALUES ('in', '5', 'de', true, 'bad', repeat('y', 9000)), ('out', '85', 'ie', true, NULL, NULL), ('off', '5', NULL, false, 'ok', NULL)`,
  // Into the filter and out of it, with a value that is not sent.
  `UPDATE person SET active = NOT active WHERE id BETWEEN 1 AND 40; UPDATE person SET age = '81' WHERE id BETWEEN 30 AND 50`,
  `UPDATE person SET name = 'renamed', note = 'n' WHERE id % 7 = 0; UPDATE person SET country = 'xx' WHERE id = 60; UPDATE person SET big = NULL WHERE id = 61`,
  `BEGIN; UPDATE person SET id = id + 1000 WHERE id BETWEEN 100 AND 110; DELETE FROM person WHERE id IN (1105, 120, 4); INSERT INTO person (id, name, age, active) VALUES (120, 'again', '1', true); COMMIT`,
  `BEGIN; UPDATE person SET active = false WHERE id = 130; UPDATE person SET active = true, name = 'back' WHERE id = 130; COMMIT`,
  `UPDATE plain SET v = v || '!' WHERE id < 5; DELETE FROM plain WHERE id = 9`,
];

const EXPECTED = `SELECT p.id, p.active, p.m::text AS mood, p.big, coalesce(p.note, 'none') AS note, upper(p.name) AS full_name, p.age::int AS years,
  CASE p.country WHEN 'de' THEN 'Germany' WHEN 'ie' THEN 'Ireland' END AS land, left(p.big, 3) || '/' || p.name AS wide
  FROM person AS p WHERE p.active AND p.age::int < 80 ORDER BY 1`;
const FOUND = `SELECT c.id, c.active, c.mood::text AS mood, c.big, c.note, c.full_name, c.years, c.land, c.wide FROM crm.customer AS c ORDER BY 1`;

for (const capture of ['wal', 'triggers'] as const)
  test(`the stream goes through the map (${capture})`, async () => {
    const full = capture === 'wal' ? 'ALTER TABLE person REPLICA IDENTITY FULL;' : '';
    const pair = await copied(`${SETUP}${full}`, { map: MAP, streaming: { capture } });
    try {
      const expected = async () => {
        expect(await pair.target.query(FOUND)).toEqual(await pair.source.query(EXPECTED));
        expect(await pair.target.query(`SELECT * FROM plain ORDER BY 1`)).toEqual(
          await pair.source.query(`SELECT * FROM plain ORDER BY 1`),
        );
      };
      await expected();
      const client = await pair.source.client();
      for (const statement of CHANGES) {
        await client.query(statement);
        expect((await pair.drain()).verdict).toBe('reached');
        await expected();
      }
      for (const statement of CHANGES.slice(1, 3)) await client.query(statement);
      await client.end();
      await pair.drain();
      await expected();
      expect(await verifyBoth(pair.context, () => undefined)).toMatchObject({ passed: true, errors: [] });
      await pair.target.query(`UPDATE crm.customer SET years = 1 WHERE id = 130`);
      const following = pair.follow();
      const spoilt = await verifyBoth(pair.context, () => undefined);
      await following.stop();
      expect(spoilt.passed).toBe(false);
      expect(spoilt.tables.find(({ table }) => table === 'public.person')).toMatchObject({ differing: 1 });
      await endCopyStream(pair.context);
      expect(await leftOn(pair.source)).toEqual([]);
      const [next] = await pair.target.query<{ id: number }>(
        `INSERT INTO crm.customer (full_name) VALUES ('x') RETURNING id`,
      );
      expect(next?.id).toBe(1111);
    } finally {
      await pair.drop();
    }
  });

test('partitions are compared under their root, and nothing that was copied goes unseen', async () => {
  const pair = await copied(`CREATE TABLE log (at int PRIMARY KEY, what text) PARTITION BY RANGE (at);
    CREATE TABLE log1 PARTITION OF log FOR VALUES FROM (0) TO (100); CREATE TABLE log2 PARTITION OF log FOR VALUES FROM (100) TO (200);
    INSERT INTO log SELECT g, 'w' || g FROM generate_series(1, 150) g; ANALYZE`);
  try {
    await pair.drain();
    expect(await verifyBoth(pair.context, () => undefined)).toMatchObject({
      passed: true,
      tables: [{ table: 'public.log', sourceRows: 150 }],
    });
    await pair.target.query(`SET session_replication_role = replica; UPDATE log SET what = 'spoilt' WHERE at = 120`);
    const following = pair.follow();
    const spoilt = await verifyBoth(pair.context, () => undefined);
    await following.stop();
    expect(spoilt).toMatchObject({ passed: false, tables: [{ differing: 1 }] });
  } finally {
    await pair.drop();
  }
});

test('an idle source reaches the end of its log, also while another database writes', async () => {
  const pair = await copied(`CREATE TABLE quiet (id int PRIMARY KEY)`);
  try {
    await pair.target.query(`CREATE TABLE noise AS SELECT g FROM generate_series(1, 20000) g`);
    const began = performance.now();
    expect((await pair.drain()).verdict).toBe('reached');
    expect(performance.now() - began).toBeLessThan(20_000);
    await pair.target.query(`DROP TABLE noise`);
    await pair.expectEqual();
  } finally {
    await pair.drop();
  }
});
