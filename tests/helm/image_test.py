"""The image: small, static, and at work in a root folder with nothing else in it, as the chart's pod starts it.

Not among `test_*.py`: it needs the static binary, which `make image-test` builds.
"""

import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import unittest

from chart import ROOT, config, manifests, service_container
from container import PATIENCE_S, Container, until
from test_config import Files

IMAGE = pathlib.Path(os.environ["IMAGE_ROOT"])
BINARY = "/usr/bin/peerstatus"
# Of this binary, which is built without optimisation across crates; that of `make image` is a quarter smaller.
LARGEST = 30 * 1000 * 1000
NAME = "leaf-101.fabric.example"
PROGRAM_HEADERS, HEADER_SIZE, HEADER_COUNT, INTERPRETER = (32, "<Q"), (54, "<H"), (56, "<H"), 3


def field(data, at):
    return struct.unpack_from(at[1], data, at[0])[0]


def instructions(name):
    """The Dockerfile's last stage, an instruction a line, without where its files come from."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [re.sub(r"\s+", " ", line) for line in text.splitlines() if line and not line.startswith("#")]
    last = max(n for n, line in enumerate(lines) if line.startswith("FROM "))
    return [line for line in lines[last + 1 :] if not line.startswith("COPY ")]


class Contents(unittest.TestCase):
    def test_there_is_the_binary_and_hardly_anything_else(self):
        files = sorted(str(path.relative_to(IMAGE)) for path in IMAGE.rglob("*") if not path.is_dir())
        self.assertEqual(files, ["etc/group", "etc/passwd", "usr/bin/peerstatus"])
        self.assertLessEqual(sum((IMAGE / name).stat().st_size for name in files), LARGEST)

    def test_the_binary_needs_no_loader(self):
        data = (IMAGE / BINARY.lstrip("/")).read_bytes()
        start, size, count = (field(data, at) for at in (PROGRAM_HEADERS, HEADER_SIZE, HEADER_COUNT))
        kinds = [struct.unpack_from("<I", data, start + n * size)[0] for n in range(count)]
        self.assertNotIn(INTERPRETER, kinds)

    def test_both_dockerfiles_end_in_the_same_image(self):
        self.assertEqual(instructions("Dockerfile"), instructions("image/Dockerfile"))
        last = instructions("image/Dockerfile")
        for line in ("USER 65532:65532", f'ENTRYPOINT ["{BINARY}"]', 'CMD ["serve"]', "ENV PATH=/usr/bin"):
            self.assertIn(line, last)
        version = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"]
        self.assertIn(f"ARG VERSION={version}", last)
        rust = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["package"]["rust-version"]
        self.assertIn(f"rust:{rust}-", (ROOT / "Dockerfile").read_text(encoding="utf-8"))


class Archive(unittest.TestCase):
    """What `make image-archive` writes."""

    def test_it_is_the_folder_and_what_the_dockerfile_says(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "image.tar")
            program = [sys.executable, str(ROOT / "image" / "archive.py"), "--tag", "peers:1", "--arg", "VERSION=7.8.9"]
            command = [*program, "--output", str(path), str(IMAGE.parent)]
            subprocess.run(command, check=True, capture_output=True)
            first = path.read_bytes()
            subprocess.run(command, check=True, capture_output=True)
            self.assertEqual(path.read_bytes(), first, "it is not the same twice")
        with tarfile.open(fileobj=io.BytesIO(first)) as archive:
            files = {entry.name: archive.extractfile(entry).read() for entry in archive}
        for name, data in files.items():
            if name.startswith("blobs/sha256/"):
                self.assertEqual(name.rpartition("/")[2], hashlib.sha256(data).hexdigest())
        self.check(files)

    def check(self, files):
        def blob(part):
            data = files[f"blobs/{part['digest'].replace(':', '/')}"]
            self.assertEqual(len(data), part["size"])
            return data

        [entry] = json.loads(files["index.json"])["manifests"]
        manifest = json.loads(blob(entry))
        told = json.loads(blob(manifest["config"]))
        self.assertEqual(told["config"]["User"], "65532:65532")
        self.assertEqual((told["config"]["Entrypoint"], told["config"]["Cmd"]), ([BINARY], ["serve"]))
        self.assertEqual(told["config"]["Labels"]["org.opencontainers.image.version"], "7.8.9")
        self.assertEqual(told["config"]["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0")
        [part] = manifest["layers"]
        content = gzip.decompress(blob(part))
        self.assertEqual(told["rootfs"]["diff_ids"], ["sha256:" + hashlib.sha256(content).hexdigest()])
        with tarfile.open(fileobj=io.BytesIO(content)) as layer:
            listed = {entry.name: entry for entry in layer}
            self.assertEqual(layer.extractfile(BINARY.lstrip("/")).read(), (IMAGE / BINARY.lstrip("/")).read_bytes())
        self.assertEqual(sorted(listed), sorted(str(path.relative_to(IMAGE)) for path in IMAGE.rglob("*")))
        self.assertEqual({(entry.uid, entry.gid) for entry in listed.values()}, {(0, 0)})


@unittest.skipUnless(os.geteuid() == 0, "SKIPPED: namespaces are root's to make")
class Run(unittest.TestCase):
    def enter(self, context):
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def started(self, *arguments, image=IMAGE, **more):
        container = self.enter(Container(image, [BINARY, *arguments], **more))
        until("`listening on`", lambda: "listening on" in container.output() or container.process.poll() is not None)
        self.assertIsNone(container.process.poll(), container.output())
        return container

    def test_names_resolve_with_nothing_but_hosts_and_resolv_conf(self):
        with tempfile.TemporaryDirectory() as folder:
            bare = pathlib.Path(folder, "root")
            (bare / "usr" / "bin").mkdir(parents=True)
            shutil.copy2(IMAGE / BINARY.lstrip("/"), bare / "usr" / "bin")
            peers = [option for host in (NAME, "in-hosts", "nowhere.example") for option in ("--peer", f"{host}:9")]
            container = self.started("serve", *peers, image=bare, hosts="127.0.0.2 in-hosts\n")
        container.start_beside(["python3", str(pathlib.Path(__file__).with_name("nameserver.py")), NAME])

        def reasons():
            lines = container.inside([BINARY, "peers", "list", "-o", "json"]).stdout.splitlines()
            return {peer["host"]: peer["reason"] for peer in map(json.loads, lines)}

        # Nobody listens there: a name that resolves fails one step later.
        refused, unknown = "REASON_CONNECT_FAILED", "REASON_RESOLVE_FAILED"
        expected = {NAME: refused, "in-hosts": refused, "nowhere.example": unknown}
        until(str(expected), lambda: reasons() == expected)

    def test_it_does_its_work_as_the_pod_starts_it(self):
        for case in ("peers", "live", "service-accounts"):
            with self.subTest(case):
                self.work(case)

    def work(self, case):
        found = manifests(case)
        container = service_container(found)
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder).chmod(0o755)
            text = Files().write(config(found), folder).replace(f'"{folder}/', '"/etc/peerstatus/')
            pathlib.Path(folder, "config").mkdir()
            pathlib.Path(folder, "config", "peerstatus.toml").write_text(text, encoding="utf-8")
            mounts = [(folder, "/etc/peerstatus", "ro,nosuid,nodev")]
            sockets = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "socket"]
            mounts += [("tmpfs", path, "mode=1777,size=1m") for path in sockets]
            running = self.started(*container["args"], mounts=mounts, env={"PATH": "/usr/bin:" + os.environ["PATH"]})
            admin = tomllib.loads(text)["server"]["admin"].replace("[::]", "127.0.0.1")
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                path = container[probe]["httpGet"]["path"]
                until(f"200 for {path}\n{running.output()}", lambda path=path: running.get(admin, path) == 200)
            self.assertEqual(running.terminate(), 0, running.output())


if __name__ == "__main__":
    unittest.main()
