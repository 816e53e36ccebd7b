#!/bin/bash
# Records which classes a start needs and writes the archive: record-archive.sh FILE.
#
# Two nodes form a ring and answer a few queries, so that what nodes say to each
# other is recorded too.  Loopback addresses and ports are drawn at random: a
# build shares the host's network, and something may well run there.
set -euo pipefail

readonly START_LIMIT_S=120
archive=$1
self=$(readlink -f "$0")
home=${CASSANDRA_HOME:-/opt/cassandra}

# As the server's own user: Cassandra refuses to be root.
if [ "$(id -u)" -eq 0 ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chown cassandra "$work"
    if setpriv --reuid=cassandra --regid=cassandra --init-groups \
        env WORK="$work" HOME="$work" "$self" "$archive"; then
        install -m 0444 "$work/archive.jsa" "$archive"
    else
        # A server without the archive is slower to start and otherwise the same.
        echo "WARNING: no class archive was made; Cassandra will start more slowly" >&2
    fi
    exit 0
fi

WORK=${WORK:?the first call, as root, sets it}
network="127.$((RANDOM % 200 + 20)).$((RANDOM % 250 + 1))"
jmx_base=$((RANDOM % 10000 + 20000))
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null || true' EXIT

configure() {
    local node=$1 conf="$WORK/conf$1"
    cp -r /etc/cassandra "$conf"
    sed -i -E \
        -e "s|/var/lib/cassandra|$WORK/data$node|" \
        -e "s|^(listen_address\|rpc_address):.*|\1: $network.$node|" \
        -e "s|(- seeds:).*|\1 \"$network.1\"|" \
        -e "s|^num_tokens:.*|num_tokens: 1|" \
        -e "s|^allocate_tokens.*|initial_token: ${node}000|" \
        "$conf/cassandra.yaml"
    echo "auto_bootstrap: false" >>"$conf/cassandra.yaml"
}

start() {
    local node=$1
    configure "$node"
    CASSANDRA_CONF="$WORK/conf$node" CASSANDRA_LOG_DIR="$WORK" JMX_PORT=$((jmx_base + node)) \
        MAX_HEAP_SIZE=384M HEAP_NEWSIZE=96M \
        JVM_EXTRA_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto
            -XX:DumpLoadedClassList=$WORK/server$node.classes
            -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=1000
            -Dcassandra.superuser_setup_delay_ms=0" \
        cassandra -f >"$WORK/server$node.log" 2>&1 &
    pids+=($!)
}

await_port() {
    local node=$1 deadline=$((SECONDS + START_LIMIT_S))
    until (exec 3<>"/dev/tcp/$network.$node/9042") 2>/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "${pids[$((node - 1))]}" 2>/dev/null; then
            tail -n 20 "$WORK/server$node.log" >&2
            return 1
        fi
        sleep 0.2
    done
}

# Frames of CQL's binary protocol, version 4: version, flags, stream, opcode, length, body.
hex() {
    local digits=$1 at escaped=
    for ((at = 0; at < ${#digits}; at += 2)); do
        escaped+="\\x${digits:at:2}"
    done
    printf '%b' "$escaped"
}
query_frame() {
    local text=$1 size=${#1}
    hex "$(printf '0400000107%08x%08x' $((size + 7)) "$size")"
    printf '%s' "$text"
    hex "000100"
}

ask() {
    local node=$1 statement
    shift
    exec 4<>"/dev/tcp/$network.$node/9042"
    # STARTUP with {"CQL_VERSION": "3.0.0"}.
    hex "040000000100000016" >&4
    hex "0001000b" >&4
    printf 'CQL_VERSION' >&4
    hex "0005" >&4
    printf '3.0.0' >&4
    head -c 9 <&4 >/dev/null
    for statement in "$@"; do
        query_frame "$statement" >&4
        # One byte of the answer is enough to know that the statement is done.
        timeout 20 head -c 1 <&4 >/dev/null || true
        sleep 0.3
        timeout 0.1 cat <&4 >/dev/null || true
    done
    exec 4>&-
}

exercise() {
    local table=haops_build.t
    ask 1 "CREATE KEYSPACE haops_build WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 2}" \
        "CREATE TABLE $table (k int PRIMARY KEY, v text)" \
        "INSERT INTO $table (k, v) VALUES (1, 'a')" \
        "SELECT * FROM $table WHERE k = 1"
    ask 2 "SELECT key FROM system.local" "SELECT * FROM system.peers" "SELECT * FROM system_schema.tables" \
        "INSERT INTO $table (k, v) VALUES (2, 'b') IF NOT EXISTS" "SELECT * FROM $table" "TRUNCATE $table"
    NODETOOL_JVM_OPTS="-XX:DumpLoadedClassList=$WORK/tool.classes" \
        nodetool -p $((jmx_base + 2)) status >/dev/null
    nodetool -p $((jmx_base + 2)) flush >/dev/null || true
}

dump() {
    local jars=("$home"/lib/*.jar)
    cat "$WORK"/*.classes | awk '!/^#/ && !seen[$0]++' >"$WORK/all.list"
    # Only with G1 can a dump keep heap objects; every collector can use them.
    java -Xshare:dump -XX:+UseG1GC -Xlog:disable -Xlog:all=error:stderr \
        "@$home/bin/modules.options" \
        "-XX:SharedClassListFile=$WORK/all.list" "-XX:SharedArchiveFile=$WORK/archive.jsa" \
        -cp "$(IFS=:; printf '%s' "${jars[*]}")" >/dev/null
}

start 1
await_port 1
start 2
await_port 2
exercise
kill "${pids[@]}"
for pid in "${pids[@]}"; do
    wait "$pid" || true
done
dump
[ -s "$WORK/archive.jsa" ]
echo "recorded $(wc -l <"$WORK/all.list") classes"
