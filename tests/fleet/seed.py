"""Runs one seed: `seed.py N`. Its exit code is 1 if something was violated, and then its logs are kept."""

from __future__ import annotations

import sys
from pathlib import Path

from fleet_inject import FleetInjector
from fleet_mutations import FLEET_MUTATIONS
from fleet_plan import plan
from fleet_verdict import FleetConvergence, violations
from fleet_world import FleetWorld
from mutations import undetected
from one_seed import Run, main, run


def run_fleet(number: int, folder: Path) -> list[str]:
    """Runs the plan of a seed; returns what was violated."""
    chosen = plan(number)
    world = FleetWorld(chosen, folder)

    def verdict() -> list[str]:
        return violations(world) or undetected(world.all_logs(), world.agreement, FLEET_MUTATIONS)

    title = (
        f"{chosen.nats} NATS servers, {chosen.replicas} replicas, logs of {chosen.history} and {chosen.history_of_node} changes: "
        f"{'; '.join(map(str, chosen.faults))}"
    )
    return run(number, folder, Run(title, world, FleetInjector, FleetConvergence(world), verdict))


if __name__ == "__main__":
    sys.exit(main("fleet", run_fleet))
