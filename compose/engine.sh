#!/usr/bin/env bash
# Sees to it that a container engine and Compose v2 are there: engine.sh [start|stop|status]
#
# An engine that is there is used as it is and never changed or restarted; only
# one that this script started is ever stopped by it.
#
# For tests: HAOPS_ENGINE_RUN and HAOPS_ENGINE_LOG name other folders for the pid
# file and the log, HAOPS_DOCKERD_FLAGS gives the daemon more options.  Beside another
# engine never --bridge=none among them: it deletes that engine's docker0.
set -euo pipefail

readonly START_LIMIT_S=30
readonly STOP_LIMIT_S=30
# By then a daemon that was started by hand has written its pid file, or has ended.
readonly PID_LIMIT_S=3
readonly COMPOSE_IN_DEB=usr/libexec/docker/cli-plugins/docker-compose
readonly TROUBLE=3

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run_dir=${HAOPS_ENGINE_RUN:-/run/haops}
log_dir=${HAOPS_ENGINE_LOG:-/var/log/haops}
pid_file="$run_dir/dockerd.pid"
log_file="$log_dir/dockerd.log"

say() { printf 'engine: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit "$TROUBLE"
}

# Three lines, so that whoever reads them in a build log sees all of it at once.
refuse() {
    say "$1"
    say "haops sets an engine up by itself only on Debian or Ubuntu, as root or with password-less sudo;"
    say "elsewhere install Docker Engine 20.10 or newer with Compose v2, or start Docker Desktop."
    exit "$TROUBLE"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

can_be_root() {
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; }
}

has() { command -v "$1" >/dev/null 2>&1; }

# dockerd and debootstrap live in sbin, which is not on every user's PATH.
PATH="$PATH:/usr/sbin:/sbin"

# ------------------------------------------------------------------ engine

# answers | denied | silent | absent
engine_state() {
    local words
    has docker || { echo absent; return; }
    if words=$(docker version --format '{{.Server.Version}}' 2>&1); then
        echo answers
    elif [[ $words == *"permission denied"* ]]; then
        echo denied
    else
        echo silent
    fi
}

own_pid() {
    local pid
    [ -r "$pid_file" ] || return 1
    pid=$(cat "$pid_file")
    # A pid is reused sooner or later: only a dockerd counts.
    [ -r "/proc/$pid/comm" ] && [ "$(cat "/proc/$pid/comm")" = dockerd ] || return 1
    echo "$pid"
}

apt_install() {
    say "installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        >/dev/null 2>&1 || fail "apt-get could not install $*; try it by hand to see why"
}

apt_update() {
    [ -z "${updated:-}" ] || return 0
    as_root apt-get update -qq >/dev/null 2>&1 || say "apt-get update had trouble; going on"
    updated=yes
}

may_set_up() {
    can_be_root && has apt-get && [ -r /etc/debian_version ]
}

# Without a service manager nobody may have mounted the control groups that containers need.
ensure_cgroups() {
    local name enabled
    ! grep -q ' /sys/fs/cgroup' /proc/mounts || return 0
    say "mounting control groups"
    as_root mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    while read -r name _ _ enabled; do
        [ "$enabled" = 1 ] || continue
        as_root mkdir -p "/sys/fs/cgroup/$name"
        as_root mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" 2>/dev/null \
            || as_root rmdir "/sys/fs/cgroup/$name"
    done < <(grep -v '^#' /proc/cgroups 2>/dev/null || true)
    # A kernel with version 2 only.
    [ -n "$(ls -A /sys/fs/cgroup)" ] || as_root mount -t cgroup2 cgroup2 /sys/fs/cgroup
}

await_engine() {
    local watched=${1:-} begin=$SECONDS
    until docker version >/dev/null 2>&1; do
        [ "$(engine_state)" != denied ] || fail_denied
        [ $((SECONDS - begin)) -lt "$START_LIMIT_S" ] || return 1
        [ -z "$watched" ] || [ $((SECONDS - begin)) -lt "$PID_LIMIT_S" ] || own_pid >/dev/null || return 1
        sleep 0.2
    done
}

start_by_hand() {
    # A stale file makes the daemon refuse when its number now belongs to another process.
    own_pid >/dev/null || as_root rm -f "$pid_file"
    ensure_cgroups
    as_root mkdir -p "$run_dir" "$log_dir"
    say "starting dockerd; its log: $log_file"
    # shellcheck disable=SC2016,SC2086  # the inner shell expands these; the flags are a list of words
    as_root sh -c '
        log=$1 pid=$2 group=$3; shift 3
        setsid dockerd --pidfile "$pid" --group "$group" "$@" </dev/null >>"$log" 2>&1 &
    ' sh "$log_file" "$pid_file" "$(id -gn)" ${HAOPS_DOCKERD_FLAGS:-}
    if ! await_engine by-hand; then
        say "dockerd does not answer; the end of its log:"
        as_root tail -n 10 "$log_file" >&2
        exit "$TROUBLE"
    fi
}

