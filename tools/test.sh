#!/usr/bin/env bash
# test.sh STAGE…: runs these targets of the Makefile one after another, and prints what each of them runs.
set -euo pipefail

describe() { sed -nE "s/^$1:[^#]*## (.*)/\1/p" Makefile; }

echo "### $# stages: $*"
number=0
for stage in "$@"; do
    number=$((number + 1)) started=$SECONDS
    echo "### $number/$# make $stage: $(describe "$stage")"
    "${MAKE:-make}" --no-print-directory "$stage" || { echo "### $stage FAILED after $((SECONDS - started)) s" >&2; exit 1; }
    echo "### $stage ok, $((SECONDS - started)) s"
done
