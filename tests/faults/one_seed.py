"""Runs one seed in a folder of its own, and cleans up however that ends.

The exit code is 1 if something was violated, and then the logs are kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from stage import HERE, folder_of, remove_leftovers

TARGET = HERE.parents[1] / "target"


class Terminated(BaseException):
    """SIGTERM or Ctrl-C: everything is cleaned up, as at any other end."""


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    ignore_signals()
    raise Terminated


def ignore_signals() -> None:
    """Has nothing interrupt the cleaning up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def keep(folder: Path, name: str, number: int, found: list[str]) -> Path:
    """Moves the logs of a failure to where they stay."""
    (folder / "violations").write_text("\n".join(found) + "\n")
    kept = TARGET / name / f"seed-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("*.sock", "disk"))
    return kept


def main(name: str, run: Callable[[int, Path], list[str]]) -> int:
    """Runs the seed that the argument of the command names, in a folder of its own. `name`: that of the kind of runs."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _terminate)
    seed = int(sys.argv[1])
    try:
        folder = folder_of(os.getpid())
        folder.mkdir()
        found = run(seed, folder)
        if found:
            print(f"  the logs are in {keep(folder, name, seed, found)}; `make {name} SEED={seed}` runs it again", flush=True)
    except Terminated:
        return 130
    finally:
        ignore_signals()
        remove_leftovers(os.getpid())
    return 1 if found else 0

