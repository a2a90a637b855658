#!/usr/bin/env bash
# Installs iproute2, for the tests in network namespaces. Without it, or without root, these are skipped and say so, so
# this script never fails.
set -euo pipefail

skipped='the tests in network namespaces will be skipped'
if [ "$(id -u)" != 0 ]; then
    echo "==> Not root: $skipped"
    exit 0
fi
if command -v ip >/dev/null; then exit 0; fi
echo '==> Installing iproute2'
if command -v apt-get >/dev/null; then
    { apt-get -qq install --yes iproute2 || { apt-get -qq update && apt-get -qq install --yes iproute2; }; } >/dev/null 2>&1
elif command -v dnf >/dev/null; then
    dnf --quiet --assumeyes install iproute
elif command -v apk >/dev/null; then
    apk add --quiet iproute2
else
    false
fi || echo "==> No iproute2: $skipped"
