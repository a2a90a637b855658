#!/usr/bin/env bash
# link-c-library.sh ARCHIVE OUTPUT-FOLDER: makes the C library, shared and static, in OUTPUT-FOLDER/lib, from the static library that
# cargo has built.
set -euo pipefail
cd "$(dirname "$0")/.."
archive=$1 out=$2

source=clients/c
version=$(sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' $source/Cargo.toml)
soname=libopflex-peerstatus.so.${version%%.*}

mkdir -p "$out/lib"
cp "$archive" "$out/lib/libopflex-peerstatus.a"
# What Rust's standard library needs of the system: `rustc --print native-static-libs`.
private=(-lgcc_s -lutil -lrt -lpthread -lm -ldl)
# The threads of the library never end, so it must not be unloaded.
"${CC:-cc}" -shared -o "$out/lib/libopflex-peerstatus.so.$version" \
    -Wl,-soname,"$soname" -Wl,--version-script=$source/libopflex-peerstatus.map \
    -Wl,--whole-archive "$out/lib/libopflex-peerstatus.a" -Wl,--no-whole-archive \
    -Wl,--gc-sections -Wl,-z,defs -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now "${private[@]}"
ln -sf "libopflex-peerstatus.so.$version" "$out/lib/$soname"
ln -sf "$soname" "$out/lib/libopflex-peerstatus.so"
sed -e "s|@VERSION@|$version|" -e "s|@PRIVATE@|${private[*]}|" $source/opflex-peerstatus.pc.in >"$out/opflex-peerstatus.pc.in"
