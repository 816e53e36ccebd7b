#!/bin/bash
# What clusters rely on in an image: contract.sh NAME, run as root inside a container of the image.
#
# The same for the local images and the official ones, so that either can be
# used.  Prints one line an item: ITEM <tab> ok|fail <tab> DETAIL.
set -u

report() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }

identity() {
    local user=$1 want=$2 got
    got="$(id -u "$user" 2>/dev/null):$(id -g "$user" 2>/dev/null)"
    if [ "$got" = "$want" ]; then
        report "user $user" ok "$got"
    else
        report "user $user" fail "is $got, must be $want: volumes belong to the number"
    fi
}

commands() {
    local name path
    for name; do
        if path=$(command -v "$name"); then
            report "command $name" ok "$path"
        else
            report "command $name" fail "not on PATH"
        fi
    done
}

optional_command() {
    report "command $1 (optional)" ok "$(command -v "$1" || echo 'not there')"
}

entrypoint() {
    if [ -x "$1" ]; then
        report entrypoint ok "$1"
    else
        report entrypoint fail "$1 is not there or cannot be executed"
    fi
}

writable() {
    local folder
    for folder; do
        if as_user test -w "$folder"; then
            report "folder $folder" ok "writable"
        else
            report "folder $folder" fail "not there, or not writable for $ids"
        fi
    done
}

readable() {
    if as_user test -r "$1"; then
        report "file $1" ok "readable"
    else
        report "file $1" fail "not there, or not readable for $ids"
    fi
}

# Classes kept ready for mapping: without them everything works, only more slowly.
archive() {
    local found
    found=$(compgen -G "$1" | head -n 1)
    report "class archive (optional)" ok "${found:-not there: starts take longer}"
}

version() {
    local words
    words=$(as_user "$@" 2>/dev/null | grep -m 1 -E '[0-9]+\.[0-9]+')
    if [ -n "$words" ]; then
        report version ok "${words:0:100}"
    else
        report version fail "no answer from: $*"
    fi
}

as_user() { setpriv --reuid="${ids%:*}" --regid="${ids#*:}" --clear-groups "$@"; }

ids=0:0
case ${1:-} in
    redis)
        ids=999:999
        identity redis "$ids"
        commands bash setpriv redis-server redis-sentinel redis-cli
        entrypoint /usr/local/bin/docker-entrypoint.sh
        writable /data
        version redis-server --version
        ;;
    zookeeper)
        ids=1000:1000
        identity zookeeper "$ids"
        commands bash java zkServer.sh zkCli.sh nc
        entrypoint /docker-entrypoint.sh
        writable /data /datalog /logs /conf
        readable /conf/logback.xml
        archive '/apache-zookeeper-*/zookeeper.jsa'
        version zkServer.sh version
        ;;
    cassandra)
        ids=999:999
        identity cassandra "$ids"
        commands bash java cassandra nodetool
        optional_command cqlsh
        entrypoint /usr/local/bin/docker-entrypoint.sh
        writable /var/lib/cassandra /var/log/cassandra /etc/cassandra
        readable /etc/cassandra/cassandra.yaml
        archive /opt/cassandra/cassandra.jsa
        version cassandra -v
        ;;
    tools)
        commands bash ip tc iptables
        version iptables --version
        ;;
    s3)
        ids=1000:1000
        identity s3 "$ids"
        commands bash java
        entrypoint /docker-entrypoint.sh
        writable /data /run/s3
        readable /opt/s3/conf/logback.xml
        version /docker-entrypoint.sh --version
        ;;
    guard)
        commands python3 haops
        entrypoint /usr/local/bin/haops
        version haops --version
        ;;
    *)
        echo "usage: contract.sh redis|zookeeper|cassandra|tools|guard|s3" >&2
        exit 2
        ;;
esac
