"""A Python client of a service that wants to know who asks: TLS, tokens, certificates, and the socket.

The certificates are made by `openssl`.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import grpc
from google.rpc import error_details_pb2

from client import detail
from harness import PATIENCE_S, ROOT, Service, TestCase
from opflex.peerstatus.v1 import peer_status_service_pb2 as status_pb
from opflex.peerstatus.v1 import peer_status_service_pb2_grpc as status_grpc
from opflex.peerstatus.v1 import pool_service_pb2 as pool_pb
from opflex.peerstatus.v1 import pool_service_pb2_grpc as pool_grpc

CONFIGURATION = """
[server.socket]
path = "{folder}/peerstatus.sock"
[server.tls]
cert = "{folder}/server.pem"
key = "{folder}/server.key"
client_ca = "{folder}/ca.pem"
[server.auth]
tokens = "{folder}/tokens"
[[server.auth.grant]]
principals = ["cert:operator"]
role = "operator"
"""


def openssl(folder, *args):
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True, timeout=PATIENCE_S)


def issue(folder, name):
    """A key and a certificate for it, signed by the authority."""
    openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
    (folder / f"{name}.ext").write_text(f"basicConstraints=CA:FALSE\nsubjectAltName=DNS:{name}\n")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")


@unittest.skipUnless(shutil.which("openssl"), "no openssl to make certificates with")
class WhoAsks(TestCase):
    def setUp(self):
        folder = self.folder = Path(self.enter(tempfile.TemporaryDirectory()))
        openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", "ca.key", "-subj", "/CN=authority", "-days", "2", "-out", "ca.pem")
        for name in ["server", "operator"]:
            issue(folder, name)
        binary = os.environ.get("PEERSTATUS_BIN") or str(ROOT / "target" / "release" / "peerstatus")
        made = subprocess.run([binary, "token", "new", "ci", "--role", "viewer", "-o", "json"],
                              check=True, capture_output=True, timeout=PATIENCE_S)
        made = json.loads(made.stdout)
        self.token = made["token"]
        (folder / "tokens").write_text(made["line"] + "\n")
        (folder / "peerstatus.toml").write_text(CONFIGURATION.format(folder=folder))
        self.service = self.enter(Service(options=["--config", str(folder / "peerstatus.toml")]))

    def channel(self, token=None, certificate=None):
        read = lambda name: (self.folder / name).read_bytes()
        own = (read(f"{certificate}.key"), read(f"{certificate}.pem")) if certificate else (None, None)
        credentials = grpc.ssl_channel_credentials(read("ca.pem"), *own)
        if token:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
        name = [("grpc.ssl_target_name_override", "server")]
        return self.enter(grpc.secure_channel(self.service.address, credentials, options=name))

    def add_peer(self, channel):
        request = pool_pb.AddPeerRequest(host="127.0.0.1", port=1)
        return pool_grpc.PoolServiceStub(channel).AddPeer(request, timeout=PATIENCE_S)

    def assert_refused(self, code, reason, channel):
        with self.assertRaises(grpc.RpcError) as refused:
            self.add_peer(channel)
        self.assertEqual(refused.exception.code(), code)
        self.assertEqual(detail(refused.exception, error_details_pb2.ErrorInfo).reason, reason)

    def test_is_known_by_a_token_and_by_a_certificate(self):
        watch = status_grpc.PeerStatusServiceStub(self.channel(self.token)).WatchPeerStatus(
            status_pb.WatchPeerStatusRequest(stop_after_sync=True), timeout=PATIENCE_S)
        messages = list(watch)
        self.assertEqual(messages[0].attached.listener.owner, "token:ci")
        self.assertEqual(messages[-1].WhichOneof("event"), "synced")
        self.assert_refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED", self.channel(self.token))
        self.assert_refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID", self.channel("opst_wrong"))
        self.assert_refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING", self.channel())
        self.add_peer(self.channel(certificate="operator"))

    def test_comes_in_by_the_socket(self):
        # By default its authority is the path, which is none in HTTP and is refused by h2.
        options = [("grpc.default_authority", "localhost")]
        channel = self.enter(grpc.insecure_channel(f"unix:{self.folder}/peerstatus.sock", options=options))
        self.assert_refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING", channel)


if __name__ == "__main__":
    unittest.main()
