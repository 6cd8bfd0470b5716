#!/bin/sh
# Installs what the Makefile's targets need and the machine lacks: by apt as root, Rust by rustup.
# Usage: tools/setup.sh PROGRAM[:DEBIAN-PACKAGE] ...
set -eu
missing=""
for need in "$@"; do
    program=${need%%:*} package=${need#*:}
    command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
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
if ! command -v cargo >/dev/null 2>&1 && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain 1.85.0
fi
