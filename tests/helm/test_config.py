"""The configuration that the chart writes is one that the service takes, file for file."""

import base64
import binascii
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from chart import CASES, PATIENCE_S, config, fleet, manifests, pods, workload

FLEET = "fleet.enabled=true,fleet.cluster=lab,fleet.nats={nats://nats:4222}"


def nkey():
    """The seed of an NKey of a user: two bytes of prefixes, 32 of the key, and their CRC-16, in base32."""
    text = bytes([0x95, 0x00]) + bytes(range(32))
    return base64.b32encode(text + binascii.crc_hqx(text, 0).to_bytes(2, "little")).rstrip(b"=")


def credentials(seed):
    """As in a file of `nsc`; the JWT is not read."""
    return b"""-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ.e30.e30
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
%s
------END USER NKEY SEED------

*************************************************************
""" % seed


SEED = nkey()
CREDENTIALS = credentials(SEED)


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
        if kind in ("tls", "pools", "nats-tls"):
            return self.certificate[path.name]
        if kind.startswith("nats") and kind != "nats-ca":
            return CREDENTIALS if path.suffix == ".creds" else SEED
        return {
            "nats-ca": self.authority,
            "clients": self.authority, "pool-cas": self.authority, "jwks": self.keys,
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

    # Values that only the service checks, and what it says.
    BAD = {
        "pools[0].tls.ca.secret=a": 'pool[0].tls.ca: has no effect without mode = "verify"',
        "pools[0].tls.mode=encrypted,pools[0].tls.ca.secret=a": 'pool[0].tls.ca: has no effect without mode = "verify"',
        "pools[0].tls.server_name=a": 'pool[0].tls.server_name: has no effect without mode = "encrypted" or "verify"',
        "pools[0].tls.secret=a": 'pool[0].tls.cert: has no effect without mode = "encrypted" or "verify"',
        "pools[0].timers.echo=20s,pools[0].timers.keepalive=20s": "pool[0].timers.keepalive: 20s is not longer than echo, 20s",
        "pools[0].timers.echo=2m": "pool[0].timers.keepalive: 120s is not longer than echo, 120s",
        "pools[0].timers.keepalive=15000ms": "pool[0].timers.keepalive: 15s is not longer than echo, 15s",
        "pools[0].timers.connect=9ms": "pool[0].timers.connect: 9ms is out of range",
        "pools[0].timers.handshake=61m": "pool[0].timers.handshake: 3660s is out of range",
        "pools[0].timers.keepalive=99999999999999999999h": "pool[0].timers.keepalive: ",
        "pools[0].peers={leaf-101:1,leaf-102:1,LEAF-101:1}": 'pool[0].peers[2]: "leaf-101:1" is a duplicate',
        "log.level=verbose": '"verbose" is not a level',
        "log.level=a=debug\\,inof": '"inof" is not a level',
        "pools[0].mode=stitched,pools[1].mode=stitched": "pool[1].name: ",
        f"{FLEET},fleet.tls.ca.secret=a": 'fleet.tls.ca: has no effect without mode = "verify"',
        f"{FLEET},fleet.tls.secret=a": 'fleet.tls.cert: has no effect without mode = "encrypted" or "verify"',
        f"{FLEET},fleet.max_age=59m": "fleet.max_age: 3540s is out of range",
        "server.insecure=false": "server.listen: plaintext gRPC on [::]:50051 is open to the network",
    }

    def check(self, found):
        """What `serve --check` makes of the configuration."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "peerstatus.toml")
            path.write_text(self.files.write(config(found), folder), encoding="utf-8")
            kind = workload(found)["kind"]
            command = [os.environ["PEERSTATUS_BIN"], "fleet" if kind == "Deployment" else "serve", "--check", "--config", path]
            has_name = any(variable["name"] == "PEERSTATUS_NAME" for variable in pods(found)[0]["containers"][0].get("env", []))
            env = {"PEERSTATUS_NAME": "node-1-peerstatus"} if has_name else {}
            return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=env)

    def test_the_service_takes_it(self):
        for case in CASES:
            with self.subTest(case):
                found = manifests(case)
                for side in filter(None, (found, fleet(found))):
                    result = self.check(side)
                    self.assertEqual(result.returncode, 0, result.stderr)

    def test_the_service_refuses_what_the_chart_leaves_to_it(self):
        for values, words in self.BAD.items():
            with self.subTest(values):
                result = self.check(manifests("default", "--set", values))
                self.assertEqual(result.returncode, 64, result.stderr)
                self.assertIn(words, result.stderr)


if __name__ == "__main__":
    unittest.main()
