#!/bin/bash
# zkServer.sh start-foreground [CONFIG] | status [CONFIG] | version
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=zkEnv.sh
. "$(dirname "$(readlink -f "$0")")/zkEnv.sh"

verb=${1:-}
config=${2:-${ZOOCFG:-zoo.cfg}}
[[ $config == */* ]] || config="$ZOOCFGDIR/$config"

# JVMFLAGS and SERVER_JVMFLAGS are lists of words, as they are for the official scripts.
# shellcheck disable=SC2206
words=(${JVMFLAGS:-} ${SERVER_JVMFLAGS:-})

start() {
    local jmx=()
    # The remote access switches of the official script want a port; local access needs one property.
    [ "${JMXDISABLE:-false}" = true ] || jmx=(-Dcom.sun.management.jmxremote.local.only=true)
    exec java "${archive_flags[@]}" "-Xmx${ZK_SERVER_HEAP:-1000}m" \
        -XX:+ExitOnOutOfMemoryError -XX:-UsePerfData \
        "-Dzookeeper.log.dir=${ZOO_LOG_DIR:-/logs}" \
        -Dlogback.configurationFile=logback.xml \
        "${jmx[@]}" "${words[@]}" \
        -cp "$classpath" org.apache.zookeeper.server.quorum.QuorumPeerMain "$config"
}

# Asked over the port itself: a JVM for one question takes longer than an election.
status() {
    local port address answer mode
    port=$(sed -n 's/^clientPort=//p' "$config" | tail -n 1)
    address=$(sed -n 's/^clientPortAddress=//p' "$config" | tail -n 1)
    if [ -z "$port" ]; then
        # server.N=host:2888:3888[:role];[address:]port
        port=$(sed -n "s/^server\.$(cat "${ZOO_DATA_DIR:-/data}/myid")=.*;//p" "$config" | tail -n 1)
        [[ $port != *:* ]] || { address=${port%:*}; port=${port##*:}; }
    fi
    [ "$address" != 0.0.0.0 ] || address=
    answer=$(printf srvr | nc -w 2 "${address:-127.0.0.1}" "${port:-2181}" || true)
    mode=$(sed -n 's/^Mode: //p' <<<"$answer")
    if [ -z "$mode" ]; then
        echo "Error contacting service. It is probably not running." >&2
        exit 1
    fi
    echo "Mode: $mode"
}

case $verb in
    start-foreground) start ;;
    status) status ;;
    version) exec java "${archive_flags[@]}" -cp "$classpath" org.apache.zookeeper.version.VersionInfoMain ;;
    *)
        echo "usage: zkServer.sh start-foreground|status|version [CONFIG]" >&2
        exit 2
        ;;
esac
