/**
 * Which server this is and on which timeline it writes. Keeps true: on a primary the timeline is that of the WAL that is being written now; the one in
 * pg_control is as old as the last checkpoint, and a server that was just promoted still has the one before.
 */

/** Select list: `system` text, `timeline` int. */
export const SERVER_IDENTITY = `
  (SELECT s.system_identifier::text FROM pg_catalog.pg_control_system() AS s) AS system,
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT c.timeline_id FROM pg_catalog.pg_control_checkpoint() AS c)
       ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline`;
