/** Each change of a plan is explained by its own lines, and a thing left behind is explained by none. */
import type { Client } from 'pg';
import { fingerprintCatalog } from '../../../postgres/catalog/diff';
import { catalogDiffLines } from '../../../postgres/catalog/report';
import { describeVersions, freshDatabase } from '../../support/database';
import type { FreshDatabase } from '../../support/database';

const SHOP = `
  CREATE TYPE mood AS ENUM ('sad', 'happy');
  CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, "Full Name" text, fax text, mood mood, CHECK (fax <> name));
  CREATE INDEX customer_fax ON customer (fax, name);
  CREATE STATISTICS customer_stats ON fax, name FROM customer;
  CREATE TABLE payment (id int NOT NULL, customer_id int NOT NULL, amount numeric(10,2) NOT NULL DEFAULT 0 CHECK (amount >= 0), note text);
  CREATE INDEX payment_amount ON payment (amount) WHERE amount > 5;
  CREATE INDEX payment_amount_only ON payment (amount DESC) WITH (fillfactor = 70);
  CREATE VIEW big AS SELECT id, amount, amount * 2 AS twice FROM payment WHERE amount > 100;
  COMMENT ON COLUMN payment.amount IS 'euros';
  GRANT SELECT (amount) ON payment TO PUBLIC;
  CREATE TABLE measure (at date NOT NULL, v int) PARTITION BY RANGE (at);
  CREATE TABLE measure_2020 PARTITION OF measure FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
  CREATE INDEX ON measure (v);
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
`;

type Case = readonly [what: string, sql: string, asked: readonly string[], other?: readonly string[]];

