/** The sample shop: the same on every server and every run, and its examples of what a change must keep are all there. */
import { makeSample } from '../../../client/demo/sample';
import { describeVersions, freshDatabase } from '../../support/database';
import type { FreshDatabase } from '../../support/database';

const DIGEST = `SELECT md5(string_agg(row::text, ',' ORDER BY row::text)) AS digest FROM (
  SELECT p.*::text AS row FROM (SELECT payment_id, rental_id, customer_id, staff_id, amount, method, note FROM payment) p
  UNION ALL SELECT c.*::text FROM (SELECT customer_id, store_id, first_name, last_name, email, city, active FROM customer) c
  UNION ALL SELECT r.*::text FROM (SELECT rental_id, inventory_id, customer_id, rented_at AT TIME ZONE 'UTC' FROM rental) r) all_rows`;
/** Of 2,000 payments. When it changes, every figure measured on the sample changes its meaning. */
const EXPECTED = '4ffba53becc266bfd64024a066d8b3c4';

describeVersions('the sample shop', (version) => {
  let database: FreshDatabase;
  beforeAll(async () => {
    database = await freshDatabase(version);
    await makeSample(await database.client(), { payments: 2_000 });
  });
  afterAll(() => database.drop());

  test('has the same rows everywhere', async () => {
    const [row] = await database.query<{ digest: string }>(DIGEST);
    expect(row?.digest).toBe(EXPECTED);
  });

  test('has as many payments as asked for', async () => {
    const [row] = await database.query<{ n: string }>('SELECT count(*) AS n FROM payment');
    expect(row?.n).toBe('2000');
  });

  test('what the demo adds is missing, and would fit: every rental of a payment exists', async () => {
    const [row] = await database.query<{ n: string }>(
      'SELECT count(*) AS n FROM payment p WHERE NOT EXISTS (SELECT FROM rental r WHERE r.rental_id = p.rental_id)',
    );
    expect(row?.n).toBe('0');
  });
});
