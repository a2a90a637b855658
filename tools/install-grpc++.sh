#!/usr/bin/env bash
# Installs grpc++ from the distribution, with apt-get and where it may: that is what users in C++ have, and building it
# from source takes an hour.
set -euo pipefail

packages=(g++ pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc)
is_installed() {
    type "${CXX:-g++}" pkg-config protoc grpc_cpp_plugin >/dev/null 2>&1 && pkg-config --exists grpc++ protobuf
}

if is_installed; then exit 0; fi
as_root=(sudo -n)
if [ "$(id -u)" = 0 ]; then as_root=(env); fi
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    echo "==> Installing on this machine, with apt-get: ${packages[*]}"
    # On failure the check below says what to do.
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --no-install-recommends "${packages[@]}" >/dev/null || true
fi
is_installed || {
    echo "install-grpc++.sh: grpc++ is missing, to build the C++ client. Install, under Debian's names: ${packages[*]}." >&2
    exit 1
}
