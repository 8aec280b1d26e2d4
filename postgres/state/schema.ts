/**
 * Schema `pgshift` of a managed database, as numbered upgrades. Keeps true: an upgrade that was released is never edited, only followed by
 * another; all of it works for a role that is no superuser and has CREATE on the database. Tables and columns are those of the contract,
 * section 6; `lanes` (checkpoints of batches) and the columns after `result` of `steps` (the fence) are the engine's own.
 */

import { COPY } from './copySchema';
import { MAPS } from './mapSchema';
import { COUNTERS, ROUTING } from './routing';
import { STREAMS, TIES } from './streamSchema';

export interface Upgrade {
  readonly version: number;
  readonly sql: string;
}

const TABLES = `
CREATE TABLE pgshift.migrations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  kind text NOT NULL,
  version integer NOT NULL DEFAULT 1,
  description text,
  sql_file text,
  checksum text NOT NULL,
  applied_at timestamptz,
  applied_by text,
  execution_time interval,
  status text NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'rolled_back')),
  rollback_sql text,
  dependencies text[] NOT NULL DEFAULT '{}',
  workflow_id text,
  plan jsonb,
  run_id text,
  started_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pgshift.migration_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  migration_name text NOT NULL,
  logged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  level text NOT NULL CHECK (level IN ('debug', 'info', 'warning', 'error')),
  phase text,
  step text,
  message text NOT NULL,
  error_details jsonb
);
CREATE INDEX ON pgshift.migration_log (migration_name, id);
CREATE TABLE pgshift.steps (
  migration_name text NOT NULL,
  step_id text NOT NULL,
  phase text NOT NULL,
  status text NOT NULL DEFAULT 'pending',
  attempt integer NOT NULL DEFAULT 0,
  epoch bigint NOT NULL DEFAULT 0,
  started_at timestamptz,
  finished_at timestamptz,
  rows bigint NOT NULL DEFAULT 0,
  result jsonb NOT NULL DEFAULT '{}',
  budget_from timestamptz,
  backend_pid integer,
  backend_start timestamptz,
  checkpoint jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (migration_name, step_id)
);
CREATE TABLE pgshift.lanes (
  migration_name text NOT NULL,
  step_id text NOT NULL,
  scope text NOT NULL,
  lane integer NOT NULL,
  epoch bigint NOT NULL,
  table_name text NOT NULL,
  relation oid NOT NULL,
  filenode oid,
  low jsonb,
  high jsonb,
  position jsonb,
  rows bigint NOT NULL DEFAULT 0,
  scanned bigint NOT NULL DEFAULT 0,
  rows_total bigint NOT NULL DEFAULT 0,
  batches integer NOT NULL DEFAULT 0,
  done boolean NOT NULL DEFAULT false,
  state jsonb NOT NULL DEFAULT '{}',
  backend_pid integer,
  backend_start timestamptz,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (migration_name, step_id, scope, lane)
) WITH (fillfactor = 50);
CREATE TABLE pgshift.chunks (
  migration_name text NOT NULL,
  step_id text NOT NULL,
  chunk_no bigint GENERATED ALWAYS AS IDENTITY,
  lower_key text,
  upper_key text,
  rows bigint NOT NULL,
  epoch bigint NOT NULL,
  committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  lane integer NOT NULL DEFAULT 0,
  PRIMARY KEY (migration_name, step_id, chunk_no)
);
CREATE TABLE pgshift.locks_held (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  migration_name text NOT NULL,
  step_id text NOT NULL,
  relation text NOT NULL,
  mode text NOT NULL,
  waited_ms numeric(14, 3) NOT NULL,
  held_ms numeric(14, 3) NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON pgshift.locks_held (migration_name, step_id);
CREATE TABLE pgshift.leases (
  resource text PRIMARY KEY,
  holder text NOT NULL,
  epoch bigint NOT NULL,
  taken_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pgshift.quarantine (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  migration_name text NOT NULL,
  table_name text NOT NULL,
  key jsonb,
  column_name text,
  rule text NOT NULL,
  reason text,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pgshift.differences (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  migration_name text NOT NULL,
  table_name text NOT NULL,
  key jsonb,
  column_name text,
  rule text NOT NULL,
  reason text,
  at timestamptz NOT NULL DEFAULT now(),
  source_value text,
  target_value text,
  step_id text
);
CREATE INDEX ON pgshift.differences (migration_name, step_id);
CREATE TABLE pgshift.audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  by text NOT NULL,
  via text NOT NULL CHECK (via IN ('cli', 'signal', 'update', 'api', 'health')),
  action text NOT NULL,
  gate text,
  reason text,
  request_id text,
  workflow_id text
);
CREATE UNIQUE INDEX ON pgshift.audit (workflow_id, request_id) WHERE request_id IS NOT NULL;
CREATE TABLE pgshift.feature_flags (
  name text PRIMARY KEY,
  enabled boolean NOT NULL DEFAULT false,
  rollout_percentage numeric(5,2) NOT NULL DEFAULT 0 CHECK (rollout_percentage BETWEEN 0 AND 100),
  key text,
  salt text,
  allow text[] NOT NULL DEFAULT '{}',
  deny text[] NOT NULL DEFAULT '{}',
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by text
);
CREATE TABLE pgshift.plans (
  id text PRIMARY KEY,
  name text,
  body jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pgshift.routes (
  route text PRIMARY KEY,
  side text NOT NULL,
  epoch bigint NOT NULL,
  paused boolean NOT NULL DEFAULT false,
  details jsonb NOT NULL DEFAULT '{}',
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pgshift.guard (
  id text PRIMARY KEY,
  writable boolean NOT NULL,
  epoch bigint NOT NULL,
  details jsonb NOT NULL DEFAULT '{}',
  updated_at timestamptz NOT NULL DEFAULT now()
);`;

