"""Writes a container image to a file, without Docker: what image/Dockerfile says of the folder beside it.

    archive.py --tag NAME:TAG --arg VERSION=0.1.0 --output FILE target/image

The file is an OCI layout that `docker load`, `podman load`, `ctr images import`, `kind load image-archive` and `skopeo` take.
It knows the instructions that this Dockerfile has, and no others. The same folder gives the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import re
import shlex
import tarfile

DOCKERFILE = pathlib.Path(__file__).with_name("Dockerfile")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
OCI = "application/vnd.oci.image"


def instructions(text, arguments):
    """Each instruction with its value, the arguments put in."""
    known = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line or line.startswith("#"):
            continue
        name, value = line.split(maxsplit=1)
        if name == "ARG":
            key, _, default = value.partition("=")
            known[key] = arguments.get(key, default)
        else:
            yield name, re.sub(r"\$(\w+)", lambda word: known[word[1]], value)


def configuration(dockerfile, arguments):
    """The image's configuration, and the folder that is its one layer."""
    config, folder = {"Labels": {}, "Env": [], "ExposedPorts": {}}, None
    for name, value in instructions(dockerfile.read_text(encoding="utf-8"), arguments):
        if name == "COPY":
            folder, target = value.split()
            assert target == "/", f"COPY to {target}"
        elif name == "LABEL":
            config["Labels"].update(pair.split("=", 1) for pair in shlex.split(value))
        elif name == "ENV":
            config["Env"].append(value)
        elif name == "USER":
            config["User"] = value
        elif name == "EXPOSE":
            config["ExposedPorts"] = {f"{port}/tcp": {} for port in value.split()}
        elif name in ("ENTRYPOINT", "CMD"):
            config[name.capitalize()] = json.loads(value)
        else:
            assert (name, value) == ("FROM", "scratch"), f"{name} {value} is not known here"
    return config, folder


def add(archive, name, data):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(entry, io.BytesIO(data))


def layer(folder):
    """The folder as a tar: in order, without times, and root's, as COPY has it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            entry = archive.gettarinfo(path, str(path.relative_to(folder)))
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            with open(path, "rb") if entry.isfile() else io.BytesIO() as content:
                archive.addfile(entry, content)
    return out.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def image(dockerfile, folder, arguments, tag):
    """The files of the archive."""
    config, inner = configuration(dockerfile, arguments)
    content = layer(folder / inner)
    packed = gzip.compress(content, mtime=0)
    told = {
        "architecture": ARCHITECTURES[platform.machine()], "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(content)]}, "created": "1970-01-01T00:00:00Z",
    }
    blobs = {}

    def blob(kind, data):
        blobs[f"blobs/{digest(data).replace(':', '/')}"] = data
        return {"mediaType": f"{OCI}.{kind}", "digest": digest(data), "size": len(data)}

    def written(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    layers = [blob("layer.v1.tar+gzip", packed)]
    settings = blob("config.v1+json", written(told))
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": settings, "layers": layers}
    entry = blob("manifest.v1+json", written(manifest))
    full = tag if "/" in tag else f"docker.io/library/{tag}"
    entry["annotations"] = {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag.rpartition(":")[2]}
    path = lambda part: f"blobs/{part['digest'].replace(':', '/')}"
    return {
        "oci-layout": written({"imageLayoutVersion": "1.0.0"}),
        "index.json": written({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [entry]}),
        # For Docker before 25.
        "manifest.json": written([{"Config": path(settings), "RepoTags": [tag], "Layers": [path(part) for part in layers]}]),
        **blobs,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", default=DOCKERFILE, type=pathlib.Path, metavar="DOCKERFILE", help="default: the one beside this program")
    parser.add_argument("--tag", required=True)
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    files = image(options.file, options.folder, dict(pair.split("=", 1) for pair in options.arg), options.tag)
    with tarfile.open(options.output, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            add(archive, name, data)
    print(f"wrote {options.output}, {os.path.getsize(options.output) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
