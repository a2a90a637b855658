#!/usr/bin/env bash
# build-image-root.sh TARGET_DIR ROOT [CARGO_OPTION…]: builds the static binary for STATIC_TARGET in TARGET_DIR, and
# makes ROOT, the root folder of the container image.
set -euo pipefail

target_dir=$1 root=$2
shift 2
RUSTFLAGS='-C target-feature=+crt-static' "${CARGO:-cargo}" build --release --locked --bin peerstatus \
    --target "$STATIC_TARGET" --target-dir "$target_dir" "$@"
rm -rf "$root"
install -D -m 755 "$target_dir/$STATIC_TARGET/release/peerstatus" "$root/usr/bin/peerstatus"
install -d -m 755 "$root/etc"
echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' >"$root/etc/passwd"
echo 'nonroot:x:65532:' >"$root/etc/group"
