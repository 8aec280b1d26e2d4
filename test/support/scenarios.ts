/**
 * Schema changes that the kill tests run: real tables, real plans, every kind of step. Each is small enough to run in seconds and wide
 * enough that no kind of step is missing. Data is deterministic, so that two runs may be compared row by row.
 */
export interface Scenario {
  readonly name: string;
  /** Makes the database as it was before. */
  readonly setup: string;
  /** The plan without `database` and `name`. */
  readonly plan: Readonly<Record<string, unknown>>;
  /** Tables whose rows are compared. */
  readonly tables: readonly string[];
}

const shop = (rows: number) => `
  CREATE TABLE customer (customer_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, country text, phone text);
  INSERT INTO customer (email, country, phone) SELECT 'c' || i || '@example.org', (ARRAY['de','fr','it',NULL])[1 + i % 4], CASE WHEN i % 3 > 0 THEN '+49 ' || i END FROM generate_series(1, 500) i;
  CREATE TABLE store (store_id smallint PRIMARY KEY, city text NOT NULL);
  INSERT INTO store SELECT i, 'city ' || i FROM generate_series(1, 5) i;
  CREATE TABLE payment (
    payment_id serial PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customer,
    store_id smallint,
    amount numeric(10,2) NOT NULL DEFAULT 0.00 CHECK (amount >= 0),
    reference text,
    note varchar(40),
    paid_at timestamptz NOT NULL DEFAULT '2026-01-01 00:00:00+00',
    last_update timestamptz NOT NULL DEFAULT '2026-01-01 00:00:00+00'
  );
  COMMENT ON COLUMN payment.amount IS 'what was paid, in euro';
  CREATE INDEX payment_amount_desc ON payment (amount DESC NULLS LAST) INCLUDE (customer_id) WHERE amount > 1;
  CREATE INDEX payment_customer ON payment (customer_id);
  ALTER TABLE payment ALTER COLUMN amount SET STATISTICS 300;
  INSERT INTO payment (customer_id, store_id, amount, reference, note)
    SELECT 1 + i % 500, 1 + i % 5, (i % 10007) / 100.0, 'ref-' || i, CASE WHEN i % 7 = 0 THEN NULL ELSE 'note ' || i END
    FROM generate_series(1, ${rows}) i;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.last_update := now(); RETURN NEW; END $$;
  CREATE TRIGGER touched BEFORE UPDATE ON payment FOR EACH ROW EXECUTE FUNCTION touch();
  CREATE TABLE legacy (id int PRIMARY KEY, what text);
  INSERT INTO legacy SELECT i, 'old ' || i FROM generate_series(1, 200) i;
  ANALYZE;
`;

/** Every kind of step in one plan: what most tests of the run stand on. */
export const spine = (rows = 20_000): Scenario => ({
  name: 'spine',
  setup: shop(rows),
  plan: {
    kind: 'schema-migration',
    sql: `ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4);
ALTER TABLE payment ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE payment ADD CONSTRAINT payment_store_fk FOREIGN KEY (store_id) REFERENCES store (store_id);
ALTER TABLE payment ADD CONSTRAINT payment_reference_key UNIQUE (reference);
ALTER TABLE payment ADD CONSTRAINT payment_note_short CHECK (length(note) < 100);
ALTER TABLE customer ADD COLUMN tier text NOT NULL DEFAULT 'basic';
UPDATE customer SET country = 'xx' WHERE country IS NULL;
ALTER TABLE customer ALTER COLUMN phone SET NOT NULL;
CREATE INDEX payment_paid_at ON payment (paid_at);
DROP INDEX payment_customer;
DROP TABLE legacy;`,
    transforms: { 'customer.phone': { up: "coalesce(phone, 'unknown')", down: 'phone' } },
    archive: { to: 'pgshift' },
    throttle: { batch: { target: '100ms', min: 500, max: 2000 }, every: '100ms' },
    lockTimeout: '200ms',
    hold: '10m',
  },
  tables: ['payment', 'customer', 'store'],
});
