"""Waits until everything that runs under faults has recovered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from stage import Failed, Stage, TimedOut


class Convergence(ABC):
    """Whether all peers are READY, and all clients know it, within a time."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self.stage, self.seconds = stage, seconds
        self.missing = "the first answer"

    @abstractmethod
    def is_reached(self) -> bool:
        """Looks once; notes what is missing."""

    def wait(self) -> None:
        """Waits for it."""
        self._wait(self.is_reached)

    def wait_for_clients(self) -> None:
        """Waits until all clients have the first state: faults before that would meet nobody."""
        def are_live() -> bool:
            waiting = [log.listener.name for logs in self.stage.logs.values() for log in logs if log.listener.phase != "live"]
            self.missing = f"no state for {waiting}"
            return not waiting

        self._wait(are_live)

    def _wait(self, condition: Callable[[], bool]) -> None:
        try:
            self.stage.wait_until("convergence", condition, self.seconds)
        except TimedOut:
            raise Failed(f"no convergence within {self.seconds} s: {self.missing}") from None