start_engine() {
    if [ -n "${DOCKER_HOST:-}" ] && [ -z "${HAOPS_DOCKERD_FLAGS:-}" ]; then
        fail "the engine that DOCKER_HOST names does not answer: $DOCKER_HOST"
    fi
    may_set_up || refuse "no container engine answers"
    if ! has dockerd || ! has docker; then
        apt_update
        apt_install docker.io iptables
        installed=yes
    fi
    if [ -d /run/systemd/system ]; then
        say "starting the service docker"
        as_root systemctl start docker >/dev/null 2>&1 || true
        admit_user
        await_engine || fail "the service docker does not answer; see: journalctl -u docker"
    elif ! docker version >/dev/null 2>&1; then
        start_by_hand
    fi
}

# An engine that was installed a moment ago lets nobody in but root: admit who asked for it, now by
# the socket's group and from the next login on by the group docker.
admit_user() {
    [ -n "${installed:-}" ] && [ "$(id -u)" -ne 0 ] || return 0
    as_root usermod -aG docker "$(id -un)"
    as_root chgrp "$(id -gn)" /var/run/docker.sock
}

fail_denied() {
    fail "the engine is there, but $(id -un) may not use it;" \
        "run: sudo usermod -aG docker $(id -un), then log in again or prefix commands with: sg docker -c"
}

ensure_engine() {
    case $(engine_state) in
        answers) ;;
        denied) fail_denied ;;
        *)
            start_engine
            [ "$(engine_state)" != denied ] || fail_denied
            ;;
    esac
}

# ----------------------------------------------------------------- compose

# 2.23.1 is the first that knows configuration within the compose file.
has_compose() {
    local version
    version=$(docker compose version --short 2>/dev/null) || return 1
    [ "$(printf '%s\n' 2.23.1 "${version#v}" | sort -V | head -n 1)" = 2.23.1 ]
}

# The first package that brings Compose v2 here, by its candidate version.
compose_package() {
    local package candidate
    for package in docker-compose-plugin docker-compose-v2 docker-compose; do
        candidate=$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: *//p')
        case $candidate in
            '' | '(none)' | 1.*) ;;
            *) echo "$package"; return 0 ;;
        esac
    done
    return 1
}

plugin_folder() {
    if can_be_root; then
        echo /usr/local/lib/docker/cli-plugins
    else
        echo "${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins"
    fi
}

# Debian 12 has Compose v1 only.  The plug-in is one static binary, so the one
# in the package of Debian 13 does as well; a container of that suite fetches it.
compose_from_trixie() {
    local folder target work
    bash "$here/images/base.sh" trixie || exit "$TROUBLE"
    folder=$(plugin_folder)
    target="$folder/docker-compose"
    say "fetching the Compose plug-in"
    work=$(mktemp -d)
    # shellcheck disable=SC2064  # the folder of now, not of later
    trap "rm -rf '$work'" EXIT
    docker run --rm --network host haops/base:trixie sh -c '
        cd /tmp && apt-get update -qq >&2 && apt-get download -qq docker-compose >&2 \
            && dpkg-deb --fsys-tarfile docker-compose_*.deb
    ' 2>"$work/log" | tar -C "$work" -x "./$COMPOSE_IN_DEB" 2>/dev/null || {
        tail -n 5 "$work/log" >&2
        fail "the Compose plug-in could not be fetched"
    }
    if can_be_root; then
        as_root install -D -m 0755 "$work/$COMPOSE_IN_DEB" "$target"
    else
        install -D -m 0755 "$work/$COMPOSE_IN_DEB" "$target"
    fi
}

ensure_compose() {
    local package
    ! has_compose || return 0
    if may_set_up; then
        apt_update
        if package=$(compose_package); then
            apt_install "$package"
        fi
    fi
    if ! has_compose; then
        has apt-get || refuse "the docker command has no Compose v2"
        compose_from_trixie
    fi
    has_compose || fail "the Compose plug-in is installed, but the command docker compose does not answer"
}

# ------------------------------------------------------------------- verbs

start() {
    ensure_engine
    ensure_compose
}

stop() {
    local pid deadline=$((SECONDS + STOP_LIMIT_S))
    if ! pid=$(own_pid); then
        as_root rm -f "$pid_file" 2>/dev/null || true
        say "no engine of haops is running"
        return 0
    fi
    as_root kill -TERM "$pid"
    while own_pid >/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || fail "dockerd $pid does not end"
        sleep 0.2
    done
    as_root rm -f "$pid_file"
    say "stopped dockerd $pid"
}

status() {
    local state owner=
    state=$(engine_state)
    case $state in
        answers) ;;
        denied) fail_denied ;;
        *) fail "no container engine answers" ;;
    esac
    ! own_pid >/dev/null || owner=" (started by haops)"
    echo "engine $(docker version --format '{{.Server.Version}}')$owner," \
        "compose $(docker compose version --short 2>/dev/null || echo missing)"
    has_compose || exit "$TROUBLE"
}

case ${1:-start} in
    start) start ;;
    stop) stop ;;
    status) status ;;
    *)
        echo "usage: engine.sh [start|stop|status]" >&2
        exit 2
        ;;
esac
