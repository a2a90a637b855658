"""What the worlds of all runs have: processes in networks, the logs that their clients write, and cleaning up."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from logs import Log
from network import Network, remove_namespaces, run
from processes import PATIENCE_S, Process

HERE = Path(__file__).resolve().parent
BINARY = os.environ.get("PEERSTATUS_BIN") or str(HERE.parents[1] / "target" / "release" / "peerstatus")
# The folder of a run that may be a disk of its own.
DISK = "disk"
# How often conditions are looked at, and logs read.
LOOK_S = 0.02


class Failed(Exception):
    """The run cannot go on."""


class TimedOut(Failed):
    """A condition did not come to hold."""


class Stage:
    """The processes of a run, by name."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self.network = folder, network
        self.processes: dict[str, Process] = {}
        self.logs: dict[str, list[Log]] = {}
        self.finished_logs: list[Log] = []
        # Killed by a fault and not yet started again.
        self.dead: set[str] = set()

    def close(self) -> None:
        """Ends all processes."""
        for process in self.processes.values():
            process.kill()

    def stdout(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self.folder / f"{name}.stdout"

    def start_and_wait(self, name: str, site: str, command: list[str], stderr: Path) -> None:
        """Starts a process, and waits until it says that it is ready."""
        is_ready = self.begin_start(name, site, command, stderr)
        self.wait_until(f"{name} to be ready", is_ready)

    def begin_start(self, name: str, site: str, command: list[str], stderr: Path) -> Callable[[], bool]:
        """Starts a process; the result returns whether it has said that it is ready."""
        stdout = self.stdout(name)
        before = stdout.stat().st_size if stdout.exists() else 0
        process = self.processes[name] = Process(name, self.network.namespace(site), command, stdout, stderr)

        def is_ready() -> bool:
            if not process.is_running():
                raise Failed(f"{name} ended with {process.child.returncode} before it was ready; see {stderr.name}")
            return stdout.stat().st_size > before

        return is_ready

    def wait_until(self, what: str, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Looks at a condition until it holds, and reads the logs meanwhile."""
        deadline = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimedOut(f"waited {patience_s} s in vain for {what}")
            self.read_logs()
            time.sleep(LOOK_S)

    def read_logs(self) -> None:
        """Takes in what the clients have written."""
        for logs in self.logs.values():
            for log in logs:
                log.read()

    def all_logs(self) -> list[Log]:
        """Those of the clients that run and of those that were killed."""
        return self.finished_logs + [log for logs in self.logs.values() for log in logs]

    def unexpected_ends(self) -> list[str]:
        """Processes that ended by themselves."""
        ended = [p for name, p in self.processes.items() if name not in self.dead and not p.is_running()]
        return [f"{process.name} ended by itself, with {process.child.returncode}" for process in ended]

    def finish_logs(self, name: str) -> None:
        """A client was killed: what it has written is complete."""
        for log in self.logs.pop(name, []):
            log.is_cut_off = True
            self.finished_logs.append(log)


def prefix_of(pid: int) -> str:
    """The prefix of everything that a runner makes on the machine."""
    return f"peerstatus-faults-{pid}"


def folder_of(pid: int) -> Path:
    """The folder of a runner."""
    return Path(tempfile.gettempdir(), prefix_of(pid))


def remove_leftovers(pid: int) -> None:
    """Removes the network and the folder of a runner whose processes have ended."""
    remove_namespaces(prefix_of(pid))
    disk = folder_of(pid) / DISK
    if disk.is_mount():
        run("umount", "--lazy", str(disk))
    shutil.rmtree(folder_of(pid), ignore_errors=True)
