/** A dump that nobody here designed: what is chosen, how it grows, what would be changed, and why. */
import { writeFileSync } from 'node:fs';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { changeSql } from '../../../client/demo/change';
import { chooseTable, deriveChange, loadDump } from '../../../client/demo/dump';
import { readTables } from '../../../client/demo/dumpTables';
import { growTable } from '../../../client/demo/growth';
import { findPostgresBin } from '../../../worker/embedded/tools';
import { describeVersions, freshDatabase } from '../../support/database';
import type { FreshDatabase } from '../../support/database';

const DUMP = `
CREATE TABLE country (code char(2) PRIMARY KEY, name text NOT NULL);
CREATE TABLE shop (shop_id serial PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE customer (customer_id integer PRIMARY KEY, email varchar(40) NOT NULL);
CREATE TABLE visit (
  visit_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  shop_id integer NOT NULL REFERENCES shop,
  customer_id integer NOT NULL REFERENCES customer,
  came date NOT NULL, went timestamptz,
  spent numeric(8,2) NOT NULL CHECK (spent >= 0),
  doubled numeric GENERATED ALWAYS AS (spent * 2) STORED,
  note text,
  UNIQUE (shop_id, customer_id, came)
);
CREATE TABLE shop_customer (shop_id integer REFERENCES shop, customer_id integer REFERENCES customer, PRIMARY KEY (shop_id, customer_id));
INSERT INTO country VALUES ('de', 'Germany');
INSERT INTO shop (name) SELECT 'shop ' || n FROM generate_series(1, 5) n;
INSERT INTO customer SELECT n, 'c' || n FROM generate_series(1, 300) n;
INSERT INTO visit (shop_id, customer_id, came, went, spent, note)
  SELECT 1 + n % 5, n, date '2024-01-01' + n % 90, timestamptz '2024-01-01 12:00Z' + (n % 90) * interval '1 day', n / 7.0, 'x' FROM generate_series(1, 300) n;
INSERT INTO shop_customer SELECT s, c FROM generate_series(1, 5) s, generate_series(1, 300) c;
CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger fired'; END $$;
CREATE TRIGGER boom BEFORE INSERT ON visit FOR EACH ROW EXECUTE FUNCTION boom();
`;

function envOf(url: string): Record<string, string> {
  const at = new URL(url);
  return {
    PGHOST: at.hostname,
    PGPORT: at.port,
    PGUSER: decodeURIComponent(at.username),
    PGPASSWORD: decodeURIComponent(at.password),
    PGDATABASE: at.pathname.slice(1),
  };
}

describeVersions('a dump', (version) => {
  let database: FreshDatabase;
  let psql: string;
  beforeEach(async () => {
    database = await freshDatabase(version);
    psql = join((await findPostgresBin()).path, 'psql');
  });
  afterEach(() => database.drop());

  const file = (sql: string): string => {
    const path = join(mkdtempSync(join(tmpdir(), 'pgshift-dump-')), 'dump.sql');
    writeFileSync(path, sql);
    return path;
  };

  test('its largest table with a key of its own is grown: keys, unique and foreign keys hold, no trigger fires', async () => {
    await loadDump(psql, file(DUMP), envOf(database.url));
    const client = await database.client();
    const tables = await readTables(client);
    const { growth, passedOver } = chooseTable(tables, 2_000);
    expect(passedOver.map((p) => p.table)).toEqual(['shop_customer', 'customer']);
    expect(growth.table.name).toBe('visit');
    expect(await growTable(client, growth, 2_000)).toBe(1_700);
    const [row] = await database.query<Record<string, string>>(`SELECT count(*)::text AS rows,
      count(DISTINCT (shop_id, customer_id, came))::text AS visits, count(*) FILTER (WHERE went::date = came)::text AS coherent,
      (SELECT last_value FROM pg_sequences WHERE sequencename = 'visit_visit_id_seq')::text AS next FROM visit`);
    expect(row).toEqual({ rows: '2000', visits: '2000', coherent: '2000', next: '2000' });
  });

  test('grows to the same rows every time', async () => {
    await loadDump(psql, file(DUMP), envOf(database.url));
    const client = await database.client();
    const { growth } = chooseTable(await readTables(client), 1_000);
    await client.query('BEGIN');
    await client.query('ROLLBACK');
    await growTable(client, growth, 1_000);
    const digest = 'SELECT md5(string_agg(v::text, $1 ORDER BY visit_id)) AS d FROM visit v WHERE visit_id > 300';
    const first = (await client.query<{ d: string }>(digest, [','])).rows[0]?.d;
    await client.query('DELETE FROM visit WHERE visit_id > 300');
    await growTable(client, growth, 1_000);
    expect((await client.query<{ d: string }>(digest, [','])).rows[0]?.d).toBe(first);
  });

  test('a change is derived from its columns, with a reason for each, and plain Postgres takes it', async () => {
    await loadDump(psql, file(DUMP), envOf(database.url));
    const client = await database.client();
    const tables = await readTables(client);
    const change = deriveChange(chooseTable(tables, 500).growth.table, tables);
    expect(change).toMatchObject({
      table: 'visit',
      column: 'spent',
      oldType: 'numeric(8,2)',
      newType: 'numeric(12,4)',
    });
    expect(change.statements.every((s) => s.why.length > 10)).toBe(true);
    expect(changeSql(change)).toMatch(/NOT NULL DEFAULT gen_random_uuid\(\).*ADD FOREIGN KEY.*CREATE INDEX/s);
    // The generated column depends on the one that changes: plain ALTER refuses, so the rest is tried without it.
    for (const { sql } of change.statements.slice(1)) await client.query(sql);
  });

  test('one that does not load is refused with its line and without its rows', async () => {
    const load = loadDump(
      psql,
      file('CREATE TABLE a (b int);\nINSERT INTO a VALUES (1),\n  (secret);\n'),
      envOf(database.url),
    );
    await expect(load).rejects.toMatchObject({ code: 'InvalidUsage', where: { line: 3 } });
  });

  test('one without a fitting table is refused with the reason for each', async () => {
    await loadDump(psql, file('CREATE TABLE a (b text PRIMARY KEY); INSERT INTO a VALUES (1);'), envOf(database.url));
    const tables = await readTables(await database.client());
    expect(() => chooseTable(tables, 500)).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('a: its key') as string }) as Error,
    );
  });
});
