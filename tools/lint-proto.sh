#!/usr/bin/env bash
# lint-proto.sh BASELINE: lints the API with buf, and checks that clients of the last release go on working.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
baseline=$1
say 'Linting proto/'
"$BIN/buf" lint proto
"$BIN/buf" format --diff --exit-code proto
say "Comparing proto/ with the last release, $baseline"
"$BIN/buf" breaking proto --against "$baseline"

# Checks that the comparison finds a break at all: here, another number of a field.
broken=$(mktemp -d)
trap 'rm -rf "$broken"' EXIT
cp -r proto/. "$broken"
sed -i.bak 's/uint32 port = 4;/uint32 port = 40;/' "$broken/opflex/peerstatus/v1/types.proto"
code=0
"$BIN/buf" breaking "$broken" --against "$baseline" >/dev/null || code=$?
[ $code = 100 ] || fail "buf must find that a field has another number (exit code 100, not $code)."
