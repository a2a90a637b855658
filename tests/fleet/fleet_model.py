"""What a client of a fleet may be sent: the model of one service, and what is different of many nodes in one stream.

- Revisions are places in the stream: they grow, and not by one. That nothing is missing shows in two ways: all clients together saw the
  revisions, and each must have those between where its streams began and ended; and each change of a peer counts its transitions.
- The changes of one node are in order. Those of others may come between them, and a heartbeat too.
- A change that is missing in the stream must be told: as a chain break of its node, or as another process of it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from model import DOWN, READY, UNWANTED, Agreement, Json, Listener, health_of, same_step, wrong_change

# A record has 2^16 revisions, of which it uses as many as it has effects.
INDEX_BITS = 16
# Of a node: what is known from the start of the replica on.
OF_REPLICA = ("chainBreakCount", "incomplete")


def node_of(pool: str) -> str:
    """The name of the node of a pool `pools/{node}.{pool}`."""
    return "nodes/" + pool.removeprefix("pools/").split(".")[0]


def place(revision: int) -> int:
    """The record of a revision."""
    return revision >> INDEX_BITS


class FleetAgreement(Agreement):
    """What all clients saw, of whichever replica."""

    def content(self, part: str, value: Json) -> Any:
        if part == "node":
            value = {**value, "node": {key: item for key, item in value["node"].items() if key not in OF_REPLICA}}
        return super().content(part, value)

    def __init__(self) -> None:
        super().__init__()
        # Where anybody was told that changes of a node are missing. Until the node has published its state again, which is not told,
        # its changes do not follow from each other, also for those who began after that.
        self.breaks: dict[str, int] = {}

    def broke(self, node: str, revision: int) -> None:
        """Notes that changes of a node are missing."""
        self.breaks[node] = min(revision, self.breaks.get(node, revision))

    def revisions(self) -> dict[str, list[int]]:
        """The revisions of each epoch that anybody saw, in order."""
        found: dict[str, set[int]] = {}
        for epoch, revision, part in self.seen:
            if part != "state":
                found.setdefault(epoch, set()).add(revision)
        return {epoch: sorted(revisions) for epoch, revisions in found.items()}


@dataclass
class Seen:
    """The changes of a stream: those after where it began, up to where it is."""

    epoch: str
    first: int
    last: int
    revisions: set[int] = field(default_factory=set)


@dataclass
class FleetListener(Listener):
    """Folds the messages of one client of a fleet."""

    nodes: dict[str, Json] = field(default_factory=dict)
    # What the client was told of the node of each peer when the peer changed last.
    known_at: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    # The time of the newest change of each pool, whose step may go on.
    steps: dict[str, str] = field(default_factory=dict)
    # Violations, unless the record that they are in tells a reason at its end: its place, its node, and what was known of that.
    pending: list[tuple[int, str, tuple[Any, ...], str]] = field(default_factory=list)
    doubts: list[tuple[int, str, str]] = field(default_factory=list)
    streams: list[Seen] = field(default_factory=list)
    # Kept beside the peers, as there are many.
    statuses: dict[str, dict[str, str]] = field(default_factory=dict)
    state_hash: int = 0

    def feed(self, message: Json) -> None:
        position = self.position
        super().feed(message)
        if "attached" in message or "snapshot" in message:
            # A client that does not say what it asks for may have had heartbeats after its last change.
            first = min(position, self.last) if self.phase == "replay" else self.last
            self.streams.append(Seen(self.epoch, first, self.last))
        elif self.streams and not message.keys() & {"ask", "lost", "reset"}:
            self.streams[-1].last = self.position

    @property
    def _agreement(self) -> FleetAgreement:
        assert isinstance(self.agreement, FleetAgreement)
        return self.agreement

    @property
    def position(self) -> int:
        """Everything up to there was seen."""
        return max(self.last, self.cursor[1] if self.cursor else 0)

    def conclude(self) -> None:
        self._settle(self.last + (1 << INDEX_BITS))
        revisions = self._agreement.revisions()
        for stream in self.streams:
            of_epoch = revisions.get(stream.epoch, [])
            between = of_epoch[bisect_right(of_epoch, stream.first) : bisect_right(of_epoch, stream.last)]
            for revision in set(between) - stream.revisions:
                self.violation(f"revision {revision} is missing, which others saw")
        for at, node, text in self.doubts:
            if at < place(self._agreement.breaks.get(node, 1 << 64)):
                self.violation(text)

    def _has_every_revision(self) -> bool:
        return False

    def _pool_of_snapshot(self, pool: Json) -> None:
        # The step of the pool's node may be published in part: it is checked when the pool changes.
        self.steps.pop(pool["name"], None)

    def _snapshot(self, message: Json, snapshot: Json) -> None:
        if self.phase != "snapshot":
            self.nodes, self.known_at, self.steps, self.pending = {}, {}, {}, []
        super()._snapshot(message, snapshot)
        for node in snapshot.get("nodes", []):
            self.nodes[node["name"]] = node
            if _breaks(node):
                self._agreement.broke(node["name"], self.last)

    def _complete(self) -> None:
        self.state_hash = sum(map(_hash, self.peers.values()))
        self.statuses = {}
        for name, peer in self.peers.items():
            self.statuses.setdefault(f"pools/{peer['pool']}", {})[name] = peer["status"]
        self.known_at = {name: self._known(node_of(peer["pool"])) for name, peer in self.peers.items()}
        for pool in self.pools:
            if node_of(pool) not in self.nodes:
                self.violation(f"{pool} without its node in the snapshot")
        self._saw_state()

    def _heartbeat(self, message: Json, heartbeat: Json) -> None:
        if self.phase == "replay" and int(message["revision"]) == self.last:
            # The replica has not read so far yet.
            self._same_epoch("heartbeat", str(heartbeat.get("cursor", {}).get("epoch", "0")))
            return
        super()._heartbeat(message, heartbeat)

    def _position(self, what: str, event: Json) -> None:
        super()._position(what, event)
        self._settle(self.last + (1 << INDEX_BITS))

    def _change(self, message: Json, change: Json) -> None:
        revision = int(message.get("revision", 0))
        if self.streams:
            self.streams[-1].revisions.add(revision)
        self._settle(revision)
        if change.get("node"):
            self._node(revision, change["node"])
            if change.get("peer") or change.get("health"):
                self.violation(f"the change of a node does not come alone, at revision {revision}")
        super()._change(message, change)

    def _node(self, revision: int, change: Json) -> None:
        node = change["node"]
        known = self.nodes.get(node["name"])
        before = known["state"] if known else "NODE_STATE_UNSPECIFIED"
        if change.get("previous", "NODE_STATE_UNSPECIFIED") != before:
            self.violation(f"{node['name']} at revision {revision}: it was {change.get('previous')}, but the client knew {before}")
        if known and _breaks(node) > _breaks(known):
            self._agreement.broke(node["name"], revision)
        if node["state"] == "NODE_STATE_GONE":
            self.nodes.pop(node["name"], None)
        else:
            self.nodes[node["name"]] = node

    def _known(self, node: str) -> tuple[Any, ...]:
        """What tells that changes of a node are missing."""
        known = self.nodes.get(node)
        return (known["epoch"], _breaks(known)) if known else ()

    def _doubt(self, revision: int, pool: str, text: str) -> None:
        """A violation, unless changes of the node are missing: its record tells that, at its end, or another client was told."""
        node = node_of(pool)
        self.pending.append((place(revision), node, self._known(node), text))

    def _settle(self, revision: int) -> None:
        """A message of this revision comes: the records before it are complete."""
        left = []
        for at, node, known, text in self.pending:
            if at >= place(revision):
                left.append((at, node, known, text))
            elif known == self._known(node) and known:
                self.doubts.append((at, node, text))
        self.pending = left

    def _peer(self, revision: int, change: Json) -> None:
        name, pool = change["peer"]["name"], change["peer"]["pool"]
        before = self.peers.get(name)
        super()._peer(revision, change)
        after = self.peers.get(name)
        self.state_hash += (_hash(after) if after else 0) - (_hash(before) if before else 0)
        statuses = self.statuses.setdefault(f"pools/{pool}", {})
        if after:
            statuses[name] = after["status"]
        else:
            statuses.pop(name, None)
        known = self.known_at.get(name)
        now = self.known_at[name] = self._known(node_of(pool))
        if before and after and known == now:
            transitions, expected = _transitions(after), _transitions(before) + (before["status"] != after["status"])
            if transitions != expected:
                text = f"{name} at revision {revision}: changes are missing and nothing says so: transition {transitions}, not {expected}"
                self._doubt(revision, pool, text)

    def _check_peer(self, revision: int, change: Json, known: Json | None) -> None:
        text = wrong_change(change, known)
        if text:
            self._doubt(revision, change["peer"]["pool"], f"{change['peer']['name']} at revision {revision}: {text}")

    def _check_health_change(self, revision: int, change: Json, known: str | None) -> None:
        # The first health of a pool that is new is told as a change from DOWN, whatever it is.
        if known is None:
            known = DOWN
            if change.get("health") == known:
                return
        previous, health = change.get("previous"), change.get("health")
        if known != previous or known == health:
            self._doubt(revision, change["pool"], f"{change['pool']} at revision {revision}: from {previous} to {health}, but it was {known}")

    def _check_counts(self, revision: int, pool: str, ready: int, wanted: int) -> None:
        if (ready, wanted) != self._counts(pool):
            text = f"{pool} at revision {revision}: {ready} of {wanted}, but the peers are {self._counts(pool)}"
            self._doubt(revision, pool, text)

    def _next_step(self, pool: str, time: str) -> None:
        before = self.steps.get(pool)
        if before is not None and not same_step(before, time):
            ready, wanted = self._counts(pool)
            if self.pools.get(pool) != health_of(ready, wanted):
                self._doubt(self.last, pool, f"a wrong health: {pool} is {self.pools.get(pool)} with {ready} of {wanted} READY")
        self.steps[pool] = time

    def _end_step(self) -> None:
        """The changes of one step may come before and after this."""

    def _counts(self, pool: str) -> tuple[int, int]:
        statuses = list(self.statuses.get(pool, {}).values())
        return statuses.count(READY), sum(status not in UNWANTED for status in statuses)

    def check_healths(self) -> None:
        """Everything is quiet: no step goes on."""
        for pool in self.pools:
            self._check_health(pool)

    def _saw_state(self) -> None:
        pools = hash(frozenset(self.pools.items()))
        self.agreement.saw(self.name, self.epoch, self.position, "state", (self.state_hash, pools))


def _breaks(node: Json) -> int:
    return int(node.get("chainBreakCount", 0))


def _transitions(peer: Json) -> int:
    return int(peer.get("transitionCount", 0))


def state(peer: Json) -> tuple[Any, ...]:
    """What of a peer is never changed in silence. Its revision is not in it: replicas that began at different times differ in it."""
    return (peer["name"], peer.get("origin"), peer.get("status"), peer.get("reason"))


def _hash(peer: Json) -> int:
    return hash(state(peer))
