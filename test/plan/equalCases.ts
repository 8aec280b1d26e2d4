/** One case for each row of what the planner promises; the comparison is in equal.test.ts. */
import type { SchemaMigrationInput } from '../../plan/model/plan';

export interface EqualCase {
  readonly name: string;
  readonly sql: string;
  readonly setup?: string;
  readonly extra?: Partial<Omit<SchemaMigrationInput, 'kind' | 'name' | 'database' | 'sql' | 'sqlFile'>>;
  /** What plain SQL says where the plan's own would not do (CONCURRENTLY and the like). */
  readonly plain?: string;
  /** First major version. */
  readonly from?: 15 | 18;
  /** 'forward' = has steps without a way back: not taken back. */
  readonly way?: 'forward';
  /** Schemas that stay on purpose (the archive). */
  readonly keeps?: string;
  /** Gives the same rows before and after the way back, where `values` cannot be compared whole (triggers fire). */
  readonly back?: string;
  /** 'change' = the way back leaves values that the change mended. */
  readonly values?: 'change';
  /** Planned as if every table were big. */
  readonly big?: boolean;
  /** A query that must give the same rows on both sides. */
  readonly rows?: string;
}

export const SETUP = `
  CREATE TABLE city (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
  INSERT INTO city (name) SELECT 'c' || g FROM generate_series(1, 10) g;
  CREATE TABLE customer (id int PRIMARY KEY, city_id int, name varchar(40) NOT NULL, email text, note text, score numeric(6,2) DEFAULT 0, created timestamptz DEFAULT now());
  INSERT INTO customer (id, city_id, name, email) SELECT g, g % 10 + 1, 'n' || g, 'e' || g FROM generate_series(1, 300) g;
  COMMENT ON COLUMN customer.name IS 'full name';
  CREATE INDEX customer_email ON customer (lower(email));
  COMMENT ON INDEX customer_email IS 'for logins';
  CREATE TABLE "Odd Table" ("Id" bigint, "Ünï codé" text);
  INSERT INTO "Odd Table" SELECT g, 'x' FROM generate_series(1, 20) g;
  CREATE TABLE event (id bigint NOT NULL, at date NOT NULL, kind text) PARTITION BY RANGE (at);
  CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
  CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
  INSERT INTO event SELECT g, '2026-01-01'::date + g, 'k' FROM generate_series(1, 300) g;
  CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := ''touched''; RETURN NEW; END';
  CREATE TRIGGER stamp BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION stamp();
`;

