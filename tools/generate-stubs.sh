#!/usr/bin/env bash
# generate-stubs.sh (python | go FOLDER | go-check | google-rpc): generates stubs of the API: for the tests in Python, and of the client in Go.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
stubs=$TOOLS/gen/$1
case $1 in
    python)
        say 'Generating the Python stubs'
        rm -rf "$stubs" && mkdir -p "$stubs"
        find proto/opflex -name '*.proto' -exec "$BIN/python" -m grpc_tools.protoc --proto_path=proto \
            --python_out="$stubs" --grpc_python_out="$stubs" {} +
        ;;
    go)
        say 'Generating the stubs of the client in Go'
        rm -rf "$2/opflex"
        cd clients/go
        "$BIN/buf" generate ../../proto --path ../../proto/opflex --output "$2"
        ;;
    go-check)
        fresh=$(mktemp -d)
        trap 'rm -rf "$fresh"' EXIT
        "$0" go "$fresh" >/dev/null
        diff -r "$fresh/opflex" clients/go/opflex || fail 'the stubs in clients/go are not those of proto/: run `make go-stubs`'
        ;;
    # The protos of error details, from Python's package: the packages for Node.js and C++ do not contain them.
    google-rpc)
        rm -rf "$stubs" && mkdir -p "$stubs/google/rpc"
        package=$("$BIN/python" -c 'import google.rpc.status_pb2 as m; print(m.__file__.rpartition("/")[0])')
        cp "$package"/{status,error_details}.proto "$stubs/google/rpc"
        ;;
    *) fail "$1 is not one of python, go, go-check, google-rpc" ;;
esac
