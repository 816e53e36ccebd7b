#!/bin/sh
# Collects the pom's run-time jars into DIR: collect.sh DIR -Dname.version=...
set -eu
dir=$1
shift
mvn -q -B -ntp "$@" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir"
# Native libraries of systems that this image never runs on.
rm -f "$dir"/*-osx-* "$dir"/*-windows-* "$dir"/*-kqueue-*
case $(uname -m) in
    x86_64) rm -f "$dir"/*-linux-aarch_64.jar "$dir"/*-linux-riscv64.jar ;;
    aarch64) rm -f "$dir"/*-linux-x86_64.jar "$dir"/*-linux-riscv64.jar ;;
esac
