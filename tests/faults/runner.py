"""Runs seeds, several at a time, each in a process and networks of its own.

The exit code is 1 if a seed failed. Without root or without iproute2 nothing is run, and that is said.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from network import CommandFailed, ip, run
from processes import with_parent
from stage import prefix_of, remove_leftovers

# A run mostly waits. More at a time make each other slow, and then time out.
JOBS = int(os.environ.get("FAULTS_JOBS") or 3)
LOOK_S = 0.05
# A run takes 15 s to 30 s, and its waits have deadlines of their own; this ends one that hangs.
LONGEST_RUN_S = 300


def why_impossible() -> str | None:
    """Why no namespaces can be made here; `None` if they can."""
    if os.geteuid() != 0:
        return "not root"
    missing = [program for program in ("ip", "setpriv", "openssl", "mount") if not shutil.which(program)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    probe = f"{prefix_of(os.getpid())}-probe"
    try:
        ip(f"netns add {probe}")
    except CommandFailed as error:
        return str(error)
    finally:
        if Path("/run/netns", probe).exists():
            ip(f"netns del {probe}")
    return None


def seeds(text: str) -> list[int]:
    """`17`, or `1-500`."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


class Runner:
    """Runs seeds, and ends them all when it is ended."""

    def __init__(self, script: Path) -> None:
        self.script = script
        self.running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self.failed: list[int] = []
        self.is_ended = False

    def run(self, numbers: list[int]) -> None:
        """Runs them, a few at a time."""
        waiting = list(reversed(numbers))
        while (waiting or self.running) and not self.is_ended:
            while waiting and len(self.running) < JOBS:
                number = waiting.pop()
                command = [*with_parent("TERM"), sys.executable, str(self.script), str(number)]
                self.running[number] = (subprocess.Popen(command, start_new_session=True), time.monotonic())
            self._look()
            time.sleep(LOOK_S)

    def _look(self) -> None:
        for number, (child, started) in list(self.running.items()):
            if child.poll() is None and time.monotonic() - started > LONGEST_RUN_S:
                print(f"seed {number} FAILED: it hangs", flush=True)
                child.terminate()
                child.wait(LONGEST_RUN_S)
            if child.poll() is not None:
                del self.running[number]
                remove_leftovers(child.pid)
                if child.returncode != 0:
                    self.failed.append(number)
                if child.returncode not in (0, 1):
                    print(f"seed {number} FAILED: its process ended with {child.returncode}", flush=True)

    def end(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Has no more seeds begun, and those that run cleaned up."""
        self.is_ended = True
        for child, _ in self.running.values():
            child.terminate()

    def close(self) -> None:
        """Waits for those that run, and cleans up after those that could not do it themselves."""
        for child, _ in self.running.values():
            child.terminate()  # again: one may have been begun while the signal came
            child.wait()
            remove_leftovers(child.pid)


def main(script: Path, missing: str | None = None) -> int:
    """Runs the seeds that the argument of the command names, with this script for one; `missing`: why that cannot be."""
    impossible = missing or why_impossible()
    if impossible:
        print(f"SKIPPED: the runs with faults need root and network namespaces: {impossible}")
        return 0
    runner = Runner(script)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, runner.end)
    numbers = seeds(sys.argv[1])
    started = time.monotonic()
    try:
        runner.run(numbers)
    finally:
        runner.close()
    if runner.is_ended:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"{len(numbers)} seeds in {time.monotonic() - started:.0f} s, {len(runner.failed)} failed: {sorted(runner.failed)}")
    return 1 if runner.failed else 0
