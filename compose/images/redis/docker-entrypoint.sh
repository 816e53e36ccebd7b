#!/bin/bash
# Steps down from root to redis, then becomes the server.
set -euo pipefail

# `docker run IMAGE --port 7000` and `docker run IMAGE my.conf` mean the server.
case "${1:-}" in
    -* | *.conf) set -- redis-server "$@" ;;
esac

serves() {
    case "${1:-}" in
        redis-server | redis-sentinel) return 0 ;;
        *) return 1 ;;
    esac
}

if serves "$@"; then
    umask 0077
    if [ "$(id -u)" -eq 0 ] && [ -z "${SKIP_DROP_PRIVS:-}" ]; then
        # A bind mount keeps its host owner, which redis may not write to.
        if [ -z "${SKIP_FIX_PERMS:-}" ]; then
            find /data \! -user redis -exec chown redis:redis {} + || true
        fi
        exec setpriv --reuid=redis --regid=redis --init-groups "$@"
    fi
fi

exec "$@"
