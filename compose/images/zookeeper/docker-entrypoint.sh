#!/bin/bash
# Writes zoo.cfg and myid where there are none, steps down from root, then becomes the server.
set -euo pipefail

own_all() {
    chown -R zookeeper:zookeeper "$ZOO_DATA_DIR" "$ZOO_DATA_LOG_DIR" "$ZOO_LOG_DIR"
}

write_config() {
    local server
    printf '%s=%s\n' \
        dataDir "$ZOO_DATA_DIR" \
        dataLogDir "$ZOO_DATA_LOG_DIR" \
        tickTime "${ZOO_TICK_TIME:-2000}" \
        initLimit "${ZOO_INIT_LIMIT:-5}" \
        syncLimit "${ZOO_SYNC_LIMIT:-2}" \
        autopurge.snapRetainCount "${ZOO_AUTOPURGE_SNAPRETAINCOUNT:-3}" \
        autopurge.purgeInterval "${ZOO_AUTOPURGE_PURGEINTERVAL:-0}" \
        maxClientCnxns "${ZOO_MAX_CLIENT_CNXNS:-60}" \
        standaloneEnabled "${ZOO_STANDALONE_ENABLED:-true}" \
        admin.enableServer "${ZOO_ADMINSERVER_ENABLED:-true}"
    for server in ${ZOO_SERVERS:-"server.1=localhost:2888:3888;2181"}; do
        printf '%s\n' "$server"
    done
    [ -z "${ZOO_4LW_COMMANDS_WHITELIST:-}" ] \
        || printf '4lw.commands.whitelist=%s\n' "$ZOO_4LW_COMMANDS_WHITELIST"
    for server in ${ZOO_CFG_EXTRA:-}; do
        printf '%s\n' "$server"
    done
}

if [ "${1:-}" = zkServer.sh ] && [ "$(id -u)" -eq 0 ]; then
    own_all
    exec setpriv --reuid=zookeeper --regid=zookeeper --init-groups "${BASH_SOURCE[0]}" "$@"
fi

if [ "${1:-}" = zkServer.sh ]; then
    [ -f "$ZOO_CONF_DIR/zoo.cfg" ] || write_config >"$ZOO_CONF_DIR/zoo.cfg"
    [ -f "$ZOO_DATA_DIR/myid" ] || printf '%s\n' "${ZOO_MY_ID:-1}" >"$ZOO_DATA_DIR/myid"
fi

exec "$@"
