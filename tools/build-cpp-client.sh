#!/usr/bin/env bash
# build-cpp-client.sh PROTO…: builds the C++ client of the tests, .tools/cpp/life, with the protos under proto/.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
say 'Building the C++ client'
output=$TOOLS/cpp google_rpc=$TOOLS/gen/google-rpc
protos=("${@#proto/}" google/rpc/status.proto google/rpc/error_details.proto) services=() sources=()
for proto in "${protos[@]}"; do
    sources+=("$output/${proto%.proto}.pb.cc")
    case $proto in *_service.proto) services+=("$proto") ;; esac
done
read -ra compile_flags < <(pkg-config --cflags grpc++ protobuf)
read -ra link_flags < <(pkg-config --libs grpc++ protobuf)

rm -rf "$output"
mkdir -p "$output"
protoc -I proto -I "$google_rpc" --cpp_out="$output" "${protos[@]}"
protoc -I proto --grpc_out="$output" --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" "${services[@]}"
# life.cc includes the stubs of the services: most of the time goes into grpc++'s headers, which are then read once.
"${CXX:-g++}" -std=c++17 -O0 -I "$output" "${compile_flags[@]}" tests/interop/cpp/life.cc "${sources[@]}" \
    -o "$output/life" "${link_flags[@]}"
