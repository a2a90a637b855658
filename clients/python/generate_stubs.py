"""Generates the stubs of the API, and their types, from the protos of the repository or of the source distribution."""

from __future__ import annotations

import pathlib
import shutil
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = pathlib.Path("opflex/peerstatus/v1")


class GenerateStubs(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before each build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = pathlib.Path(self.root)
        bundled = root / "proto"  # in a source distribution
        protos = bundled if bundled.is_dir() else root.parents[1] / "proto"
        if self.target_name == "sdist":
            build_data["force_include"][str(protos / PACKAGE)] = str("proto" / PACKAGE)
            return
        generate(protos, root / "src")
        build_data["artifacts"].append("/src/opflex/**")


def generate(protos: pathlib.Path, into: pathlib.Path) -> None:
    """Writes the modules `opflex.peerstatus.v1.*_pb2` and their types."""
    import grpc_tools.protoc

    shutil.rmtree(into / PACKAGE.parts[0], ignore_errors=True)
    outputs = [f"--{kind}_out={into}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    includes = [f"--proto_path={path}" for path in (protos, pathlib.Path(grpc_tools.__file__).parent / "_proto")]
    files = sorted(str(file) for file in (protos / PACKAGE).glob("*.proto"))
    if grpc_tools.protoc.main(["protoc", *includes, *outputs, *files]) != 0:
        sys.exit(f"cannot generate the stubs of {protos}")
    (into / PACKAGE / "py.typed").touch()
