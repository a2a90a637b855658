"""gRPC-Web, as a browser speaks it: HTTP/1.1 and HTTP/2, CORS, errors and a watch; and buf as an independent client."""

import base64
import http.client
import json
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

from google.rpc import error_details_pb2, status_pb2

from client import READY, Client
from harness import PATIENCE_S, ROOT, OpflexPeer, Service, TestCase, until
from opflex.peerstatus.v1 import peer_status_service_pb2 as status_pb
from opflex.peerstatus.v1 import pool_service_pb2 as pool_pb

BUF = os.environ.get("BUF", str(ROOT / ".tools" / "bin" / "buf"))
ORIGIN, FOREIGN_ORIGIN = "https://ui.example", "https://other.example"
CONFIGURATION = f"""
[server.web]
allowed_origins = ["{ORIGIN}"]
"""
CONTENT_TYPE = "application/grpc-web+proto"
POOL = "/opflex.peerstatus.v1.PoolService/"
STATUS = "/opflex.peerstatus.v1.PeerStatusService/"
# What gRPC-Web clients send, and what they have to be able to read.
REQUEST_HEADERS = {"content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "authorization"}
RESPONSE_HEADERS = {"grpc-status", "grpc-message", "grpc-status-details-bin"}
TRAILERS = 0x80


def words(header):
    return {word.strip().lower() for word in (header or "").split(",")}


class Call:
    """One gRPC-Web call over HTTP/1.1, on a connection of its own."""

    def __init__(self, address, path, request, answer, origin=ORIGIN, content_type=CONTENT_TYPE):
        self.answer = answer
        body = request.SerializeToString()
        self.connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
        headers = {"Content-Type": content_type, "Accept": CONTENT_TYPE, "X-Grpc-Web": "1", "Origin": origin}
        self.connection.request("POST", path, b"\0" + struct.pack(">I", len(body)) + body, headers)
        self.response = self.connection.getresponse()
        self.trailers = {}

    def next(self):
        """The next message; None after the last, when `trailers` are there."""
        header = self.response.read(5)
        if not header:
            # Trailers-only: an answer without a body has its status in the headers.
            self.trailers = {name.lower(): value for name, value in self.response.getheaders()}
            return None
        flags, length = struct.unpack(">BI", header)
        data = self.response.read(length)
        if flags & TRAILERS:
            lines = data.decode().strip().split("\r\n")
            self.trailers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            assert self.response.read() == b"", "something came after the trailers"
            return None
        return self.answer.FromString(data)

    def close(self):
        self.response.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Web(TestCase):
    def setUp(self):
        self.peer = self.enter(OpflexPeer())
        self.address = self.start_service(self.peer.address)
        self.client = self.enter(Client(self.service.address))
        self.client.wait_for_status(self.peer.port, READY)

    def start_service(self, peer):
        """Starts a service that offers gRPC-Web; returns the address for that."""
        with tempfile.TemporaryDirectory() as folder:
            configuration = pathlib.Path(folder, "peerstatus.toml")
            configuration.write_text(CONFIGURATION, encoding="utf-8")
            self.service = self.enter(Service(peer, options=["--config", str(configuration)]))
        return self.service.address

    def get_pool(self, **more):
        return self.enter(Call(self.address, POOL + "GetPool", pool_pb.GetPoolRequest(name="pools/default"), pool_pb.GetPoolResponse, **more))

    def options(self, origin, headers=REQUEST_HEADERS):
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        self.addCleanup(connection.close)
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": ",".join(sorted(headers))}
        connection.request("OPTIONS", POOL + "GetPool", headers=asked)
        response = connection.getresponse()
        response.read()
        return response

    def test_unary_call(self):
        call = self.get_pool()
        self.assertEqual(call.response.status, 200)
        self.assertEqual(call.response.getheader("Content-Type"), CONTENT_TYPE)
        self.assertEqual(call.next().pool.name, "pools/default")
        self.assertIsNone(call.next())
        self.assertEqual(call.trailers["grpc-status"], "0")

    def test_error_with_details(self):
        request = pool_pb.GetPeerRequest(name="pools/default/peers/127.0.0.1:1")
        call = self.enter(Call(self.address, POOL + "GetPeer", request, pool_pb.GetPeerResponse))
        self.assertEqual(call.response.status, 200)
        self.assertIsNone(call.next())
        self.assertEqual(call.trailers["grpc-status"], "5")
        packed = call.trailers["grpc-status-details-bin"]
        status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
        info = error_details_pb2.ErrorInfo()
        self.assertTrue(any(detail.Unpack(info) for detail in status.details), status)
        self.assertEqual(info.reason, "PEER_NOT_FOUND")

    def test_watch(self):
        request = status_pb.WatchPeerStatusRequest()
        request.heartbeat_interval.FromSeconds(1)
        with Call(self.address, STATUS + "WatchPeerStatus", request, status_pb.WatchPeerStatusResponse) as call:
            kinds = []
            while "synced" not in kinds:
                message = call.next()
                kinds.append(message.WhichOneof("event"))
                revision = message.revision
            self.assertEqual(kinds, ["attached", "snapshot", "synced"])
            self.assertEqual(call.next().WhichOneof("event"), "heartbeat", "an idle watch has to be heard of without delay")

            reset = pool_pb.ResetPeersRequest(parent="pools/default", scope=pool_pb.RESET_SCOPE_ALL)
            self.client.pool.ResetPeers(reset, timeout=PATIENCE_S)
            changes = []
            while not changes or changes[-1].change.peer.peer.status != READY:
                message = call.next()
                if message.WhichOneof("event") == "change":
                    changes.append(message)
            for change in changes:
                self.assertEqual(change.previous_revision, revision)
                revision = change.revision
            self.assertEqual(len(self.listeners()), 1)
        until("the watch to end with its connection", lambda: not self.listeners())

    def listeners(self):
        return self.client.status.ListListeners(status_pb.ListListenersRequest(), timeout=PATIENCE_S).listeners

    def test_watch_that_ends(self):
        request = status_pb.WatchPeerStatusRequest(stop_after_sync=True)
        call = self.enter(Call(self.address, STATUS + "WatchPeerStatus", request, status_pb.WatchPeerStatusResponse))
        messages = list(iter(call.next, None))
        self.assertEqual([message.WhichOneof("event") for message in messages], ["attached", "snapshot", "synced"])
        self.assertEqual(call.trailers["grpc-status"], "0")

    def test_answers_can_be_read_from_an_allowed_origin(self):
        response = self.get_pool().response
        self.assertEqual(response.getheader("Access-Control-Allow-Origin"), ORIGIN)
        self.assertIn("origin", words(response.getheader("Vary")))
        self.assertLessEqual(RESPONSE_HEADERS, words(response.getheader("Access-Control-Expose-Headers")))

    def test_answers_cannot_be_read_from_another_origin(self):
        self.assertIsNone(self.get_pool(origin=FOREIGN_ORIGIN).response.getheader("Access-Control-Allow-Origin"))

    def test_preflight_from_an_allowed_origin(self):
        response = self.options(ORIGIN)
        self.assertIn(response.status, (200, 204))
        self.assertEqual(response.getheader("Access-Control-Allow-Origin"), ORIGIN)
        self.assertIn("post", words(response.getheader("Access-Control-Allow-Methods")))
        # Not `*`, which does not include `authorization`.
        self.assertLessEqual(REQUEST_HEADERS, words(response.getheader("Access-Control-Allow-Headers")))

    def test_preflight_from_another_origin(self):
        for origin in (FOREIGN_ORIGIN, "null", ORIGIN + ".other.example", ORIGIN.replace("https", "http")):
            with self.subTest(origin):
                self.assertIsNone(self.options(origin).getheader("Access-Control-Allow-Origin"))

    def test_requests_without_preflight_are_refused(self):
        """A page can send these without asking."""
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            for origin, status in ((FOREIGN_ORIGIN, 403), (ORIGIN, 415)):
                with self.subTest(content_type, origin=origin):
                    self.assertEqual(self.get_pool(origin=origin, content_type=content_type).response.status, status)

    def buf_curl(self, path, request, *options):
        command = [BUF, "curl", "--protocol", "grpcweb", "--schema", str(ROOT / "proto"), "--header", f"Origin: {ORIGIN}", *options]
        done = subprocess.run([*command, "--data", json.dumps(request), f"http://{self.address}{path}"],
                              capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def buf_calls(self, *options):
        pool = json.loads(self.buf_curl(POOL + "GetPool", {"name": "pools/default"}, *options))
        self.assertEqual(pool["pool"]["health"], "POOL_HEALTH_HEALTHY")
        watched = self.buf_curl(STATUS + "WatchPeerStatus", {"stop_after_sync": True}, *options)
        for event in ("attached", "snapshot", "synced"):
            self.assertIn(f'"{event}":', watched)

    def test_buf_curl_over_http_1(self):
        self.buf_calls()

    def test_buf_curl_over_http_2(self):
        self.buf_calls("--http2-prior-knowledge")


if __name__ == "__main__":
    unittest.main()
