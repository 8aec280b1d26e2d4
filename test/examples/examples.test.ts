/** The numbered plans of examples/, in order, on the sample shop, with clients writing: each does what its comment says. */
import { randomUUID } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { parse } from 'yaml';
import { makeSample } from '../../client/demo/sample';
import { readStatus } from '../../client/commands/status';
import { Temporal } from '../../client/temporal';
import type { Status } from '../../plan/model/status';
import { temporalOptions } from '../../worker/temporal';
import { needPostgresTools } from '../support/copy';
import { freshDatabase } from '../support/database';
import type { FreshDatabase } from '../support/database';
import { temporalAddress } from '../support/temporal';
import { startWorkerProcess } from '../support/workerProcess';
import type { WorkerProcess } from '../support/workerProcess';

const FOLDER = resolve(__dirname, '../../examples');
const FILES = readdirSync(FOLDER)
  .filter((name) => /^\d\d_.*\.yaml$/.test(name))
  .sort();
const ROWS = 4_000;

describe('examples', () => {
  let database: FreshDatabase;
  let crm: FreshDatabase;
  let client: Client;
  let worker: WorkerProcess;
  let temporal: Temporal;

  beforeAll(async () => {
    await needPostgresTools();
    database = await freshDatabase(18);
    crm = await freshDatabase(18);
    client = await database.client();
    await makeSample(client, { payments: ROWS });
    const taskQueue = `examples-${randomUUID()}`;
    const env = { ...process.env, TEMPORAL_ADDRESS: temporalAddress() };
    worker = startWorkerProcess({
      taskQueue,
      databases: { app: database.url, crm: crm.url },
      temporalAddress: temporalAddress(),
    });
    temporal = await Temporal.connect({ ...temporalOptions({ env, useDev: false }), uiUrl: null, taskQueue });
  });
  afterAll(async () => {
    await temporal.close();
    await worker.stop();
    await Promise.all([database.drop(), crm.drop()]);
  });

  const one = async (sql: string): Promise<unknown> =>
    Object.values((await client.query<Record<string, unknown>>(sql)).rows[0] ?? {})[0];

  /** Starts a plan and brings it to its end or its hold, opening gates on the way. */
  async function run(file: string): Promise<{ id: string; status: Status }> {
    const plan = parse(readFileSync(join(FOLDER, file), 'utf8')) as {
      name: string;
      kind: 'schema-migration' | 'data-migration';
      target?: string;
    };
    const id = `examples/${randomUUID()}`;
    await temporal.start({
      type: plan.kind === 'data-migration' ? 'dataMigration' : 'schemaMigration',
      id,
      argument: plan,
      by: 'test',
      attributes: { name: plan.name, database: plan.target ?? 'app', kind: plan.kind },
    });
    for (let n = 0; ; n += 1) {
      await client.query('UPDATE customer SET city = city WHERE customer_id = $1', [1 + (n % 100)]);
      const seen = await temporal.describe(id);
      if (seen?.execution === 'FAILED') throw (await temporal.failure(id)) ?? new Error(`${file} failed`);
      const status = seen ? await readStatus(temporal, seen) : null;
      if (status?.waitingFor?.type === 'gate' && status.waitingFor.gate)
        await temporal.update(id, 'approve', { by: 'test', gate: status.waitingFor.gate });
      if (status && (status.status === 'holding' || seen?.execution === 'COMPLETED')) return { id, status };
      await sleep(100);
    }
  }

  test('are numbered without a hole, and each says in a comment what it shows', () => {
    expect(FILES.map((name) => Number(name.slice(0, 2)))).toEqual(FILES.map((_, i) => i + 1));
    for (const file of FILES) expect(readFileSync(join(FOLDER, file), 'utf8')).toMatch(/^# /);
    for (const file of FILES)
      expect((parse(readFileSync(join(FOLDER, file), 'utf8')) as { name: string }).name).toBe(
        file.replace('.yaml', ''),
      );
  });

  test('01 adds a column, fills it from what is known, makes it NOT NULL and indexes it', async () => {
    await run('01_customer_country.yaml');
    expect(await one("SELECT count(*)::int FROM customer WHERE city = 'Bilbao' AND country <> 'ES'")).toBe(0);
    expect(await one('SELECT count(DISTINCT country)::int FROM customer')).toBeGreaterThan(4);
    expect(
      await one("SELECT attnotnull FROM pg_attribute WHERE attrelid = 'customer'::regclass AND attname = 'country'"),
    ).toBe(true);
    expect(await one("SELECT indisvalid FROM pg_index WHERE indexrelid = 'customer_country_idx'::regclass")).toBe(true);
    await client.query(
      "INSERT INTO customer (store_id, first_name, last_name, email, city) VALUES (1, 'A', 'B', 'new@mail.example', 'Cork')",
    );
    expect(await one("SELECT country FROM customer WHERE email = 'new@mail.example'")).toBe('DE');
  });

  test('02 makes a table from the active rows of another, each once', async () => {
    await run('02_rental_out_cache.yaml');
    expect(await one('SELECT count(*)::int FROM rental_out')).toBe(
      await one('SELECT count(*)::int FROM rental WHERE returned_at IS NULL'),
    );
    expect(await one("SELECT has_table_privilege('shop_clerk', 'rental_out', 'SELECT')")).toBe(true);
  });

  test('03 makes a table of flags with its first rows', async () => {
    await run('03_shop_flags.yaml');
    expect(await one("SELECT string_agg(name, ',' ORDER BY name) FROM shop_flag WHERE enabled")).toBe(
      'late_fees,recommendations',
    );
  });

  test('04 changes a type, waits for a person, keeps the old shape for its hold, and goes back', async () => {
    const type =
      "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attname = 'amount'";
    const { id, status } = await run('04_payment_precision.yaml');
    expect(status).toMatchObject({ status: 'holding', wayBack: { possible: true, lossless: true } });
    expect(await one(type)).toBe('numeric(14,4)');
    await client.query('UPDATE payment SET amount = 12.34 WHERE payment_id = 7');
    await temporal.update(id, 'rollback', { by: 'test', reason: 'it was only an example' });
    while ((await temporal.describe(id))?.endedAt === null) await sleep(100);
    expect(await one(type)).toBe('numeric(10,2)');
    expect(await one('SELECT amount FROM payment WHERE payment_id = 7')).toBe('12.34');
  });

  test('05 takes customers to another database in another shape', async () => {
    await client
      .query(
        `INSERT INTO customer (store_id, first_name, last_name, email, city, updated_at)
       SELECT store_id, 'Second', 'Self', email, 'Cork', now() + interval '1 day' FROM customer WHERE customer_id = 1`,
      )
      .catch(() => undefined);
    await run('05_customers_to_crm.yaml');
    const [found] = await crm.query<{ n: number; names: number; rentals: number }>(
      'SELECT count(*)::int AS n, count(full_name)::int AS names, sum(rentals)::int AS rentals FROM crm.contact',
    );
    expect(found?.n).toBe(await one('SELECT count(DISTINCT email)::int FROM customer WHERE active'));
    expect(found?.names).toBe(found?.n);
    expect(found?.rentals).toBeGreaterThan(0);
    expect(
      await crm.query(
        `SELECT DISTINCT country FROM crm.contact WHERE country NOT IN ('ES', 'IE', 'BE', 'NL', 'PT', 'DE')`,
      ),
    ).toEqual([]);
  });
});
