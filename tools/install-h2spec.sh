#!/usr/bin/env bash
# Builds h2spec into .tools/bin/. It has no module file, so a module of ours pins its dependencies.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

module=$ROOT/tests/interop/h2spec
version=$(version_of "$module/go.sum")
skip_if_installed h2spec "$version" "$BIN/h2spec"
need go
say 'Installing h2spec'
cd "$module"
"${GO:-go}" build -mod=readonly -o "$BIN/h2spec" github.com/summerwind/h2spec/cmd/h2spec
installed h2spec "$version"
