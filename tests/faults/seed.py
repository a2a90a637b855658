"""Runs one seed: `seed.py N`. Its exit code is 1 if something was violated, and then its logs are kept."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from inject import Injector
from mutations import undetected
from network import CommandFailed
from plan import plan
from verdict import Convergence, violations
from world import Failed, World

KEPT = Path(__file__).resolve().parents[2] / "target" / "faults"
# So many violations are shown; the logs have all.
SHOWN = 10


class Terminated(BaseException):
    """SIGTERM or Ctrl-C: everything is cleaned up, as at any other end."""


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise Terminated


def run(number: int, folder: Path) -> list[str]:
    """Runs the plan of a seed; returns what was violated."""
    chosen = plan(number)
    journal = (folder / "journal").open("w", buffering=1, encoding="utf-8")
    started = time.monotonic()

    def say(text: str) -> None:
        journal.write(text + "\n")

    say(f"seed {number}, a log of {chosen.history} changes")
    print(f"seed {number}: {'; '.join(map(str, chosen.faults))}", flush=True)
    world = World(chosen, folder)
    injector = Injector(world, say)
    found: list[str] = []
    try:
        world.start()
        convergence = Convergence(world)
        convergence.wait_for_clients()
        injector.run()
        lasted = time.monotonic()
        convergence.wait()
        say(f"converged {time.monotonic() - lasted:.1f} s after the last fault")
        found = violations(world) or undetected(world.all_logs(), world.agreement)
    except (Failed, CommandFailed) as error:
        found = [*violations(world), str(error)]
    finally:
        injector.close()
        world.close()
        journal.close()
    _report(number, world, found, time.monotonic() - started)
    return found


def _report(number: int, world: World, found: list[str], seconds: float) -> None:
    listeners = [log.listener for log in world.all_logs()]
    numbers = (
        f"{len(listeners)} logs, {sum(one.messages for one in listeners)} messages, "
        f"{sum(one.resumed for one in listeners)} resumed, {sum(one.resets for one in listeners)} resets, {seconds:.0f} s"
    )
    print(f"seed {number} {'FAILED' if found else 'ok'}: {numbers}", flush=True)
    for violation in found[:SHOWN]:
        print(f"  {violation}", flush=True)


def keep(folder: Path, number: int, found: list[str]) -> Path:
    """Moves the logs of a failure to where they stay."""
    (folder / "violations").write_text("\n".join(found) + "\n")
    kept = KEPT / f"seed-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("*.sock", "disk"))
    return kept


def main() -> int:
    """Runs the seed in a folder of its own."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _terminate)
    seed = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="peerstatus-faults-") as name:
        try:
            found = run(seed, Path(name))
        except Terminated:
            return 130
        if found:
            print(f"  the logs are in {keep(Path(name), seed, found)}; `make faults SEED={seed}` runs it again", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
