"""Begins and ends the faults of a fleet's plan. Most are those of one service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inject import Injector
from plan import Fault

if TYPE_CHECKING:
    from fleet_world import FleetWorld


class FleetInjector(Injector):
    """Carries out faults."""

    world: FleetWorld

    def begin_restart(self, fault: Fault) -> None:
        self.world.terminate(fault.target)

    def begin_reset_peers(self, fault: Fault) -> None:
        self.world.reset_peers(fault.target, *fault.variant.split())

    def begin_add_peer(self, fault: Fault) -> None:
        self.world.add_peer(fault.target, fault.variant)

    def end_add_peer(self, fault: Fault) -> None:
        self.world.remove_peer(fault.target, fault.variant)
