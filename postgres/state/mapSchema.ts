/**
 * What mapped and merged copies keep in their target beside the lists of the copy: the plan's map, what was taken off for the load, whose rows the
 * quarantine's are, and how a table's rows add up.
 */
export const MAPS = `
CREATE TABLE pgshift.copy_maps (
  migration_name text NOT NULL,
  schema_name text NOT NULL,
  table_name text NOT NULL,
  path text NOT NULL,
  mapping jsonb NOT NULL,
  PRIMARY KEY (migration_name, schema_name, table_name)
);
CREATE TABLE pgshift.copy_disabled (
  migration_name text NOT NULL,
  table_no integer NOT NULL,
  seq integer NOT NULL,
  kind text NOT NULL CHECK (kind IN ('index', 'constraint', 'trigger')),
  name text NOT NULL,
  restore_sql text[] NOT NULL,
  PRIMARY KEY (migration_name, table_no, seq)
);
ALTER TABLE pgshift.quarantine ADD COLUMN step_id text, ADD COLUMN lane integer;
CREATE INDEX ON pgshift.quarantine (migration_name, step_id);
ALTER TABLE pgshift.copy_tables
  ADD COLUMN counts jsonb, ADD COLUMN proof jsonb, ADD COLUMN map_schema text, ADD COLUMN map_table text;`;
