#!/usr/bin/env bash
# Takes promtool from the machine or from the distribution's package, which it unpacks only: installing the package
# would start its server.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

skip_if_installed promtool distribution "$BIN/promtool"
if command -v promtool >/dev/null; then
    ln -sf "$(command -v promtool)" "$BIN/promtool"
elif type apt-get dpkg >/dev/null 2>&1; then
    say "Unpacking promtool, from the distribution's package prometheus"
    rm -rf "$TOOLS/prometheus"
    mkdir "$TOOLS/prometheus"
    cd "$TOOLS/prometheus"
    unpack_packages prometheus
    ln -sf ../prometheus/usr/bin/promtool "$BIN/promtool"
else
    fail 'promtool is missing, to test the alerts. Install Prometheus: https://prometheus.io/download'
fi
installed promtool distribution
