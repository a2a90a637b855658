"""A careful Python client of the service, for the tests: stubs, a stream that checks itself, and errors decoded.

Uses stubs generated from `proto/` (on PYTHONPATH, see `make interop`) and nothing of this repository's Rust code.
"""

import threading
import time

import grpc
from grpc_status import rpc_status

from harness import PATIENCE_S, until
from opflex.peerstatus.v1 import peer_status_service_pb2 as status_pb
from opflex.peerstatus.v1 import peer_status_service_pb2_grpc as status_grpc
from opflex.peerstatus.v1 import pool_service_pb2 as pool_pb
from opflex.peerstatus.v1 import pool_service_pb2_grpc as pool_grpc
from opflex.peerstatus.v1 import types_pb2 as types


CONNECTING, CONNECTED, READY = types.PEER_STATUS_CONNECTING, types.PEER_STATUS_CONNECTED, types.PEER_STATUS_READY
# Redials at once: the tests break connections and wait for them to come back. "min" is the time that a connection has to be made in.
REDIAL = [(f"grpc.{which}_reconnect_backoff_ms", ms) for which, ms in (("initial", 100), ("min", 10_000), ("max", 100))]


class Client:
    """A channel with both stubs. Every unary call has a deadline, every watch waits for the connection."""

    def __init__(self, address, credentials=None, options=()):
        options = [*REDIAL, *options]
        self.channel = grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)
        self.status = status_grpc.PeerStatusServiceStub(self.channel)
        self.pool = pool_grpc.PoolServiceStub(self.channel)

    def create(self, **fields):
        return self.status.CreateListener(status_pb.CreateListenerRequest(**fields), timeout=PATIENCE_S)

    def get_listener(self, name):
        return self.status.GetListener(status_pb.GetListenerRequest(name=name), timeout=PATIENCE_S).listener

    def destroy(self, name, allow_missing=False):
        request = status_pb.DestroyListenerRequest(name=name, allow_missing=allow_missing)
        return self.status.DestroyListener(request, timeout=PATIENCE_S)

    def get_peer(self, port):
        name = f"pools/default/peers/127.0.0.1:{port}"
        return self.pool.GetPeer(pool_pb.GetPeerRequest(name=name), timeout=PATIENCE_S).peer

    def wait_for_status(self, port, status):
        until(f"peer {port} to be {types.PeerStatus.Name(status)}", lambda: self.get_peer(port).status == status)

    def watch(self, **fields):
        return Watch(self.status.WatchPeerStatus(status_pb.WatchPeerStatusRequest(**fields), wait_for_ready=True))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()


class Watch:
    """A stream that checks on every message what the contract promises about all of them.

    `revision` and `changes` are what a careful client would keep.
    """

    def __init__(self, call):
        self.call = call
        first = self.next()
        assert first.WhichOneof("event") == "attached", f"the first message must be attached: {first}"
        self.attached = first.attached
        self.user_data = first.user_data
        self.revision = first.attached.cursor.revision
        self.changes = []
        self.arrived = []

    def next(self, timeout=PATIENCE_S):
        """The next message; a stream that stays silent is cancelled."""
        timer = threading.Timer(timeout, self.call.cancel)
        timer.start()
        try:
            return next(self.call)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.CANCELLED and not timer.is_alive():
                raise AssertionError(f"no message within {timeout} s") from None
            raise
        finally:
            timer.cancel()

    def event(self):
        """The next event, after its place in the order was checked."""
        message = self.next()
        kind = message.WhichOneof("event")
        if kind == "change":
            assert message.previous_revision == self.revision, f"gap: had {self.revision}, got {message}"
            assert message.revision > self.revision, f"revisions must grow: had {self.revision}, got {message}"
            assert message.user_data == self.user_data, f"user_data must come back with every change: {message}"
            self.changes.append((message.revision, message.change))
            self.arrived.append(time.monotonic())
        else:
            assert message.user_data == b"", f"user_data on {kind}"
        if kind in ("change", "snapshot"):
            self.revision = message.revision
        return kind, message

    def until_synced(self):
        while True:
            kind, message = self.event()
            if kind == "synced":
                return message.synced
            assert kind in ("change", "snapshot"), f"{kind} before synced"

    def until_change(self, what, condition):
        """Reads on until a change fulfils the condition, and returns it with its time of arrival."""
        before = len(self.changes)
        while True:
            try:
                kind, message = self.event()
            except AssertionError as error:
                raise AssertionError(f"waiting for {what}: {error}; since then: {[c for _, c in self.changes[before:]]}") from None
            if kind == "change" and condition(message.change):
                return message.change, self.arrived[-1]

    def until_end(self):
        """Reads to the end of the stream; returns the last kind of event and the error."""
        last = None
        try:
            while True:
                last, _ = self.event()
        except StopIteration:
            return last, None
        except grpc.RpcError as error:
            return last, error


def statuses(changes):
    """The statuses a peer went through; changes of the reason alone left out."""
    seen = []
    for _, change in changes:
        if change.HasField("peer") and (not seen or seen[-1] != change.peer.peer.status):
            seen.append(change.peer.peer.status)
    return seen


def healths(changes):
    return [change.health.health for _, change in changes if change.HasField("health")]


def is_status(status):
    return lambda change: change.HasField("peer") and change.peer.peer.status == status


def detail(error, kind):
    """One detail message of an error, decoded from `grpc-status-details-bin`."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no google.rpc.Status in {error}"
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            return message
    raise AssertionError(f"no {kind.DESCRIPTOR.full_name} in {status}")
