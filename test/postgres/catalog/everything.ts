/** A schema with at least one of everything that a catalogue diff must see, on 15 and later. */
export const EVERYTHING = `
  CREATE SCHEMA shop;
  SET search_path = shop;
  CREATE TYPE mood AS ENUM ('sad', 'happy');
  CREATE DOMAIN price AS numeric(12,2) DEFAULT 1 CONSTRAINT price_positive CHECK (VALUE >= 0);
  CREATE TYPE pair AS (a int, b text);
  CREATE SEQUENCE ticket START 10 INCREMENT 5;
  CREATE TABLE customer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text COLLATE "C" NOT NULL,
    "Full Name" varchar(80),
    mood mood DEFAULT 'sad',
    balance price,
    tags text[],
    address pair,
    lower_email text GENERATED ALWAYS AS (lower(email)) STORED,
    UNIQUE (email) INCLUDE (mood)
  );
  CREATE TABLE payment (
    id serial PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customer ON DELETE CASCADE,
    amount numeric(10,2) NOT NULL DEFAULT 0 CONSTRAINT amount_sane CHECK (amount < 1000000 AND id > 0),
    note text,
    paid_at timestamptz NOT NULL DEFAULT now(),
    EXCLUDE USING btree (note WITH =)
  ) WITH (fillfactor = 90, autovacuum_enabled = false, toast.autovacuum_enabled = false);
  CREATE INDEX payment_amount ON payment (amount DESC NULLS LAST) INCLUDE (note) WITH (fillfactor = 70) WHERE amount > 5;
  CREATE INDEX payment_note ON payment (lower(note) text_pattern_ops, amount);
  ALTER INDEX payment_note ALTER COLUMN 1 SET STATISTICS 500;
  CREATE STATISTICS payment_stats (dependencies) ON amount, note FROM payment;
  CREATE STATISTICS payment_expr ON (amount * 2), note FROM payment;
  CREATE TABLE measure (at date NOT NULL, v int) PARTITION BY RANGE (at);
  CREATE TABLE measure_2020 PARTITION OF measure FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
  CREATE TABLE measure_rest PARTITION OF measure DEFAULT;
  CREATE INDEX ON measure (v);
  CREATE TABLE parent (a int, CHECK (a > 0));
  CREATE TABLE child (b int) INHERITS (parent);
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.paid_at = now(); RETURN NEW; END $$;
  CREATE FUNCTION total(who bigint, since timestamptz DEFAULT '2020-01-01 00:00+00') RETURNS numeric LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT sum(p.amount) FROM payment p WHERE p.customer_id = who AND p.paid_at > since; END;
  CREATE TRIGGER touched BEFORE UPDATE OF amount ON payment FOR EACH ROW WHEN (OLD.note IS DISTINCT FROM NEW.note) EXECUTE FUNCTION touch();
  CREATE CONSTRAINT TRIGGER late AFTER INSERT ON payment DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION touch();
  CREATE VIEW spending WITH (security_barrier) AS SELECT c.id, c.email, sum(p.amount) AS total FROM customer c JOIN payment p ON p.customer_id = c.id
    GROUP BY c.id;
  CREATE VIEW rich AS SELECT * FROM spending WHERE total > 100;
  CREATE VIEW richest AS SELECT r.email, s.total FROM rich r JOIN spending s USING (id);
  COMMENT ON VIEW rich IS 'who spends';
  COMMENT ON COLUMN rich.email IS 'their address';
  ALTER VIEW rich ALTER COLUMN email SET DEFAULT 'nobody';
  CREATE RULE no_delete AS ON DELETE TO rich DO INSTEAD NOTHING;
  CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
  CREATE TRIGGER rich_insert INSTEAD OF INSERT ON rich FOR EACH ROW EXECUTE FUNCTION nothing();
  CREATE MATERIALIZED VIEW monthly AS SELECT date_trunc('month', paid_at) AS month, sum(amount) AS total FROM payment GROUP BY 1;
  CREATE UNIQUE INDEX ON monthly (month);
  CREATE RULE log_update AS ON UPDATE TO payment WHERE NEW.amount > 100 DO ALSO INSERT INTO parent VALUES (NEW.id);
  ALTER TABLE payment ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own ON payment FOR SELECT TO PUBLIC USING (customer_id = 1 AND amount > 0);
  COMMENT ON COLUMN payment.amount IS 'in euros';
  COMMENT ON TABLE payment IS 'payments';
  COMMENT ON CONSTRAINT amount_sane ON payment IS 'sane';
  GRANT SELECT (amount, note), UPDATE (note) ON payment TO PUBLIC;
  GRANT SELECT ON customer, spending, rich TO PUBLIC;
  GRANT UPDATE (email) ON rich TO PUBLIC;
  ALTER TABLE payment ALTER amount SET STATISTICS 200, ALTER amount SET (n_distinct = 50);
  RESET search_path;
`;

/** Publications belong to the database, not to a schema. */
export const PUBLICATIONS = `
  CREATE PUBLICATION out FOR TABLE shop.payment (id, amount) WHERE (amount > 1), shop.customer;
`;
