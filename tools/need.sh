#!/usr/bin/env bash
# need.sh COMMAND: fails unless the command is on the machine, and says what to install.
# An environment variable of the same name in upper case names another program: PYTHON=python3.12.
set -euo pipefail

case $1 in
    cargo)  program=${CARGO:-cargo}    install='Rust from https://rustup.rs, to build the service' ;;
    go)     program=${GO:-go}          install='Go from https://go.dev/dl, to install grpcurl and helm and to run the Go client' ;;
    npm)    program=${NPM:-npm}        install='Node.js with npm from https://nodejs.org, to install buf and to run the Node.js client' ;;
    python) program=${PYTHON:-python3} install='Python 3.10 or newer, to run the OpFlex peer and the Python client' ;;
    *) echo "need.sh: $1 is not one of cargo, go, npm, python" >&2; exit 2 ;;
esac
command -v "$program" >/dev/null || { echo "need.sh: $program is missing. Install $install." >&2; exit 1; }
