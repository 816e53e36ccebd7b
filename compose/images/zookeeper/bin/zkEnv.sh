#!/bin/bash
# shellcheck disable=SC2034  # what is set here is used where this is sourced
# Sourced by the scripts beside it; not a command.
#
# Sets `classpath` and `archive_flags`.  The jars come before the configuration
# directory because the class archive is valid only while the jars are the first
# part of the class path, and a directory cannot be archived.

ZOO_HOME=${ZOO_HOME:-$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")}
ZOOCFGDIR=${ZOOCFGDIR:-/conf}
if [ -r "$ZOOCFGDIR/java.env" ]; then
    # shellcheck source=/dev/null
    . "$ZOOCFGDIR/java.env"
fi

jar_path() {
    local jars=("$ZOO_HOME"/lib/*.jar)
    local IFS=:
    printf '%s' "${jars[*]}"
}

classpath="$(jar_path):$ZOOCFGDIR"
archive_flags=("-XX:SharedArchiveFile=$ZOO_HOME/zookeeper.jsa" -Xshare:auto)
