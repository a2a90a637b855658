#!/usr/bin/env bash
# install-python.sh NAME REQUIREMENTS: makes .tools/bin/NAME, an interpreter that has the packages of a file. It runs a
# venv or, where Python comes without venv (Debian), the machine's interpreter with the packages in a folder.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

name=$1 requirements=$2 python=${PYTHON:-python3}
version=$(version_of "$requirements")
skip_if_installed "$name" "$version" "$BIN/$name"
need python
say "Installing the packages of $requirements"

folder=$TOOLS/$name
rm -rf "$folder"
mkdir "$folder"
pip_install=(-m pip --disable-pip-version-check --no-input install --quiet --requirement "$requirements")
if "$python" -m venv "$folder/venv" >"$folder/venv.log" 2>&1; then
    "$folder/venv/bin/python" "${pip_install[@]}"
    run="\"\$(dirname \"\$0\")\"/../$name/venv/bin/python"
elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" "${pip_install[@]}" --target "$folder/site"
    run="env PYTHONPATH=\"\$(dirname \"\$0\")/../$name/site:\${PYTHONPATH:-}\" $python"
else
    cat "$folder/venv.log" >&2
    fail "$python has neither venv nor pip. On Debian and Ubuntu: apt install python3-venv."
fi
printf '#!/bin/sh\nexec %s "$@"\n' "$run" >"$BIN/$name"
chmod +x "$BIN/$name"
installed "$name" "$version"
