#!/usr/bin/env bash
# install-c-library.sh BUILT-FOLDER: installs the C library below PREFIX, in DESTDIR if that is set. LIBDIR and INCLUDEDIR name other
# folders than lib and include there.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$1 prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib} includedir=${INCLUDEDIR:-$prefix/include}

install -d "$DESTDIR$libdir/pkgconfig" "$DESTDIR$includedir"
install -m 755 "$built"/lib/libopflex-peerstatus.so.*.*.* "$DESTDIR$libdir/"
cp -P "$built"/lib/libopflex-peerstatus.so "$built"/lib/libopflex-peerstatus.so.? "$DESTDIR$libdir/"
install -m 644 "$built"/lib/libopflex-peerstatus.a "$DESTDIR$libdir/"
install -m 644 clients/c/include/opflex-peerstatus.h "$DESTDIR$includedir/"
# Apart from other headers, because the framework has headers of these names, too.
install -d "$DESTDIR$includedir/opflex-peerstatus-compat/opflex/c"
install -m 644 clients/c/include/compat/opflex/c/*.h "$DESTDIR$includedir/opflex-peerstatus-compat/opflex/c/"
sed -e "s|@PREFIX@|$prefix|" -e "s|@LIBDIR@|$libdir|" -e "s|@INCLUDEDIR@|$includedir|" \
    "$built/opflex-peerstatus.pc.in" >"$DESTDIR$libdir/pkgconfig/opflex-peerstatus.pc"
chmod 644 "$DESTDIR$libdir/pkgconfig/opflex-peerstatus.pc"
