#!/bin/sh
# Makes the namespace and the eight search attributes that every run writes. May be run again at any time: only what is missing is made.
# Needs the temporal CLI and TEMPORAL_ADDRESS; TEMPORAL_NAMESPACE (default), RETENTION (30d), WAIT_SECONDS (120) may be set.
set -eu

: "${TEMPORAL_ADDRESS:?}"
namespace=${TEMPORAL_NAMESPACE:-default}

# The port answers before the service does.
left=${WAIT_SECONDS:-120}
until temporal operator cluster health >/dev/null 2>&1; do
  left=$((left - 1))
  if [ "$left" -le 0 ]; then
    echo "Temporal at $TEMPORAL_ADDRESS does not become healthy" >&2
    exit 1
  fi
  sleep 1
done

if temporal operator namespace describe --namespace "$namespace" >/dev/null 2>&1; then
  echo "namespace $namespace: is there"
else
  temporal operator namespace create --namespace "$namespace" --retention "${RETENTION:-30d}" >/dev/null
  echo "namespace $namespace: made"
fi

attribute() {
  name=$1 type=$2
  # A namespace made a moment ago is not known to every part of the server yet: some tries.
  tries=30
  while :; do
    if temporal operator search-attribute list --namespace "$namespace" 2>/dev/null | grep -qw "$name"; then
      echo "search attribute $name: is there"
      return
    fi
    if temporal operator search-attribute create --namespace "$namespace" --name "$name" --type "$type" >/dev/null 2>&1; then
      echo "search attribute $name: made"
      return
    fi
    tries=$((tries - 1))
    if [ "$tries" -le 0 ]; then
      echo "search attribute $name could not be made" >&2
      exit 1
    fi
    sleep 1
  done
}

for name in MigrationName MigrationDatabase MigrationKind MigrationPhase MigrationStatus MigrationEnvironment MigrationRisk; do
  attribute "$name" Keyword
done
attribute NeedsApproval Bool
