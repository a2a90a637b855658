"""Runs one seed: `seed.py N`. Its exit code is 1 if something was violated, and then its logs are kept."""

from __future__ import annotations

import sys
from pathlib import Path

from inject import Injector
from mutations import undetected
from one_seed import Run, main, run
from plan import plan
from verdict import ServiceConvergence, compare_history, violations
from world import World


def run_service(number: int, folder: Path) -> list[str]:
    """Runs the plan of a seed; returns what was violated."""
    chosen = plan(number)
    world = World(chosen, folder)
    convergence = ServiceConvergence(world)

    def verdict() -> list[str]:
        if not convergence.missing:
            compare_history(world)
        return violations(world) or undetected(world.all_logs(), world.agreement)

    title = f"a log of {chosen.history} changes: {'; '.join(map(str, chosen.faults))}"
    return run(number, folder, Run(title, world, Injector, convergence, verdict))


if __name__ == "__main__":
    sys.exit(main("faults", run_service))
