#!/bin/bash
# Records which classes starts need and writes the archive: record-archive.sh FILE.
#
# Three servers elect a leader and answer a client, since what a member of an
# ensemble loads differs from what a lone server does.  Loopback addresses are
# drawn at random: a build shares the host's network.
set -euo pipefail

readonly START_LIMIT_S=90
archive=$1
self=$(readlink -f "$0")

if [ "$(id -u)" -eq 0 ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chown zookeeper "$work"
    if setpriv --reuid=zookeeper --regid=zookeeper --init-groups \
        env WORK="$work" HOME="$work" "$self" "$archive"; then
        install -m 0444 "$work/archive.jsa" "$archive"
    else
        # A server without the archive is slower to start and otherwise the same.
        echo "WARNING: no class archive was made; ZooKeeper will start more slowly" >&2
    fi
    exit 0
fi

WORK=${WORK:?the first call, as root, sets it}
network="127.$((RANDOM % 200 + 20)).$((RANDOM % 250 + 1))"
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null || true' EXIT

start() {
    local id=$1 conf="$WORK/conf$1" other
    mkdir -p "$conf" "$WORK/data$id"
    cp /conf/logback*.xml "$conf"
    echo "$id" >"$WORK/data$id/myid"
    {
        printf '%s\n' "dataDir=$WORK/data$id" tickTime=500 initLimit=20 syncLimit=5 \
            "clientPortAddress=$network.$id" clientPort=2181 \
            "admin.serverAddress=$network.$id" 4lw.commands.whitelist=srvr,mntr,ruok
        for other in 1 2 3; do
            echo "server.$other=$network.$other:2888:3888"
        done
    } >"$conf/zoo.cfg"
    ZOOCFGDIR="$conf" ZOO_LOG_DIR="$WORK" ZK_SERVER_HEAP=128 \
        SERVER_JVMFLAGS="-XX:DumpLoadedClassList=$WORK/server$id.classes" \
        zkServer.sh start-foreground >"$WORK/server$id.log" 2>&1 &
    pids+=($!)
}

serves() {
    local answer
    answer=$(printf srvr | nc -w 2 "$network.$1" 2181 2>/dev/null || true)
    [[ $answer == *Mode:* ]]
}

await() {
    local id=$1 deadline=$((SECONDS + START_LIMIT_S))
    until serves "$id"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$WORK/server$id.log" >&2
            return 1
        fi
        sleep 0.2
    done
}

exercise() {
    local id
    for id in 1 2 3; do
        printf mntr | nc -w 2 "$network.$id" 2181 >/dev/null || true
    done
    printf 'GET /commands/monitor HTTP/1.0\r\n\r\n' | nc -w 2 "$network.1" 8080 >/dev/null || true
    printf '%s\n' 'create /haops-build a' 'set /haops-build b' 'get -s /haops-build' 'ls /' \
        'delete /haops-build' quit \
        | CLIENT_JVMFLAGS="-XX:DumpLoadedClassList=$WORK/client.classes" \
            zkCli.sh -server "$network.1:2181,$network.2:2181" >/dev/null 2>&1 || true
}

dump() {
    local jars=("$ZOO_HOME"/lib/*.jar)
    cat "$WORK"/*.classes | awk '!/^#/ && !seen[$0]++' >"$WORK/all.list"
    # Only with G1 can a dump keep heap objects; every collector can use them.
    java -Xshare:dump -XX:+UseG1GC -Xlog:disable -Xlog:all=error:stderr \
        "-XX:SharedClassListFile=$WORK/all.list" "-XX:SharedArchiveFile=$WORK/archive.jsa" \
        -cp "$(IFS=:; printf '%s' "${jars[*]}")" >/dev/null
}

for id in 1 2 3; do start "$id"; done
for id in 1 2 3; do await "$id"; done
exercise
# One server leaves first, so that the others elect again and that is recorded too.
kill "${pids[2]}"
sleep 2
kill "${pids[@]}" 2>/dev/null || true
for pid in "${pids[@]}"; do
    wait "$pid" || true
done
dump
[ -s "$WORK/archive.jsa" ]
echo "recorded $(wc -l <"$WORK/all.list") classes"
