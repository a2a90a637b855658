#!/usr/bin/env bash
# install-cargo-tool.sh NAME: builds a subcommand of cargo into .tools/bin/.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

name=$1 note=
case $name in
    cargo-cyclonedx) version=$CARGO_CYCLONEDX_VERSION ;;
    cargo-deny)      version=$CARGO_DENY_VERSION note=' (takes minutes, once)' ;;
    cargo-fuzz)      version=$CARGO_FUZZ_VERSION ;;
    *) fail "$name is not one of cargo-cyclonedx, cargo-deny, cargo-fuzz" ;;
esac

skip_if_installed "$name" "$version" "$BIN/$name"
need cargo
say "Installing $name $version$note"
# A debug build: the tool runs for a second, and an optimised build takes minutes.
"${CARGO:-cargo}" install --quiet --debug --root "$TOOLS" --locked "$name@$version"
installed "$name" "$version"
