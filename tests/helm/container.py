"""Runs the image's root folder as a container would: its own network, mounts and processes, a user that may nothing.

Needs root, to make the namespaces; nothing else of the machine is touched.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 20
# $1: the root folder, $2: further mounts, one a line: SOURCE TARGET OPTIONS; from $3 on: the command.
ENTER = """
set -e
ip link set lo up
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
printf '%s' "$2" | while read -r source target options; do
    if [ "$source" = tmpfs ]; then mount -t tmpfs -o "$options" tmpfs "$1$target"; continue; fi
    mount --bind "$source" "$1$target"
    mount -o "remount,bind,$options" "$1$target"
done
mount -o remount,bind,ro "$1"
root=$1
shift 2
exec setpriv --no-new-privs chroot --userspec=65532:65532 --groups=65532 "$root" "$@"
"""


def until(what, probe):
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE_S} s in vain for {what}")
        time.sleep(0.02)
    return answer


class Container:
    """One that runs `command` in a copy of the root folder `image`."""

    def __init__(self, image, command, mounts=(), env=None, hosts="127.0.0.1 localhost\n", nameserver="127.0.0.1"):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.root = self.folder / "root"
        shutil.copytree(image, self.root, symlinks=True)
        for place in ("proc", *(target.lstrip("/") for _, target, _ in mounts)):
            (self.root / place).mkdir(parents=True, exist_ok=True)
        (self.root / "etc").mkdir(exist_ok=True)
        (self.root / "etc" / "hosts").write_text(hosts, encoding="utf-8")
        (self.root / "etc" / "resolv.conf").write_text(f"nameserver {nameserver}\n", encoding="utf-8")
        self.log = open(self.folder / "log", "w+b")
        listed = "".join(f"{source} {target} {options}\n" for source, target, options in mounts)
        enter = ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork"]
        # A container's environment is the image's and the pod's, and nothing of ours; `sh` needs a PATH.
        environment = {"PATH": os.environ["PATH"], **(env or {})}
        self.process = subprocess.Popen(
            [*enter, "sh", "-c", ENTER, "sh", str(self.root), listed, *command], env=environment,
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        self.helpers = []

    def output(self):
        self.log.flush()
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def _beside(self, command):
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command]

    def start_beside(self, command):
        """Starts a program of this machine's in the container's network; it ends with the container."""
        self.helpers.append(subprocess.Popen(self._beside(command), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log))

    def beside(self, command):
        """Runs a program of this machine's in the container's network, as the kubelet's probes are."""
        return subprocess.run(self._beside(command), capture_output=True, text=True, timeout=PATIENCE_S)

    def inside(self, command):
        """Runs a program of the image's, as `kubectl exec` does."""
        return self.beside(["chroot", "--userspec=65532:65532", str(self.root), *command])

    def get(self, address, path):
        """The status of an HTTP answer, 0 if there is none."""
        program = f"import urllib.request as u; print(u.urlopen('http://{address}{path}', timeout=5).status)"
        result = self.beside([sys.executable, "-c", program])
        return int(result.stdout) if result.returncode == 0 else 0

    def _signal(self, number):
        """Sends a signal to the container's first process. When that ends, the others in there do, and `unshare` with it."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        for child in children.split():
            os.kill(int(child), number)

    def terminate(self):
        """SIGTERM, as the kubelet sends it; returns the exit code."""
        self._signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self._signal(signal.SIGKILL)
        for process in [*self.helpers, self.process]:
            process.kill()
            process.wait()
        self.log.close()
        shutil.rmtree(self.folder)
