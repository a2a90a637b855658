"""What the model of a fleet must find in a spoilt log, beyond what that of one service must."""

from __future__ import annotations

import copy

from model import Json
from mutations import MUTATIONS, Mutation


def _silent_hole(messages: list[Json], at: int) -> list[Json]:
    """As if a replica had not read the record."""
    following = copy.deepcopy(messages[at + 1])
    following["previousRevision"] = messages[at]["previousRevision"]
    return [*messages[:at], following, *messages[at + 2 :]]


FLEET_MUTATIONS: list[Mutation] = [*MUTATIONS, ("a change is missing in silence", _silent_hole, "which others saw")]
