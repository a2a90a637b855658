"""Namespaces for a cluster, so that nothing of it is left on the machine.

Processes, mounts and the network are in namespaces, and these end with their first process, however it ends. The cluster's
files are in memory, in a mount that ends, too. Only cgroups have to be removed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PREFIX = "peerstatus-cluster-"
# In the sandbox: memory. The cluster's files are here.
FOLDER = Path("/run/cluster")
# What the kubelet sets, and no namespace contains: it gets files in memory instead.
SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")
# Programs write below these without being asked where.
WRITTEN = ("/var/lib", "/var/log")
END_S = 10


def run(*command: str) -> None:
    """Runs a command to its end."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def hierarchies() -> list[Path]:
    """Where cgroups are made: in one place, or, with version 1, in one for each controller."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def create_cgroups(name: str) -> None:
    """Creates the cgroup of that name, in which the kubelet makes those of its pods."""
    for parent in hierarchies():
        (parent / name).mkdir()
        # With version 1, a new cpuset has no CPUs, and no process can be in it.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (parent / name / setting).exists() and (parent / setting).exists() and parent.name == "cpuset":
                (parent / name / setting).write_text((parent / setting).read_text())
        if (parent / "cgroup.controllers").exists() and parent == CGROUPS:
            names = (parent / "cgroup.subtree_control").read_text().split()
            (parent / name / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in names))


def remove_cgroups(name: str) -> None:
    """Removes a cgroup and those in it, once their processes, which have been killed, are gone."""
    deadline = time.monotonic() + END_S
    for parent in hierarchies():
        for folder, _, _ in os.walk(parent / name, topdown=False):
            while True:
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)


def remove_leftovers() -> None:
    """Removes the cgroups of runs that were killed."""
    names = {path.name for parent in hierarchies() for path in parent.glob(f"{PREFIX}*")}
    for name in names:
        if not Path("/proc", name.removeprefix(PREFIX)).exists():
            remove_cgroups(name)


@contextlib.contextmanager
def cgroup() -> Iterator[str]:
    """A cgroup of this process's, and its name."""
    name = f"{PREFIX}{os.getpid()}"
    try:
        create_cgroups(name)
        yield name
    finally:
        remove_cgroups(name)


def enter(command: list[str], environment: dict[str, str]) -> int:
    """Runs a command in new namespaces, and returns its exit code. When it or this process ends, so does everything in there."""
    namespaces = ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL", "--mount-proc"]
    first = [sys.executable, __file__, *command]
    # In a session of its own: Ctrl-C ends this process, which then kills the first process of the namespaces.
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *namespaces, *first], env=environment, start_new_session=True)
    try:
        return process.wait()
    finally:
        process.kill()
        process.wait()


def mount_private() -> None:
    """Mounts what the programs of the cluster write to, in the new mount namespace."""
    run("mount", "--make-rprivate", "/")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, path, kind, *_ = line.split()
        # A copy of a mount of another network would keep that network. It may be gone meanwhile.
        if kind == "nsfs":
            subprocess.run(["umount", path], capture_output=True, check=False)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for index, path in enumerate(WRITTEN):
        upper, work = (FOLDER / f"overlay-{index}" / part for part in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir()
        run("mount", "-t", "overlay", "-o", f"lowerdir={path},upperdir={upper},workdir={work}", "overlay", path)
    for index, name in enumerate(SYSCTLS):
        path = Path("/proc/sys", name)
        copy = FOLDER / f"sysctl-{index}"
        copy.write_text(path.read_text())
        run("mount", "--bind", str(copy), str(path))
    # Mounts in volumes of pods have to reach containers, and those of containers the kubelet.
    run("mount", "--make-rshared", "/")


def main(command: list[str]) -> int:
    """The first process: it starts the command, and waits for all others that have lost their parents."""
    mount_private()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command)
    while True:
        process, status = os.wait()
        if process == child.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
