#!/usr/bin/env bash
# Installs the distribution's chromium, and the packages that drive it, for the tests of the status page. Without chromium
# these are skipped and say so.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

if ! command -v chromium >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say 'Installing chromium'
        install=(apt-get -qq install --yes --no-install-recommends chromium fonts-dejavu-core)
        { "${install[@]}" || { apt-get -qq update && "${install[@]}"; }; } >/dev/null 2>&1 || true
    fi
    command -v chromium >/dev/null || say 'No chromium: the tests of the status page will be skipped'
fi

browser=$ROOT/tests/browser
version=$(version_of "$browser/package-lock.json")
skip_if_installed chromium "$version" "$browser/node_modules"
need npm
say 'Installing playwright-core and axe-core'
"${NPM:-npm}" ci --prefix "$browser" --no-audit --no-fund --loglevel=error >/dev/null
installed chromium "$version"
