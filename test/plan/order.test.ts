/** Statements that may not change places: what would run on the wrong side of an earlier statement is refused, everything else is not. */
import { schemaMigrationSchema } from '../../plan/model/plan';
import { loadParser } from '../../plan/sql/parse';
import { planMigration } from '../../plan/sql/planner';
import type { Catalog } from '../../plan/model/catalog';
import { catalogFor } from '../support/catalogFor';

let catalog: Catalog;

beforeAll(async () => {
  await loadParser();
  catalog = await catalogFor(`
    CREATE TABLE t (id int PRIMARY KEY, x int DEFAULT 1, y text, n numeric(10,2));
    CREATE UNIQUE INDEX t_n ON t (n);
    CREATE VIEW v AS SELECT id, n AS amount FROM t;
    CREATE TABLE other (id int PRIMARY KEY, x int, y text, n numeric);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FUNCTION g(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
    CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();`);
});

const rulesOf = async (sql: string): Promise<string[]> => {
  const allow = ['rename', 'no_way_back'].map((rule) => ({ rule, reason: 'asked' }));
  const plan = schemaMigrationSchema.parse({
    kind: 'schema-migration',
    name: 't',
    database: 'app',
    sql,
    allow,
    archive: { to: 'old_rows' },
  });
  return (await planMigration(plan, catalog)).findings
    .filter((f) => f.level === 'error' && !f.allowed)
    .map((f) => f.rule);
};

const TYPE = 'ALTER TABLE t ALTER n TYPE numeric(14,4)';

describe('refused', () => {
  it.each([
    ['a change of type, then rows with the new type', `${TYPE}; UPDATE t SET n = n / 3`],
    ['then a condition over it', `${TYPE}; DELETE FROM t WHERE n > 5`],
    ['then rows without column names', `${TYPE}; INSERT INTO t VALUES (1, 1, '1', 1.2345)`],
    ['then a table made of it', `${TYPE}; CREATE TABLE c AS SELECT id, n FROM t`],
    ['then a table made of every column', `${TYPE}; CREATE TABLE c AS SELECT * FROM t`],
    ['then a whole row', `${TYPE}; CREATE TABLE c AS SELECT to_jsonb(t) FROM t`],
    ['then LIKE', `${TYPE}; CREATE TABLE c (LIKE t INCLUDING ALL)`],
    ['then a view', `${TYPE}; CREATE VIEW w AS SELECT id, n FROM t`],
    ['then a view over a view of it', `${TYPE}; CREATE VIEW w AS SELECT * FROM v`],
    ['then a generated column', `${TYPE}; ALTER TABLE t ADD m numeric GENERATED ALWAYS AS (n * 2) VIRTUAL`],
    ['of a key, then a key to it', 'ALTER TABLE t ALTER id TYPE bigint; CREATE TABLE c (t_id bigint REFERENCES t)'],
    ['then a rename of the column', `${TYPE}; ALTER TABLE t RENAME n TO m`],
    ['then a rename of another column', `${TYPE}; ALTER TABLE t RENAME x TO m`],
    ['then a rename of the table', `${TYPE}; ALTER TABLE t RENAME TO u`],
    ['twice', `${TYPE}; ALTER TABLE t ALTER n TYPE numeric(15,5)`],
    ['a column dropped, then rows without names', 'ALTER TABLE t DROP COLUMN x; INSERT INTO t VALUES (1, $$y$$, 1)'],
    ['a column dropped, then *', 'ALTER TABLE t DROP COLUMN x; CREATE VIEW w AS SELECT * FROM t'],
    ['a trigger dropped, then rows', 'DROP TRIGGER touch ON t; UPDATE t SET x = 1'],
    ['a unique index dropped, then rows', 'DROP INDEX t_n; INSERT INTO t (id, n) SELECT id + 9, n FROM t'],
    ['rows, then a trigger', 'UPDATE t SET x = 1; CREATE TRIGGER u BEFORE UPDATE ON t EXECUTE FUNCTION touch()'],
    [
      'a trigger off for rows',
      'ALTER TABLE t DISABLE TRIGGER touch; UPDATE t SET x = 1; ALTER TABLE t ENABLE TRIGGER touch',
    ],
    [
      'rows by a function, then another body',
      "UPDATE t SET x = g(x); CREATE OR REPLACE FUNCTION g(int) RETURNS int LANGUAGE sql AS 'SELECT 2'",
    ],
    ['rows under a default, then another', 'INSERT INTO t (id) VALUES (5000); ALTER TABLE t ALTER x SET DEFAULT 5'],
    ['rows, then a table of them', 'UPDATE t SET x = 1; CREATE TABLE c AS SELECT id, x FROM t'],
    ['rows, then a view of them', 'UPDATE t SET x = 1; CREATE MATERIALIZED VIEW c AS SELECT amount FROM v'],
    [
      'values filled later, then a table of them',
      'ALTER TABLE t ADD u uuid DEFAULT gen_random_uuid(); CREATE TABLE c AS SELECT id, u FROM t',
    ],
    ['rows by *, then a column', 'INSERT INTO other SELECT * FROM t; ALTER TABLE t ADD z int'],
  ])('%s', async (_name, sql) => {
    expect(await rulesOf(sql)).toContain('separate_migration');
  });
});

describe('in one plan', () => {
  it.each([
    ['rows, then a change of type', `UPDATE t SET n = 1; ${TYPE}`],
    ['a change of type and rows of other columns', `${TYPE}; UPDATE t SET x = t.x + 1 WHERE y = 'n'`],
    [
      'a change of type, index, default, check, NOT NULL',
      `${TYPE}; CREATE INDEX ON t (n); ALTER TABLE t ALTER n SET DEFAULT 1, ALTER n SET NOT NULL, ADD CHECK (n > 0)`,
    ],
    ['a change of type and a view of other columns', `${TYPE}; CREATE VIEW w AS SELECT id, x FROM t`],
    [
      'a column added, filled, required, indexed',
      'ALTER TABLE t ADD z text; UPDATE t SET z = y; ALTER TABLE t ALTER z SET NOT NULL; CREATE INDEX ON t (z); ALTER TABLE t DROP COLUMN y',
    ],
    [
      'a function, then rows by it',
      "CREATE FUNCTION h(int) RETURNS int LANGUAGE sql AS 'SELECT 2'; UPDATE t SET x = h(x)",
    ],
    ['a trigger, then rows', 'CREATE TRIGGER u BEFORE UPDATE ON t EXECUTE FUNCTION touch(); UPDATE t SET x = 1'],
    ['a default, then rows', 'ALTER TABLE t ALTER x SET DEFAULT 5; INSERT INTO t (id) VALUES (5000)'],
    [
      'rows that name the column, then its default',
      'INSERT INTO t (id, x) VALUES (5000, 2); ALTER TABLE t ALTER x SET DEFAULT 5',
    ],
    ['rows without names, then a column', "INSERT INTO t VALUES (5000, 1, 'y', 2); ALTER TABLE t ADD z int"],
    ['two tables that exchange names', 'ALTER TABLE t RENAME TO t_old; ALTER TABLE other RENAME TO t'],
  ])('%s', async (_name, sql) => {
    expect(await rulesOf(sql)).toEqual([]);
  });
});
