#!/bin/sh
# Writes PgBouncer's files at the first start and starts it. databases.ini is kept afterwards: a switch rewrites it.
# DIR (/etc/pgbouncer), TARGET (host=... of the database) and PORT (6432) may be set; START=no writes the files only.
set -eu

: "${SHOP_PASSWORD:?}" "${PGBOUNCER_ADMIN_PASSWORD:?}"
dir=${DIR:-/etc/pgbouncer}
umask 077

printf '"shop" "%s"\n"pgbouncer" "%s"\n' "$SHOP_PASSWORD" "$PGBOUNCER_ADMIN_PASSWORD" >"$dir/users.txt"
if [ ! -f "$dir/databases.ini" ]; then
  printf '[databases]\napp = %s\n' "${TARGET:-host=postgres-blue port=5432 dbname=app}" >"$dir/databases.ini"
fi
cat >"$dir/pgbouncer.ini" <<INI
%include $dir/databases.ini
[pgbouncer]
listen_addr = ${LISTEN:-0.0.0.0}
listen_port = ${PORT:-6432}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $dir/users.txt
admin_users = pgbouncer
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
server_reset_query_always = 0
ignore_startup_parameters = extra_float_digits
INI

[ "${START:-yes}" = no ] || exec pgbouncer "$dir/pgbouncer.ini"