/** On a fresh copy of SHOP each, so that a case can leave what it likes. */
const CASES: readonly Case[] = [
  ['nothing', 'SELECT 1', []],
  ['a column', `ALTER TABLE payment ADD tier text NOT NULL DEFAULT 'basic'`, ['+ column public.payment.tier']],
  ['a quoted column', 'ALTER TABLE customer ADD "Other Name" text', ['+ column public.customer."Other Name"']],
  ['a serial column', 'ALTER TABLE payment ADD number serial', ['+ column public.payment.number']],
  [
    'an identity column',
    'ALTER TABLE payment ADD number int GENERATED ALWAYS AS IDENTITY',
    ['+ column public.payment.number'],
  ],
  [
    'a column of a partitioned table',
    'ALTER TABLE measure ADD w int NOT NULL DEFAULT 1',
    ['+ column public.measure.w'],
  ],
  [
    'a column and a check that was left behind',
    `ALTER TABLE payment ADD tier text; ALTER TABLE payment ADD CONSTRAINT pgshift_not_null CHECK (tier IS NOT NULL) NOT VALID`,
    ['+ column public.payment.tier'],
    ['+ constraint pgshift_not_null on public.payment'],
  ],
  [
    'a column with all its own',
    'ALTER TABLE payment ADD c int UNIQUE REFERENCES customer (id)',
    [
      '+ column public.payment.c',
      '+ constraint payment_c_key on public.payment',
      '+ constraint payment_c_fkey on public.payment',
    ],
  ],
  ['a dropped column with what goes with it', 'ALTER TABLE customer DROP fax', ['- column public.customer.fax']],
  ['a dropped column with a space', 'ALTER TABLE customer DROP "Full Name"', ['- column public.customer."Full Name"']],
  ['an index', 'CREATE INDEX i ON payment (note, lower(note))', ['+ index public.i']],
  ['an index on a partitioned table', 'CREATE INDEX i ON measure (at)', ['+ index public.i']],
  [
    'an index more than asked',
    'CREATE INDEX i ON payment (note); CREATE INDEX j ON payment (note)',
    ['+ index public.i'],
    ['+ index public.j'],
  ],
  ['a dropped index', 'DROP INDEX payment_amount', ['- index public.payment_amount']],
  [
    'a foreign key',
    'ALTER TABLE payment ADD CONSTRAINT fk FOREIGN KEY (customer_id) REFERENCES customer',
    ['+ constraint fk on public.payment'],
  ],
  [
    'a foreign key that is not valid',
    'ALTER TABLE payment ADD CONSTRAINT fk FOREIGN KEY (customer_id) REFERENCES customer NOT VALID',
    ['+ constraint fk on public.payment'],
  ],
  ['a primary key', 'ALTER TABLE payment ADD CONSTRAINT pk PRIMARY KEY (id)', ['+ constraint pk on public.payment']],
  [
    'a primary key that makes NOT NULL',
    'ALTER TABLE payment ADD CONSTRAINT pk PRIMARY KEY (note)',
    ['+ constraint pk on public.payment'],
  ],
  [
    'a dropped constraint',
    'ALTER TABLE payment DROP CONSTRAINT payment_amount_check',
    ['- constraint payment_amount_check on public.payment'],
  ],
  [
    'another type',
    `DROP VIEW big; ALTER TABLE payment ALTER amount TYPE numeric(14,4);
    CREATE VIEW big AS SELECT id, amount, amount * 2 AS twice FROM payment WHERE amount > 100`,
    ['~ column public.payment.amount: numeric(10,2) -> numeric(14,4)'],
  ],
  [
    'quite another type',
    `DROP VIEW big; ALTER TABLE payment ALTER amount TYPE bigint;
    CREATE VIEW big AS SELECT id, amount, amount * 2 AS twice FROM payment WHERE amount > 100`,
    ['~ column public.payment.amount: numeric(10,2) -> bigint'],
  ],
  [
    'another type in partitions',
    'ALTER TABLE measure ALTER v TYPE bigint',
    ['~ column public.measure.v: integer -> bigint'],
  ],
  [
    'another type of a key',
    'ALTER TABLE customer ALTER id TYPE bigint',
    ['~ column public.customer.id: integer -> bigint'],
  ],
  [
    'another type, with what was lost on the way',
    `DROP VIEW big; ALTER TABLE payment ALTER amount TYPE numeric(14,4);
    COMMENT ON COLUMN payment.amount IS NULL; REVOKE SELECT (amount) ON payment FROM PUBLIC; DROP INDEX payment_amount_only; CREATE INDEX payment_amount_only ON payment (amount) WITH (fillfactor = 70)`,
    ['~ column public.payment.amount: numeric(10,2) -> numeric(14,4)'],
    [
      '- comment on public.payment.amount',
      '~ column public.payment.amount: attacl ["=r/postgres"] -> nothing',
      '~ index public.payment_amount_only: indoption [3] -> [0], indexprs differs',
      '- view public.big',
    ],
  ],
  ['a default', 'ALTER TABLE payment ALTER amount SET DEFAULT 1', ['~ column public.payment.amount: set_default']],
  [
    'a new default',
    'ALTER TABLE payment ALTER note SET DEFAULT now()::text',
    ['~ column public.payment.note: set_default'],
  ],
  [
    'a default, not a comment',
    `ALTER TABLE payment ALTER amount SET DEFAULT 1; COMMENT ON COLUMN payment.amount IS 'x'`,
    ['~ column public.payment.amount: set_default'],
    ['~ comment on public.payment.amount: description differs'],
  ],
  ['SET NOT NULL', 'ALTER TABLE payment ALTER note SET NOT NULL', ['~ column public.payment.note: set_not_null']],
  [
    'DROP NOT NULL',
    'ALTER TABLE payment ALTER customer_id DROP NOT NULL',
    ['~ column public.payment.customer_id: drop_not_null'],
  ],
  [
    'a statistics target',
    'ALTER TABLE payment ALTER note SET STATISTICS 7',
    ['~ column public.payment.note: set_statistics'],
  ],
  ['a comment', `COMMENT ON TABLE payment IS 'x'`, ['~ table public.payment: comment']],
  ['a grant', 'GRANT SELECT ON payment TO pg_monitor', ['~ table public.payment: grant']],
  ['a column grant', 'GRANT UPDATE (note) ON payment TO pg_monitor', ['~ column public.payment.note: grant']],
  ['table options', 'ALTER TABLE payment SET (fillfactor = 50)', ['~ table public.payment: set_options']],
  ['row security', 'ALTER TABLE payment ENABLE ROW LEVEL SECURITY', ['~ table public.payment: enable_row_security']],
  [
    'a table',
    'CREATE TABLE flag (name text PRIMARY KEY, id serial, c int REFERENCES customer (id), CHECK (id > 0)); CREATE INDEX ON flag (c)',
    ['+ table public.flag'],
  ],
  ['a dropped table', 'DROP TABLE customer', ['- table public.customer']],
  ['a view', 'CREATE VIEW v AS SELECT * FROM payment', ['+ view public.v']],
  [
    'a function without its arguments',
    "CREATE FUNCTION f(a int, b text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ['+ function public.f'],
  ],
  [
    'a function with its arguments',
    "CREATE FUNCTION f(a int, b text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ['+ function public.f(integer,text)'],
  ],
  ['an enum label', `ALTER TYPE mood ADD VALUE 'ok'`, ['~ type public.mood: add_value']],
  ['a schema with a table', 'CREATE SCHEMA archive; CREATE TABLE archive.t (a int)', ['+ schema archive']],
  [
    'a trigger',
    'CREATE TRIGGER t BEFORE INSERT ON payment FOR EACH ROW EXECUTE FUNCTION touch()',
    ['+ trigger t on public.payment'],
  ],
  ['a renamed table', 'ALTER TABLE payment RENAME TO paid', ['~ rename public.payment -> public.paid']],
  [
    'a renamed column',
    'ALTER TABLE customer RENAME fax TO telefax',
    ['~ rename public.customer.fax -> public.customer.telefax'],
  ],
  [
    'a renamed key',
    'ALTER TABLE customer RENAME CONSTRAINT customer_pkey TO pk',
    ['~ rename customer_pkey on public.customer -> pk on public.customer'],
  ],
  [
    'a rename and a lost comment',
    'ALTER TABLE payment RENAME amount TO price; COMMENT ON COLUMN payment.price IS NULL',
    ['~ rename public.payment.amount -> public.payment.price'],
    ['- comment on public.payment.price'],
  ],
  [
    'grants by their statement',
    'GRANT SELECT ON customer, payment TO pg_monitor',
    ['~ privileges: GRANT SELECT ON customer, payment TO pg_monitor'],
  ],
  [
    'a grant more than asked',
    'GRANT SELECT ON customer, payment TO pg_monitor',
    ['~ privileges: GRANT SELECT ON customer TO pg_monitor'],
    ['~ table public.payment: relacl nothing -> ["pg_monitor=r/postgres","postgres=arwdDxt/postgres"]'],
  ],
  ['a function without its schema', `CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`, ['+ function f']],
  [
    'leftovers, one line each',
    `CREATE SCHEMA pgshift; CREATE FUNCTION pgshift.sync() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER sync BEFORE INSERT ON payment FOR EACH ROW EXECUTE FUNCTION pgshift.sync(); ALTER TABLE payment ADD _pgshift_new int;
    CREATE TABLE left_behind (id serial PRIMARY KEY, x text UNIQUE)`,
    [],
    ['+ column public.payment._pgshift_new', '+ table public.left_behind', '+ trigger sync on public.payment'],
  ],
];

