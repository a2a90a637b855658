#!/usr/bin/env bash
# install-c-library.sh BUILT-FOLDER: installs the C library below PREFIX, in DESTDIR if that is set. LIBDIR and INCLUDEDIR name other
# folders than lib and include there.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$1 prefix=${PREFIX:-/usr/local} dest=${DESTDIR:-}
libdir=${LIBDIR:-$prefix/lib} includedir=${INCLUDEDIR:-$prefix/include}

install -d "$dest$libdir/pkgconfig" "$dest$includedir"
install -m 755 "$built"/lib/libopflex-peerstatus.so.*.*.* "$dest$libdir/"
cp -P "$built"/lib/libopflex-peerstatus.so "$built"/lib/libopflex-peerstatus.so.? "$dest$libdir/"
install -m 644 "$built"/lib/libopflex-peerstatus.a "$dest$libdir/"
install -m 644 clients/c/include/opflex-peerstatus.h "$dest$includedir/"
# Apart from other headers, because the framework has headers of these names, too.
install -d "$dest$includedir/opflex-peerstatus-compat/opflex/c"
install -m 644 clients/c/include/compat/opflex/c/*.h "$dest$includedir/opflex-peerstatus-compat/opflex/c/"
sed -e "s|@PREFIX@|$prefix|" -e "s|@LIBDIR@|$libdir|" -e "s|@INCLUDEDIR@|$includedir|" \
    "$built/opflex-peerstatus.pc.in" >"$dest$libdir/pkgconfig/opflex-peerstatus.pc"
chmod 644 "$dest$libdir/pkgconfig/opflex-peerstatus.pc"
