#!/bin/sh
# Makes Temporal's two SQL schemas, or brings them to this version. May be run again at any time: what is there is only upgraded.
# Needs temporal-sql-tool, and SQL_HOST, SQL_USER, SQL_PASSWORD; SQL_PORT (5432), SQL_PLUGIN (postgres12), SCHEMA_DIR may be set.
set -eu

: "${SQL_HOST:?}" "${SQL_USER:?}" "${SQL_PASSWORD:?}"
export SQL_PASSWORD
dir=${SCHEMA_DIR:-/etc/temporal/schema/postgresql/v12}

tool() {
  database=$1
  shift
  temporal-sql-tool --plugin "${SQL_PLUGIN:-postgres12}" --ep "$SQL_HOST" -p "${SQL_PORT:-5432}" -u "$SQL_USER" --db "$database" "$@"
}

schema() {
  database=$1 versions=$2
  # An upgrade works only where a schema is; otherwise it is a first start.
  if tool "$database" update-schema -d "$versions" >/dev/null 2>&1; then
    echo "$database: schema is current"
    return
  fi
  echo "$database: first start, making the schema"
  tool "$database" create
  tool "$database" setup-schema -v 0.0
  tool "$database" update-schema -d "$versions"
}

schema temporal "$dir/temporal/versioned"
schema temporal_visibility "$dir/visibility/versioned"
