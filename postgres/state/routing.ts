/**
 * The part of schema `pgshift` that routers of applications live on. Keeps true: a change of a route or a flag, whoever makes it and however,
 * is told to every listener when it commits; a pause of a route ends by itself, so that a switch that dies leaves no client waiting for
 * ever; an attempt that was given up cannot move a route again (`token`). A router's row is its acknowledgement and its sign of life.
 */

/** What routers count of their own queries (plan/model/counters.ts). */
export const COUNTERS = `ALTER TABLE pgshift.routers ADD COLUMN counters jsonb;`;

export const ROUTING = `
ALTER TABLE pgshift.routes
  ADD COLUMN pause_until timestamptz,
  ADD COLUMN fresh_until timestamptz,
  ADD COLUMN token bigint NOT NULL DEFAULT 0,
  ADD COLUMN request_key text;
CREATE TABLE pgshift.routers (
  route text NOT NULL,
  instance text NOT NULL,
  epoch bigint NOT NULL,
  drained boolean NOT NULL DEFAULT false,
  in_use integer NOT NULL DEFAULT 0,
  backend_pid integer NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (route, instance)
) WITH (fillfactor = 50);
CREATE FUNCTION pgshift.tell_routers() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $tell$
BEGIN
  PERFORM pg_notify('pgshift_router', TG_TABLE_NAME);
  RETURN NULL;
END
$tell$;
CREATE TRIGGER tell_routers AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgshift.routes
  FOR EACH STATEMENT EXECUTE FUNCTION pgshift.tell_routers();
CREATE TRIGGER tell_routers AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgshift.feature_flags
  FOR EACH STATEMENT EXECUTE FUNCTION pgshift.tell_routers();`;
