/** What readCatalog() says of a schema with one of everything, on both majors, and of real databases. */
import { readFileSync } from 'node:fs';
import type { Catalog, Table } from '../../../plan/model/catalog';
import { readCatalog } from '../../../postgres/catalog/read';
import { describeVersions, freshDatabase } from '../../support/database';
import type { FreshDatabase } from '../../support/database';
import { fileOf, hasReal } from '../../support/realData';
import { EVERYTHING, PUBLICATIONS } from './everything';

const MORE = `
  CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
  CREATE TABLE shop.bare (a int, b text);
  CREATE TABLE shop.narrow (a int, w text);
  CREATE VIEW shop.grouped AS SELECT c.id, c.email FROM shop.customer c GROUP BY c.id;
  CREATE FUNCTION shop.of_row(p shop.payment) RETURNS text LANGUAGE sql AS 'SELECT p.note';
  CREATE POLICY via ON shop.bare USING (EXISTS (SELECT FROM shop.payment p WHERE p.note = b));
  INSERT INTO shop.narrow SELECT i, CASE WHEN i % 2 = 0 THEN repeat('x', 20) END FROM generate_series(1, 100) i;
  ANALYZE shop.narrow;
`;

describeVersions('catalogue', (version) => {
  let database: FreshDatabase;
  let catalog: Catalog;
  const table = (name: string): Table => {
    const found = catalog.tables.find((t) => t.schema === 'shop' && t.name === name);
    if (!found) throw new Error(`no table ${name}`);
    return found;
  };
  const column = (of: string, name: string) => table(of).columns.find((c) => c.name === name)!;

  beforeAll(async () => {
    database = await freshDatabase(version, EVERYTHING + PUBLICATIONS + MORE);
    const client = await database.client();
    await client.query('SET search_path = shop, public');
    catalog = await readCatalog(client);
    // Settings are left as they were.
    expect((await client.query('SHOW search_path')).rows[0]).toEqual({ search_path: 'shop, public' });
  });
  afterAll(() => database?.drop());

  test('the connection', () => {
    expect(Math.floor(catalog.serverVersion / 10000)).toBe(version);
    expect(catalog.database).toBe(database.name);
    expect(catalog).toMatchObject({ superuser: true, canSetReplicationRole: true });
    expect(catalog.settings.search_path).toBe('"$user", public');
    expect(Object.keys(catalog.settings).sort()).toEqual([
      'DateStyle',
      'IntervalStyle',
      'TimeZone',
      'default_tablespace',
      'search_path',
    ]);
    expect(catalog.schemas).toEqual(['public', 'shop']);
  });

  test('tables', () => {
    expect(table('payment')).toMatchObject({
      kind: 'table',
      persistence: 'permanent',
      rowSecurity: true,
      replicaIdentity: 'default',
      comment: 'payments',
      partitionKey: null,
      options: ['fillfactor=90', 'autovacuum_enabled=false', 'toast.autovacuum_enabled=false'],
    });
    expect(table('measure')).toMatchObject({
      kind: 'partitioned',
      partitionKey: { definition: 'RANGE (at)', columns: ['at'] },
    });
    expect(table('measure').children.map((c) => c.name)).toEqual(['measure_2020', 'measure_rest']);
    expect(table('measure_2020')).toMatchObject({ parent: { schema: 'shop', name: 'measure' }, inherits: [] });
    expect(table('child')).toMatchObject({ parent: null, inherits: [{ schema: 'shop', name: 'parent' }] });
    expect(table('narrow')).toMatchObject({ rows: 100, heapBytes: 8192 });
    expect(table('narrow').totalBytes).toBeGreaterThanOrEqual(8192);
    expect(catalog.tables.map((t) => t.schema)).not.toContain('pg_catalog');
  });

  test('columns', () => {
    expect(column('payment', 'amount')).toMatchObject({
      type: 'numeric(10,2)',
      typeName: { schema: 'pg_catalog', name: 'numeric' },
      notNull: true,
      default: '0',
      statisticsTarget: 200,
      options: ['n_distinct=50'],
      comment: 'in euros',
      storage: 'main',
      storageChanged: false,
      generated: null,
      identity: null,
    });
    expect(column('payment', 'amount').acl?.join()).toMatch(/^=r\//);
    expect(column('payment', 'id')).toMatchObject({
      ownedSequence: { schema: 'shop', name: 'payment_id_seq' },
      default: `nextval('shop.payment_id_seq'::regclass)`,
    });
    expect(column('customer', 'id')).toMatchObject({
      identity: 'always',
      ownedSequence: { name: 'customer_id_seq' },
      default: null,
    });
    expect(column('customer', 'email')).toMatchObject({ collation: 'pg_catalog."C"', notNull: true });
    expect(column('customer', 'lower_email')).toMatchObject({ generated: 'stored', default: 'lower(email)' });
    expect(column('customer', 'mood')).toMatchObject({ type: 'shop.mood', default: `'sad'::shop.mood` });
    expect(column('narrow', 'w')).toMatchObject({ nullFraction: 0.5, averageWidth: 21 });
  });

  test('indexes', () => {
    const index = (name: string) => catalog.tables.flatMap((t) => t.indexes).find((i) => i.name === name)!;
    expect(index('payment_amount')).toMatchObject({
      keys: ['amount'],
      include: ['note'],
      columns: ['amount', 'note'],
      predicate: '(amount > (5)::numeric)',
      unique: false,
      valid: true,
      method: 'btree',
      constraint: null,
    });
    expect(index('payment_note')).toMatchObject({
      keys: [null, 'amount'],
      columns: ['amount', 'note'],
      statisticsTargets: [{ number: 1, target: 500 }],
    });
    expect(index('customer_email_mood_key')).toMatchObject({
      constraint: 'customer_email_mood_key',
      unique: true,
      include: ['mood'],
    });
    expect(index('measure_2020_v_idx').parent).toEqual({ schema: 'shop', name: 'measure_v_idx' });
  });

  test('constraints, triggers, rules, policies, statistics', () => {
    const of = (name: string) => table('payment').constraints.find((k) => k.name === name)!;
    expect(of('amount_sane')).toMatchObject({
      type: 'check',
      columns: ['amount', 'id'],
      validated: true,
      comment: 'sane',
      enforced: true,
    });
    expect(of('payment_customer_id_fkey')).toMatchObject({
      type: 'foreign',
      columns: ['customer_id'],
      references: { table: { name: 'customer' }, columns: ['id'] },
      definition: 'FOREIGN KEY (customer_id) REFERENCES shop.customer(id) ON DELETE CASCADE',
    });
    expect(table('customer').incoming.map((k) => [k.name, k.table.name])).toEqual([
      ['payment_customer_id_fkey', 'payment'],
    ]);
    expect(table('payment').triggers.map((t) => [t.name, t.timing, t.row, t.events, t.columns, t.function])).toEqual([
      ['late', 'after', true, ['insert'], [], 'shop.touch'],
      ['touched', 'before', true, ['update'], ['amount', 'note'], 'shop.touch'],
    ]);
    expect(table('payment').rules).toMatchObject([{ name: 'log_update', enabled: 'O', columns: ['amount', 'id'] }]);
    expect(table('payment').policies).toMatchObject([
      {
        name: 'own',
        columns: ['amount', 'customer_id'],
        definition:
          'CREATE POLICY own ON shop.payment AS PERMISSIVE FOR SELECT TO PUBLIC USING (((customer_id = 1) AND (amount > (0)::numeric)))',
      },
    ]);
    expect(table('payment').statistics.map((s) => [s.name, s.columns])).toEqual([
      ['payment_expr', ['amount', 'note']],
      ['payment_stats', ['amount', 'note']],
    ]);
  });

  test('dependents, and views in the order of making them again', () => {
    const dependents = table('payment').dependents;
    expect(dependents.map((d) => [d.type, d.name, d.columns])).toEqual(
      expect.arrayContaining([
        ['matview', 'shop.monthly', ['amount', 'paid_at']],
        ['view', 'shop.spending', ['amount', 'customer_id']],
        ['function', 'shop.total(bigint,timestamp with time zone)', ['amount', 'customer_id', 'paid_at']],
        ['function', 'shop.of_row(shop.payment)', []],
        ['publication', 'out', ['amount', 'id']],
        ['policy', 'policy via on table shop.bare', ['note']],
      ]),
    );
    expect(dependents.filter((d) => ['index', 'trigger', 'statistics', 'default', 'rule'].includes(d.type))).toEqual(
      [],
    );
    const spending = dependents.find((d) => d.name === 'shop.spending')?.view;
    expect(spending).toMatchObject({
      kind: 'view',
      options: ['security_barrier=true'],
      dependents: [{ name: 'rich' }, { name: 'richest' }],
    });
    const rich = table('spending').dependents[0]?.view;
    expect(rich).toMatchObject({
      name: 'rich',
      comment: 'who spends',
      columnComments: [{ column: 'email', comment: 'their address' }],
      columnDefaults: [{ column: 'email', default: `'nobody'::text` }],
      dependents: [{ name: 'richest' }],
    });
    expect(rich?.columnAcls.map((a) => a.column)).toEqual(['email']);
    expect(rich?.query).toMatch(/^SELECT [^]*total > \(100\)::numeric\)$/);
    expect(rich?.rules.join()).toMatch(/no_delete/);
    expect(rich?.triggers.map((t) => [t.name, t.timing])).toEqual([['rich_insert', 'instead']]);
    // GROUP BY a primary key leans on the key.
    expect(table('customer').dependents.find((d) => d.name === 'shop.grouped')?.columns).toEqual(['email', 'id']);
  });

  test('types, casts, functions, sequences, publications', () => {
    expect(catalog.types.find((t) => t.name === 'mood')).toMatchObject({ kind: 'enum', labels: ['sad', 'happy'] });
    expect(catalog.types.find((t) => t.name === 'price')).toMatchObject({
      kind: 'domain',
      base: 'numeric(12,2)',
      hasConstraints: true,
      default: '1',
    });
    expect(catalog.types.find((t) => t.name === 'pair')).toMatchObject({ kind: 'composite' });
    expect(catalog.types.some((t) => t.name === 'payment' || t.name === '_payment')).toBe(false);
    const cast = (source: string, target: string) =>
      catalog.casts.find((c) => c.source === source && c.target === target);
    expect(cast('integer', 'bigint')).toMatchObject({
      context: 'implicit',
      method: 'function',
      volatility: 'immutable',
    });
    expect(cast('timestamp with time zone', 'date')).toMatchObject({ volatility: 'stable' });
    expect(catalog.functions.find((f) => f.schema === 'pg_catalog' && f.name === 'clock_timestamp')).toMatchObject({
      volatility: 'volatile',
    });
    expect(catalog.functions.find((f) => f.name === 'touch')?.source).toMatch(/paid_at/);
    expect(catalog.sequences.find((s) => s.name === 'ticket')).toMatchObject({
      start: '10',
      increment: '5',
      ownedBy: null,
      max: '9223372036854775807',
    });
    expect(catalog.sequences.find((s) => s.name === 'payment_id_seq')?.ownedBy).toEqual({
      table: { schema: 'shop', name: 'payment' },
      column: 'id',
    });
    expect(catalog.publications).toMatchObject([
      {
        name: 'out',
        allTables: false,
        schemas: [],
        tables: [
          { table: { name: 'customer' }, columns: null, where: null },
          { table: { name: 'payment' }, columns: ['id', 'amount'], where: '(amount > (1)::numeric)' },
        ],
      },
    ]);
  });

  test('a relation that stays locked is said, not waited for', async () => {
    const [holder, reader] = [await database.client(), await database.client()];
    await holder.query('BEGIN; LOCK TABLE shop.payment IN ACCESS EXCLUSIVE MODE');
    await expect(readCatalog(reader)).rejects.toMatchObject({ name: 'Problem', code: 'LockTimeout' });
    await holder.query('ROLLBACK');
    expect((await readCatalog(reader)).tables.length).toBe(catalog.tables.length);
  });

  test('statements that count on the order of columns', async () => {
    const client = await database.client();
    const loaded = await client.query(`SELECT current_setting('pg_stat_statements.max', true) AS max`);
    if (loaded.rows[0].max === null) {
      expect(catalog.statements).toEqual([]);
      return;
    }
    const positional = [
      "INSERT INTO shop.bare VALUES (1, 'x')",
      "INSERT INTO shop.bare SELECT 2, 'y'",
      'SELECT * FROM shop.bare',
      'SELECT b.*, 1 FROM shop.bare b',
    ];
    const named = [
      "INSERT INTO shop.bare (a, b) VALUES (1, 'x')",
      'SELECT count(*) FROM shop.bare',
      'SELECT a * 2 FROM shop.bare',
    ];
    const starts = [
      'INSERT INTO shop.bare VALUES',
      'INSERT INTO shop.bare SELECT',
      'SELECT * FROM shop.bare',
      'SELECT b.*',
    ];
    let seen: readonly string[] = [];
    const missing = (): readonly string[] => starts.filter((start) => !seen.some((text) => text.startsWith(start)));
    // Other tests share this server: a statement that ran once may be pushed out of what it remembers.
    for (let tries = 0; tries < 5 && (tries === 0 || missing().length > 0); tries += 1) {
      for (const sql of [...positional, ...named]) await client.query(sql);
      seen = (await readCatalog(client)).statements.map((s) => s.text);
    }
    expect(missing()).toEqual([]);
    expect(seen.filter((text) => /\(a, b\)|count\(|a \* /.test(text))).toEqual([]);
  });

  (hasReal('pagila') ? test : test.skip).each([
    ['pagila', 43],
    ['chinook', 21],
  ] as const)('%s', async (name, relations) => {
    const sql = readFileSync(fileOf(name), 'utf8').replace(/^COPY .* FROM stdin;\n[^]*?^\\\.$/gm, '');
    const real = await freshDatabase(version, sql);
    try {
      const read = await readCatalog(await real.client());
      expect(read.tables.length).toBe(relations);
      expect(JSON.stringify(read)).not.toContain('???');
    } finally {
      await real.drop();
    }
  });
});
