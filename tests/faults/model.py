"""What a client may be sent: a listener's log is checked message by message, and the logs against each other.

It reads only what the client received, as proto3-JSON, and knows no clock, process or file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from plan import View

Json = dict[str, Any]

DOWN, DEGRADED, HEALTHY = "POOL_HEALTH_DOWN", "POOL_HEALTH_DEGRADED", "POOL_HEALTH_HEALTHY"
READY = "PEER_STATUS_READY"
UNWANTED = ("PEER_STATUS_CLOSING", "PEER_STATUS_DISCONNECTED")
# How a stream may end, or an attempt to open one. NOT_FOUND: the service was restarted after CreateListener. ABORTED: the client's
# next stream took the listener over. DEADLINE_EXCEEDED: CreateListener took too long.
DEADLINE_EXCEEDED, NOT_FOUND, ABORTED, OUT_OF_RANGE, UNAVAILABLE = 4, 5, 10, 11, 14
ENDS = (DEADLINE_EXCEEDED, NOT_FOUND, ABORTED, OUT_OF_RANGE, UNAVAILABLE)
# Of a change.
PARTS = ("peer", "health", "node")
# The first violations say most; those after them are often their consequences.
MOST_VIOLATIONS = 20


def health_of(ready: int, wanted: int) -> str:
    """The definition of a pool's health."""
    if ready == 0:
        return DOWN
    return DEGRADED if ready < wanted else HEALTHY


def core(peer: Json) -> tuple[Any, ...]:
    """What changes only with a revision."""
    return (peer["name"], peer.get("origin"), peer.get("status"), peer.get("reason"), int(peer.get("revision", 0)))


def _instant(text: str) -> int:
    """A timestamp in nanoseconds since 1970."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def same_step(a: str, b: str) -> bool:
    """Whether times of two changes can be the same one, by a clock that was set by whole milliseconds between them."""
    return (_instant(a) - _instant(b)) % 10**6 == 0


def _content(value: Any, now: int) -> Any:
    """A JSON value, hashable and the same from every writer: without defaults and null, numbers as text.

    A time is its age at `now`: when the clock of the service is set, what is shown again has other times and the same ages.
    """
    if isinstance(value, dict):
        items = ((key, _content(item, now)) for key, item in sorted(value.items()))
        return tuple((key, item) for key, item in items if item not in ("", "0", (), "false"))
    if isinstance(value, list):
        return tuple(_content(item, now) for item in value)
    if value is None or isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value[:1].isdigit() and value.endswith("Z"):
        return f"{now - _instant(value)} ns before"
    if isinstance(value, str) and value[:1].isdigit() and value.endswith("s") and "." in value:
        return value.removesuffix("s").rstrip("0")
    return str(value)


class Agreement:
    """What all clients saw at each revision of each epoch."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int, str], tuple[Any, str]] = {}
        self.violations: list[str] = []

    def saw(self, who: str, epoch: str, revision: int, part: str, content: Any) -> None:
        """Notes what a client saw, and compares it with what others saw."""
        first, by = self.seen.setdefault((epoch, revision, part), (content, who))
        if first != content and len(self.violations) < MOST_VIOLATIONS:
            self.violations.append(
                f"disagreement about the {part} at revision {revision} of epoch {epoch}: {by} saw {first}, {who} saw {content}"
            )


    def saw_change(self, who: str, epoch: str, revision: int, change: Json) -> None:
        """Notes a change: its parts, which a filter may leave out."""
        for part in PARTS:
            if change.get(part):
                self.saw(who, epoch, revision, part, self.content(part, change[part]))

    def content(self, part: str, value: Json) -> Any:
        """What all must have seen alike."""
        return _content(value, _instant(value["time"]))


