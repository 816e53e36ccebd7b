#!/usr/bin/env bash
# Makes .venv with haops and its development tools, pinned by constraints.txt.
# Usage: compose/venv.sh [--renew] [PYTHON]; --renew writes constraints.txt anew from what pip resolves.
set -euo pipefail
cd "$(dirname "$0")/.."
renew=no
if [ "${1:-}" = --renew ]; then
  renew=yes
  shift
fi
python=${1:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "haops needs Python 3.11 or newer; $python is $("$python" --version 2>&1 || true)." >&2
  echo "Install one, for instance: apt-get install python3.12 python3.12-venv" >&2
  echo "Then name it: make PYTHON=python3.12 ..." >&2
  exit 3
fi

# Debian and Ubuntu split the parts that make a virtual environment off into a package.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  if ! command -v apt-get >/dev/null; then
    echo "$python cannot make virtual environments: install its venv package, then try again." >&2
    exit 3
  fi
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  echo "venv: installing python$version-venv" >&2
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "python$version-venv" >/dev/null
fi

if [ "$renew" = yes ]; then
  fresh=$(mktemp -d)
  trap 'rm -rf "$fresh"' EXIT
  "$python" -m venv "$fresh"
  "$fresh/bin/python" -m pip install -q --upgrade pip
  "$fresh/bin/python" -m pip install -q -e . --group dev
  { head -n 1 constraints.txt; "$fresh/bin/python" -m pip freeze --exclude-editable; } > constraints.new
  mv constraints.new constraints.txt
  exit 0
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "venv: installing haops and its tools into .venv" >&2
.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt "pip>=25.1"
.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e . --group dev
