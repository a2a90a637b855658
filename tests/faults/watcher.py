"""A Python client for the runner: each watch writes every message that it gets, unchanged, to a file of its own.

Its argument is JSON: `servers`, `ca` (`""`: plaintext), `longest_stay_s`, and `watches` with `log`, `filter`, `user_data`, `listener` and
`gap_policy`. A watch leaves each stream after a random time, unless `longest_stay_s` is 0, and takes any of the servers for the next
one. Before each stream it writes what it asks for, `{"ask": cursor or null}`, and if another one ends the stream `{"lost": code of gRPC,
"why": text}`.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from opflex.peerstatus.v1 import peer_status_service_pb2 as api
from opflex.peerstatus.v1 import peer_status_service_pb2_grpc as rpc
from opflex.peerstatus.v1 import types_pb2 as types

# Short, so that a run takes seconds: a connection that broke in silence is detected, and attempts follow each other quickly.
OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000), ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1_000),
]
HEARTBEAT_S = 3
LONGEST_PAUSE_S = 1.0
CALL_TIMEOUT_S = 5


class Watch:
    """One watch, across its streams."""

    def __init__(self, spec: dict[str, Any], channels: list[grpc.Channel], longest_stay_s: float) -> None:
        self.spec, self.longest_stay_s = spec, longest_stay_s
        self.stubs = [rpc.PeerStatusServiceStub(channel) for channel in channels]
        self.stub = self.stubs[0]
        self.log = Path(spec["log"]).open("a", buffering=1, encoding="utf-8")
        self.cursor: types.Cursor | None = None
        self.epoch = 0
        self.is_leaving = False
        self.filter = json_format.ParseDict(spec["filter"], api.ListenerFilter())

    def run(self) -> None:
        """Watches for ever."""
        while True:
            self.stub = random.choice(self.stubs)
            try:
                self.stream()
                self.write({"lost": 0, "why": "the end of the stream"})
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.CANCELLED and self.is_leaving:
                    continue
                self.write({"lost": error.code().value[0], "why": error.details()})
                if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                    self.cursor = None
            time.sleep(random.uniform(0.05, LONGEST_PAUSE_S))

    def stream(self) -> None:
        """One stream, to its end."""
        request = api.WatchPeerStatusRequest(resume_after=self.cursor, gap_policy=self.spec["gap_policy"])
        request.heartbeat_interval.seconds = HEARTBEAT_S
        user_data = base64.b64decode(self.spec["user_data"])
        if self.spec["listener"]:
            self.create(user_data)
            request.listener, request.takeover = f"listeners/{self.spec['listener']}", True
        else:
            request.user_data = user_data
            request.filter.CopyFrom(self.filter)
        ask = self.cursor and {"epoch": str(self.cursor.epoch), "revision": str(self.cursor.revision)}
        self.write({"ask": ask})
        stream = self.stub.WatchPeerStatus(request)
        timer = threading.Timer(random.uniform(0.2, self.longest_stay_s), self.leave, [stream])
        self.is_leaving = False
        if self.longest_stay_s:
            timer.start()
        try:
            for message in stream:
                self.write(json_format.MessageToDict(message, always_print_fields_with_no_presence=True))
                self.process(message, message.WhichOneof("event"))
        finally:
            timer.cancel()

    def leave(self, stream: grpc.Call) -> None:
        """Ends a stream."""
        self.is_leaving = True
        stream.cancel()

    def create(self, user_data: bytes) -> None:
        """Creates the listener, unless it is there."""
        request = api.CreateListenerRequest(listener_id=self.spec["listener"], user_data=user_data, filter=self.filter)
        try:
            self.stub.CreateListener(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise

    def process(self, message: api.WatchPeerStatusResponse, event: str | None) -> None:
        """Keeps the cursor, as the comments of the API say."""
        if event == "attached":
            self.epoch = message.attached.cursor.epoch
        elif event in ("reset", "snapshot"):
            self.cursor = None
        elif event == "synced" or (self.cursor and event in ("change", "heartbeat", "draining")):
            self.cursor = types.Cursor(epoch=self.epoch, revision=message.revision)

    def write(self, line: dict[str, Any]) -> None:
        """Appends a line."""
        self.log.write(json.dumps(line, separators=(",", ":")) + "\n")


def main() -> None:
    """Runs all watches, each on a connection of its own."""
    spec = json.loads(sys.argv[1])
    credentials = grpc.ssl_channel_credentials(Path(spec["ca"]).read_bytes()) if spec["ca"] else None

    def connect(server: str) -> grpc.Channel:
        return grpc.secure_channel(server, credentials, OPTIONS) if credentials else grpc.insecure_channel(server, OPTIONS)

    for watch in spec["watches"]:
        channels = [connect(server) for server in spec["servers"]]
        threading.Thread(target=Watch(watch, channels, spec["longest_stay_s"]).run).start()


if __name__ == "__main__":
    main()
