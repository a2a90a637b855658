"""The configuration that the chart writes is one that the service takes, file for file."""

import base64
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from chart import CASES, PATIENCE_S, config, manifests, workload


def jwks():
    """A set of keys, with one for RS256."""
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    encode = lambda number, size: base64.urlsafe_b64encode(number.to_bytes(size, "big")).decode().rstrip("=")
    return '{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"1","n":"%s","e":"%s"}]}' % (encode(numbers.n, 256), encode(numbers.e, 3))


class Files:
    """What secrets and ConfigMaps would have, in a folder in place of /etc/peerstatus."""

    def __init__(self):
        authority = trustme.CA()
        leaf = authority.issue_cert("peerstatus.opflex.svc")
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        self.certificate = {"tls.crt": chain, "tls.key": leaf.private_key_pem.bytes()}
        self.authority = authority.cert_pem.bytes()
        self.keys = jwks().encode()

    def content(self, path):
        kind = path.parts[3]
        if kind == "tls" or kind == "pools" and path.name in self.certificate:
            return self.certificate[path.name]
        return {
            "clients": self.authority, "pools": self.authority, "jwks": self.keys,
            "tokens": b"# NAME ROLE sha256:HEX\nops operator sha256:" + b"0" * 64 + b"\n",
        }[kind]

    def write(self, text, folder):
        """Writes each file that the configuration names; returns the configuration with the folder in their place."""
        for name in re.findall(r'"(/etc/peerstatus/[^"]+)"', text):
            path = pathlib.PurePosixPath(name)
            target = pathlib.Path(folder, *path.parts[3:])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.content(path))
        return text.replace('"/etc/peerstatus/', f'"{folder}/')


class Config(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = Files()

    def test_the_service_takes_it(self):
        for case in CASES:
            with self.subTest(case), tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder, "peerstatus.toml")
                path.write_text(self.files.write(config(manifests(case)), folder), encoding="utf-8")
                command = [os.environ["PEERSTATUS_BIN"], "serve", "--check", "--config", path]
                env = {"PEERSTATUS_NAME": "node-1"} if workload(manifests(case))["kind"] == "DaemonSet" else {}
                result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=env)
                self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
