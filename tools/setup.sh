#!/bin/sh
# Installs what the Makefile's targets need and the machine lacks: by apt as root, Rust by rustup.
# Usage: tools/setup.sh PROGRAM-OR-FILE[:DEBIAN-PACKAGE] ...
set -eu
missing=""
for need in "$@"; do
    program=${need%%:*} package=${need#*:}
    command -v "$program" >/dev/null 2>&1 || [ -e "$program" ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "please install first: sudo apt-get install$missing" >&2
        exit 1
    fi
fi
# The newest release that any dependency asks for; Debian's own cargo is older.
oldest=1.89
version=$(PATH="$HOME/.cargo/bin:$PATH" cargo --version 2>/dev/null | cut -d' ' -f2 || true)
if [ "$(printf '%s\n%s\n' "$oldest" "${version:-0}" | sort -V | head -1)" != "$oldest" ]; then
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default --default-toolchain 1.95.0
fi
