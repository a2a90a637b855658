#!/usr/bin/env bash
# Unpacks libfaketime of the distribution into .tools/, for the steps of the clock in tests/faults. Without it these are
# skipped, so this script never fails.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

skip_if_installed libfaketime distribution
rm -rf "$TOOLS/libfaketime"
mkdir "$TOOLS/libfaketime"
cd "$TOOLS/libfaketime"
if type apt-get dpkg >/dev/null 2>&1; then
    say 'Unpacking libfaketime, from the distribution'\''s packages'
    unpack_packages libfaketime 2>/dev/null || say 'No libfaketime: the clock will not be stepped'
else
    say 'No apt: the clock will not be stepped'
fi
# Where it is depends on the architecture.
library=$(find "$PWD" -name libfaketimeMT.so.1)
[ -z "$library" ] || ln -sf "$library" "$TOOLS/libfaketime/libfaketime.so"
installed libfaketime distribution
