#!/usr/bin/env bash
# Makes the image haops/base:SUITE that all haops images are built from.
#
# A registry is asked first. Where none can be reached, the same small system
# is put together from Debian's packages, so that a machine that reaches nothing but
# package registries can build everything.
set -euo pipefail

readonly PULL_TIMEOUT_S=90

say() { printf 'base: %s\n' "$*" >&2; }

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

refuse() {
    say "cannot make haops/base:$suite here: $1"
    say "either let the engine reach a registry that has debian:$suite-slim,"
    say "or run this on Debian or Ubuntu as root (or with password-less sudo)."
    exit 3
}

pull() {
    # macOS has no timeout command.
    local limit=()
    ! command -v timeout >/dev/null 2>&1 || limit=(timeout "$PULL_TIMEOUT_S")
    ${limit[@]+"${limit[@]}"} docker pull -q "debian:$suite-slim" >/dev/null 2>&1 || return 1
    docker tag "debian:$suite-slim" "$ref"
}

ensure_debootstrap() {
    local missing=()
    command -v debootstrap >/dev/null 2>&1 || [ -x /usr/sbin/debootstrap ] || missing+=(debootstrap)
    # Ubuntu's debootstrap cannot check a Debian suite's signatures without Debian's keys.
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    [ "${#missing[@]}" -eq 0 ] && return 0
    command -v apt-get >/dev/null 2>&1 || refuse "it needs debootstrap"
    say "installing ${missing[*]}"
    # Two suites are made at the same time: each waits for the other's hold on the package system.
    (
        flock 9
        as_root apt-get update -qq >/dev/null
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            -o DPkg::Lock::Timeout=300 "${missing[@]}" >/dev/null
    ) 9>"${TMPDIR:-/tmp}/haops-apt-$(id -u).lock"
}

# Documentation, translations and package caches are dead weight in a server image.
strip_root() {
    local root=$1
    as_root find "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/var/log" -type f -delete
    as_root rm -rf "$root/usr/share/man" "$root/usr/share/info" "$root/usr/share/lintian"
    as_root find "$root/usr/share/doc" -type f ! -name copyright -delete
    as_root find "$root/usr/share/locale" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
    # Later installs in derived images must not bring all that back.
    printf 'path-exclude=/usr/share/%s/*\n' man info locale lintian \
        | as_root tee "$root/etc/dpkg/dpkg.cfg.d/haops-slim" >/dev/null
    printf '%s\n' 'APT::Install-Recommends "false";' 'Acquire::Languages "none";' \
        | as_root tee "$root/etc/apt/apt.conf.d/haops-slim" >/dev/null
}

bootstrap() {
    can_be_root || refuse "no registry answers and this user may not become root"
    ensure_debootstrap
    # debootstrap lives in sbin, which is not on every user's PATH.
    PATH="$PATH:/usr/sbin:/sbin"
    local log
    work=$(mktemp -d)
    trap 'as_root rm -rf "$work"' EXIT
    log="$work/debootstrap.log"
    say "no registry answers; putting $suite together from packages"
    if ! as_root debootstrap --variant=minbase --include=ca-certificates "$suite" "$work/root" \
        >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        refuse "debootstrap failed"
    fi
    strip_root "$work/root"
    as_root tar --numeric-owner -C "$work/root" -c . \
        | docker import -c 'CMD ["bash"]' -m "debootstrap $suite" - "$ref" >/dev/null
}

main() {
    suite=${1:-}
    case $suite in
        trixie | bookworm) ;;
        *)
            echo "usage: base.sh trixie|bookworm" >&2
            exit 2
            ;;
    esac
    ref="haops/base:$suite"
    docker image inspect "$ref" >/dev/null 2>&1 && exit 0
    docker version >/dev/null 2>&1 || { say "no container engine answers"; exit 3; }
    pull || bootstrap
    say "made $ref"
}

main "$@"
