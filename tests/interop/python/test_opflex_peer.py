"""The OpFlex peer of these tests against the recordings: it must say what the reference says."""

import json
import socket
import subprocess
import sys
import unittest

from harness import PATIENCE_S, ROOT, OpflexPeer, Server, recorded_frames

SENTINEL = b'{"id":["nobody",0],"method":"nobody","params":[]}'


class Client:
    """A raw connection that sends and receives frames."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.file = self.socket.makefile("rb")

    def send(self, *frames):
        self.socket.sendall(b"".join(frame + b"\0" for frame in frames))

    def receive(self):
        frame = bytearray()
        while (byte := self.file.read(1)) not in (b"\0", b""):
            frame += byte
        return json.loads(frame) if frame else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()


def without_numbers(frame):
    """A frame with what differs from run to run taken out: times and addresses."""
    frame = json.loads(frame) if isinstance(frame, bytes) else frame
    if frame["id"][0] == "echo":
        frame["params" if "method" in frame else "result"] = ["time"]
    elif "result" in frame:
        frame["result"]["name"] = "address"
        for peer in frame["result"]["peers"]:
            peer["connectivity_info"] = "address"
    return json.dumps(frame)  # keeps the order of members


class SpeaksLikeTheReference(unittest.TestCase):
    def test_answers_a_recorded_client_as_the_recorded_server_did(self):
        for name, listed in [("a-server-killed-restarted", 1), ("c-bootstrap-discovery", 2), ("n1-transport-proxies", 1)]:
            with self.subTest(recording=name):
                requests = [f for f in recorded_frames(name, "client->server") if b"method" in f]
                expected = [without_numbers(f) for f in recorded_frames(name, "server->client")]
                recording = ROOT / "tests" / "golden" / f"{name}.frames.jsonl"
                peers = ",".join(f"127.0.0.1:{port}" for port in range(1, listed + 1))
                command = [sys.executable, str(ROOT / "tests" / "opflex_peer.py"), "--strict", "--recording", str(recording), "--peers", peers]
                with Server("the OpFlex peer", command) as peer, Client(peer.port) as client:
                    client.send(*requests)
                    self.assertEqual([without_numbers(client.receive()) for _ in expected], expected)

    def test_refuses_what_a_policy_repository_does_not_serve_and_stays(self):
        with OpflexPeer() as peer, Client(peer.port) as client:
            client.send(*recorded_frames("c-bootstrap-discovery", "client->server")[:2], SENTINEL, SENTINEL)
            frames = [client.receive() for _ in range(5)]
            error = {"id": ["nobody", 0], "error": {"code": "EUNSUPPORTED", "message": "Unsupported request"}}
            self.assertEqual(frames[3:], [error, error])


class IsStrict(unittest.TestCase):
    """A peer that lets everything pass proves nothing."""

    ECHO, IDENTITY = recorded_frames("c-bootstrap-discovery", "client->server")[:2]

    def violation(self, *frames):
        """What the peer says to these frames before it gives up."""
        command = [sys.executable, str(ROOT / "tests" / "opflex_peer.py"), "--strict"]
        with Server("the OpFlex peer", command) as peer, Client(peer.port) as client:
            client.send(*frames)
            try:
                self.assertEqual(peer.process.wait(PATIENCE_S), 3)
            except subprocess.TimeoutExpired:
                self.fail(f"the peer swallowed {frames}")
            return peer.log()

    def test_about_the_order_of_requests(self):
        self.assertIn("first request must be echo", self.violation(self.IDENTITY))
        self.assertIn("second request must be send_identity", self.violation(self.ECHO, SENTINEL))

    def test_about_the_numbers_of_a_new_client(self):
        self.assertIn("echo 0 and send_identity 1", self.violation(self.ECHO, self.IDENTITY.replace(b'identity",1', b'identity",2')))

    def test_about_the_order_of_members(self):
        swapped = self.IDENTITY.replace(b'"proto_version":"1.0","name":"ref-client"', b'"name":"ref-client","proto_version":"1.0"')
        self.assertIn("in this order", self.violation(self.ECHO, swapped))

    def test_about_the_answers_to_its_echo(self):
        self.assertIn("must answer an echo of ours", self.violation(self.ECHO, self.IDENTITY, b'{"id":["echo",7],"result":[1]}'))
        self.assertIn("must come back as it was sent", self.violation(self.ECHO, self.IDENTITY, b'{"id":["echo",0],"result":[1]}'))

    def test_about_bytes(self):
        self.assertIn("compact", self.violation(self.ECHO.replace(b",", b", ")))
        self.assertIn("opflex_peer: connection 1", self.violation(b"not json"))


if __name__ == "__main__":
    unittest.main()
