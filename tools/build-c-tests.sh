#!/usr/bin/env bash
# build-c-tests.sh BUILT-FOLDER OUTPUT-FOLDER: installs the C library below OUTPUT-FOLDER, and builds the example and the tests with it,
# with every compiler that is there, as C99 and as C++17.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$1 out=$2
rm -rf "$out"
mkdir -p "$out"
env -u DESTDIR PREFIX="$out/prefix" tools/install-c-library.sh "$built"
export PKG_CONFIG_PATH=$out/prefix/lib/pkgconfig
# shellcheck disable=SC2046 # several options
set -- $(pkg-config --cflags opflex-peerstatus)
cflags=("$@" -Wall -Wextra -Wpedantic -Werror -O1 -g)
# shellcheck disable=SC2046
set -- $(pkg-config --libs opflex-peerstatus)
libs=("$@" "-Wl,-rpath,$out/prefix/lib" -pthread)
# shellcheck disable=SC2046
set -- $(pkg-config --libs --static opflex-peerstatus)
static=("${@/-lopflex-peerstatus/-l:libopflex-peerstatus.a}" -pthread)
compat=-I$out/prefix/include/opflex-peerstatus-compat

built_any=no
for compiler in gcc clang; do
    if ! command -v "$compiler" >/dev/null; then
        echo "==> No $compiler: its builds of the C tests are skipped"
        continue
    fi
    built_any=yes
    for language in c99 c++17; do
        as=(-x "${language%%[0-9]*}" -std="$language")
        for source in examples/c/watch.c tests/c/cases.c; do
            name=$(basename "$source" .c)
            "$compiler" "${as[@]}" "${cflags[@]}" "$source" -x none "${libs[@]}" -o "$out/$name-$compiler-$language"
        done
        "$compiler" "${as[@]}" "${cflags[@]}" -DHEADER='<opflex-peerstatus.h>' tests/c/reference.c -x none "${libs[@]}" -o "$out/reference-ours"
        "$compiler" "${as[@]}" "${cflags[@]}" "$compat" -DHEADER='<opflex/c/ofpeerstatuslistener_c.h>' tests/c/reference.c -x none "${libs[@]}" \
            -o "$out/reference-compat"
    done
    "$compiler" -std=c99 "${cflags[@]}" tests/c/cases.c "${libs[@]}" -o "$out/cases"
    "$compiler" -std=c99 "${cflags[@]}" tests/c/cases.c "${static[@]}" -o "$out/cases-static"
    # The compiler may be installed without the runtime of the sanitizer.
    if ! "$compiler" -std=c99 "${cflags[@]}" -fsanitize=address,undefined tests/c/cases.c "${libs[@]}" -o "$out/cases-asan-$compiler"; then
        echo "==> No AddressSanitizer of $compiler: its test is skipped"
    fi
done
[ $built_any = yes ] || { echo 'build-c-tests.sh: Neither gcc nor clang is there.' >&2; exit 1; }
