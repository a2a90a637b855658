"""After the last fault: whether everything recovers, and what the logs violate."""

from __future__ import annotations

import time
from typing import Any

import grpc
from google.protobuf import json_format
from opflex.peerstatus.v1 import node_service_pb2 as node_api
from opflex.peerstatus.v1 import pool_service_pb2 as pool_api

from convergence import Convergence
from fleet_model import FleetListener, state
from fleet_plan import NODES, PEERS_OF_POOL, POOLS, node_names
from fleet_world import CALL_TIMEOUT_S, FleetWorld
from model import READY, Json
from stage import Failed

# The slowest recovery: a node whose connection to NATS broke in silence finds out by two pings, after 30 s, and a record that
# NATS does not acknowledge is sent again after 5 s and then up to 10 s. On a busy machine all of it takes longer.
CONVERGENCE_S = 90
# Looking takes time of the processes that are looked at.
LOOK_S = 0.5
PAGE = 5_000
HEALTHY = "POOL_HEALTH_HEALTHY"
# Fields of a peer that the fleet must have as its node has them, whenever nothing changes. Others, as the time of an echo, change without
# a word.
FIELDS = (
    "host", "port", "origin", "status", "reason", "detail", "wanted", "transitionCount", "flapCount", "roles", "lastReadyTime", "notReadySince",
)

Peers = dict[str, Json]


class FleetConvergence(Convergence):
    """Whether all peers are READY, and everybody knows it."""

    def __init__(self, world: FleetWorld) -> None:
        super().__init__(world, CONVERGENCE_S)
        self.world = world
        self.looked_at = 0.0
        self.asked = ""

    def is_reached(self) -> bool:
        """Looks once in a while; notes what is missing."""
        if time.monotonic() < self.looked_at + LOOK_S:
            return False
        ended = self.world.unexpected_ends()
        if ended:
            raise Failed("; ".join(ended))
        try:
            self.missing = self._look()
        except grpc.RpcError as error:
            self.missing = f"{self.asked}: {error.code().name}: {error.details()}"
        self.looked_at = time.monotonic()
        return not self.missing

    def _look(self) -> str:
        truth: Peers = {}
        for node in node_names():
            peers = {f"pools/{node}.{peer['pool']}/peers/{peer['host']}:{peer['port']}": peer for peer in self._peers(node)}
            wrong = [f"{name} {peer['status']} {peer['detail']}" for name, peer in peers.items() if peer["status"] != READY]
            if wrong or len(peers) != len(POOLS) * PEERS_OF_POOL:
                return f"{node} has {len(peers)} peers: {wrong}"
            truth |= peers
        for replica in self.world.replicas():
            difference = self._difference(replica, truth)
            if difference:
                return f"{replica}: {difference}"
        known = {name: (name, *state(peer)[1:]) for name, peer in truth.items()}
        for log in (log for logs in self.world.logs.values() for log in logs):
            assert isinstance(log.listener, FleetListener)
            difference = _of_client(log.listener, known)
            if difference:
                return f"{log.listener.name}: {difference}"
        return ""

    def _peers(self, name: str) -> list[Json]:
        """All peers that a node or a replica has."""
        self.asked = name
        peers: list[Json] = []
        request = pool_api.ListPeersRequest(page_size=PAGE)
        while True:
            answer = self.world.pools(name).ListPeers(request, timeout=CALL_TIMEOUT_S)
            peers += json_format.MessageToDict(answer, always_print_fields_with_no_presence=True)["peers"]
            request.page_token = answer.next_page_token
            if not request.page_token:
                return peers

    def _difference(self, replica: str, truth: Peers) -> str:
        """What a replica has otherwise than the nodes."""
        peers = {peer["name"]: peer for peer in self._peers(replica)}
        wrong = [name for name in truth.keys() | peers.keys() if _content(truth.get(name)) != _content(peers.get(name))]
        if wrong:
            name = min(wrong)
            return f"{len(wrong)} peers differ: {name} is {_content(peers.get(name))}, not {_content(truth.get(name))}"
        nodes = self.world.nodes(replica).ListNodes(node_api.ListNodesRequest(), timeout=CALL_TIMEOUT_S).nodes
        wanted = len(POOLS) * PEERS_OF_POOL
        for node in nodes:
            if node.state != 1 or (node.peer_count, node.ready_count) != (wanted, wanted) or list(node.pools) != sorted(POOLS):
                return f"a node differs: {node}"
        if len(nodes) != NODES:
            return f"it has {len(nodes)} nodes"
        pools = self.world.pools(replica).ListPools(pool_api.ListPoolsRequest(page_size=PAGE), timeout=CALL_TIMEOUT_S).pools
        for pool in pools:
            if (pool.health, pool.ready_count, pool.peer_count) != (3, PEERS_OF_POOL, PEERS_OF_POOL):
                return f"a pool differs: {pool}"
        return ""


def _content(peer: Json | None) -> Any:
    return peer and tuple(str(peer.get(field)) for field in FIELDS)


def _of_client(listener: FleetListener, truth: dict[str, Any]) -> str:
    """What a client knows otherwise than the nodes."""
    if listener.phase != "live":
        return f"{listener.phase}, not live"
    known = {name: state(peer) for name, peer in listener.peers.items()}
    if known != truth:
        wrong = sorted(name for name in truth.keys() | known.keys() if known.get(name) != truth.get(name))
        return f"{len(wrong)} peers differ: {known.get(wrong[0])}, not {truth.get(wrong[0])}"
    unhealthy = [pool for pool, health in listener.pools.items() if health != HEALTHY]
    if unhealthy or len(listener.pools) != NODES * len(POOLS):
        return f"{len(listener.pools)} pools, unhealthy: {unhealthy}"
    silent = [name for name, node in listener.nodes.items() if node["state"] != "NODE_STATE_LIVE"]
    if silent or len(listener.nodes) != NODES:
        return f"{len(listener.nodes)} nodes, not LIVE: {silent}"
    return ""


def violations(world: FleetWorld) -> list[str]:
    """What all logs together violate."""
    found: list[str] = []
    for logs in world.logs.values():
        for log in logs:
            if isinstance(log.listener, FleetListener) and log.listener.phase == "live":
                log.listener.check_healths()
    for log in world.all_logs():
        log.listener.conclude()
        found += log.listener.violations
    found += world.agreement.violations
    found += sorted({complaint for log in world.all_logs() for complaint in log.complaints()})
    for file in sorted(world.folder.glob("*.stderr")):
        lines = file.read_text(errors="replace").splitlines()
        found += [f"{file.stem}: {line}" for line in lines if "panicked at" in line]
    return found
