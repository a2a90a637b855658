#!/usr/bin/env bash
# Takes HAProxy, nginx and h2load from the machine or from the distribution's packages, which it unpacks only, with the
# libraries that are missing here: installing nginx would start it.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

skip_if_installed distro-tools distribution
rm -rf "$TOOLS/distro" "$BIN"/{haproxy,nginx,h2load}
missing=() packages=()
for tool in haproxy:haproxy nginx:nginx h2load:nghttp2-client; do
    if ! PATH=$PATH:/usr/sbin command -v "${tool%:*}" >/dev/null; then
        missing+=("${tool%:*}") packages+=("${tool#*:}")
    fi
done

if [ ${#missing[@]} = 0 ]; then
    :
elif ! type apt-get dpkg >/dev/null 2>&1; then
    say "Not installed, so that their tests will be skipped: ${missing[*]}"
else
    say "Unpacking, from the distribution's packages: ${missing[*]}"
    mkdir "$TOOLS/distro"
    cd "$TOOLS/distro"
    mapfile -t packages < <(with_dependencies "${packages[@]}")
    unpack_packages "${packages[@]}"
    libraries=$(find "$PWD" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
    for program in usr/sbin/haproxy usr/sbin/nginx usr/bin/h2load; do
        [ -x "$program" ] || continue
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$PWD/$program" >"$BIN/${program##*/}"
        chmod +x "$BIN/${program##*/}"
    done
fi
installed distro-tools distribution
