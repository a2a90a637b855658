"""Runs one seed in a folder of its own, and cleans up however that ends.

The exit code is 1 if something was violated, and then the logs are kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import grpc

from convergence import Convergence
from network import CommandFailed
from stage import HERE, Failed, Stage, folder_of, remove_leftovers

TARGET = HERE.parents[1] / "target"
# So many violations are shown; the logs have all.
SHOWN = 10


@dataclass(frozen=True)
class Run:
    """What a seed runs."""

    title: str
    world: Any
    injector: Callable[[Any, Callable[[str], None]], Any]
    convergence: Convergence
    verdict: Callable[[], list[str]]


class Terminated(BaseException):
    """SIGTERM or Ctrl-C: everything is cleaned up, as at any other end."""


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    ignore_signals()
    raise Terminated


def ignore_signals() -> None:
    """Has nothing interrupt the cleaning up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def run(number: int, folder: Path, plan: Run) -> list[str]:
    """Runs the plan of a seed; returns what was violated."""
    journal = (folder / "journal").open("w", buffering=1, encoding="utf-8")
    started = time.monotonic()

    def say(text: str) -> None:
        journal.write(text + "\n")

    say(f"seed {number}: {plan.title}")
    print(f"seed {number}: {plan.title}", flush=True)
    injector = plan.injector(plan.world, say)
    found: list[str] = []
    recovery_s = 0.0
    try:
        plan.world.start()
        say(f"has started after {time.monotonic() - started:.1f} s")
        plan.convergence.wait_for_clients()
        say(f"begins after {time.monotonic() - started:.1f} s")
        injector.run()
        last_fault = time.monotonic()
        plan.convergence.wait()
        recovery_s = time.monotonic() - last_fault
        found = plan.verdict()
    except grpc.RpcError as error:
        found = [f"a call of the runner: {error.code().name}: {error.details()}", *plan.verdict()]
    except (Failed, CommandFailed) as error:
        found = [str(error), *plan.verdict()]
    finally:
        ignore_signals()
        injector.close()
        plan.world.close()
        journal.close()
    times = f"recovered in {recovery_s:.1f} s, {time.monotonic() - started:.0f} s in all"
    _report(number, plan.world, found, times)
    return found


def _report(number: int, world: Stage, found: list[str], times: str) -> None:
    listeners = [log.listener for log in world.all_logs()]
    numbers = (
        f"{len(listeners)} logs, {sum(one.messages for one in listeners)} messages, "
        f"{sum(one.resumed for one in listeners)} resumed, {sum(one.resets for one in listeners)} resets, {times}"
    )
    print(f"seed {number} {'FAILED' if found else 'ok'}: {numbers}", flush=True)
    for violation in found[:SHOWN]:
        print(f"  {violation}", flush=True)


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

