"""Child processes in network namespaces. They die with the runner, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Far beyond what anything here takes: it ends a hang, it measures nothing.
PATIENCE_S = 20


def with_parent(signal_name: str) -> list[str]:
    """The beginning of a command that gets this signal when its parent ends."""
    # Not Popen's preexec_fn: with it Popen forks, and gRPC's handlers of forks may hang in the child.
    return ["setpriv", "--pdeathsig", signal_name]


class Process:
    """A child process. Its output goes to files, which it appends to."""

    def __init__(self, name: str, namespace: str, command: Sequence[str], stdout: Path, stderr: Path) -> None:
        self.name = name
        # Unbuffered files of their own: they are read while the process writes.
        with stdout.open("ab") as out, stderr.open("ab") as err:
            self.child = subprocess.Popen(
                # Both replace themselves, so that the child is the command.
                [*with_parent("KILL"), "ip", "netns", "exec", namespace, *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                # Ctrl-C in the terminal is for the runner, which ends its children in its own time.
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.child.poll() is None

    def stop(self) -> None:
        """Stops it, as a debugger does."""
        self.child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it run on."""
        self.child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it as a crash would, and waits for that."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(PATIENCE_S)

    def open_files(self) -> int:
        """The number of its open files."""
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))
