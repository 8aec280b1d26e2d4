/** Old rows of UPDATE and DELETE on their way back, when others wrote in between: no key is broken, no later write is lost, and what cannot go back is told. */
import { describeVersions, freshDatabase } from '../support/database';
import type { FreshDatabase, ServerVersion } from '../support/database';
import { planOn, runSteps, undoSteps } from '../support/naive';

const TRIGGER = `
  CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER noop BEFORE INSERT OR UPDATE ON child FOR EACH ROW EXECUTE FUNCTION noop();`;
const SETUP = `
  CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 10);
  CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent, code int UNIQUE, v int, boss int REFERENCES child);
  INSERT INTO child SELECT g, g % 10 + 1, g, g, CASE WHEN g > 50 THEN g - 50 END FROM generate_series(1, 100) g;
  CREATE TABLE leaf (id int PRIMARY KEY, code int REFERENCES child (code));`;

async function taken(
  version: ServerVersion,
  setup: string,
  sql: string,
  between: string,
): Promise<{ readonly database: FreshDatabase; readonly reported: string[] }> {
  const database = await freshDatabase(version, setup);
  const client = await database.client();
  await client.query('ANALYZE');
  const { steps, findings } = await planOn(client, sql, { archive: { to: 'old_rows' } });
  expect(findings.filter((f) => f.level === 'error')).toEqual([]);
  const early = steps.filter((s) => s.phase !== 'cleanup');
  await runSteps(client, early);
  await client.query(between);
  const reported: string[] = [];
  await undoSteps(client, early, { reported }, true);
  return { database, reported };
}

describeVersions('old rows go back', (version) => {
  describe.each([
    ['under triggers of the user, which sleep', `${SETUP}${TRIGGER}`],
    ['without triggers', SETUP],
  ])('%s', (_name, setup) => {
    test('deleted rows: not where their parent is gone or their key is taken', async () => {
      const { database, reported } = await taken(
        version,
        setup,
        'UPDATE child SET boss = NULL WHERE p IN (3, 5); UPDATE child SET boss = NULL WHERE boss % 10 IN (2, 4); DELETE FROM child WHERE p IN (3, 5)',
        'DELETE FROM parent WHERE id = 3; INSERT INTO child VALUES (4, 1, 1000, 77)',
      );
      try {
        expect(reported.some((line) => /child/.test(line) && /: 11$/.test(line))).toBe(true);
        expect(await database.query('SELECT FROM child c LEFT JOIN parent p ON p.id = c.p WHERE p.id IS NULL')).toEqual(
          [],
        );
        expect(
          await database.query(
            'SELECT FROM child c LEFT JOIN child b ON b.id = c.boss WHERE b.id IS NULL AND c.boss IS NOT NULL',
          ),
        ).toEqual([]);
        expect(await database.query('SELECT count(*)::int AS n FROM child')).toEqual([{ n: 90 }]);
        expect(await database.query('SELECT v FROM child WHERE id = 4')).toEqual([{ v: 77 }]);
      } finally {
        await database.drop();
      }
    });

    test('updated rows: a key only where it still points to something, and nothing that is pointed at', async () => {
      const { database, reported } = await taken(
        version,
        setup,
        'UPDATE child SET p = 1, v = 0 WHERE p = 3; UPDATE child SET code = code + 1000 WHERE id <= 10',
        'DELETE FROM parent WHERE id = 3; INSERT INTO leaf VALUES (1, 1007); UPDATE child SET v = 5 WHERE id = 12',
      );
      try {
        expect(reported.map((line) => line.replace(/^.*: /, '')).sort()).toEqual(['1', '10']);
        expect(await database.query('SELECT id, p, v FROM child WHERE id IN (2, 12) ORDER BY 1')).toEqual([
          { id: 2, p: 1, v: 2 },
          { id: 12, p: 1, v: 5 },
        ]);
        expect(await database.query('SELECT id, code FROM child WHERE id IN (6, 7) ORDER BY 1')).toEqual([
          { id: 6, code: 6 },
          { id: 7, code: 1007 },
        ]);
        expect(await database.query('SELECT FROM child c LEFT JOIN parent p ON p.id = c.p WHERE p.id IS NULL')).toEqual(
          [],
        );
      } finally {
        await database.drop();
      }
    });
  });
});
