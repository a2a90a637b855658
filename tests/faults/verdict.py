"""After the last fault: whether everything recovers, and what the logs violate."""

from __future__ import annotations

from fnmatch import fnmatchcase

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from opflex.peerstatus.v1 import peer_status_service_pb2 as status_api
from opflex.peerstatus.v1 import pool_service_pb2 as pool_api

from convergence import Convergence
from model import READY, Json, Listener, core
from plan import ANYCAST, POOLS, PORT, hosts_of_pool
from stage import Failed
from world import World

# Long enough for the slowest recovery: a client whose connection broke in silence finds out by its keepalive (30 s in
# `peerstatus watch`), or when TCP gives up, and its next attempt may come 5 s later. On a busy machine all of it takes longer.
CONVERGENCE_S = 75
CALL_TIMEOUT_S = 5


class ServiceConvergence(Convergence):
    """Whether all peers are READY, and all clients know it."""

    def __init__(self, world: World) -> None:
        super().__init__(world, CONVERGENCE_S)
        self.world = world

    def is_reached(self) -> bool:
        """Looks once; notes what is missing."""
        ended = self.world.unexpected_ends()
        if ended:
            raise Failed("; ".join(ended))
        try:
            answer = self.world.pools.ListPeers(pool_api.ListPeersRequest(), timeout=CALL_TIMEOUT_S)
            peers = [_json(peer) for peer in answer.peers]
            self.missing = _unready(peers) or self._behind(str(answer.cursor.epoch), peers) or self._lag()
        except grpc.RpcError as error:
            self.missing = f"the service: {error.code().name}: {error.details()}"
        return not self.missing

    def _lag(self) -> str:
        """What the service says about the listeners of the clients, if it is not that all of them have everything."""
        answer = self.world.listeners.ListListeners(status_api.ListListenersRequest(), timeout=CALL_TIMEOUT_S)
        known = {listener.name: listener for listener in answer.listeners}
        for logs in self.world.logs.values():
            for name in (log.listener.resource for log in logs):
                state = known.get(name)
                if state is None or state.state != status_api.LISTENER_STATE_ATTACHED or state.lag:
                    return f"{name} in ListListeners: {state}"
        return ""

    def _behind(self, epoch: str, peers: list[Json]) -> str:
        for logs in self.world.logs.values():
            for log in logs:
                difference = _difference(log.listener, epoch, peers)
                if difference:
                    return f"{log.listener.name}: {difference}"
        return ""


def _json(message: Message) -> Json:
    value: Json = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return value


def compare_history(world: World) -> None:
    """Has the agreement also contain what ListTransitions says about the present epoch."""
    epoch = str(world.pools.ListPeers(pool_api.ListPeersRequest(), timeout=CALL_TIMEOUT_S).cursor.epoch)
    request = pool_api.ListTransitionsRequest()
    while True:
        answer = world.pools.ListTransitions(request, timeout=CALL_TIMEOUT_S)
        for transition in answer.transitions:
            world.agreement.saw_change("ListTransitions", epoch, transition.revision, _json(transition.change))
        request.page_token = answer.next_page_token
        if not request.page_token:
            return


def expected() -> dict[str, str]:
    """The state in the end: all peers are READY, and the anycast address is parked."""
    states = {f"pools/{pool}/peers/{host}:{PORT}": READY for pool in POOLS for host in hosts_of_pool(pool)}
    states[f"pools/{POOLS[0]}/peers/{ANYCAST}:{PORT}"] = "PEER_STATUS_DISCONNECTED"
    return states


def _unready(peers: list[Json]) -> str:
    """What of the service's state is not as expected."""
    states = {peer["name"]: peer["status"] for peer in peers}
    wrong = {name: states.get(name) for name, status in expected().items() if states.get(name) != status}
    wrong |= {name: states[name] for name in states.keys() - expected().keys()}
    details = [f"{peer['name']} {peer['status']} {peer['reason']} {peer['detail']}" for peer in peers if peer["name"] in wrong]
    return f"peers: {wrong} ({'; '.join(details)})" if wrong else ""


def _difference(listener: Listener, epoch: str, peers: list[Json]) -> str:
    """What a client knows otherwise than the service."""
    if listener.phase != "live" or listener.epoch != epoch:
        return f"{listener.phase} in epoch {listener.epoch or 'none'}, not live in {epoch}"
    view = listener.view
    if not view.interests or "INTEREST_HEALTH" in view.interests:
        healths = {f"pools/{pool}": "POOL_HEALTH_HEALTHY" for pool in POOLS if not view.pools or pool in view.pools}
        if listener.pools != healths:
            return f"{listener.pools}"
    if view.interests and "INTEREST_PEERS" not in view.interests:
        return ""
    known = {core(peer) for peer in listener.peers.values()}
    real = {core(peer) for peer in peers if _matches(listener, peer)}
    return "" if known == real else f"it knows {sorted(known - real)} instead of {sorted(real - known)}"


def _matches(listener: Listener, peer: Json) -> bool:
    view = listener.view
    return (
        (not view.pools or peer["pool"] in view.pools)
        and (not view.peers or any(fnmatchcase(peer["host"], glob) for glob in view.peers))
        and (not view.statuses or peer["status"] in view.statuses)
    )


def violations(world: World) -> list[str]:
    """What all logs together violate."""
    found = [violation for log in world.all_logs() for violation in log.listener.violations]
    found += world.agreement.violations
    complaints = {complaint for log in world.all_logs() for complaint in log.complaints()}
    found += sorted(complaints)
    log = world.disk / "service.stderr"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return found + [f"the service: {line}" for line in lines if "panicked at" in line]
