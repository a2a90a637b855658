"""What the tests share: a cluster, a namespace, OpFlex peers, and clients of the service."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
import unittest
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
from opflex.peerstatus.v1 import peer_status_service_pb2 as status_pb
from opflex.peerstatus.v1 import peer_status_service_pb2_grpc as status_grpc

import kubectl
from cluster import cluster, until
from leaves import Leaf
from programs import IMAGE_ROOT
from settings import FAMILY

GRPC, ADMIN = 50051, 9613
REDIAL = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]


def join(host: str, port: int) -> str:
    """An address with its port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class TestCase(unittest.TestCase):
    """A test on a cluster, in a namespace of its own."""

    def setUp(self) -> None:
        self.cluster = cluster()
        name = f"{type(self).__name__}-{self._testMethodName}".lower().replace("_", "-")[:40].rstrip("-")
        self.namespace = self.enter(kubectl.namespace(name))

    def enter(self, context: contextlib.AbstractContextManager[Any]) -> Any:
        """Enters a context that is left when the test ends."""
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def leaf(self, number: int = 1, family: str = FAMILY) -> Leaf:
        """An OpFlex peer that ends with the test."""
        return self.enter(Leaf(number, family))

    def install(self, values: dict[str, Any], *leaves: Leaf, wait: bool = True) -> None:
        """Installs the chart, with a pool of these peers, and waits until they are ready."""
        if leaves:
            pool = {**(values.get("pools") or [{}])[0], "peers": [leaf.name for leaf in leaves]}
            values = {**values, "pools": [pool]}
        self.namespace.install(values, wait)
        for leaf in leaves:
            until(f"a session at {leaf.name}", leaf.sources)

    def address(self, port: int = GRPC, suffix: str = "") -> str:
        """Where the Service is."""
        return join(self.namespace.get("service", kubectl.NAME + suffix)["spec"]["clusterIP"], port)

    def metric(self, name: str) -> float:
        """The value of a metric, with its labels, at the Service of the admin port; 0 if it is not there."""
        with urllib.request.urlopen(f"http://{self.address(ADMIN, '-admin')}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)

    def peers(self) -> dict[str, str]:
        """The status of each peer, as a command in the pod prints it."""
        lines = self.namespace.peerstatus("peers", "list", "--output=json").stdout.splitlines()
        return {join(peer["host"], peer["port"]): peer["status"].removeprefix("PEER_STATUS_") for peer in map(json.loads, lines)}


@contextlib.contextmanager
def stopped_watch(address: str) -> Iterator[None]:
    """A client that has a stream, and then does nothing any more: it neither reads nor closes its connection."""
    command = [str(IMAGE_ROOT / "usr/bin/peerstatus"), f"--server={address}", "watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, "the client ended"
            process.send_signal(signal.SIGSTOP)
            yield
        finally:
            process.kill()


class Watcher:
    """A client that always has a stream, and notes how long it had none."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.gaps: list[float] = []
        self.has_stream = threading.Event()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        lost = None
        while not self.ended.is_set():
            with grpc.insecure_channel(self.address, REDIAL) as channel:
                try:
                    call = status_grpc.PeerStatusServiceStub(channel).WatchPeerStatus(status_pb.WatchPeerStatusRequest())
                    for _ in call:
                        if lost is not None:
                            self.gaps.append(time.monotonic() - lost)
                            lost = None
                        self.has_stream.set()
                        if self.ended.is_set():
                            return
                except grpc.RpcError:
                    pass
            if lost is None and self.has_stream.is_set():
                lost = time.monotonic()
                self.has_stream.clear()
            time.sleep(0.05)

    def __enter__(self) -> Watcher:
        self.thread.start()
        assert self.has_stream.wait(30), f"no stream from {self.address}"
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
