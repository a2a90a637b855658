"""What a seed chooses for a fleet: its size, the faults and their times, and how the simulated peers misbehave.

A pure function of the seed: nothing here looks at a clock, a process or a file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from network import Site
from plan import Fault, PeerEvent

RACKS = 5
NODES_OF_RACK = 10
NODES = RACKS * NODES_OF_RACK
POOLS = ("default", "pod-2")
PEERS_OF_POOL = 10
# The rest is learned from their lists.
CONFIGURED_OF_POOL = 4
CLIENT_SITES = 2
RUST_CLIENTS = 3
PYTHON_CLIENTS = 2
WATCHES_OF_PROCESS = 6

# Faults begin within this time, and the last of them ends a little later.
FAULTS_BEGIN_WITHIN_MS = 7_000
FEWEST_FAULTS, MOST_FAULTS = 8, 14
# Beyond the 5 s after which a record that has no acknowledgement is sent again.
LONG_MS = 7_000
# How often to look for a place in the plan where a fault does not collide with another one.
ATTEMPTS = 20
FLAPPING_OF_NODE = 2


@dataclass(frozen=True)
class FleetPlan:
    """Everything that a seed chooses."""

    seed: int
    nats: int
    replicas: int
    # Lengths of the logs of changes.
    history: int
    history_of_node: int
    faults: tuple[Fault, ...]
    # Of the peers of each node.
    events: tuple[tuple[PeerEvent, ...], ...]


def plan(seed: int) -> FleetPlan:
    """The plan of a seed: always the same."""
    rng = random.Random(seed)
    nats, replicas = rng.choice([1, 3, 3]), rng.choice([2, 3])
    history, history_of_node = rng.choice([64, 1_024, 65_536]), rng.choice([64, 1_024, 65_536])
    events = tuple(_events(rng) for _ in range(NODES))
    return FleetPlan(seed, nats, replicas, history, history_of_node, _Faults(rng, nats, replicas).choose(), events)


def node_names() -> list[str]:
    """The processes of the nodes."""
    return [f"node-{n}" for n in range(NODES)]


def rack_of(node: int) -> str:
    """The site of a node and of its peers."""
    return f"rack-{node // NODES_OF_RACK}"


def client_names() -> list[str]:
    """The client processes."""
    return [f"rust-{n}" for n in range(RUST_CLIENTS)] + [f"python-{n}" for n in range(PYTHON_CLIENTS)]


def address(site: str) -> str:
    """The address of the processes of a site."""
    return _site(site).hosts[0]


def _site(name: str) -> Site:
    kind, _, number = name.partition("-")
    net = f"10.{('rack', 'nats', 'replica', 'clients').index(kind) + 91}.{number}"
    return Site(f"{net}.254", (f"{net}.1",))


def sites(nats: int, replicas: int) -> dict[str, Site]:
    """The networks of a fleet."""
    counts = {"rack": RACKS, "nats": nats, "replica": replicas, "clients": CLIENT_SITES}
    return {f"{kind}-{n}": _site(f"{kind}-{n}") for kind, count in counts.items() for n in range(count)}


def peers_of(node: int, pool: str) -> list[str]:
    """The peers of a node's pool: on loopback, so that nothing between them and the node breaks but themselves."""
    first = POOLS.index(pool) * PEERS_OF_POOL + 1
    return [f"127.1.{node}.{first + n}:8009" for n in range(PEERS_OF_POOL)]


def _events(rng: random.Random) -> tuple[PeerEvent, ...]:
    """Some peers of a node misbehave for a while; at the end all are well."""
    events = []
    for peer in rng.sample(range(len(POOLS) * PEERS_OF_POOL), rng.randrange(FLAPPING_OF_NODE + 1)):
        begin = rng.randrange(6_000, 14_000)
        events.append(PeerEvent(begin, peer, rng.choice(["refuse", "reject", "garbage", "flap", "flap"])))
        events.append(PeerEvent(begin + rng.randrange(500, 4_000), peer, "normal"))
    return tuple(sorted(events, key=lambda event: (event.at_ms, event.peer)))


class _Faults:
    """Chooses faults."""

    def __init__(self, rng: random.Random, nats: int, replicas: int) -> None:
        self.rng, self.nats, self.replicas = rng, nats, replicas
        # Listed twice: likelier.
        self.kinds: list[Callable[[], Fault]] = [
            self.kill, self.kill, self.kill, self.stop, self.stop, self.link, self.link, self.reset, self.restart,
            self.reset_peers, self.add_peer,
        ]

    def choose(self) -> tuple[Fault, ...]:
        """Faults that do not need the same thing at the same time, by their beginnings."""
        faults: list[Fault] = []
        for _ in range(self.rng.randint(FEWEST_FAULTS, MOST_FAULTS)):
            for _ in range(ATTEMPTS):
                fault = self.rng.choice(self.kinds)()
                if not any(fault.collides(other) for other in faults):
                    faults.append(fault)
                    break
        return tuple(sorted(faults, key=lambda fault: (fault.begin, fault.end, fault.kind, fault.target)))

    def times(self, longest: int = LONG_MS) -> tuple[int, int]:
        begin = self.rng.randrange(FAULTS_BEGIN_WITHIN_MS)
        return begin, begin + self.rng.randrange(200, longest)

    def node(self) -> str:
        return f"node-{self.rng.randrange(NODES)}"

    def process(self) -> str:
        kinds = {
            "node": NODES, "nats": self.nats, "replica": self.replicas, "peers": RACKS, "rust": RUST_CLIENTS,
            "python": PYTHON_CLIENTS,
        }
        # Nodes, servers and replicas are likelier.
        kind = self.rng.choice(["node", "node", "nats", "nats", "replica", "replica", "peers", "rust", "python"])
        return f"{kind}-{self.rng.randrange(kinds[kind])}"

    def kill(self) -> Fault:
        target = self.process()
        return Fault(*self.times(), "kill", target, needs=frozenset({target}))

    def stop(self) -> Fault:
        target = self.process()
        return Fault(*self.times(), "stop", target, needs=frozenset({target}))

    def restart(self) -> Fault:
        target = self.rng.choice([self.node(), f"replica-{self.rng.randrange(self.replicas)}", f"nats-{self.rng.randrange(self.nats)}"])
        return Fault(*self.times(), "restart", target, needs=frozenset({target}))

    def site(self) -> str:
        return self.rng.choice(list(sites(self.nats, self.replicas)))

    def link(self) -> Fault:
        site = self.site()
        kind, variants = self.rng.choice([("cut", ["at-site", "at-middle"]), ("lose", ["to-site", "from-site"])])
        return Fault(*self.times(), kind, site, self.rng.choice(variants), frozenset({f"link of {site}"}))

    def reset(self) -> Fault:
        begin, _ = self.times()
        return Fault(begin, begin, "reset", self.site())

    def reset_peers(self) -> Fault:
        begin, _ = self.times()
        scope = self.rng.choice(["RESET_SCOPE_ALL", "RESET_SCOPE_LEARNED"])
        return Fault(begin, begin, "reset-peers", self.node(), f"{self.rng.choice(POOLS)} {scope}")

    def add_peer(self) -> Fault:
        target = self.node()
        # The node must answer, also when the peer is removed again.
        return Fault(*self.times(3_000), "add-peer", target, self.rng.choice(POOLS), frozenset({target}))
