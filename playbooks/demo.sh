#!/usr/bin/env bash
# What `make demo` shows: three clusters up, one kill each, what it cost. Whatever happens, the
# clusters go again at the end; the report stays.
# Usage: playbooks/demo.sh HAOPS
set -euo pipefail
haops=$1
clusters=(demo-redis demo-zookeeper demo-cassandra)
trap '"$haops" down "${clusters[@]}" --volumes' EXIT
"$haops" up all --name demo
"$haops" status "${clusters[@]}"
"$haops" drill run kill-primary --prefix demo
