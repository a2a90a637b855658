"""What a watcher hands over."""

from __future__ import annotations

import dataclasses
from typing import Union

from .types import Cursor, HealthChange, Node, NodeChange, Peer, PeerChange, Pool, ResetReason


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state, as far as the filter selects it. It replaces what was known before."""

    cursor: Cursor
    peers: tuple[Peer, ...]
    pools: tuple[Pool, ...]
    nodes: tuple[Node, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One change: of a peer, of a pool's health that it caused, or of a node of a fleet."""

    cursor: Cursor
    previous_revision: int
    peer: PeerChange | None
    health: HealthChange | None
    node: NodeChange | None


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """Changes were missed; a snapshot follows. `missed` is their number if the service knows it. The reason is UNSPECIFIED if a
    change was lost on the way, which no service does."""

    reason: ResetReason
    missed: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnected:
    """The service cannot be reached: what is known gets old. Reported once for each cause, whatever the numbers in its text, and at most
    eight times; when the service is back, changes that were missed follow and then `Resumed`, or a gap, or a snapshot."""

    error: str


@dataclasses.dataclass(frozen=True, slots=True)
class Resumed:
    """The stream goes on where it was, and everything that happened meanwhile was handed over before: what is known is up to date."""

    cursor: Cursor


Event = Union[Snapshot, Change, Gap, Disconnected, Resumed]


class WatchError(Exception):
    """The service refused the request, and would refuse it again."""

    def __init__(self, reason: str, code: str, message: str) -> None:
        super().__init__(f"{message} ({code}, {reason})")
        self.reason = reason
        """The reason of the error, such as `BAD_FILTER`; docs/api.md lists them."""
        self.code = code
        """The name of the status code of gRPC."""
