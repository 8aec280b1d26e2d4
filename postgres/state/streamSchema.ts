/**
 * Where a stream of changes stands, in the database that they are applied to. `position`: everything that the source committed before it is here, for
 * it is written in the transaction that brought it. The epoch is that of the step that applies: who finds another one has been given up.
 */
export const STREAMS = `
CREATE TABLE pgshift.streams (
  migration_name text PRIMARY KEY,
  slot text NOT NULL,
  publication text NOT NULL,
  system_identifier text NOT NULL,
  timeline integer NOT NULL,
  source_database text NOT NULL,
  began_at pg_lsn NOT NULL,
  position pg_lsn NOT NULL,
  xids text,
  epoch bigint NOT NULL DEFAULT 0,
  transactions bigint NOT NULL DEFAULT 0,
  changes bigint NOT NULL DEFAULT 0,
  skipped bigint NOT NULL DEFAULT 0,
  skip_until pg_lsn,
  source_time timestamptz,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz
) WITH (fillfactor = 50);
CREATE TABLE pgshift.increments (
  migration_name text NOT NULL,
  schema_name text NOT NULL,
  table_name text NOT NULL,
  bound text,
  next_bound text,
  rows bigint NOT NULL DEFAULT 0,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (migration_name, schema_name, table_name)
) WITH (fillfactor = 50);`;

/** Of the rows at a bound those are here that were written before this transaction of the source. */
export const TIES = `ALTER TABLE pgshift.increments ADD COLUMN seen text;`;
