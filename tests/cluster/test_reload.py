"""Changed ConfigMaps and Secrets take effect without another pod."""

from __future__ import annotations

import hashlib
import socket
import ssl

import kubectl
from case import GRPC, TestCase
from certificates import make_certificate
from cluster import until
from sandbox import FOLDER


class Reload(TestCase):
    def uid(self) -> str:
        [pod] = self.namespace.pods()
        self.assertEqual(pod["status"]["containerStatuses"][0]["restartCount"], 0)
        return pod["metadata"]["uid"]

    def test_a_changed_configuration_reaches_the_running_pod(self) -> None:
        first, second = self.leaf(1), self.leaf(2)
        values = {"config": {"reload": "live"}}
        self.install(values, first)
        before = self.uid()
        self.install(values, second)
        until("the end of the session with the first peer", lambda: not first.sources())
        self.assertEqual(self.uid(), before)
        self.assertEqual(list(self.peers()), [second.name])

    def test_an_invalid_configuration_is_not_applied(self) -> None:
        leaf = self.leaf()
        self.install({"config": {"reload": "live"}}, leaf)
        before = self.uid()
        self.namespace.kubectl("patch", "configmap", kubectl.NAME, '--patch={"data":{"peerstatus.toml":"peers ="}}')
        until("the refusal", lambda: self.metric('opflex_peerstatus_config_reloads_total{result="refused"}') > 0, pause=1)
        self.assertEqual(self.uid(), before)
        self.assertEqual(len(leaf.sessions), 1)

    def test_a_renewed_certificate_and_another_token_reach_the_running_pod(self) -> None:
        def renew(serial: str, token: str) -> None:
            _, place = make_certificate(kubectl.NAME, FOLDER / "renewed", serial)
            self.namespace.create_secret("tls", "renewed", f"--cert={place}.crt", f"--key={place}.key")
            digest = hashlib.sha256(token.encode()).hexdigest()
            self.namespace.create_secret("generic", "tokens", f"--from-literal=tokens.txt=reader viewer sha256:{digest}")

        renew("first", "a" * 32)
        self.install({"server": {"tls": {"secret": "renewed"}, "auth": {"tokens": {"secret": "tokens"}, "local": "operator"}}}, self.leaf())
        before = self.uid()
        until("the first certificate", lambda: self.subject() == "first")
        self.assertTrue(self.is_admitted("a" * 32))
        renew("second", "b" * 32)
        until("the new certificate", lambda: self.subject() == "second")
        until("the new token", lambda: self.is_admitted("b" * 32))
        self.assertFalse(self.is_admitted("a" * 32))
        self.assertEqual(self.uid(), before)

    def subject(self) -> str | None:
        """The common name in the certificate of the service; None: its address does not lead to a pod yet."""
        context = ssl.create_default_context(cafile=str(FOLDER / "renewed-authority.crt"))
        context.set_alpn_protocols(["h2"])
        host, _, _ = self.address().rpartition(":")
        try:
            sock = socket.create_connection((host.strip("[]"), GRPC), timeout=5)
        except ConnectionRefusedError:
            return None
        with sock, context.wrap_socket(sock, server_hostname=kubectl.NAME) as tls:
            return dict(part[0] for part in tls.getpeercert()["subject"])["commonName"]

    def is_admitted(self, token: str) -> bool:
        """Whether the service takes a token."""
        file = FOLDER / "token"
        file.write_text(token)
        done = kubectl.command(
            str(kubectl.programs.IMAGE_ROOT / "usr/bin/peerstatus"), f"--server=https://{self.address()}", f"--tls-ca={FOLDER}/renewed-authority.crt",
            f"--tls-server-name={kubectl.NAME}", f"--token-file={file}", "peers", "list", check=False)
        return done.returncode == 0
