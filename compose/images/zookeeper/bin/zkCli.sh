#!/bin/bash
# The interactive client, and `zkCli.sh -server HOST:PORT COMMAND ...` for one command.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=zkEnv.sh
. "$(dirname "$(readlink -f "$0")")/zkEnv.sh"

# shellcheck disable=SC2206
words=(${CLIENT_JVMFLAGS:-})

exec java "${archive_flags[@]}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
    "-Xmx${ZK_CLIENT_HEAP:-128}m" -Dlogback.configurationFile=logback-tools.xml \
    "${words[@]}" -cp "$classpath" org.apache.zookeeper.ZooKeeperMain "$@"
