#!/usr/bin/env bash
# Installs buf from npm into .tools/bin/.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

skip_if_installed buf "$BUF_VERSION" "$BIN/buf"
need npm
say "Installing buf $BUF_VERSION"
"${NPM:-npm}" install --prefix "$TOOLS/npm" --no-save --no-audit --no-fund --loglevel=error "@bufbuild/buf@$BUF_VERSION" >/dev/null
ln -sf ../npm/node_modules/.bin/buf "$BIN/buf"
installed buf "$BUF_VERSION"
