#!/bin/bash
# Writes S3Proxy's properties from the environment, makes the buckets, becomes the server.
#
# S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY are what clients sign with, S3_BUCKETS are names
# separated by blanks. What clients store is in /data.
set -euo pipefail

java=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx256m -cp "/opt/s3/conf:/opt/s3/lib/*" org.gaul.s3proxy.Main)

if [ "${1:-}" = --version ]; then
    exec "${java[@]}" --version
fi

# A properties file has escapes of its own, so that other characters would be read as something else.
check() {
    if [[ ! ${!1:-} =~ ^[A-Za-z0-9/+=._-]+$ ]]; then
        echo "$1 must be set, to letters, digits and / + = . _ - only" >&2
        exit 2
    fi
}

check S3_ACCESS_KEY_ID
check S3_SECRET_ACCESS_KEY
for bucket in ${S3_BUCKETS:-}; do
    check bucket
    mkdir -p "/data/$bucket"
done

umask 077
# obstore sends checksums that S3Proxy doesn't know; without the last line it refuses to delete objects.
printf '%s\n' \
    s3proxy.endpoint=http://0.0.0.0:9000 \
    s3proxy.authorization=aws-v2-or-v4 \
    "s3proxy.identity=$S3_ACCESS_KEY_ID" \
    "s3proxy.credential=$S3_SECRET_ACCESS_KEY" \
    jclouds.provider=filesystem-nio2 \
    jclouds.identity=none \
    jclouds.credential=none \
    jclouds.filesystem.basedir=/data \
    s3proxy.ignore-unknown-headers=true \
    >/run/s3/s3proxy.conf
unset S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY

exec "${java[@]}" --properties /run/s3/s3proxy.conf