describeVersions('catalogue report', (version) => {
  let database: FreshDatabase;
  let client: Client;
  let before: string[];

  beforeAll(async () => {
    database = await freshDatabase(version);
    client = await database.client();
    await client.query(`DROP SCHEMA public; CREATE SCHEMA public; ${SHOP}`);
    before = await fingerprintCatalog(client);
  });
  beforeEach(async () => {
    await client.query(`DROP SCHEMA IF EXISTS pgshift, archive, public CASCADE; CREATE SCHEMA public; ${SHOP}`);
  });
  afterAll(() => database?.drop());

  test.each(CASES.map(([what, sql, asked, other = []]) => ({ what, sql, asked, other })))(
    '$what',
    async ({ sql, asked, other }) => {
      await client.query(sql);
      const after = await fingerprintCatalog(client);
      const report = catalogDiffLines(before, after, asked);
      // 17 has one privilege more.
      const lines = report.other.map((line) => line.replace('arwdDxtm/', 'arwdDxt/'));
      expect({ ...report, other: lines }).toEqual({
        asked,
        other: [...other].sort((a, b) => (a.slice(2) < b.slice(2) ? -1 : 1)),
        missing: [],
      });
    },
  );

  test('what is asked for and not there is missing', () => {
    const lines = ['+ column public.payment.none', 'not a line'];
    expect(catalogDiffLines(before, before, lines)).toEqual({ asked: [], other: [], missing: lines });
  });
});
