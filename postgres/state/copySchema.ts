/**
 * What a copy between two databases keeps in its target: the snapshots it was read from, the list of tables and the list of objects to make.
 * Lists live here and not in a workflow: ten thousand tables must not travel through a history.
 */
export const COPY = `
CREATE TABLE pgshift.copy_epochs (
  migration_name text NOT NULL,
  epoch integer NOT NULL,
  snapshot text,
  holder_pid integer,
  holder_start timestamptz,
  process_id integer,
  host text,
  system_identifier text,
  timeline integer,
  lsn text,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz,
  reason text,
  PRIMARY KEY (migration_name, epoch)
);
CREATE TABLE pgshift.copy_tables (
  migration_name text NOT NULL,
  table_no integer NOT NULL,
  schema_name text NOT NULL,
  table_name text NOT NULL,
  source_oid oid NOT NULL,
  filenode oid,
  bytes bigint NOT NULL,
  rows_estimate bigint NOT NULL DEFAULT 0,
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'quarantined', 'skipped')),
  epoch integer NOT NULL DEFAULT 0,
  format text,
  fingerprint text,
  rows bigint NOT NULL DEFAULT 0,
  source_rows bigint,
  source_fingerprint text,
  target_rows bigint,
  target_fingerprint text,
  code text,
  reason text,
  started_at timestamptz,
  finished_at timestamptz,
  PRIMARY KEY (migration_name, table_no)
);
CREATE TABLE pgshift.copy_items (
  migration_name text NOT NULL,
  item_no integer NOT NULL,
  section text NOT NULL CHECK (section IN ('pre', 'post')),
  kind text NOT NULL,
  tag text NOT NULL,
  table_no integer,
  sql text NOT NULL,
  drop_sql text,
  PRIMARY KEY (migration_name, item_no)
);
CREATE INDEX ON pgshift.copy_items (migration_name, table_no);`;