export const CASES: readonly EqualCase[] = [
  {
    name: 'rows of a parent by inheritance and of its child change once, and only where ONLY says so',
    setup: `CREATE TABLE heir (extra int) INHERITS (city); INSERT INTO heir SELECT g, 'h' || g, 0 FROM generate_series(1, 30) g;
      CREATE TABLE tally (id int, name text)`,
    sql: "UPDATE city SET name = name || '+'; UPDATE ONLY city SET name = name || '-'; INSERT INTO tally SELECT id, name FROM city",
    extra: { allow: [{ rule: 'no_way_back', reason: 'counted' }] },
    way: 'forward',
    rows: 'SELECT * FROM (SELECT id, name FROM city UNION ALL SELECT id, name FROM tally) r ORDER BY 1, 2',
    big: true,
  },
  {
    name: 'a view gets one more column and loses its options; both come back',
    setup:
      "CREATE VIEW names WITH (security_barrier = true) AS SELECT id, name FROM customer; GRANT SELECT ON names TO PUBLIC; COMMENT ON VIEW names IS 'n'; ALTER VIEW names ALTER name SET DEFAULT 'x'",
    sql: 'CREATE OR REPLACE VIEW names AS SELECT id, name, email FROM customer WHERE id > 3',
  },
  {
    name: 'rows change, then the type of their column: the archive has the columns of its own time',
    setup: 'ALTER TABLE customer DISABLE TRIGGER stamp',
    sql: "UPDATE customer SET score = 5 WHERE id < 50; ALTER TABLE customer ALTER score TYPE numeric(8,4), ADD tier text NOT NULL DEFAULT 'b'",
    extra: { archive: { to: 'kept' } },
    keeps: 'kept',
    rows: 'SELECT id, score, tier FROM customer ORDER BY 1',
    big: true,
  },
  {
    name: 'rows that a WITH names',
    setup: 'ALTER TABLE customer DISABLE TRIGGER stamp',
    sql: "WITH few AS (SELECT id FROM city WHERE id < 4) UPDATE customer SET note = 'few' FROM few WHERE few.id = city_id; WITH few AS (SELECT id FROM city WHERE id = 9) DELETE FROM customer WHERE city_id IN (SELECT id FROM few)",
    extra: { archive: { to: 'kept' } },
    keeps: 'kept',
    rows: 'SELECT id, note FROM customer ORDER BY 1',
  },
  {
    name: 'rows of a partition that has its columns in another order',
    setup: `CREATE TABLE part (kind text, at date NOT NULL, id bigint NOT NULL); ALTER TABLE event ATTACH PARTITION part FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
      INSERT INTO event SELECT g, '2027-02-01'::date + g, 'k' FROM generate_series(1, 100) g; ALTER TABLE event ADD PRIMARY KEY (id, at)`,
    sql: "UPDATE event SET kind = 'new' WHERE id % 2 = 0; DELETE FROM event WHERE id % 3 = 0",
    extra: { archive: { to: 'kept' } },
    keeps: 'kept',
    rows: 'SELECT id, at, kind FROM event ORDER BY 1, 2',
    big: true,
  },
  {
    name: 'a row that is deleted has the columns that this plan drops later',
    setup:
      "ALTER TABLE customer DISABLE TRIGGER stamp; UPDATE customer SET note = 'n' || id; ALTER TABLE customer ALTER note SET NOT NULL",
    sql: 'ALTER TABLE customer DROP COLUMN note; DELETE FROM customer WHERE id % 2 = 0',
    extra: { archive: { to: 'kept' } },
    keeps: 'kept',
    rows: 'SELECT id, name FROM customer ORDER BY 1',
  },
  {
    name: 'a new table takes the name of another',
    sql: 'CREATE TABLE city_new (LIKE city INCLUDING ALL); INSERT INTO city_new OVERRIDING SYSTEM VALUE SELECT * FROM city; ALTER TABLE city RENAME TO city_old; ALTER TABLE city_new RENAME TO city',
    extra: { allow: [{ rule: 'rename', reason: 'quiet' }] },
    rows: 'SELECT id, name FROM city ORDER BY 1',
  },
  { name: 'add a nullable column', sql: 'ALTER TABLE customer ADD COLUMN tier text' },
  {
    name: 'add a column with a constant default',
    sql: "ALTER TABLE customer ADD tier text NOT NULL DEFAULT 'basic'",
    rows: 'SELECT id, tier FROM customer ORDER BY 1',
  },
  {
    name: 'add a column with a volatile default',
    sql: 'ALTER TABLE customer ADD COLUMN token uuid DEFAULT gen_random_uuid() NOT NULL',
    rows: 'SELECT count(token), count(DISTINCT token), count(note) FROM customer',
  },
  {
    name: 'add a unique column with a volatile default',
    sql: 'ALTER TABLE customer ADD COLUMN token uuid UNIQUE DEFAULT gen_random_uuid()',
  },
  { name: 'add a column with a check', sql: 'ALTER TABLE customer ADD COLUMN age int DEFAULT 18 CHECK (age >= 18)' },
  {
    name: 'add a column with a foreign key',
    sql: 'ALTER TABLE customer ADD COLUMN birth_city int REFERENCES city ON DELETE SET NULL',
  },
  {
    name: 'add a column with a default and a foreign key',
    sql: 'ALTER TABLE customer ADD COLUMN birth_city int DEFAULT 1 REFERENCES city(id)',
  },
  {
    name: 'add a serial column',
    sql: 'ALTER TABLE "Odd Table" ADD COLUMN "N" serial',
    rows: 'SELECT count(DISTINCT "N"), max("N") FROM "Odd Table"',
  },
  { name: 'add a bigserial primary key', sql: 'ALTER TABLE "Odd Table" ADD COLUMN n bigserial PRIMARY KEY' },
  {
    name: 'add an identity column',
    sql: 'ALTER TABLE "Odd Table" ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY',
    rows: 'SELECT count(DISTINCT n), max(n) FROM "Odd Table"',
  },
  {
    name: 'add an identity primary key',
    sql: 'ALTER TABLE "Odd Table" ADD COLUMN n int GENERATED BY DEFAULT AS IDENTITY (START WITH 100 INCREMENT BY 5) PRIMARY KEY',
    rows: 'SELECT max(n) FROM "Odd Table"',
  },
  {
    name: 'add a virtual column',
    sql: 'ALTER TABLE customer ADD COLUMN shout text GENERATED ALWAYS AS (upper(name)) VIRTUAL',
    from: 18,
  },
  {
    name: 'several commands in one statement',
    sql: "ALTER TABLE customer ADD COLUMN a int, ADD COLUMN b text DEFAULT 'x', ALTER COLUMN email SET DEFAULT '-', ALTER note SET NOT NULL, ADD CHECK (id > 0)",
    setup: "UPDATE customer SET note = ''",
  },
  {
    name: 'set and drop defaults',
    sql: "ALTER TABLE customer ALTER score DROP DEFAULT, ALTER email SET DEFAULT lower('A')",
  },
  { name: 'set not null', sql: 'ALTER TABLE customer ALTER COLUMN city_id SET NOT NULL' },
  {
    name: 'set not null, filled',
    values: 'change',
    back: 'SELECT id, email FROM customer ORDER BY 1',
    keeps: 'pgshift',
    sql: 'ALTER TABLE customer ALTER COLUMN email SET NOT NULL',
    setup: 'CREATE SCHEMA pgshift; UPDATE customer SET email = NULL WHERE id < 9',
    plain:
      "UPDATE customer SET email = 'none' WHERE email IS NULL; ALTER TABLE customer ALTER COLUMN email SET NOT NULL",
    extra: { transforms: { 'customer.email': { up: "coalesce(email, 'none')", down: 'email' } } },
    rows: 'SELECT id, email FROM customer ORDER BY 1',
  },
  {
    name: 'a check whose rows are mended',
    values: 'change',
    back: 'SELECT id, score FROM customer ORDER BY 1',
    keeps: 'pgshift',
    sql: 'ALTER TABLE customer ADD CONSTRAINT positive CHECK (score > 0)',
    setup: 'CREATE SCHEMA pgshift; UPDATE customer SET score = 7 WHERE id > 100',
    plain:
      'UPDATE customer SET score = 1 WHERE score <= 0; ALTER TABLE customer ADD CONSTRAINT positive CHECK (score > 0)',
    extra: { transforms: { 'customer.score': { up: 'CASE WHEN score > 0 THEN score ELSE 1 END', down: 'score' } } },
    rows: 'SELECT id, score FROM customer ORDER BY 1',
  },
  { name: 'drop not null', sql: 'ALTER TABLE customer ALTER COLUMN name DROP NOT NULL' },
  { name: 'create an index without a name', sql: 'CREATE INDEX ON customer (created)' },
  {
    name: 'create an index in full',
    sql: `CREATE INDEX ON customer USING btree (lower(name) COLLATE "C" text_pattern_ops DESC NULLS LAST, score) INCLUDE (email) WITH (fillfactor = 70) WHERE score > 3`,
  },
  { name: 'create a unique index', sql: 'CREATE UNIQUE INDEX u ON customer (email) NULLS NOT DISTINCT' },
  {
    name: 'create an index that is there',
    sql: 'CREATE INDEX IF NOT EXISTS customer_email ON customer (lower(email))',
  },
  {
    name: 'create an index of odd names',
    sql: 'CREATE INDEX ON "Odd Table" ("Ünï codé", ("Id" + 1), ("Id" * 2), coalesce("Id", 1))',
  },
  { name: 'create a gin index', sql: "CREATE INDEX ON customer USING gin (to_tsvector('simple', name))" },
  { name: 'create an index on a partitioned table', sql: 'CREATE INDEX ON event (kind)' },
  { name: 'drop an index', sql: 'DROP INDEX customer_email' },
  {
    name: 'add a check',
    sql: 'ALTER TABLE customer ADD CHECK (score >= 0), ADD CONSTRAINT two CHECK (score >= 0 AND id > 0)',
  },
  { name: 'add a foreign key', sql: 'ALTER TABLE customer ADD FOREIGN KEY (city_id) REFERENCES city' },
  {
    name: 'add a deferrable foreign key',
    sql: 'ALTER TABLE customer ADD CONSTRAINT fk FOREIGN KEY (city_id) REFERENCES city (id) ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED',
  },
  { name: 'add a unique constraint', sql: 'ALTER TABLE customer ADD UNIQUE (email, name) INCLUDE (score)' },
  { name: 'add a primary key', sql: 'ALTER TABLE "Odd Table" ADD PRIMARY KEY ("Id")' },
  {
    name: 'drop a check and a foreign key',
    sql: 'ALTER TABLE customer DROP CONSTRAINT ck, DROP CONSTRAINT fk',
    setup:
      "ALTER TABLE customer ADD CONSTRAINT ck CHECK (id > 0), ADD CONSTRAINT fk FOREIGN KEY (city_id) REFERENCES city; COMMENT ON CONSTRAINT ck ON customer IS 'why'",
  },
  {
    name: 'drop a unique constraint',
    sql: 'ALTER TABLE customer DROP CONSTRAINT uq',
    setup: "ALTER TABLE customer ADD CONSTRAINT uq UNIQUE (email); COMMENT ON CONSTRAINT uq ON customer IS 'one each'",
  },
  {
    name: 'exchange a primary key',
    sql: 'ALTER TABLE customer DROP CONSTRAINT customer_pkey, ADD PRIMARY KEY (email)',
    plain: 'ALTER TABLE customer DROP CONSTRAINT customer_pkey; ALTER TABLE customer ADD PRIMARY KEY (email)',
  },
  { name: 'drop a column', sql: 'ALTER TABLE customer DROP COLUMN email' },
  {
    name: 'drop a column that is NOT NULL and constrained',
    sql: 'ALTER TABLE customer DROP COLUMN name',
    setup: 'ALTER TABLE customer ADD CHECK (length(name) > 0), ADD UNIQUE (name)',
  },
  {
    name: 'drop a column with a foreign key',
    sql: 'ALTER TABLE customer DROP city_id',
    setup: 'ALTER TABLE customer ADD FOREIGN KEY (city_id) REFERENCES city',
  },
  { name: 'widen a varchar', sql: 'ALTER TABLE customer ALTER name TYPE varchar(80)' },
  { name: 'widen a varchar to text', sql: 'ALTER TABLE customer ALTER name TYPE text' },
  { name: 'widen a numeric', sql: 'ALTER TABLE customer ALTER score TYPE numeric(12,2)' },
  {
    name: 'change a type that rewrites',
    sql: 'ALTER TABLE customer ALTER score TYPE numeric(12,4)',
    rows: 'SELECT id, score::text FROM customer ORDER BY 1',
  },
  {
    name: 'change a type and index it',
    sql: 'ALTER TABLE customer ALTER score TYPE numeric(12,4); CREATE INDEX ON customer (score)',
  },
  {
    name: 'table settings',
    sql: 'ALTER TABLE customer SET (fillfactor = 80, autovacuum_enabled = false), ALTER name SET STATISTICS 300, REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY',
  },
  {
    name: 'change the type of an indexed column',
    sql: 'ALTER TABLE customer ALTER score TYPE numeric(12,4)',
    setup: 'CREATE INDEX ON customer (score, name)',
  },
  {
    name: 'rename under allow',
    sql: 'ALTER TABLE customer RENAME COLUMN note TO remark; ALTER TABLE city RENAME TO town; ALTER INDEX customer_email RENAME TO email_of_customer',
    extra: { allow: [{ rule: 'rename', reason: 'no clients' }] },
  },
  { name: 'drop a table', sql: 'DROP TABLE city', setup: 'CREATE INDEX ON city (name)' },
  {
    name: 'drop a table with foreign keys',
    sql: 'DROP TABLE visit',
    setup: 'CREATE TABLE visit (id int PRIMARY KEY, c int REFERENCES customer, t int REFERENCES city DEFERRABLE)',
  },
  {
    name: 'drop a view, a function, a type, a sequence',
    sql: 'DROP VIEW v; DROP FUNCTION f(int); DROP TYPE mood; DROP SEQUENCE s',
    setup:
      "CREATE VIEW v AS SELECT id FROM customer; CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1'; CREATE TYPE mood AS ENUM ('a'); CREATE SEQUENCE s; COMMENT ON VIEW v IS 'x'",
  },
  {
    name: 'drop a trigger and a policy',
    sql: 'DROP TRIGGER stamp ON customer; DROP POLICY p ON customer',
    setup: 'CREATE POLICY p ON customer USING (id > 1); ALTER TABLE customer ENABLE ALWAYS TRIGGER stamp',
  },
  {
    name: 'create a table and what hangs on it',
    sql: "CREATE TABLE tag (id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customer, label text DEFAULT 'x' CHECK (label <> '')); CREATE INDEX ON tag (label); ALTER TABLE tag ADD COLUMN n int NOT NULL DEFAULT random(); ALTER TABLE tag ADD UNIQUE (label, n); COMMENT ON TABLE tag IS 'tags'; GRANT SELECT ON tag TO PUBLIC; INSERT INTO tag (customer_id, label) SELECT id, 'l' || id FROM customer",
    rows: 'SELECT count(*) FROM tag',
  },
  {
    name: 'create a table as',
    sql: 'CREATE TABLE active AS SELECT id, lower(name) AS n FROM customer WHERE id > 10; CREATE UNIQUE INDEX ON active (id)',
    rows: 'SELECT count(*), min(n) FROM active',
  },
  {
    name: 'create a partition',
    sql: "CREATE TABLE event_3 PARTITION OF event FOR VALUES FROM ('2027-01-01') TO ('2028-01-01'); CREATE INDEX ON event (id)",
  },
  {
    name: 'create types, functions, triggers, views, schemas',
    sql: "CREATE SCHEMA extra; CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE FUNCTION extra.f(a int, VARIADIC b int[] DEFAULT '{}') RETURNS int LANGUAGE sql AS 'SELECT a'; CREATE TRIGGER late AFTER INSERT ON customer FOR EACH ROW EXECUTE FUNCTION stamp(); CREATE VIEW v AS SELECT * FROM customer; CREATE MATERIALIZED VIEW m AS SELECT id FROM customer; CREATE UNIQUE INDEX ON m (id); CREATE SEQUENCE extra.s START 7; CREATE STATISTICS st ON city_id, name FROM customer; CREATE POLICY p ON customer FOR SELECT USING (true); CREATE RULE r AS ON DELETE TO city DO INSTEAD NOTHING",
  },
  {
    name: 'replace a function, a view, a trigger',
    sql: "CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE OR REPLACE VIEW v AS SELECT id FROM customer WHERE id > 5; CREATE OR REPLACE TRIGGER stamp BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION stamp()",
    setup:
      "CREATE VIEW v AS SELECT id FROM customer; COMMENT ON FUNCTION stamp() IS 'why'; CREATE FUNCTION stamp(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
  },
  {
    name: 'comments and grants',
    sql: "COMMENT ON COLUMN customer.name IS 'new'; COMMENT ON TABLE customer IS 'c'; COMMENT ON INDEX customer_email IS NULL; GRANT SELECT, UPDATE ON customer TO PUBLIC; REVOKE ALL ON city FROM PUBLIC; GRANT USAGE ON SEQUENCE city_id_seq TO PUBLIC",
    setup: 'GRANT SELECT ON city TO PUBLIC; GRANT UPDATE ON customer TO PUBLIC',
  },
  { name: 'sequences', sql: 'ALTER SEQUENCE city_id_seq INCREMENT BY 10 CACHE 5' },
  {
    name: 'update in batches with an archive',
    sql: "UPDATE customer c SET email = upper(email) WHERE city_id = 3; DELETE FROM customer WHERE id > 290; INSERT INTO city (name) VALUES ('new')",
    setup: 'CREATE SCHEMA pgshift',
    extra: { archive: { to: 'kept' } },
    keeps: 'kept, pgshift',
    rows: 'SELECT id, email, note FROM customer ORDER BY 1',
  },
  {
    name: 'reindex and refresh',
    sql: 'REINDEX TABLE customer; REFRESH MATERIALIZED VIEW CONCURRENTLY m',
    plain: 'REINDEX TABLE customer',
    setup: 'CREATE MATERIALIZED VIEW m AS SELECT id FROM customer; CREATE UNIQUE INDEX ON m (id)',
  },
  {
    name: 'alter type add value',
    sql: "ALTER TYPE mood ADD VALUE 'c' AFTER 'a'",
    setup: "CREATE TYPE mood AS ENUM ('a', 'b')",
    extra: { allow: [{ rule: 'no_way_back', reason: 'wanted' }] },
    way: 'forward',
  },
  {
    name: 'vacuum full under allow',
    sql: 'VACUUM FULL customer',
    plain: 'SELECT 1',
    extra: {
      allow: [
        { rule: 'vacuum_full', reason: 'quiet' },
        { rule: 'no_way_back', reason: 'quiet' },
      ],
    },
    way: 'forward',
  },
  {
    name: 'update, delete and insert in batches',
    big: true,
    sql: `UPDATE customer SET email = upper(email), score = score + 1 WHERE city_id = 3; UPDATE customer c SET note = t.name FROM city t WHERE t.id = c.city_id AND c.id < 50; DELETE FROM customer AS x USING city t WHERE t.id = x.city_id AND t.name = 'c9' AND x.id > 250; INSERT INTO city (name) SELECT 'of ' || c.name FROM customer c LEFT JOIN city ON city.id = -1 WHERE c.id < 5; UPDATE event SET kind = 'z' WHERE id % 2 = 0`,
    setup: 'CREATE SCHEMA pgshift; ALTER TABLE event ADD PRIMARY KEY (id, at)',
    extra: { archive: { to: 'kept' } },
    keeps: 'kept, pgshift',
    rows: 'SELECT id, email, note, score FROM customer ORDER BY 1',
  },
  {
    name: 'fill a new table in batches',
    big: true,
    sql: 'CREATE TABLE active AS SELECT c.id, lower(c.name) AS n, c.score * 2 AS double FROM customer c WHERE c.id > 10; CREATE TABLE totals (city_id int PRIMARY KEY, n bigint); INSERT INTO totals SELECT city_id, count(*) FROM customer GROUP BY 1; CREATE INDEX ON active (n)',
    rows: 'SELECT count(*), min(n), (SELECT sum(n) FROM totals) FROM active',
  },
  {
    name: 'add a column in batches on a partitioned table',
    big: true,
    sql: 'ALTER TABLE event ADD COLUMN u uuid NOT NULL DEFAULT gen_random_uuid(), ALTER kind SET NOT NULL, ADD CHECK (id > 0)',
  },
  {
    name: 'settings of things that the plan makes',
    sql: "CREATE TYPE mood AS ENUM ('a'); COMMENT ON TYPE mood IS 'm'; CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON FUNCTION g() IS 'x'; REVOKE ALL ON FUNCTION g() FROM PUBLIC; CREATE SCHEMA extra; GRANT USAGE ON SCHEMA extra TO PUBLIC; CREATE SEQUENCE s; GRANT USAGE ON SEQUENCE s TO PUBLIC",
  },
  {
    name: 'names that Postgres chooses',
    sql: `CREATE INDEX ON customer ((CASE WHEN id > 3 THEN 'a' ELSE name END), (name || email), (score::int), coalesce(email, name), greatest(id, 1), (id IS NULL), ((email COLLATE "C")), (nullif(id, 1))); CREATE INDEX ON customer (note) INCLUDE (score, email); CREATE INDEX ON customer (lower(name), lower(email)); CREATE INDEX ON customer (note); CREATE INDEX ON customer (note); ALTER TABLE customer ADD UNIQUE (id, email), ADD CHECK (id > 0 AND id < 9999), ADD CHECK (id > 0), ADD CHECK (id <> score), ADD FOREIGN KEY (city_id) REFERENCES city, ADD FOREIGN KEY (city_id) REFERENCES city`,
  },
  {
    name: 'constraints in every shape',
    from: 18,
    sql: 'ALTER TABLE customer ADD CONSTRAINT g FOREIGN KEY (city_id) REFERENCES city NOT ENFORCED, ADD CONSTRAINT h CHECK (id > 0) NOT ENFORCED, ADD CONSTRAINT i CHECK (id > 0) NO INHERIT, ADD CONSTRAINT j NOT NULL email, ADD CONSTRAINT k CHECK (id > 5) NOT VALID, ADD CONSTRAINT l UNIQUE NULLS NOT DISTINCT (email, name) INCLUDE (score) WITH (fillfactor = 70) DEFERRABLE INITIALLY DEFERRED, ADD CONSTRAINT m FOREIGN KEY (city_id) REFERENCES city (id) MATCH FULL ON DELETE SET NULL (city_id) DEFERRABLE',
  },
  {
    name: 'added, mapped, required and indexed',
    sql: 'ALTER TABLE customer ADD COLUMN level int; UPDATE customer SET level = CASE WHEN score > 1 THEN 2 ELSE 1 END; ALTER TABLE customer ALTER COLUMN level SET NOT NULL; CREATE INDEX ON customer (level)',
    values: 'change',
    rows: 'SELECT id, level FROM customer ORDER BY 1',
  },
  {
    name: 'a column that is there becomes an identity',
    sql: 'ALTER TABLE city ALTER COLUMN id DROP IDENTITY; ALTER TABLE customer ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (START 301)',
    extra: { allow: [{ rule: 'no_way_back', reason: 'wanted' }] },
    way: 'forward',
  },
  {
    name: 'a composite type gets an attribute',
    setup: 'CREATE TYPE pair AS (a int, b text)',
    sql: 'ALTER TYPE pair ADD ATTRIBUTE c date',
    extra: { allow: [{ rule: 'no_way_back', reason: 'wanted' }] },
    way: 'forward',
  },
];
