#!/usr/bin/env bash
# build-python-package.sh FOLDER: builds the source distribution of clients/python, the wheel from that, and installs the wheel
# into .tools/gen/python-package, for the tests.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

folder=$1 installed=$TOOLS/gen/python-package
say 'Building the package for Python'
rm -rf "$folder" "$installed"
# protoc finds its plugins for the types there.
scripts=$("$BIN/python-clients" -c 'import mypy_protobuf, pathlib; print(next(p for p in (f / "bin" for f in pathlib.Path(mypy_protobuf.__file__).parents) if (p / "protoc-gen-mypy").exists()))')
PATH=$scripts:$PATH "$BIN/python-clients" -m build --no-isolation --outdir "$folder" "$ROOT/clients/python" >"$TOOLS/python-package.log" 2>&1 ||
    { cat "$TOOLS/python-package.log" >&2; fail 'the package for Python cannot be built'; }
"$BIN/python-clients" -m pip --disable-pip-version-check install --quiet --no-deps --no-compile --target "$installed" "$folder"/*.whl
