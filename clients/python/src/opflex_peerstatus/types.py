"""The API's messages as dataclasses. Their fields and values are those of `opflex/peerstatus/v1/types.proto`, which has
their meaning; times are aware datetimes in UTC, durations timedeltas, and a field that is not set is None."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from typing import Any, TypeVar

from google.protobuf.message import Message

E = TypeVar("E", bound="ApiEnum")


class ApiEnum(enum.IntEnum):
    """An enum of the API. A value that this version does not know becomes a member named `UNKNOWN_…`."""

    @classmethod
    def _missing_(cls: type[E], value: object) -> E | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_, member._value_ = f"UNKNOWN_{value}", value
        return member

    def __str__(self) -> str:
        return self.name


class PeerStatus(ApiEnum):
    """Status of the connection to a peer."""

    UNSPECIFIED = 0
    DISCONNECTED = 1
    CONNECTING = 2
    CONNECTED = 3
    READY = 4
    CLOSING = 5


class PoolHealth(ApiEnum):
    """Health of a pool: that of all its peers together."""

    UNSPECIFIED = 0
    DOWN = 1
    DEGRADED = 2
    HEALTHY = 3


class PeerOrigin(ApiEnum):
    """Who says that a peer belongs to the pool."""

    UNSPECIFIED = 0
    CONFIGURED = 1
    LEARNED = 2


class Reason(ApiEnum):
    """Why a peer is in its status."""

    UNSPECIFIED = 0
    ADDED = 1
    DIALING = 2
    TCP_ESTABLISHED = 3
    HANDSHAKE_COMPLETE = 4
    RESOLVE_FAILED = 5
    CONNECT_FAILED = 6
    CONNECT_TIMEOUT = 7
    TLS_FAILED = 8
    HANDSHAKE_TIMEOUT = 9
    HANDSHAKE_REJECTED = 10
    PROTOCOL_ERROR = 11
    KEEPALIVE_TIMEOUT = 12
    REMOTE_CLOSED = 13
    REMOVED_BY_CLIENT = 14
    NOT_IN_PEER_LIST = 15
    RESET = 17
    POOL_STOPPING = 18
    OBSERVATION_LOST = 19


class Evidence(ApiEnum):
    """What the status of a peer of an observed pool is concluded from."""

    UNSPECIFIED = 0
    LOG = 1
    SOCKET = 2
    BOTH = 3
    INFERRED = 4


class Role(ApiEnum):
    """What an OpFlex peer does, as it says."""

    UNSPECIFIED = 0
    POLICY_ELEMENT = 1
    POLICY_REPOSITORY = 2
    ENDPOINT_REGISTRY = 3
    OBSERVER = 4


class ChangeKind(ApiEnum):
    """What happened to a peer."""

    UNSPECIFIED = 0
    ADDED = 1
    STATUS = 2
    REMOVED = 3
    ORIGIN = 4


class NodeState(ApiEnum):
    """Whether a node of a fleet gives signs of life."""

    UNSPECIFIED = 0
    LIVE = 1
    STALE = 2
    GONE = 3


class ResetReason(ApiEnum):
    """Why a watch starts anew from a snapshot."""

    UNSPECIFIED = 0
    OVERFLOW = 1
    COMPACTED = 2
    EPOCH_CHANGED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """A position in the log of changes. It can be stored, as text too, and given to a later watcher."""

    epoch: int
    revision: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The inverse of `str(cursor)`."""
        epoch, dot, revision = text.partition(".")
        if not (dot and all(part.isdecimal() and int(part) < 2**64 for part in (epoch, revision))):
            raise ValueError(f"{text!r} is not a cursor: EPOCH.REVISION is expected")
        return cls(int(epoch), int(revision))


@dataclasses.dataclass(frozen=True, slots=True)
class PeerFailure:
    """The last failure of a peer."""

    reason: Reason
    detail: str
    time: datetime.datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """One OpFlex peer and the state of the connection to it."""

    name: str
    pool: str
    host: str
    port: int
    origin: PeerOrigin
    status: PeerStatus
    reason: Reason
    detail: str
    status_since: datetime.datetime | None
    last_ready_time: datetime.datetime | None
    consecutive_failures: int
    transition_count: int
    roles: tuple[Role, ...]
    revision: int
    wanted: bool
    not_ready_since: datetime.datetime | None
    last_failure: PeerFailure | None
    failure_count: int
    flap_count: int
    learned_from: str
    echo_rtt: datetime.timedelta | None
    flapping_until: datetime.datetime | None
    evidence: Evidence
    observed_time: datetime.datetime | None
    tcp_rtt: datetime.timedelta | None
    last_received_time: datetime.datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who the pool says it is."""

    name: str
    domain: str
    location: str


@dataclasses.dataclass(frozen=True, slots=True)
class Proxies:
    """Addresses of the fabric's proxies, in transport mode."""

    v4: str
    v6: str
    mac: str


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """A pool of connections and its health."""

    name: str
    health: PoolHealth
    health_since: datetime.datetime | None
    identity: Identity | None
    peer_count: int
    ready_count: int
    revision: int
    proxies: Proxies | None
    not_healthy_since: datetime.datetime | None
    parked_count: int
    stale_since: datetime.datetime | None
    detail: str


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A node of a fleet."""

    name: str
    cluster: str
    state: NodeState
    stale_since: datetime.datetime | None
    last_seen_time: datetime.datetime | None
    epoch: int
    revision: int
    pools: tuple[str, ...]
    pool_count: int
    peer_count: int
    ready_count: int
    version: str
    chain_break_count: int
    conflict: bool
    incomplete: bool


@dataclasses.dataclass(frozen=True, slots=True)
class PeerChange:
    """A change of a peer: the peer after it, and its status before."""

    peer: Peer
    kind: ChangeKind
    previous_status: PeerStatus
    time: datetime.datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class HealthChange:
    """A change of a pool's health, and the peer that caused it."""

    pool: str
    previous: PoolHealth
    health: PoolHealth
    ready_count: int
    peer_count: int
    cause: str
    time: datetime.datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class NodeChange:
    """A change of a node of a fleet."""

    node: Node
    previous: NodeState
    time: datetime.datetime | None


MESSAGES: dict[str, type[Any]] = {
    message.__name__: message
    for message in (Cursor, PeerFailure, Peer, Identity, Proxies, Pool, Node, PeerChange, HealthChange, NodeChange)
}
ENUMS: dict[str, type[ApiEnum]] = {
    values.__name__: values
    for values in (PeerStatus, PoolHealth, PeerOrigin, Reason, Evidence, Role, ChangeKind, NodeState, ResetReason)
}


def from_message(message: Message) -> Any:
    """The dataclass with the name of the message."""
    kind, fields = MESSAGES[message.DESCRIPTOR.name], message.DESCRIPTOR.fields_by_name
    return kind(**{field.name: _value(message, fields[field.name]) for field in dataclasses.fields(kind)})


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return tuple(_item(field, item) for item in value)
    if field.message_type and not message.HasField(field.name):
        return None
    return _item(field, value)


def _item(field: Any, value: Any) -> Any:
    if field.enum_type:
        return ENUMS[field.enum_type.name](value)
    if not field.message_type:
        return value
    if field.message_type.full_name == "google.protobuf.Timestamp":
        return value.ToDatetime(tzinfo=datetime.timezone.utc)
    if field.message_type.full_name == "google.protobuf.Duration":
        return value.ToTimedelta()
    return from_message(value)
