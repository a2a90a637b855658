# Functions of the install scripts, which source this file. The Makefile runs them all, each time: a script whose
# tool is installed in the right version does nothing.
# shellcheck shell=bash

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=$ROOT/.tools
BIN=$TOOLS/bin
STAMPS=$TOOLS/stamps
mkdir -p "$BIN" "$STAMPS"
# shellcheck source=tools/versions.sh
. "$ROOT/tools/versions.sh"

say() { echo "==> $*"; }
fail() { echo "${0##*/}: $*" >&2 && exit 1; }

# need COMMAND: exits unless it is on the machine.
need() { "$ROOT/tools/need.sh" "$1"; }

# skip_if_installed NAME VERSION [PATH]: ends the script if that version is installed, and PATH is still there.
skip_if_installed() {
    if [ "$(cat "$STAMPS/$1" 2>/dev/null)" = "$2" ] && [ -e "${3:-$STAMPS/$1}" ]; then exit 0; fi
    rm -f "$STAMPS/$1"
}

# installed NAME VERSION: notes that it is. The Makefile rebuilds what depends on the file when its time changes.
installed() { echo "$2" >"$STAMPS/$1"; }

# version_of FILE: a version that changes with the content of a lock file.
version_of() { cksum <"$1"; }

# unpack_packages PACKAGE…: unpacks packages of the distribution (apt) into the working directory.
unpack_packages() {
    local package
    apt-get -qq download "$@" 2>/dev/null || { apt-get -qq update && apt-get -qq download "$@"; }
    for package in ./*.deb; do dpkg -x "$package" .; done
    rm ./*.deb
}

# with_dependencies PACKAGE…: prints these packages of the distribution and those that they depend on, without what is installed here.
with_dependencies() {
    # Without its lists, apt-get does not know what the packages depend on.
    apt-get --simulate install --no-install-recommends "$@" >/dev/null 2>&1 || apt-get -qq update
    apt-get --simulate install --no-install-recommends "$@" | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}
