"""One run's world: NATS servers, nodes with their simulated peers, replicas of the service of the fleet, and clients."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from opflex.peerstatus.v1 import node_service_pb2 as node_api
from opflex.peerstatus.v1 import node_service_pb2_grpc as node_rpc
from opflex.peerstatus.v1 import pool_service_pb2 as pool_api
from opflex.peerstatus.v1 import pool_service_pb2_grpc as pool_rpc

import fleet_settings as settings
from fleet_model import FleetAgreement, FleetListener
from fleet_plan import (
    CLIENT_SITES, NODES, PEERS_OF_POOL, POOLS, PYTHON_CLIENTS, RACKS, RUST_CLIENTS, WATCHES_OF_PROCESS, FleetPlan, address,
    client_names, node_names, rack_of, sites,
)
from logs import Log
from network import Network
from plan import View
from processes import PATIENCE_S, Process
from stage import BINARY, HERE, LOOK_S, Failed, Stage, prefix_of

NATS_SERVER = os.environ.get("NATS_SERVER") or str(HERE.parents[1] / ".tools" / "bin" / "nats-server")
# A client in Python goes to another replica after so long at most.
LONGEST_STAY_S = 6.0
# Nobody has it.
NOWHERE, PORT = "127.1.250.1", 8009
# The service may be in the middle of anything.
CALL_TIMEOUT_S = 5
NODE_PATIENCE_S = 30


class FleetWorld(Stage):
    """Starts everything, and ends all of it in `close`."""

    def __init__(self, plan: FleetPlan, folder: Path) -> None:
        super().__init__(folder, Network(prefix_of(os.getpid()), "core", None, sites(plan.nats, plan.replicas)))
        self.plan = plan
        self.agreement = FleetAgreement()
        self.starts: dict[str, int] = {}
        self.channels: dict[str, grpc.Channel] = {}
        self.has_started = False

    def replicas(self) -> list[str]:
        """The replicas."""
        return [f"replica-{n}" for n in range(self.plan.replicas)]

    def start(self) -> None:
        """Builds the network and starts everything in it."""
        self.network.build()
        for number in range(self.plan.nats):
            self.start_named(f"nats-{number}")
        waits = [self.begin(name) for name in self.replicas() + [f"peers-{rack}" for rack in range(RACKS)]]
        self.wait_until("replicas and peers", lambda: all(is_ready() for is_ready in waits))
        # The stream is there, so that no node waits for it.
        self.wait_until("the stream", lambda: all(map(self.is_serving, self.replicas())))
        waits = [self.begin(name) for name in node_names()]
        self.wait_until("the nodes", lambda: all(is_ready() for is_ready in waits), NODE_PATIENCE_S)
        self.wait_until("the first state", self.has_first_state, NODE_PATIENCE_S)
        for name in client_names():
            self.start_client(name)
        self.has_started = True

    def close(self) -> None:
        """Ends all processes."""
        super().close()
        for channel in self.channels.values():
            channel.close()

    def start_named(self, name: str) -> None:
        """Starts what a fault has killed."""
        self.dead.discard(name)
        if name in client_names():
            self.start_client(name)
        else:
            self.wait_until(f"{name} to be ready", self.begin(name))

    def begin(self, name: str) -> Callable[[], bool]:
        """Starts a process; the result returns whether it is ready."""
        kind, _, number_text = name.partition("-")
        number, file = int(number_text), self.folder / f"{name}.conf"
        site, command = name, [BINARY, "fleet" if kind == "replica" else "serve", "--config", str(file)]
        if kind == "nats":
            text = settings.nats(self.plan, number, self.folder / f"{name}-store")
            # It writes its log, of which the first line is enough.
            command = [NATS_SERVER, "-c", str(file), "-l", str(self.stdout(name))]
        elif kind == "replica":
            text = settings.replica(self.plan, self.socket(name))
        elif kind == "node":
            text, site = settings.node(self.plan, number, self.socket(name)), rack_of(number)
        else:
            # After a crash they have no faults of their own any more.
            events = ((),) * NODES if self.has_started else self.plan.events
            text, site = settings.scenario(number, events), f"rack-{number}"
            file = file.with_suffix(".toml")
            command = [BINARY, "simulate", "--scenario", str(file)]
        file.write_text(text)
        return self.begin_start(name, site, command, self.folder / f"{name}.stderr")

    def start_client(self, name: str) -> None:
        """Starts a client process with new logs."""
        language, _, number = name.partition("-")
        self.finish_logs(name)
        start = self.starts[name] = self.starts.get(name, 0) + 1
        count = 1 if language == "rust" else WATCHES_OF_PROCESS
        files = [self.folder / f"{name}-{n}.{start}.jsonl" for n in range(count)]
        stderr = self.folder / f"{name}.stderr"
        user_data = base64.b64encode(name.encode()).decode()
        self.logs[name] = [Log(file, FleetListener(file.name, View(), self.agreement, user_data), stderr) for file in files]
        servers = [f"{address(replica)}:{settings.GRPC_PORT}" for replica in self.replicas()]
        if language == "rust":
            server = servers[int(number) % len(servers)]
            stdout, command = files[0], [BINARY, "watch", "-o", "json", "--server", server, "--user-data", name]
        else:
            watches = [{"log": str(file), "filter": {}, "user_data": user_data, "listener": "", "gap_policy": 1} for file in files]
            spec = {"servers": servers, "ca": "", "longest_stay_s": LONGEST_STAY_S, "watches": watches}
            stdout, command = self.stdout(name), [sys.executable, str(HERE / "watcher.py"), json.dumps(spec)]
        namespace = self.network.namespace(f"clients-{int(number) % CLIENT_SITES}")
        self.processes[name] = Process(name, namespace, command, stdout, stderr)

    def terminate(self, name: str) -> None:
        """Stops a process in order, as systemd does."""
        self.dead.add(name)
        process = self.processes[name]
        process.child.send_signal(signal.SIGTERM)
        self.wait_until(f"{name} to stop", lambda: not process.is_running())
        if process.child.returncode not in (0, 1 if name.startswith("nats") else 0):
            raise Failed(f"{name} ended with {process.child.returncode} after SIGTERM")

    def socket(self, name: str) -> Path:
        """The socket of a node or a replica."""
        return self.folder / f"{name}.sock"

    def channel(self, name: str) -> grpc.Channel:
        """A channel to a node or a replica, for the runner, which no fault cuts off."""
        if name not in self.channels:
            backoff = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]
            options = [("grpc.default_authority", "localhost"), *backoff]
            self.channels[name] = grpc.insecure_channel(f"unix:{self.socket(name)}", options)
        return self.channels[name]

    def pools(self, name: str) -> pool_rpc.PoolServiceStub:
        """The pools of a node or a replica."""
        return pool_rpc.PoolServiceStub(self.channel(name))

    def nodes(self, replica: str) -> node_rpc.NodeServiceStub:
        """The nodes, as a replica knows them."""
        return node_rpc.NodeServiceStub(self.channel(replica))

    def is_serving(self, replica: str) -> bool:
        """Whether a replica knows the state of the fleet."""
        try:
            self.nodes(replica).ListNodes(node_api.ListNodesRequest(), timeout=CALL_TIMEOUT_S)
        except grpc.RpcError:
            return False
        return True

    def has_first_state(self) -> bool:
        """Whether the peers of all nodes are READY, before any fault."""
        nodes = self.nodes(self.replicas()[0]).ListNodes(node_api.ListNodesRequest(), timeout=CALL_TIMEOUT_S).nodes
        return sum(node.ready_count for node in nodes) == NODES * len(POOLS) * PEERS_OF_POOL

    def reset_peers(self, node: str, pool: str, scope: str) -> None:
        """Resets the connections of a pool, if the node answers."""
        request = pool_api.ResetPeersRequest(parent=f"pools/{pool}", scope=scope)
        try:
            self.pools(node).ResetPeers(request, timeout=1)
        except grpc.RpcError:
            pass  # another fault keeps it from answering

    def add_peer(self, node: str, pool: str) -> None:
        """Adds a peer that is nowhere."""
        request = pool_api.AddPeerRequest(parent=f"pools/{pool}", host=NOWHERE, port=PORT)
        self.pools(node).AddPeer(request, timeout=PATIENCE_S, wait_for_ready=True)

    def remove_peer(self, node: str, pool: str) -> None:
        """Removes it."""
        request = pool_api.RemovePeerRequest(name=f"pools/{pool}/peers/{NOWHERE}:{PORT}")
        self.pools(node).RemovePeer(request, timeout=PATIENCE_S, wait_for_ready=True)
