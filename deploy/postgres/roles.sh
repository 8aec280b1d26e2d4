#!/bin/sh
# The roles of a managed database, as docs/grants.md has them: shop owns the tables and is what applications log in as, pgshift changes
# them. Run by the image at its first start, or by hand against any server: PGHOST, PGPORT, PGUSER as psql takes them, with
# POSTGRES_DB, PGSHIFT_PASSWORD and SHOP_PASSWORD. May be run again.
set -eu

: "${POSTGRES_DB:?}" "${PGSHIFT_PASSWORD:?}" "${SHOP_PASSWORD:?}"

# Passwords go by environment (\getenv), never on a command line.
export PGSHIFT_PASSWORD SHOP_PASSWORD
psql -X -q -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-${PGUSER:-postgres}}" --dbname "$POSTGRES_DB" <<'SQL'
\getenv pgshift_password PGSHIFT_PASSWORD
\getenv shop_password SHOP_PASSWORD
SELECT format('CREATE ROLE %I LOGIN', r) FROM unnest(ARRAY['shop', 'pgshift']) r
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) \gexec
ALTER ROLE shop PASSWORD :'shop_password';
ALTER ROLE pgshift PASSWORD :'pgshift_password';
GRANT shop TO pgshift;
GRANT pg_monitor, pg_signal_backend TO pgshift;
GRANT SET ON PARAMETER session_replication_role TO pgshift;
SELECT format('GRANT CREATE ON DATABASE %I TO pgshift', current_database()) \gexec
GRANT CREATE, USAGE ON SCHEMA public TO shop, pgshift;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SQL
