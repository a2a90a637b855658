"""The files that NATS servers, nodes, replicas and simulated peers read."""

from __future__ import annotations

import json
from pathlib import Path

from fleet_plan import CONFIGURED_OF_POOL, NODES_OF_RACK, POOLS, FleetPlan, address, peers_of
from plan import PeerEvent

CLUSTER = "lab"
# Below those that the system chooses.
GRPC_PORT, NATS_PORT, ROUTE_PORT = 20051, 4222, 6222
# Nodes of a rack have one address.
FIRST_NODE_PORT = 20100

NATS = """
server_name: {name}
listen: "{address}:{port}"
jetstream {{ store_dir: {store}, max_file: 4G, max_mem: 256M }}
"""
# Short times, so that a run takes seconds: a server that is silent is given up, and routes are tried again quickly.
NATS_CLUSTER = """
ping_interval: "2s"
cluster {{ name: fleet, listen: "{address}:{port}", routes: {routes}, ping_interval: "1s" }}
"""
SERVER = """
[server]
listen = "{listen}"
admin = "off"
drain_timeout = "1s"
insecure = true
[server.socket]
path = "{socket}"
[server.auth]
local = "operator"
anonymous = "viewer"
[history]
changes = {history}
[fleet]
cluster = "{cluster}"
nats = {nats}
"""
# Timers are a fraction of the defaults. A thousand peers send echoes, so these are not the fastest.
POOL = """
[[pool]]
name = "{name}"
peers = {peers}
[pool.identity]
name = "{node}-peerstatus"
[pool.timers]
connect = "1s"
handshake = "2s"
keepalive = "10s"
echo = "4s"
"""


def nats_urls(plan: FleetPlan) -> list[str]:
    """The servers."""
    return [f"nats://{address(f'nats-{n}')}:{NATS_PORT}" for n in range(plan.nats)]


def nats(plan: FleetPlan, number: int, store: Path) -> str:
    """The configuration of a NATS server."""
    name = f"nats-{number}"
    text = NATS.format(name=name, address=address(name), port=NATS_PORT, store=json.dumps(str(store)))
    if plan.nats > 1:
        routes = json.dumps([f"nats://{address(f'nats-{n}')}:{ROUTE_PORT}" for n in range(plan.nats)])
        text += NATS_CLUSTER.format(address=address(name), port=ROUTE_PORT, routes=routes)
    return text


def replica(plan: FleetPlan, socket: Path) -> str:
    """The configuration of a replica of the service of the fleet. The stream is on all servers."""
    text = SERVER.format(
        listen=f"0.0.0.0:{GRPC_PORT}", socket=socket, history=plan.history, cluster=CLUSTER, nats=json.dumps(nats_urls(plan)),
    )
    return text + f"replicas = {plan.nats}\n"


def node(plan: FleetPlan, number: int, socket: Path) -> str:
    """The configuration of a node."""
    text = SERVER.format(
        listen=f"127.0.0.1:{FIRST_NODE_PORT + number % NODES_OF_RACK}", socket=socket, history=plan.history_of_node, cluster=CLUSTER,
        nats=json.dumps(nats_urls(plan)),
    )
    text += f'node = "node-{number}"\n'
    for pool in POOLS:
        peers = json.dumps(peers_of(number, pool)[:CONFIGURED_OF_POOL])
        text += POOL.format(name=pool, node=f"node-{number}", peers=peers)
    return text


def scenario(rack: int, events: tuple[tuple[PeerEvent, ...], ...]) -> str:
    """The scenario file of a rack: the peers of each pool of each node list each other."""
    text = ""
    nodes = range(rack * NODES_OF_RACK, (rack + 1) * NODES_OF_RACK)
    for number in nodes:
        listens = [(pool, listen) for pool in POOLS for listen in peers_of(number, pool)]
        for peer, (pool, listen) in enumerate(listens):
            text += f'[[peer]]\nname = "{number}-{peer}"\nlisten = "{listen}"\npool = "{number}-{pool}"\n'
    for number in nodes:
        for event in events[number]:
            every = 'every = "800ms"\n' if event.behaviour == "flap" else ""
            text += (
                f'[[event]]\nat = "{event.at_ms}ms"\npeers = ["{number}-{event.peer}"]\nbehaviour = "{event.behaviour}"\n'
                f"{every}close = true\n"
            )
    return text