@dataclass
class Listener:
    """Folds the messages of one client into a state, and notes what they violate.

    A client that writes what it asks for (`{"ask": cursor or null}`) is checked against that; of others it is known
    that they ask to resume whenever they can.
    """

    name: str
    view: View
    agreement: Agreement
    user_data: str = ""
    fails_on_gap: bool = False
    peers: dict[str, Json] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    # Its name in the API.
    resource: str = ""
    epoch: str = ""
    # The revision that the next change must name as the one before it.
    last: int = 0
    # Where the client can resume; None: it has no complete state.
    cursor: tuple[str, int] | None = None
    asked: tuple[str, int] | None = None
    says_what_it_asks: bool = False
    # none, attached-reset, attached-snapshot, snapshot, replay, live, drained
    phase: str = "none"
    is_new_epoch: bool = False
    step: tuple[str, str] | None = None
    messages: int = 0
    resumed: int = 0
    resets: int = 0

    def violation(self, text: str) -> None:
        """Notes a violation."""
        if len(self.violations) < MOST_VIOLATIONS:
            self.violations.append(f"{self.name}: {text} (message {self.messages})")

    def feed(self, message: Json) -> None:
        """Takes the next line of the log."""
        if "ask" in message:
            ask = message["ask"]
            self.says_what_it_asks = True
            self.asked = (str(ask["epoch"]), int(ask["revision"])) if ask else None
            return
        if "lost" in message:
            self._lost(message)
            return
        self.messages += 1
        if self.phase == "drained" and "attached" not in message:
            self.violation("a message after draining")
        self._user_data(message)
        for event in ("attached", "snapshot", "synced", "change", "reset", "heartbeat", "draining"):
            if event in message:
                getattr(self, f"_{event}")(message, message[event])
                return
        self.violation(f"an unknown message: {message}")

    def conclude(self) -> None:
        """All messages were fed."""

    def _lost(self, end: Json) -> None:
        """The end of a stream, or of an attempt to open one."""
        code = end["lost"]
        if code not in ENDS or (code == OUT_OF_RANGE and not self.fails_on_gap):
            self.violation(f"the stream ended with code {code}: {end['why']}")

    def _user_data(self, message: Json) -> None:
        has_it = "attached" in message or "change" in message
        if message.get("userData", "") != (self.user_data if has_it else ""):
            self.violation(f"user_data is {message.get('userData')!r}")

    def _attached(self, _message: Json, attached: Json) -> None:
        epoch, revision = _cursor(attached)
        self.resource = attached.get("listener", {}).get("name", "")
        asked = self.asked if self.says_what_it_asks else self.cursor
        if attached.get("resumed"):
            self.resumed += 1
            if asked is None:
                self.violation("resumed, but nothing to resume from was asked for")
            elif epoch != asked[0]:
                self.violation(f"a silent change of epoch: resumed in {epoch}, not in {asked[0]}")
            elif revision != asked[1] and (self.says_what_it_asks or self._has_every_revision()):
                self.violation(f"resumed after revision {revision}, not {asked[1]}")
            self.phase = "replay"
        else:
            self.phase = "attached-snapshot" if asked is None else "attached-reset"
            self.cursor = None
        # Of the cursor, not of the last stream: that may have been lost before it told the client to forget.
        self.is_new_epoch = asked is not None and asked[0] != epoch
        self.epoch, self.last = epoch, revision

    def _reset(self, _message: Json, reset: Json) -> None:
        self.resets += 1
        is_new_epoch = self.phase == "attached-reset" and self.is_new_epoch
        if self.phase not in ("attached-reset", "live", "replay"):
            self.violation(f"reset in phase {self.phase}")
        if is_new_epoch != (reset.get("reason") == "RESET_REASON_EPOCH_CHANGED"):
            self.violation(f"{reset.get('reason')} for a {'new' if is_new_epoch else 'known'} epoch")
        if self.fails_on_gap:
            self.violation("reset in spite of GAP_POLICY_FAIL")
        self.phase, self.cursor, self.step = "attached-snapshot", None, None

    def _snapshot(self, message: Json, snapshot: Json) -> None:
        revision = int(message.get("revision", 0))
        if self.phase == "attached-reset":
            self.violation("a snapshot without reset: the client asked to resume and was not told that it could not")
        elif self.phase not in ("attached-snapshot", "snapshot"):
            self.violation(f"a snapshot that nothing announced, in phase {self.phase}")
        if self.phase != "snapshot":
            self.peers, self.pools, self.step = {}, {}, None
        elif revision != self.last:
            self.violation(f"parts of a snapshot at revisions {self.last} and {revision}")
        self.phase, self.last, self.cursor = "snapshot", revision, None
        for peer in snapshot.get("peers", []):
            self._wanted(peer)
            self.peers[peer["name"]] = peer
        for pool in snapshot.get("pools", []):
            self.pools[pool["name"]] = pool.get("health", "")
            self._pool_of_snapshot(pool)

    def _pool_of_snapshot(self, pool: Json) -> None:
        ready, wanted = int(pool.get("readyCount", 0)), int(pool.get("peerCount", 0))
        if pool.get("health") != health_of(ready, wanted):
            self.violation(f"snapshot: {pool['name']} is {pool.get('health')} with {ready} of {wanted} READY")

    def _synced(self, _message: Json, synced: Json) -> None:
        if self.phase not in ("snapshot", "replay"):
            self.violation(f"synced in phase {self.phase}")
        was_snapshot = self.phase == "snapshot"
        self._position("synced", synced)
        self.phase = "live"
        if self._has_peers() and int(synced.get("peerCount", 0)) != len(self.peers):
            self.violation(f"synced with {synced.get('peerCount', 0)} peers, but the messages have {len(self.peers)}")
        if was_snapshot:
            self._complete()

    def _complete(self) -> None:
        """All of a snapshot has come."""
        if self.view.is_complete():
            for pool in self.pools:
                self._check_health(pool)
        if self.view.is_everything():
            self._saw_state()

    def _heartbeat(self, _message: Json, heartbeat: Json) -> None:
        if self.phase != "live":
            self.violation(f"heartbeat in phase {self.phase}")
        self._position("heartbeat", heartbeat)

    def _draining(self, _message: Json, draining: Json) -> None:
        self._position("draining", draining)
        self.phase = "drained"

    def _position(self, what: str, event: Json) -> None:
        """A message with a cursor: everything up to there was delivered."""
        self._end_step()
        epoch, revision = _cursor(event)
        self._same_epoch(what, epoch)
        behind = revision < self.last
        if behind or (self._has_every_revision() and revision != self.last):
            self.violation(f"{what} at revision {revision} after revision {self.last}")
        if what == "synced" or self.cursor is not None:
            self.cursor = (epoch, revision)

    def _same_epoch(self, what: str, epoch: str) -> None:
        if epoch != self.epoch:
            self.violation(f"a silent change of epoch: {what} in {epoch}, attached in {self.epoch}")

    def _has_every_revision(self) -> bool:
        """Whether each revision is a change that it gets."""
        return self.view.is_everything()

    def _change(self, message: Json, change: Json) -> None:
        revision, previous = int(message.get("revision", 0)), int(message.get("previousRevision", 0))
        if self.phase not in ("live", "replay"):
            self.violation(f"a change in phase {self.phase}")
        if revision <= self.last:
            self.violation(f"a duplicate: revision {revision} after {self.last}")
        if previous != self.last:
            self.violation(f"a gap: revision {revision} follows {previous}, but the client had {self.last}")
        if self._has_every_revision() and revision > self.last + 1:
            self.violation(f"a gap: revision {revision} after {self.last}, without a filter")
        self.last = revision
        if self.cursor is not None:
            self.cursor = (self.epoch, revision)
        peer, health = change.get("peer"), change.get("health")
        self.agreement.saw_change(self.name, self.epoch, revision, change)
        if not any(change.get(part) for part in PARTS):
            self.violation(f"an empty change at revision {revision}")
        if peer:
            self._next_step(f"pools/{peer['peer']['pool']}", peer["time"])
            self._peer(revision, peer)
        if health:
            self._next_step(health["pool"], health["time"])
            self._health(revision, health, peer)
        if self.view.is_everything():
            self._saw_state()

    def _peer(self, revision: int, change: Json) -> None:
        peer = change["peer"]
        known = self.peers.get(peer["name"])
        kind = change.get("kind")
        self._wanted(peer)
        if int(peer.get("revision", 0)) != revision:
            self.violation(f"{peer['name']} says revision {peer.get('revision')} in the change {revision}")
        if not self.view.statuses:
            self._check_peer(revision, change, known)
        if kind == "CHANGE_KIND_REMOVED" or (self.view.statuses and peer["status"] not in self.view.statuses):
            self.peers.pop(peer["name"], None)
        else:
            self.peers[peer["name"]] = peer

    def _check_peer(self, revision: int, change: Json, known: Json | None) -> None:
        """Whether a change of a peer follows from what the client knows of it."""
        wrong = wrong_change(change, known)
        if wrong:
            self.violation(f"{change['peer']['name']} at revision {revision}: {wrong}")

    def _health(self, revision: int, change: Json, peer: Json | None) -> None:
        pool, health = change["pool"], change.get("health")
        ready, wanted = int(change.get("readyCount", 0)), int(change.get("peerCount", 0))
        self._check_health_change(revision, change, self.pools.get(pool))
        if health != health_of(ready, wanted):
            self.violation(f"a wrong health: {pool} is {health} with {ready} of {wanted} READY at revision {revision}")
        self.pools[pool] = str(health)
        if self.view.is_complete():
            self._check_counts(revision, pool, ready, wanted)
            if not peer or peer["peer"]["name"] != change.get("cause"):
                self.violation(f"{pool} at revision {revision}: caused by {change.get('cause')}, which did not change")

    def _check_health_change(self, revision: int, change: Json, known: str | None) -> None:
        """Whether a change of a pool's health follows from what the client knows of it."""
        previous, health = change.get("previous"), change.get("health")
        if known != previous or known == health:
            self.violation(f"{change['pool']} at revision {revision}: from {previous} to {health}, but it was {known}")

    def _check_counts(self, revision: int, pool: str, ready: int, wanted: int) -> None:
        if (ready, wanted) != self._counts(pool):
            self.violation(f"{pool} at revision {revision}: {ready} of {wanted}, but the peers are {self._counts(pool)}")

    def _wanted(self, peer: Json) -> None:
        if bool(peer.get("wanted")) != (peer.get("status") not in UNWANTED):
            self.violation(f"{peer['name']} is {peer.get('status')}, and wanted is {peer.get('wanted')}")

    def _next_step(self, pool: str, time: str) -> None:
        """The changes of one step have one time; the health is that after all of them."""
        if self.step is None or self.step[0] != pool or not same_step(self.step[1], time):
            self._end_step()
        self.step = (pool, time)

    def _end_step(self) -> None:
        if self.step and self.view.is_complete():
            self._check_health(self.step[0])
        self.step = None

    def _check_health(self, pool: str) -> None:
        ready, wanted = self._counts(pool)
        if self.pools.get(pool) != health_of(ready, wanted):
            self.violation(f"a wrong health: {pool} is {self.pools.get(pool)} with {ready} of {wanted} READY")

    def _counts(self, pool: str) -> tuple[int, int]:
        """READY and wanted peers of a pool."""
        of_pool = [peer["status"] for peer in self.peers.values() if f"pools/{peer['pool']}" == pool]
        return of_pool.count(READY), sum(status not in UNWANTED for status in of_pool)

    def _has_peers(self) -> bool:
        return not self.view.interests or "INTEREST_PEERS" in self.view.interests

    def _saw_state(self) -> None:
        state = frozenset(core(peer) for peer in self.peers.values())
        # Only what is compared: a state of 21 peers for each revision and client would take too much memory.
        self.agreement.saw(self.name, self.epoch, self.last, "state", (hash(state), hash(frozenset(self.pools.items()))))


def _cursor(event: Json) -> tuple[str, int]:
    cursor = event.get("cursor", {})
    return str(cursor.get("epoch", "0")), int(cursor.get("revision", 0))


def wrong_change(change: Json, known: Json | None) -> str | None:
    """What is wrong with the change of a peer that the client knows in the state `known`."""
    kind, peer, before = change.get("kind"), change["peer"], change.get("previousStatus", "PEER_STATUS_UNSPECIFIED")
    if kind == "CHANGE_KIND_ADDED":
        return f"added, but it was there: {core(known)}" if known else None
    if known is None:
        return f"{kind} of a peer that was not there"
    if before != known["status"]:
        return f"it was {before} according to the change, and {known['status']} according to those before"
    if kind == "CHANGE_KIND_STATUS" and (known["status"], known["reason"]) == (peer["status"], peer["reason"]):
        return f"a change of nothing: {core(peer)}"
    if kind == "CHANGE_KIND_ORIGIN" and known["origin"] == peer["origin"]:
        return "a change of the origin that changes nothing"
    if kind == "CHANGE_KIND_REMOVED" and (before, peer["status"]) != UNWANTED:
        return f"removed from {before} to {peer['status']}"
    return None
