"""Runs one seed: `seed.py N`. Its exit code is 1 if something was violated, and then its logs are kept."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import grpc

from inject import Injector
from mutations import undetected
from network import CommandFailed
from one_seed import ignore_signals, main
from plan import plan
from stage import Failed
from verdict import Convergence, compare_history, violations
from world import World

# So many violations are shown; the logs have all.
SHOWN = 10


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
    recovery_s = 0.0
    try:
        world.start()
        convergence = Convergence(world)
        convergence.wait_for_clients()
        injector.run()
        last_fault = time.monotonic()
        convergence.wait()
        recovery_s = time.monotonic() - last_fault
        compare_history(world)
        found = violations(world) or undetected(world.all_logs(), world.agreement)
    except grpc.RpcError as error:
        found = [*violations(world), f"a call of the runner: {error.code().name}: {error.details()}"]
    except (Failed, CommandFailed) as error:
        found = [*violations(world), str(error)]
    finally:
        ignore_signals()
        injector.close()
        world.close()
        journal.close()
    times = f"recovered in {recovery_s:.1f} s, {time.monotonic() - started:.0f} s in all"
    _report(number, world, found, times)
    return found


def _report(number: int, world: World, found: list[str], times: str) -> None:
    listeners = [log.listener for log in world.all_logs()]
    numbers = (
        f"{len(listeners)} logs, {sum(one.messages for one in listeners)} messages, "
        f"{sum(one.resumed for one in listeners)} resumed, {sum(one.resets for one in listeners)} resets, {times}"
    )
    print(f"seed {number} {'FAILED' if found else 'ok'}: {numbers}", flush=True)
    for violation in found[:SHOWN]:
        print(f"  {violation}", flush=True)


if __name__ == "__main__":
    sys.exit(main("faults", run))
