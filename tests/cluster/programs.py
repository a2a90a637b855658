"""The programs that a cluster consists of: where they are, and their versions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
BUILT = TOOLS / "cluster" / "bin"
# Unpacked packages of the distribution, for what is not installed here.
DISTRO = TOOLS / "cluster" / "distro"
CNI = DISTRO / "usr" / "lib" / "cni"
CHART = ROOT / "helm" / "opflex-peerstatus"
LOGS = ROOT / "target" / "cluster"
HELMS = {"helm 3": TOOLS / "bin" / "helm", "helm 4": TOOLS / "bin" / "helm4"}
# Of the service, as it is in the image.
IMAGE_ROOT = Path(os.environ.get("IMAGE_ROOT") or ROOT / "target" / "quick" / "root")

KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "pause", "kube-router")
FROM_DISTRO = ("etcd", "containerd", "ctr", "runc", "iptables", "conntrack", "ip", "unshare", "setpriv", "mount", "openssl")


def environment() -> dict[str, str]:
    """The environment of all programs of the cluster, in which they find each other."""
    libraries = sorted({str(path.parent) for path in DISTRO.rglob("*.so*")})
    tables = next((str(path.parent) for path in DISTRO.rglob("libxt_comment.so")), "")
    folders = [BUILT, TOOLS / "bin", DISTRO / "usr" / "sbin", DISTRO / "usr" / "bin", os.environ["PATH"], "/usr/sbin", "/sbin"]
    changed = {"PATH": ":".join(map(str, folders)), "LD_LIBRARY_PATH": ":".join(libraries)}
    return {**os.environ, **changed, **({"XTABLES_LIBDIR": tables} if tables else {})}


def find(name: str) -> str | None:
    """Where a program is."""
    return shutil.which(name, path=environment()["PATH"])


def missing() -> list[str]:
    """The programs that are not there."""
    found = [name for name in (*KUBERNETES, *FROM_DISTRO) if not find(name)]
    found += [str(path) for path in (CNI / "bridge", *HELMS.values(), IMAGE_ROOT / "usr/bin/peerstatus") if not path.exists()]
    return found


def version(*command: str) -> str:
    """The version in the output of a command, without a `v`."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, check=False)
    number = re.search(r"\d+\.\d+\.\d+[-.~+\w]*", done.stdout + done.stderr)
    return number[0] if number else "?"


def installed(name: str) -> str:
    """The version of a program in Go. Those that were not built by their own Makefiles do not know it."""
    return (TOOLS / "stamps" / name).read_text().strip().removeprefix("v")


def versions() -> str:
    """What the tests run on, in a line."""
    listed = {
        "Kubernetes": version("kubelet", "--version"),
        "etcd": version("etcd", "--version"),
        "containerd": version("containerd", "--version"),
        "runc": version("runc", "--version"),
        "kube-router": installed("kube-router"),
        "helm": " and ".join(installed(path.name) for path in HELMS.values()),
        "Linux": os.uname().release,
    }
    return ", ".join(f"{name} {number}" for name, number in listed.items())
