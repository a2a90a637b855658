"""Watches OpFlex peers until it is stopped. Survives broken connections, errors of proxies and restarts of the service.

    pip install grpcio==1.85.1 grpcio-status==1.85.1 grpcio-tools==1.85.1
    mkdir -p gen && python -m grpc_tools.protoc -Iproto --python_out=gen --grpc_python_out=gen proto/opflex/peerstatus/v1/*.proto
    PYTHONPATH=gen python examples/python/watch.py 127.0.0.1:50051
"""

import random
import signal
import sys
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opflex.peerstatus.v1 import peer_status_service_pb2 as api, peer_status_service_pb2_grpc as rpc, types_pb2 as types

LISTENER = "example-python"  # choose your own: it outlives its streams, and another client with the same name takes over
OPTIONS = [("grpc.keepalive_time_ms", 20_000)]  # detect dead connections
OPTIONS += [(f"grpc.{bound}_reconnect_backoff_ms", ms) for bound, ms in (("initial", 250), ("min", 250), ("max", 10_000))]  # gRPC's default maximum is two minutes
HOPELESS = {grpc.StatusCode[name] for name in ("INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "ABORTED")}


class Watcher:
    def __init__(self, stub):
        self.stub, self.cursor, self.failures, self.retry_after = stub, None, 0, 0  # cursor: the last processed message

    def watch(self):  # one stream, to its end
        try:
            self.stub.CreateListener(api.CreateListenerRequest(listener_id=LISTENER, user_data=b"example"), timeout=10)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise
        for message in self.stub.WatchPeerStatus(api.WatchPeerStatusRequest(listener=f"listeners/{LISTENER}", resume_after=self.cursor, takeover=True)):
            self.process(message, message.WhichOneof("event"))

    def process(self, message, event):
        if event == "attached":
            self.epoch, self.last = message.attached.cursor.epoch, message.attached.cursor.revision
            print("attached at", self.last, "resumed:", message.attached.resumed)
        elif event == "reset":  # discard the state; a snapshot follows
            self.cursor = None
            print("missed", message.reset.missed_count, "changes (0: unknown):", api.ResetReason.Name(message.reset.reason))
        elif event == "snapshot":
            self.last = message.revision
            print("snapshot", self.last, *[f"{peer.name}={types.PeerStatus.Name(peer.status)}" for peer in message.snapshot.peers])
        elif event == "change":
            assert message.previous_revision == self.last, f"a gap: {message.previous_revision} is not {self.last}"
            self.last = message.revision
            peer, health = message.change.peer.peer, message.change.health
            print("change", self.last, peer.name, types.PeerStatus.Name(peer.status), types.Reason.Name(peer.reason), types.PoolHealth.Name(health.health) if health.health else "")
        elif event == "draining":
            self.retry_after = message.draining.retry_after.ToTimedelta().total_seconds()
        if event in ("synced", "change", "heartbeat", "draining"):  # not before `synced`: the snapshot may be incomplete
            self.cursor, self.failures = types.Cursor(epoch=self.epoch, revision=message.revision), 0

    def pause(self):  # before the next attempt: as the service asked, or exponential with jitter
        longest, self.failures = min(10, 0.25 * 2**self.failures), min(self.failures + 1, 10)
        asked, self.retry_after = self.retry_after, 0
        return asked or random.uniform(0, longest)

    def is_refused(self, error):  # only by the service: a proxy's error may have the same code, but not the service's ErrorInfo
        info, status = error_details_pb2.ErrorInfo(), rpc_status.from_call(error)
        is_from_service = status and any(detail.Unpack(info) and info.domain == "opflex.peerstatus" for detail in status.details)
        return is_from_service and error.code() in HOPELESS


sys.stdout.reconfigure(line_buffering=True)  # flush each line, also into a pipe
signal.signal(signal.SIGINT, signal.SIG_DFL)  # end on Ctrl-C without a traceback
with grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051", options=OPTIONS) as channel:
    watcher = Watcher(rpc.PeerStatusServiceStub(channel))
    while True:
        try:
            watcher.watch()
        except grpc.RpcError as error:
            print("lost:", error.code().name, error.details())
            if watcher.is_refused(error):
                sys.exit("trying again would not help")
        time.sleep(watcher.pause())
