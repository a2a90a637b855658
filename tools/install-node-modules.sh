#!/usr/bin/env bash
# Installs the packages of the example in Node.js, which the tests use too, where Node.js looks for them.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

example=$ROOT/examples/node
version=$(version_of "$example/package-lock.json")
skip_if_installed node-modules "$version" "$example/node_modules"
need npm
say 'Installing @grpc/grpc-js and @grpc/proto-loader'
"${NPM:-npm}" ci --prefix "$example" --no-audit --no-fund --loglevel=error >/dev/null
installed node-modules "$version"
