#!/bin/bash
# Fills in addresses and what CASSANDRA_* says, steps down from root, then becomes the server.
set -euo pipefail

yaml="${CASSANDRA_CONF:-/etc/cassandra}/cassandra.yaml"
rackdc="${CASSANDRA_CONF:-/etc/cassandra}/cassandra-rackdc.properties"

case "${1:-}" in
    '' | -*) set -- cassandra -f "$@" ;;
esac

# Rewritten in place, not replaced: a file that is mounted by itself cannot be renamed over.
edit() {
    local file=$1 expression=$2 text
    text=$(sed -E "$expression" "$file")
    printf '%s\n' "$text" >"$file"
}

set_yaml() {
    local key=$1 value=$2
    if grep -qE "^#? ?$key:" "$yaml"; then
        edit "$yaml" "s|^#? ?$key:.*|$key: $value|"
    else
        printf '%s: %s\n' "$key" "$value" >>"$yaml"
    fi
}

own_address() {
    local all
    all=$(hostname -i)
    printf '%s' "${all%% *}"
}

configure() {
    local listen broadcast name variable
    listen=${CASSANDRA_LISTEN_ADDRESS:-auto}
    [ "$listen" != auto ] || listen=$(own_address)
    broadcast=${CASSANDRA_BROADCAST_ADDRESS:-$listen}
    set_yaml listen_address "$listen"
    set_yaml broadcast_address "$broadcast"
    set_yaml rpc_address "${CASSANDRA_RPC_ADDRESS:-0.0.0.0}"
    set_yaml broadcast_rpc_address "${CASSANDRA_BROADCAST_RPC_ADDRESS:-$broadcast}"
    edit "$yaml" "s|(- seeds:).*|\1 \"${CASSANDRA_SEEDS:-$broadcast}\"|"
    for name in cluster_name endpoint_snitch num_tokens; do
        variable="CASSANDRA_${name^^}"
        [ -z "${!variable:-}" ] || set_yaml "$name" "${!variable}"
    done
    for name in dc rack; do
        variable="CASSANDRA_${name^^}"
        [ -z "${!variable:-}" ] || edit "$rackdc" "s|^$name=.*|$name=${!variable}|"
    done
}

if [ "$1" = cassandra ] && [ "$(id -u)" -eq 0 ]; then
    find "${CASSANDRA_CONF:-/etc/cassandra}" /var/lib/cassandra /var/log/cassandra \
        \! -user cassandra -exec chown cassandra:cassandra {} + || true
    exec setpriv --reuid=cassandra --regid=cassandra --init-groups "${BASH_SOURCE[0]}" "$@"
fi

if [ "$1" = cassandra ]; then
    configure
fi

exec "$@"
