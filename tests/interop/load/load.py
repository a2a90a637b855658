"""grpcio at full speed: `load.py ADDRESS SECONDS THREADS [small]` does what ../go/load does, and prints the same report."""

import collections
import json
import sys
import threading
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client import Client
from harness import until
from opflex.peerstatus.v1 import pool_service_pb2 as pool_pb

# Far longer than any call here takes: it ends a call that hangs.
CALL_TIMEOUT_S = 20
POOL = "pools/default"


class Load:
    def __init__(self, client, small):
        self.client = client
        self.small = small
        self.failures = collections.Counter()
        self.lock = threading.Lock()
        self.calls = 0
        self.stopping = threading.Event()
        self.watch = client.watch()
        self.watch.until_synced()
        self.peer = client.pool.ListPeers(pool_pb.ListPeersRequest(parent=POOL), timeout=CALL_TIMEOUT_S).peers[0].name

    def read_watch(self):
        """`Watch.event` checks the chain of revisions. The stream ends only when it is cancelled, by `run`."""
        try:
            while True:
                kind, message = self.watch.event()
                assert kind in ("change", "heartbeat"), f"unexpected message: {message}"
        except grpc.RpcError as error:
            if not (self.stopping.is_set() and error.code() == grpc.StatusCode.CANCELLED):
                self.fail("watch", error)
        except BaseException as error:
            self.fail("watch", error)

    def fail(self, what, error):
        reason = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else repr(error)
        with self.lock:
            self.failures[f"{what}: {reason}"] += 1

    def call(self, deadline):
        pool = self.client.pool
        methods = [
            ("GetPool", pool.GetPool, pool_pb.GetPoolRequest(name=POOL)),
            ("ListPeers", pool.ListPeers, pool_pb.ListPeersRequest(parent=POOL)),
            ("GetPeer", pool.GetPeer, pool_pb.GetPeerRequest(name=self.peer)),
        ]
        if self.small:
            methods = [("Check", health_pb2_grpc.HealthStub(self.client.channel).Check, health_pb2.HealthCheckRequest())]
        calls = 0
        while time.monotonic() < deadline:
            name, method, request = methods[calls % len(methods)]
            try:
                method(request, timeout=CALL_TIMEOUT_S)
                calls += 1
            except grpc.RpcError as error:
                self.fail(name, error)
                time.sleep(0.001)  # the connection may be gone: do not fill the report in a busy loop
        with self.lock:
            self.calls += calls

    def run(self, seconds, threads):
        reader = threading.Thread(target=self.read_watch)
        reader.start()
        started = time.monotonic()
        callers = [threading.Thread(target=self.call, args=[started + seconds]) for _ in range(threads)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        took = time.monotonic() - started
        try:
            revision = self.client.pool.GetPool(pool_pb.GetPoolRequest(name=POOL), timeout=CALL_TIMEOUT_S).cursor.revision
            until("the watch to catch up", lambda: self.watch.revision >= revision or not reader.is_alive())
        except (grpc.RpcError, AssertionError) as error:
            self.fail("at the end", error)
        self.stopping.set()
        self.watch.call.cancel()
        reader.join()
        return {
            "calls": self.calls,
            "cancelled": 0,
            "seconds": took,
            "changes": len(self.watch.changes),
            "failures": dict(self.failures.most_common(10)),
        }


if __name__ == "__main__":
    address, seconds, threads, *small = sys.argv[1:]
    with Client(address) as client:
        report = Load(client, small == ["small"]).run(float(seconds), int(threads))
    print(json.dumps(report))
    sys.exit(1 if report["failures"] else 0)