/** One line for each table that a migration works through in batches, and one for each migration that does not. */
const PROGRESS = `
CREATE VIEW pgshift.migration_progress AS
SELECT m.name, m.status, coalesce(l.phase, s.phase) AS phase, coalesce(l.step_id, s.step_id) AS step, l.table_name,
       coalesce(l.rows_done, s.rows) AS rows_done, l.rows_total,
       CASE WHEN l.done OR m.status = 'completed' THEN 100.0
            WHEN l.rows_total > 0 THEN round(least(100.0, 100.0 * l.rows_done / l.rows_total), 1) END AS percent,
       l.rows_per_second,
       CASE WHEN NOT l.done AND l.rows_per_second > 0
            THEN make_interval(secs => greatest(0, l.rows_total - l.rows_done)::double precision / l.rows_per_second::double precision)
       END AS eta,
       coalesce(l.started_at, s.started_at, m.started_at) AS started_at,
       greatest(m.updated_at, l.updated_at) AS updated_at
  FROM pgshift.migrations AS m
  LEFT JOIN LATERAL (
       SELECT st.step_id, st.phase, st.rows, st.started_at FROM pgshift.steps AS st
        WHERE st.migration_name = m.name AND st.started_at IS NOT NULL
        ORDER BY st.status = 'running' DESC, st.started_at DESC LIMIT 1) AS s ON true
  LEFT JOIN LATERAL (
       SELECT ln.step_id, st.phase, ln.table_name, st.started_at, sum(ln.scanned) AS rows_done, sum(ln.rows_total) AS rows_total,
              bool_and(ln.done) AS done, max(ln.updated_at) AS updated_at,
              round(sum(ln.scanned) / nullif(extract(epoch FROM max(ln.updated_at) - st.started_at), 0)::numeric, 1) AS rows_per_second
         FROM pgshift.lanes AS ln JOIN pgshift.steps AS st USING (migration_name, step_id)
        WHERE ln.migration_name = m.name
        GROUP BY ln.step_id, st.phase, ln.table_name, st.started_at) AS l ON true;`;

const HEALTH = `
CREATE FUNCTION pgshift.check_migration_health(max_running interval DEFAULT interval '300 seconds', max_failed bigint DEFAULT 0)
RETURNS TABLE (check_name text, status text, value numeric, threshold numeric, message text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $health$
  SELECT 'longest_running_seconds', CASE WHEN r.seconds > extract(epoch FROM max_running) THEN 'warning' ELSE 'ok' END,
         r.seconds, extract(epoch FROM max_running)::numeric,
         CASE WHEN r.name IS NULL THEN 'nothing is running'
              ELSE format('%s has been running for %s s', r.name, r.seconds) END
    FROM (SELECT 0 AS one) AS always
    LEFT JOIN LATERAL (SELECT m.name FROM pgshift.migrations AS m WHERE m.status = 'running'
                        ORDER BY m.started_at LIMIT 1) AS oldest ON true
    CROSS JOIN LATERAL (SELECT oldest.name, round(coalesce((SELECT extract(epoch FROM clock_timestamp() - m.started_at)::numeric
              FROM pgshift.migrations AS m WHERE m.name = oldest.name), 0), 1) AS seconds) AS r
  UNION ALL
  SELECT 'failed_migrations', CASE WHEN count(*) > max_failed THEN 'critical' ELSE 'ok' END, count(*), max_failed,
         CASE WHEN count(*) = 0 THEN 'none failed' ELSE 'failed: ' || string_agg(m.name, ', ' ORDER BY m.name) END
    FROM pgshift.migrations AS m WHERE m.status = 'failed'
  UNION ALL
  SELECT 'quarantined_rows', CASE WHEN count(*) > 0 THEN 'warning' ELSE 'ok' END, count(*), 0,
         format('%s rows lie in pgshift.quarantine', count(*))
    FROM pgshift.quarantine
$health$;`;

export const UPGRADES: readonly Upgrade[] = [
  { version: 1, sql: [TABLES, PROGRESS, HEALTH].join('\n') },
  { version: 2, sql: COPY },
  { version: 3, sql: ROUTING },
  { version: 4, sql: STREAMS },
  { version: 5, sql: MAPS },
  { version: 6, sql: COUNTERS },
  { version: 7, sql: TIES },
];

/** What lets the triggers that keep a shadow in step work for every role: they look up functions in the schema. */
export const COMMENT = 'pgshift: state of database changes. Remove with: pgshift uninstall';
