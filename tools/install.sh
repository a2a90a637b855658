#!/usr/bin/env bash
# install.sh NAME: installs a tool of the tests into .tools/, unless that version is there.
set -euo pipefail
cd "$(dirname "$0")/.."

case $1 in
    caddy | ghz | grpcurl | helm | helm4 | kube-router | nats-server) exec tools/install-go-tool.sh "$1" ;;
    cargo-*) exec tools/install-cargo-tool.sh "$1" ;;
    clang | gcc | iproute2 | jdk | maven | tmux | valgrind) exec tools/install-optional.sh "$1" ;;
    python) exec tools/install-python.sh python tests/interop/python/requirements.txt ;;
    python-helm) exec tools/install-python.sh python-helm tests/helm/requirements.txt ;;
    python-clients) exec tools/install-python.sh python-clients clients/python/requirements.txt ;;
    *) exec "tools/install-$1.sh" ;;
esac
