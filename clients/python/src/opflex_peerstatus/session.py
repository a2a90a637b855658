"""A watch as a value: messages and errors in, events and pauses out. No channel, no clock and no thread, so that threads and
asyncio share it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Any, Optional, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from opflex.peerstatus.v1 import peer_status_service_pb2 as api
from opflex.peerstatus.v1 import types_pb2

from .events import Change, Event, Gap, Resumed, Snapshot, WatchError
from .types import Cursor, PeerStatus, ResetReason, from_message

DOMAIN = "opflex.peerstatus"
PERMANENT = frozenset(
    grpc.StatusCode[name]
    for name in (
        "CANCELLED INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED UNAUTHENTICATED"
    ).split()
)
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
LONGEST_RETRY_AFTER_S = 60.0
FIRST_MESSAGE_S = 10.0
# Three heartbeats, and 5 s for delays: a proxy can keep a connection open that delivers nothing.
SILENCE_S = 3 * 15.0 + 5.0
# Reported causes of one outage: texts of proxies may differ each time.
MOST_CAUSES = 8


class ChainBroken(Exception):
    """A change names another revision before it than the one that was received."""


class Session:
    """Keeps what outlives a stream: the cursor, and the pauses between attempts."""

    def __init__(self, filter: api.ListenerFilter, listener: str, user_data: bytes, resume_after: Optional[Cursor]) -> None:
        self.filter, self.listener, self.user_data = filter, listener, user_data
        self.cursor = resume_after
        self.was_attached = False
        self._failures = 0
        self._retry_after = 0.0
        self._causes: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self._epoch = self._last = 0
        self._messages: dict[str, list[Any]] = {"peers": [], "pools": [], "nodes": []}
        self._is_snapshot = False

    @property
    def patience(self) -> float:
        """How long to wait for the next message of the stream."""
        return SILENCE_S if self._epoch else FIRST_MESSAGE_S

    def watch_request(self) -> api.WatchPeerStatusRequest:
        """The request of the next stream."""
        self._begin()
        request = api.WatchPeerStatusRequest()
        if self.cursor:
            request.resume_after.CopyFrom(types_pb2.Cursor(epoch=self.cursor.epoch, revision=self.cursor.revision))
        if self.listener:
            request.listener, request.takeover = f"listeners/{self.listener}", True
        else:
            request.filter.CopyFrom(self.filter)
            request.user_data = self.user_data
        return request

    def create_request(self) -> api.CreateListenerRequest:
        """Creates the listener, if it has a name."""
        return api.CreateListenerRequest(listener_id=self.listener, filter=self.filter, user_data=self.user_data)

    def receive(self, message: api.WatchPeerStatusResponse) -> Optional[Event]:
        """The event that the message contains, if any. `advance` follows when it was handled."""
        event = message.WhichOneof("event")
        if event == "attached":
            return self._attached(message.attached)
        if event == "reset":
            self.cursor = None
            self._begin_snapshot()
            return Gap(ResetReason(message.reset.reason), message.reset.missed_count or None)
        if event == "snapshot":
            self._is_snapshot = True
            self._last = message.revision
            for field, items in self._messages.items():
                items.extend(getattr(message.snapshot, field))
            return None
        if event == "change":
            return self._change(message)
        if event == "draining":
            self._retry_after = _seconds(message.draining.retry_after)
        if event == "synced":
            cursor = message.synced.cursor
            return self._snapshot(cursor) if self._is_snapshot else Resumed(cursor=from_message(cursor))
        if event in ("heartbeat", "draining"):
            self.advance(Cursor(self._epoch, message.revision))
        return None

    def _attached(self, attached: api.Attached) -> Optional[Event]:
        if self.listener and not _is_same(attached.listener.filter, self.filter):
            raise WatchError("LISTENER_EXISTS", "ALREADY_EXISTS", f"listeners/{self.listener} exists with another filter")
        self.was_attached = True
        self._epoch, self._last = attached.cursor.epoch, attached.cursor.revision
        return None

    def _begin_snapshot(self) -> None:
        self._is_snapshot = True
        self._messages = {field: [] for field in self._messages}

    def _snapshot(self, cursor: types_pb2.Cursor) -> Snapshot:
        content = {field: tuple(map(from_message, items)) for field, items in self._messages.items()}
        self._begin_snapshot()
        self._is_snapshot = False
        return Snapshot(cursor=from_message(cursor), **content)

    def _change(self, message: api.WatchPeerStatusResponse) -> Change:
        if message.previous_revision != self._last:
            self.cursor = None
            raise ChainBroken(f"the change {message.revision} follows {message.previous_revision}, and {self._last} was received")
        self._last, change = message.revision, message.change
        parts = {part: from_message(getattr(change, part)) if change.HasField(part) else None for part in ("peer", "health", "node")}
        return Change(cursor=Cursor(self._epoch, message.revision), previous_revision=message.previous_revision, **parts)

    def advance(self, cursor: Cursor) -> None:
        """Everything up to the cursor was handled: the next stream begins there."""
        self.cursor, self._failures = cursor, 0
        self._causes.clear()

    def is_new_cause(self, error: str) -> bool:
        """Whether the present outage has not had this cause yet. Numbers in its text, such as ports, do not make another one."""
        cause = re.sub(r"\d+", "", error)
        if cause in self._causes or len(self._causes) >= MOST_CAUSES:
            return False
        self._causes.add(cause)
        return True

    def pause(self) -> float:
        """Seconds before the next attempt: as the service asked, or a random part of a time that doubles."""
        longest = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        asked, self._retry_after = self._retry_after, 0.0
        return float(max(min(asked, LONGEST_RETRY_AFTER_S), random.uniform(0, longest)))

    def lost(self, error: grpc.RpcError) -> str:
        """The text of an error that is worth another attempt; `WatchError` if it is not."""
        call: Any = error
        reason, retry_after = _details(call)
        self._retry_after = max(self._retry_after, retry_after)
        code = call.code()
        is_ours = self.was_attached and reason in ("LISTENER_ATTACHED", "TOKEN_EXPIRED")
        if reason and code in PERMANENT and not is_ours and reason != "LISTENER_NOT_FOUND":
            raise WatchError(reason, code.name, call.details()) from error
        return f"{call.details()} ({code.name})"


def is_existing(error: grpc.RpcError) -> bool:
    """Whether the listener was there already."""
    return _details(error)[0] == "LISTENER_EXISTS"


def make_filter(
    pools: Sequence[str], peers: Sequence[str], nodes: Sequence[str], statuses: Iterable[PeerStatus], health_only: bool
) -> api.ListenerFilter:
    """The filter of the API."""
    values = [cast("types_pb2.PeerStatus.ValueType", int(status)) for status in statuses]
    interests = [api.INTEREST_HEALTH] if health_only else []
    return api.ListenerFilter(pools=pools, peers=peers, nodes=nodes, statuses=values, interests=interests)


def _is_same(one: api.ListenerFilter, other: api.ListenerFilter) -> bool:
    def parts(filter: api.ListenerFilter) -> list[set[Any]]:
        return [set(getattr(filter, field.name)) for field in filter.DESCRIPTOR.fields]

    return parts(one) == parts(other)


def _details(error: Any) -> tuple[str, float]:
    """The reason of an error of the service, and the pause that it asks for. A proxy's error has no reason, and may have any code."""
    try:
        status: Optional[status_pb2.Status] = rpc_status.from_call(error)
    except ValueError:
        status = None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    reason, retry_after = "", 0.0
    for detail in status.details if status else ():
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = info.reason
        elif detail.Unpack(retry):
            retry_after = _seconds(retry.retry_delay)
    return reason, retry_after


def _seconds(duration: Any) -> float:
    return max(0.0, float(duration.seconds) + float(duration.nanos) / 1e9)
