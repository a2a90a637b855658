"""Spoils logs, to see that the model finds it: a runner that cannot fail proves nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable

from logs import Log
from model import Agreement, Json, Listener

# The mutation, and a part of a violation that it must cause.
Mutation = tuple[str, Callable[[list[Json], int], list[Json]], str]


def _without(messages: list[Json], at: int) -> list[Json]:
    return messages[:at] + messages[at + 1 :]


def _twice(messages: list[Json], at: int) -> list[Json]:
    return messages[: at + 1] + messages[at:]


def _other_epoch(messages: list[Json], at: int) -> list[Json]:
    heartbeat = {"revision": messages[at]["revision"], "heartbeat": {"cursor": {"epoch": "1", "revision": messages[at]["revision"]}}}
    return messages[: at + 1] + [heartbeat] + messages[at + 1 :]


def _other_health(messages: list[Json], at: int) -> list[Json]:
    messages = copy.deepcopy(messages)
    health = messages[at]["change"]["health"]
    health["health"] = "POOL_HEALTH_DOWN" if health["health"] != "POOL_HEALTH_DOWN" else "POOL_HEALTH_HEALTHY"
    return messages


def _other_content(messages: list[Json], at: int) -> list[Json]:
    messages = copy.deepcopy(messages)
    messages[at]["change"]["peer"]["peer"]["detail"] = "something else"
    return messages


MUTATIONS: list[Mutation] = [
    ("a change is missing", _without, "a gap"),
    ("a change comes twice", _twice, "a duplicate"),
    ("the epoch changes silently", _other_epoch, "a silent change of epoch"),
    ("a health is wrong", _other_health, "a wrong health"),
    ("a client saw something else", _other_content, "disagreement"),
]

# What a change must have to be spoiled so: that of a node in a fleet has neither.
PARTS = {_other_health: "health", _other_content: "peer"}


def undetected(logs: list[Log], agreement: Agreement, mutations: list[Mutation] = MUTATIONS) -> list[str]:
    """The mutations of a run's logs that the model does not find. The agreement is that of the run, and is kept."""
    missed = []
    for name, mutate, expected in mutations:
        part = PARTS.get(mutate)
        place = next((found for log in logs if (found := _place(log, part))), None)
        if place is None:
            continue  # there was no such change in this run
        log, at = place
        again = type(agreement)()
        again.seen = dict(agreement.seen)
        original = log.listener
        kind: type[Listener] = type(original)
        listener = kind(f"mutated {original.name}", original.view, again, original.user_data, original.fails_on_gap)
        for message in mutate(log.messages, at):
            listener.feed(message)
        listener.conclude()
        if not any(expected in violation for violation in listener.violations + again.violations):
            missed.append(f"the model does not find that {name} (message {at} of {log.file.name})")
    return missed


def _place(log: Log, part: str | None) -> tuple[Log, int] | None:
    """A change, with this part if any is needed, that another one follows on the same stream, in a log of everything."""
    if not log.listener.view.is_everything():
        return None
    for at, (message, following) in enumerate(zip(log.messages, log.messages[1:], strict=False)):
        if "change" in message and "change" in following and (part is None or part in message["change"]):
            return log, at
    return None
