"""What a seed chooses: the faults and their times, the faults of the simulated peers, and what the clients watch.

A pure function of the seed: nothing here looks at a clock, a process or a file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from network import Site

# Two pools with two sites of five peers each. A site is a network namespace with one process of simulated peers.
PEER_SITES = 4
PEERS_OF_SITE = 5
CLIENT_SITES = 3
RUST_CLIENTS = 20
# Processes, each with several watches.
PYTHON_CLIENTS = 3
GO_CLIENTS = 3
WATCHES_OF_PROCESS = 5

# Faults begin within this time, and the last of them ends a little later.
FAULTS_BEGIN_WITHIN_MS = 6_000
FEWEST_FAULTS, MOST_FAULTS = 8, 14
# Longer than the keepalive of peers.
LONG_MS = 5_000
# How often to look for a place in the plan where a fault does not collide with another one.
ATTEMPTS = 20

POOLS = ("default", "pod-2")
SERVICE_IP = "10.77.0.1"
ANYCAST = "10.78.0.9"
# Nobody has it.
NOWHERE = "10.78.0.200"
PORT = 8009


def peer_host(site: int, number: int) -> str:
    """The address of a peer."""
    return f"10.78.{site}.{number + 1}"


def pool_of_site(site: int) -> str:
    """The pool that a site's peers are in."""
    return POOLS[site // 2]


def hosts_of_pool(pool: str) -> list[str]:
    """The peers of a pool, without the anycast address."""
    sites = [site for site in range(PEER_SITES) if pool_of_site(site) == pool]
    return [peer_host(site, number) for site in sites for number in range(PEERS_OF_SITE)]


def sites() -> dict[str, Site]:
    """The networks around the service's."""
    around = {}
    for site in range(PEER_SITES):
        hosts = [peer_host(site, number) for number in range(PEERS_OF_SITE)] + ([ANYCAST] if site == 0 else [])
        around[f"peers-{site}"] = Site(f"10.78.{site}.254", tuple(hosts))
    return around | {f"clients-{n}": Site(f"10.79.{n}.254", (f"10.79.{n}.1",)) for n in range(CLIENT_SITES)}


def client_names() -> list[str]:
    """The client processes."""
    rust = [f"rust-{n}" for n in range(RUST_CLIENTS)]
    return rust + [f"python-{n}" for n in range(PYTHON_CLIENTS)] + [f"go-{n}" for n in range(GO_CLIENTS)]


@dataclass(frozen=True)
class Fault:
    """One fault, from its beginning to its end in ms after the start."""

    begin: int
    end: int
    kind: str
    target: str = ""
    variant: str = ""
    # What no other fault may touch at the same time.
    needs: frozenset[str] = frozenset()

    def collides(self, other: Fault) -> bool:
        """Whether two faults need the same thing at the same time."""
        return bool(self.needs & other.needs) and self.begin <= other.end and other.begin <= self.end

    def __str__(self) -> str:
        what = " ".join(part for part in (self.kind, self.target, self.variant) if part)
        return f"{self.begin / 1000:.1f}-{self.end / 1000:.1f}s {what}"


@dataclass(frozen=True)
class View:
    """What a watch selects; empty lists select everything."""

    pools: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    interests: tuple[str, ...] = ()

    def is_everything(self) -> bool:
        """Whether it is no filter at all."""
        return self == View()

    def is_complete(self) -> bool:
        """Whether it has all of each pool that it has."""
        return self == View(pools=self.pools)


@dataclass(frozen=True)
class WatchPlan:
    """One watch of a client."""

    view: View
    user_data: str
    # A listener that outlives its stream; "" for one that goes with it.
    listener: str = ""
    fails_on_gap: bool = False


@dataclass(frozen=True)
class PeerEvent:
    """A change of behaviour in the scenario file of a site."""

    at_ms: int
    peer: int
    behaviour: str


@dataclass(frozen=True)
class Plan:
    """Everything that a seed chooses."""

    seed: int
    history: int
    faults: tuple[Fault, ...]
    events: tuple[tuple[PeerEvent, ...], ...]
    watches: dict[str, tuple[WatchPlan, ...]] = field(compare=True)


def plan(seed: int) -> Plan:
    """The plan of a seed: always the same."""
    rng = random.Random(seed)
    history = rng.choice([16, 64, 65_536])
    events = tuple(_events(rng) for _ in range(PEER_SITES))
    watches = {name: tuple(_watches(rng, name)) for name in client_names()}
    return Plan(seed, history, _faults(rng), events, watches)


def _watches(rng: random.Random, name: str) -> list[WatchPlan]:
    if name.startswith("rust"):
        return [WatchPlan(_view(rng), name)]
    watches = []
    for n in range(WATCHES_OF_PROCESS):
        listener = f"{name}-{n}" if rng.random() < 0.3 else ""
        watches.append(WatchPlan(_view(rng), f"{name}-{n}", listener, rng.random() < 0.2))
    return watches


def _view(rng: random.Random) -> View:
    if rng.random() < 0.6:
        return View()
    site = rng.randrange(PEER_SITES)
    return rng.choice([
        View(pools=(rng.choice(POOLS),)),
        View(peers=(f"10.78.{site}.*",)),
        View(statuses=("PEER_STATUS_READY",)),
        View(interests=("INTEREST_HEALTH",)),
        View(interests=("INTEREST_PEERS",)),
    ])


def _events(rng: random.Random) -> tuple[PeerEvent, ...]:
    """Some peers of a site misbehave for a while; at the end all are well."""
    events = []
    for peer in rng.sample(range(PEERS_OF_SITE), rng.randrange(3)):
        begin = rng.randrange(500, 5_000)
        behaviour = rng.choice(["refuse", "silent", "mute", "reject", "garbage", "flap"])
        events.append(PeerEvent(begin, peer, behaviour))
        events.append(PeerEvent(begin + rng.randrange(500, 3_000), peer, "normal"))
    return tuple(sorted(events, key=lambda event: (event.at_ms, event.peer)))


def _faults(rng: random.Random) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    for _ in range(rng.randint(FEWEST_FAULTS, MOST_FAULTS)):
        for _ in range(ATTEMPTS):
            fault = rng.choice(KINDS)(rng)
            if not any(fault.collides(other) for other in faults):
                faults.append(fault)
                break
    return tuple(sorted(faults, key=lambda fault: (fault.begin, fault.end, fault.kind, fault.target)))


def _times(rng: random.Random, longest: int = 3_000) -> tuple[int, int]:
    begin = rng.randrange(FAULTS_BEGIN_WITHIN_MS)
    return begin, begin + rng.randrange(200, longest)


def _process(rng: random.Random, kind: str) -> Fault:
    begin, end = _times(rng, LONG_MS)
    place = rng.choice(["service", "peers", "client"])
    if place == "service":
        # A service that starts reads its files, which another fault must not have spoilt.
        needs = {"service", "files"} if kind == "kill" else {"service"}
        return Fault(begin, end, kind, "service", needs=frozenset(needs))
    if place == "peers":
        target = f"peers-{rng.randrange(PEER_SITES)}"
    else:
        language = rng.choice(["rust-", "python-", "go-"])
        target = rng.choice([name for name in client_names() if name.startswith(language)])
    return Fault(begin, end, kind, target, needs=frozenset({target}))


def _kill(rng: random.Random) -> Fault:
    return _process(rng, "kill")


def _stop(rng: random.Random) -> Fault:
    return _process(rng, "stop")


def _restart(rng: random.Random) -> Fault:
    return Fault(*_times(rng), "restart", "service", needs=frozenset({"service", "files"}))


def _site(rng: random.Random) -> str:
    return rng.choice([f"peers-{n}" for n in range(PEER_SITES)] + [f"clients-{n}" for n in range(CLIENT_SITES)])


def _reset(rng: random.Random) -> Fault:
    begin = rng.randrange(FAULTS_BEGIN_WITHIN_MS)
    return Fault(begin, begin, "reset", _site(rng))


def _link(rng: random.Random) -> Fault:
    begin, end = _times(rng, LONG_MS)
    site = _site(rng)
    kind, variants = rng.choice([
        ("cut", ["at-site", "at-middle"]),
        ("lose", ["to-site", "from-site"]),
        ("slow", ["to-site", "from-site"]),
    ])
    return Fault(begin, end, kind, site, rng.choice(variants), frozenset({f"link of {site}"}))


def _disk(rng: random.Random) -> Fault:
    return Fault(*_times(rng), "full-disk", needs=frozenset({"disk"}))


def _open_files(rng: random.Random) -> Fault:
    variant = rng.choice(["none-left", "three-left"])
    return Fault(*_times(rng), "no-files", variant=variant, needs=frozenset({"open files"}))


def _clock(rng: random.Random) -> Fault:
    step = rng.choice(["+2s", "-2s", "+90m", "-90m", "+10d", "-10d"])
    return Fault(*_times(rng), "clock", variant=step, needs=frozenset({"clock"}))


def _reload(rng: random.Random) -> Fault:
    content = rng.choice(["fewer-peers", "other-level", "unknown-key", "no-toml", "empty", "truncated"])
    how = rng.choice(["renamed", "written"])
    told = rng.choice(["with-hup", "unannounced"])
    return Fault(*_times(rng, 4_000), "reload", variant=f"{content} {how} {told}", needs=frozenset({"files"}))


def _certificates(rng: random.Random) -> Fault:
    variant = rng.choice(["new", "empty", "truncated", "mismatched"])
    return Fault(*_times(rng), "certificates", variant=variant, needs=frozenset({"files"}))


def _flood(rng: random.Random) -> Fault:
    variant = rng.choice(["idle", "handshakes", "unread"])
    return Fault(*_times(rng), "flood", variant=variant, needs=frozenset({"flood"}))


def _reset_peers(rng: random.Random) -> Fault:
    begin = rng.randrange(FAULTS_BEGIN_WITHIN_MS)
    variant = rng.choice(["RESET_SCOPE_ALL", "RESET_SCOPE_LEARNED"])
    return Fault(begin, begin, "reset-peers", rng.choice(POOLS), variant)


def _add_peer(rng: random.Random) -> Fault:
    # The service must answer, also when the peer is removed again.
    return Fault(*_times(rng), "add-peer", rng.choice(POOLS), needs=frozenset({"service", "open files"}))


# Listed twice: likelier.
KINDS: list[Callable[[random.Random], Fault]] = [
    _kill, _kill, _stop, _stop, _link, _link, _reset, _reset, _restart, _disk, _open_files, _clock, _reload, _certificates, _flood,
    _reset_peers, _add_peer,
]
