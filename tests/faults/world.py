"""One run's world: the service, the simulated peers and the clients as processes, and the logs that they write."""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import grpc
from opflex.peerstatus.v1 import peer_status_service_pb2_grpc as status_rpc
from opflex.peerstatus.v1 import pool_service_pb2 as pool_api
from opflex.peerstatus.v1 import pool_service_pb2_grpc as pool_rpc

from certificates import Certificates
from logs import Log
from model import Agreement, Listener
from network import Network, run
from plan import CLIENT_SITES, NOWHERE, PEER_SITES, PORT, SERVICE_IP, Plan, View, WatchPlan, sites
from processes import PATIENCE_S, Process
from settings import GRPC_PORT, Configuration, scenario
from stage import BINARY, DISK, HERE, Failed, Stage, prefix_of

GO_CLIENT = os.environ.get("WATCH_GO") or str(HERE.parents[1] / ".tools" / "bin" / "watch-go")
LIBFAKETIME = os.environ.get("LIBFAKETIME", "")
# Without it the clock is not stepped: a time namespace has no wall clock of its own.
CLOCK_CAN_STEP = Path(LIBFAKETIME).is_file()
# Enough for the log of a run; what is left is what a fault fills.
DISK_SIZE = "8m"


class World(Stage):
    """Starts everything, and ends all of it in `close`."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        super().__init__(folder, Network(prefix_of(os.getpid()), "service", SERVICE_IP, sites()))
        self.plan = plan
        self.agreement = Agreement()
        self.disk, self.clock = folder / DISK, folder / "clock"
        self.starts: dict[str, int] = {}
        self.channel: grpc.Channel | None = None

    def start(self) -> None:
        """Builds the network and starts everything in it."""
        self.network.build()
        self.disk.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", str(self.disk))
        self.set_clock("+0")
        self.certificates = Certificates(self.folder)
        self.configuration = Configuration(self.folder, self.plan.history, self.certificates)
        for site in range(PEER_SITES):
            self.start_peers(site, is_first=True)
        self.start_service()
        address = f"unix:{self.configuration.socket}"
        backoff = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]
        self.channel = grpc.insecure_channel(address, [("grpc.default_authority", "localhost"), *backoff])
        self.pools = pool_rpc.PoolServiceStub(self.channel)
        self.listeners = status_rpc.PeerStatusServiceStub(self.channel)
        for name in self.plan.watches:
            self.start_client(name)

    def close(self) -> None:
        """Ends all processes."""
        super().close()
        if self.channel:
            self.channel.close()
        log = self.disk / "service.stderr"
        if log.exists():
            # The log outlives the disk.
            shutil.copyfile(log, self.folder / log.name)

    def start_named(self, name: str) -> None:
        """Starts what a fault has killed."""
        self.dead.discard(name)
        if name == "service":
            self.start_service()
        elif name.startswith("peers-"):
            self.start_peers(int(name.removeprefix("peers-")), is_first=False)
        else:
            self.start_client(name)

    def start_service(self) -> None:
        """Starts the service, and waits until it serves; its log goes to the small disk."""
        command = [BINARY, "serve", "--config", str(self.configuration.file)]
        if CLOCK_CAN_STEP and any(fault.kind == "clock" for fault in self.plan.faults):
            command = ["env", f"LD_PRELOAD={LIBFAKETIME}", f"FAKETIME_TIMESTAMP_FILE={self.clock}", "FAKETIME_NO_CACHE=1",
                       "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1", *command]
        stderr = self.disk / "service.stderr"
        self.start_and_wait("service", "service", command, stderr)

    def start_peers(self, site: int, is_first: bool) -> None:
        """Starts the peers of a site. After a crash they have no faults of their own any more."""
        name = f"peers-{site}"
        file = self.folder / f"{name}.toml"
        file.write_text(scenario(site, self.plan.events[site] if is_first else ()))
        command = [BINARY, "simulate", "--scenario", str(file)]
        stderr = self.folder / f"{name}.stderr"
        self.start_and_wait(name, name, command, stderr)

    def start_client(self, name: str) -> None:
        """Starts a client process with new logs."""
        language, _, number = name.partition("-")
        namespace = self.network.namespace(f"clients-{int(number) % CLIENT_SITES}")
        self.finish_logs(name)
        start = self.starts[name] = self.starts.get(name, 0) + 1
        files = [self.folder / f"{name}-{n}.{start}.jsonl" for n in range(len(self.plan.watches[name]))]
        stderr = self.folder / f"{name}.stderr"
        self.logs[name] = [self._log(file, watch, stderr) for file, watch in zip(files, self.plan.watches[name], strict=True)]
        if language == "rust":
            stdout, command = files[0], self._rust(self.plan.watches[name][0])
        else:
            watches = [_spec(file, watch) for file, watch in zip(files, self.plan.watches[name], strict=True)]
            address = f"{SERVICE_IP}:{GRPC_PORT}"
            ca = str(self.certificates.ca)
            spec = {"server": address, "servers": [address], "ca": ca, "longest_stay_s": 0, "watches": watches}
            program = [GO_CLIENT] if language == "go" else [sys.executable, str(HERE / "watcher.py")]
            stdout, command = self.stdout(name), [*program, json.dumps(spec)]
        self.processes[name] = Process(name, namespace, command, stdout, stderr)

    def _rust(self, watch: WatchPlan) -> list[str]:
        command = [BINARY, "watch", "-o", "json", "--server", f"https://{SERVICE_IP}:{GRPC_PORT}",
                   "--tls-ca", str(self.certificates.ca), "--user-data", watch.user_data]
        for flag, values in (("--pool", watch.view.pools), ("--peer", watch.view.peers)):
            command += [word for value in values for word in (flag, value)]
        for status in watch.view.statuses:
            command += ["--status", status.removeprefix("PEER_STATUS_").lower()]
        for interest in watch.view.interests:
            command += ["--interest", interest.removeprefix("INTEREST_").lower()]
        return command

    def _log(self, file: Path, watch: WatchPlan, stderr: Path) -> Log:
        user_data = base64.b64encode(watch.user_data.encode()).decode()
        listener = Listener(file.name, watch.view, self.agreement, user_data, watch.fails_on_gap)
        return Log(file, listener, stderr)

    def set_clock(self, offset: str) -> None:
        """Steps the clock that the service sees."""
        new = self.clock.with_suffix(".new")
        new.write_text(offset + "\n")
        new.rename(self.clock)

    def limit_files(self, left: int | None) -> None:
        """Leaves the service so many more open files; `None`: as many as the runner may have."""
        process = self.processes["service"]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if process.is_running():
            limit = soft if left is None else min(soft, process.open_files() + left)
            resource.prlimit(process.child.pid, resource.RLIMIT_NOFILE, (limit, hard))

    def reset_peers(self, pool: str, scope: str) -> None:
        """Resets the connections of a pool, if the service answers."""
        request = pool_api.ResetPeersRequest(parent=f"pools/{pool}", scope=scope)
        try:
            self.pools.ResetPeers(request, timeout=1)
        except grpc.RpcError:
            pass  # another fault keeps it from answering

    def add_peer(self, pool: str) -> None:
        """Adds a peer that is nowhere."""
        request = pool_api.AddPeerRequest(parent=f"pools/{pool}", host=NOWHERE, port=PORT)
        self.pools.AddPeer(request, timeout=PATIENCE_S, wait_for_ready=True)

    def remove_peer(self, pool: str) -> None:
        """Removes it."""
        request = pool_api.RemovePeerRequest(name=f"pools/{pool}/peers/{NOWHERE}:{PORT}")
        self.pools.RemovePeer(request, timeout=PATIENCE_S, wait_for_ready=True)

    def terminate_service(self) -> None:
        """Stops the service in order, as systemd does."""
        self.dead.add("service")
        process = self.processes["service"]
        process.child.send_signal(signal.SIGTERM)
        self.wait_until("the service to stop", lambda: not process.is_running())
        if process.child.returncode != 0:
            raise Failed(f"the service ended with {process.child.returncode} after SIGTERM")


def _spec(file: Path, watch: WatchPlan) -> dict[str, object]:
    """The watch for the clients in Python and Go."""
    return {
        "log": str(file),
        "filter": filter_of(watch.view),
        "user_data": base64.b64encode(watch.user_data.encode()).decode(),
        "listener": watch.listener,
        "gap_policy": 2 if watch.fails_on_gap else 1,
    }


def filter_of(view: View) -> dict[str, list[str]]:
    """The view as a filter in proto3-JSON."""
    fields = {"pools": view.pools, "peers": view.peers, "statuses": view.statuses, "interests": view.interests}
    return {name: list(values) for name, values in fields.items() if values}
