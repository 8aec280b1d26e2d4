/**
 * The catalogue diff sees every kind of change, and is empty for what changes nothing: the same objects made again with other object ids,
 * VACUUM FULL, ANALYZE, a column that moved to the end.
 */
import { readFileSync } from 'node:fs';
import type { Client } from 'pg';
import { diffCatalog, fingerprintCatalog } from '../../../postgres/catalog/diff';
import { describeVersions, freshDatabase } from '../../support/database';
import type { FreshDatabase } from '../../support/database';
import { fileOf, hasReal } from '../../support/realData';
import { EVERYTHING, PUBLICATIONS } from './everything';

type Seen = readonly [what: string, sql: string, line: RegExp];

const CHANGES: readonly Seen[] = [
  [
    'an index option',
    'ALTER INDEX shop.payment_amount SET (fillfactor = 60)',
    /pg_class shop\.payment_amount .*fillfactor=60/,
  ],
  [
    'an index in another order',
    'DROP INDEX shop.payment_amount; CREATE INDEX payment_amount ON shop.payment (amount) INCLUDE (note) WITH (fillfactor = 60) WHERE amount > 5',
    /pg_index shop\.payment_amount .*"indoption":\[0,0\]|pg_index shop\.payment_amount .*"indoption":\[0\]/,
  ],
  [
    'an operator class',
    'DROP INDEX shop.payment_note; CREATE INDEX payment_note ON shop.payment (lower(note), amount)',
    /pg_index shop\.payment_note .*text_ops/,
  ],
  [
    'a collation',
    'ALTER TABLE shop.customer ALTER "Full Name" TYPE varchar(80) COLLATE "C"',
    /pg_attribute shop\.customer\."Full Name" .*attcollation":"pg_catalog\.\\"C\\""/,
  ],
  ['a grant', 'GRANT DELETE ON shop.customer TO PUBLIC', /pg_class shop\.customer .*=rd\//],
  ['a column grant', 'REVOKE UPDATE (note) ON shop.payment FROM PUBLIC', /pg_attribute shop\.payment\.note .*attacl/],
  [
    'a grant on a built-in function',
    'REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) FROM PUBLIC',
    /pg_proc \(built in\)/,
  ],
  [
    'a comment',
    `COMMENT ON COLUMN shop.payment.amount IS 'in cents'`,
    /pg_description shop\.payment\.amount .*in cents/,
  ],
  [
    'a comment on a constraint',
    'COMMENT ON CONSTRAINT amount_sane ON shop.payment IS NULL',
    /pg_description amount_sane on shop\.payment/,
  ],
  ['a statistics target', 'ALTER TABLE shop.payment ALTER amount SET STATISTICS 300', /attstattarget":300/],
  ['a column option', 'ALTER TABLE shop.payment ALTER amount RESET (n_distinct)', /n_distinct/],
  [
    'a storage',
    'ALTER TABLE shop.payment ALTER note SET STORAGE EXTERNAL',
    /pg_attribute shop\.payment\.note .*"attstorage":"e"/,
  ],
  [
    'a compression',
    'ALTER TABLE shop.payment ALTER note SET COMPRESSION pglz',
    /pg_attribute shop\.payment\.note .*attcompression":"p"/,
  ],
  [
    'a replica identity',
    'ALTER TABLE shop.payment REPLICA IDENTITY FULL',
    /pg_class shop\.payment .*"relreplident":"f"/,
  ],
  [
    'a row security flag',
    'ALTER TABLE shop.payment FORCE ROW LEVEL SECURITY',
    /pg_class shop\.payment .*relforcerowsecurity/,
  ],
  [
    'a policy',
    'ALTER POLICY own ON shop.payment USING (customer_id = 2)',
    /pg_policy own on shop\.payment .*customer_id = 2/,
  ],
  ['an owner', 'ALTER TABLE shop.customer OWNER TO pg_monitor', /pg_class shop\.customer .*"relowner":"pg_monitor"/],
  [
    'a default',
    'ALTER TABLE shop.payment ALTER amount SET DEFAULT 1',
    /pg_attrdef for shop\.payment\.amount .*"adbin":"1"/,
  ],
  ['a sequence option', 'ALTER SEQUENCE shop.ticket CYCLE', /pg_sequence shop\.ticket .*"seqcycle":true/],
  [
    'a sequence that belongs to a column',
    'ALTER SEQUENCE shop.ticket OWNED BY shop.payment.id',
    /pg_depend shop\.ticket -> shop\.payment\.id .*"a"/,
  ],
  [
    'a trigger that is off',
    'ALTER TABLE shop.payment DISABLE TRIGGER touched',
    /pg_trigger touched on shop\.payment .*"tgenabled":"D"/,
  ],
  [
    'foreign keys that are off',
    'ALTER TABLE shop.payment DISABLE TRIGGER ALL',
    /pg_trigger .*RI_FKey_check_ins.* at shop\.payment .*"tgenabled":"D"/,
  ],
  ['a view option', 'ALTER VIEW shop.rich SET (security_barrier)', /pg_class shop\.rich .*security_barrier/],
  ['a view default', 'ALTER VIEW shop.rich ALTER email DROP DEFAULT', /pg_attrdef for shop\.rich\.email/],
  [
    'a view body',
    'CREATE OR REPLACE VIEW shop.rich AS SELECT * FROM shop.spending WHERE total > 200',
    /pg_rewrite "_RETURN" on shop\.rich .*200/,
  ],
  [
    'a rule',
    'ALTER TABLE shop.payment DISABLE RULE log_update',
    /pg_rewrite log_update on shop\.payment .*"ev_enabled":"D"/,
  ],
  [
    'a publication',
    'ALTER PUBLICATION out SET TABLE shop.payment (id), shop.customer',
    /pg_publication_rel shop\.payment in publication out .*"prattrs":\["id"\]/,
  ],
  ['a table option', 'ALTER TABLE shop.payment RESET (fillfactor)', /pg_class shop\.payment .*reloptions/],
  [
    'a toast option',
    'ALTER TABLE shop.payment RESET (toast.autovacuum_enabled)',
    /pg_class shop\.payment .*reltoastrelid/,
  ],
  [
    'extended statistics',
    'DROP STATISTICS shop.payment_stats; CREATE STATISTICS shop.payment_stats (mcv) ON amount, note FROM shop.payment',
    /pg_statistic_ext shop\.payment_stats .*\["m"\]/,
  ],
  ["a statistics object's target", 'ALTER STATISTICS shop.payment_stats SET STATISTICS 77', /stxstattarget":77/],
  [
    'a domain constraint',
    'ALTER DOMAIN shop.price DROP CONSTRAINT price_positive',
    /pg_constraint price_positive on shop\.price/,
  ],
  ['an enum label', `ALTER TYPE shop.mood ADD VALUE 'ok' BEFORE 'happy'`, /pg_enum shop\.mood\.ok /],
  [
    'an invalid index',
    `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.payment_amount'::regclass`,
    /pg_index shop\.payment_amount /,
  ],
  [
    'a constraint that is not valid',
    'ALTER TABLE shop.payment ADD CONSTRAINT later CHECK (amount > -1) NOT VALID',
    /pg_constraint later on shop\.payment .*NOT VALID/,
  ],
  [
    'a function left behind',
    "CREATE FUNCTION shop.left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    /pg_proc shop\.left_behind\(\)/,
  ],
  ['a function setting', "ALTER FUNCTION shop.total(bigint, timestamptz) SET work_mem = '1MB'", /work_mem=1MB/],
  [
    'a trigger of ours left behind',
    "CREATE SCHEMA pgshift; CREATE FUNCTION pgshift.sync() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER sync BEFORE INSERT ON shop.payment FOR EACH ROW EXECUTE FUNCTION pgshift.sync()",
    /pg_trigger sync on shop\.payment .*pgshift\.sync/,
  ],
  [
    'an event trigger',
    "CREATE FUNCTION shop.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION shop.on_ddl(); ALTER EVENT TRIGGER watch DISABLE",
    /pg_event_trigger watch .*"evtenabled":"D"/,
  ],
  [
    'default privileges',
    'ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO PUBLIC',
    /pg_default_acl .*=r\//,
  ],
  [
    'a setting of the database',
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = %L', current_database(), '9MB'); END $$",
    /pg_db_role_setting this database .*work_mem=9MB/,
  ],
  [
    'a partition that is detached',
    'ALTER TABLE shop.measure DETACH PARTITION shop.measure_2020',
    /pg_inherits shop\.measure_2020/,
  ],
  ['a dropped NOT NULL', 'ALTER TABLE shop.payment ALTER paid_at DROP NOT NULL', /pg_attribute shop\.payment\.paid_at/],
  ['an unlogged table', 'ALTER TABLE shop.parent SET UNLOGGED', /pg_class shop\.parent .*"relpersistence":"u"/],
  [
    "a security label's kin: a privilege on the schema",
    'GRANT CREATE ON SCHEMA public TO PUBLIC',
    /pg_namespace public .*=UC\//,
  ],
];

describeVersions('catalogue diff', (version) => {
  let database: FreshDatabase;
  let client: Client;
  let last: string[];

  beforeAll(async () => {
    database = await freshDatabase(version, EVERYTHING + PUBLICATIONS);
    client = await database.client();
    last = await fingerprintCatalog(client);
  });
  afterAll(() => database.drop());

  const changesOf = async (sql: string) => {
    await client.query(sql);
    const next = await fingerprintCatalog(client);
    const change = diffCatalog(last, next);
    last = next;
    return [...change.removed, ...change.added];
  };

  describe('is empty after', () => {
    test.each([
      ['nothing', 'SELECT 1'],
      ['the same objects made again', `DROP PUBLICATION out; DROP SCHEMA shop CASCADE; ${EVERYTHING} ${PUBLICATIONS}`],
      ['ANALYZE', 'ANALYZE'],
      [
        'rows',
        `INSERT INTO shop.customer (email) SELECT i::text FROM generate_series(1, 1000) i; INSERT INTO shop.payment (customer_id) VALUES (1)`,
      ],
      ['VACUUM FULL', 'VACUUM FULL'],
      ['CLUSTER by nothing and REINDEX', 'REINDEX SCHEMA shop'],
      ['GRANT and REVOKE', 'GRANT INSERT ON shop.payment TO pg_monitor; REVOKE INSERT ON shop.payment FROM pg_monitor'],
      [
        'pgshift with its own tables',
        "CREATE SCHEMA pgshift; CREATE TABLE pgshift.migrations (id serial PRIMARY KEY, name text UNIQUE REFERENCES pgshift.migrations (name)); CREATE FUNCTION pgshift.f(pgshift.migrations) RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON TABLE pgshift.migrations IS 'ours'; CREATE VIEW pgshift.v AS SELECT * FROM pgshift.migrations; GRANT USAGE ON SCHEMA pgshift TO PUBLIC",
      ],
      ['pgshift removed whole', 'DROP SCHEMA pgshift CASCADE'],
      ['a temporary table', 'CREATE TEMPORARY TABLE t (id serial PRIMARY KEY, x text)'],
      [
        'a toast table that a dropped column leaves',
        'ALTER TABLE shop.parent ADD x text; ALTER TABLE shop.parent DROP x',
      ],
      [
        'ADD COLUMN with a default, then DROP COLUMN',
        'ALTER TABLE shop.parent ADD y int DEFAULT 5; ALTER TABLE shop.parent DROP y',
      ],
      ['CREATE INDEX, then DROP INDEX', 'CREATE INDEX i ON shop.parent (a); DROP INDEX shop.i'],
      ['a column dropped and added again at the end', `ALTER TABLE shop.customer DROP tags, ADD tags text[]`],
      [
        'a column with everything on it, which moves to the end',
        `BEGIN; SET LOCAL search_path = shop;
         DROP FUNCTION total; ALTER PUBLICATION out DROP TABLE payment; DROP VIEW richest, rich, spending; DROP MATERIALIZED VIEW monthly;
         DROP RULE log_update ON payment; DROP POLICY own ON payment; DROP TRIGGER touched ON payment; ALTER TABLE payment DROP amount;
         ALTER TABLE payment ADD amount numeric(10,2) NOT NULL DEFAULT 0;
         ALTER TABLE payment ADD CONSTRAINT amount_sane CHECK (amount < 1000000 AND id > 0);
         COMMENT ON CONSTRAINT amount_sane ON payment IS 'sane';
         CREATE INDEX payment_amount ON payment (amount DESC NULLS LAST) INCLUDE (note) WITH (fillfactor = 70) WHERE amount > 5;
         CREATE INDEX payment_note ON payment (lower(note) text_pattern_ops, amount);
         ALTER INDEX payment_note ALTER COLUMN 1 SET STATISTICS 500;
         CREATE STATISTICS payment_stats (dependencies) ON amount, note FROM payment;
         CREATE STATISTICS payment_expr ON (amount * 2), note FROM payment;
         ALTER TABLE payment ALTER amount SET STATISTICS 200, ALTER amount SET (n_distinct = 50);
         GRANT SELECT (amount) ON payment TO PUBLIC;
         COMMENT ON COLUMN payment.amount IS 'in euros';
         ${EVERYTHING.split('\n')
           .filter((line) =>
             /^ {2}(CREATE (TRIGGER touched|VIEW|MATERIALIZED|UNIQUE INDEX ON monthly|RULE|POLICY|TRIGGER rich)|COMMENT ON (VIEW|COLUMN rich)|ALTER VIEW|GRANT (SELECT ON|UPDATE \(email))|^ {4}GROUP BY c\.id/.test(
               line,
             ),
           )
           .join('\n')}
         CREATE FUNCTION total(who bigint, since timestamptz DEFAULT '2020-01-01 00:00+00') RETURNS numeric LANGUAGE sql STABLE
           BEGIN ATOMIC SELECT sum(p.amount) FROM payment p WHERE p.customer_id = who AND p.paid_at > since; END;
         ALTER PUBLICATION out ADD TABLE payment (id, amount) WHERE (amount > 1);
         COMMIT`,
      ],
    ])('%s', async (_what, sql) => {
      expect(await changesOf(sql)).toEqual([]);
    });
  });

  describe('sees', () => {
    test.each(CHANGES)('%s', async (_what, sql, line) => {
      const seen = await changesOf(sql);
      expect(seen.join('\n')).toMatch(line);
    });
  });

  test('no object id is left in any line', async () => {
    const { rows } = await client.query<{ oid: string }>(`
      SELECT oid::text FROM pg_class WHERE oid >= 16384 UNION SELECT oid::text FROM pg_proc WHERE oid >= 16384
      UNION SELECT oid::text FROM pg_type WHERE oid >= 16384 UNION SELECT oid::text FROM pg_constraint WHERE oid >= 16384`);
    const ids = new Set(rows.map((row) => row.oid));
    const left = last.filter(
      (line) => !line.includes('(built in)') && (line.match(/\b\d{5,}\b/g) ?? []).some((n) => ids.has(n)),
    );
    expect(left).toEqual([]);
    expect(last.filter((line) => line.includes('unknown '))).toEqual([]);
  });
});

describeVersions('catalogue diff of real databases', (version) => {
  (hasReal('pagila') ? test : test.skip).each(['pagila', 'chinook'] as const)(
    '%s loaded twice is the same',
    async (name) => {
      const sql = readFileSync(fileOf(name), 'utf8').replace(/^COPY .* FROM stdin;\n[^]*?^\\\.$/gm, '');
      const seen: string[][] = [];
      for (const first of ['', 'CREATE TABLE moves_object_ids (id serial); DROP TABLE moves_object_ids']) {
        const database = await freshDatabase(version, first);
        try {
          const client = await database.client();
          await client.query(sql);
          await client.query('RESET search_path');
          const start = process.hrtime.bigint();
          seen.push(await fingerprintCatalog(client));
          // Two seconds are promised on a quiet machine; tests share theirs.
          expect(Number(process.hrtime.bigint() - start) / 1e6).toBeLessThan(6000);
        } finally {
          await database.drop();
        }
      }
      expect(seen[0]?.length).toBeGreaterThan(300);
      expect(diffCatalog(seen[0] ?? [], seen[1] ?? [])).toEqual({ added: [], removed: [] });
    },
  );
});
