"""The examples go on, and miss nothing, when the connection breaks, when a proxy answers and when the service is restarted."""

import os
import re
import signal
import sys
import unittest

from client import CONNECTING, READY, Client
from harness import ROOT, OpflexPeer, Process, Proxy, Service, TestCase, error_page, grpc_error, reserved_port
from opflex.peerstatus.v1 import types_pb2 as types

COMMANDS = {
    "python": [sys.executable, str(ROOT / "examples" / "python" / "watch.py")],
    "go": [os.environ.get("EXAMPLE_GO", str(ROOT / ".tools" / "bin" / "example-go"))],
    "node": [os.environ.get("NODE", "node"), str(ROOT / "examples" / "node" / "watch.js")],
}
PACKAGED = {"python", "go"}  # their clients do not tell when they attach


# What all of them print, and the README shows: the values of the API, which the one for Node.js prints with their prefixes.
SNAPSHOT = re.compile(r"snapshot \d+( pools/default/peers/\S+=(PEER_STATUS_)?READY)+")
CHANGE = re.compile(r"change \d+ pools/default/peers/\S+ (PEER_STATUS_)?(CONNECT|READY)\w* (REASON_)?[A-Z_]+( (POOL_HEALTH_)?[HD]\w+)? ?")


def says(*words):
    return lambda line: all(word in line.lower() for word in words)


def loses_to(code):
    """That a stream was lost with that code, in the spelling of any language."""
    return lambda line: line.startswith("lost:") and code in line.lower().replace("_", "")


class Examples(TestCase):
    def setUp(self):
        self.port = self.enter(reserved_port())
        self.service = self.enter(Service(f"127.0.0.1:{self.port}"))
        self.proxy = self.enter(Proxy(self.service.address))
        self.client = self.enter(Client(self.service.address))

    def test_python(self):
        self.goes_on("python")

    def test_go(self):
        self.goes_on("go")

    def test_node(self):
        self.goes_on("node")

    def start(self, language):
        return self.enter(Process(f"the example in {language}", [*COMMANDS[language], self.proxy.address]))

    def test_python_after_errors_of_a_proxy(self):
        self.goes_on_after_errors_of_a_proxy("python")

    def test_go_after_errors_of_a_proxy(self):
        self.goes_on_after_errors_of_a_proxy("go")

    def test_node_after_errors_of_a_proxy(self):
        self.goes_on_after_errors_of_a_proxy("node")

    def test_go_ends_when_it_is_taken_over(self):
        self.ends_when_it_is_taken_over("go")

    def test_node_ends_when_it_is_taken_over(self):
        self.ends_when_it_is_taken_over("node")

    def ends_when_it_is_taken_over(self, language):
        first = self.start(language)
        first.until_line("that it is attached", says("snapshot"))
        second = self.start(language)
        second.until_line("that it is attached", says("snapshot"))
        self.assertEqual(first.ended(), 1)
        return first, second

    def test_python_ends_without_a_traceback(self):
        first, second = self.ends_when_it_is_taken_over("python")
        second.process.send_signal(signal.SIGINT)
        self.assertNotEqual(second.ended(), 0)
        for example in (first, second):
            self.assertNotIn("Traceback", example.log())

    def start_peer(self):
        peer = self.enter(OpflexPeer(self.port))
        self.client.wait_for_status(self.port, READY)
        return peer

    def log_after(self, revision, epoch):
        history = self.client.watch(resume_after=types.Cursor(epoch=epoch, revision=revision), stop_after_sync=True)
        history.until_synced()
        return [revision for revision, _ in history.changes]

    def goes_on(self, language):
        peer = self.start_peer()
        example = self.start(language)
        started = example.until_line("a snapshot", says("snapshot", "ready"))
        if language not in PACKAGED:
            self.assertTrue(says("attached", "resumed: false")(started[0]), started)
        cut_at = int(started[-1].split()[1])

        # Live.
        peer.kill()
        told = example.until_line("the loss", says("change", "remote_closed"))

        # Away while things happen.
        self.client.wait_for_status(self.port, CONNECTING)
        self.proxy.cut()
        told += example.until_line("that the stream is lost", says("lost:"))
        peer = self.start_peer()
        self.proxy.mend()
        resumed = example.until_line("what was missed", says("change", "ready"))
        if language not in PACKAGED:
            self.assertTrue(any(map(says("attached", "resumed: true"), resumed)), resumed)
        epoch = self.client.create().cursor.epoch
        for line in started + told + resumed:
            form = {"snapshot": SNAPSHOT, "change": CHANGE}.get(line.split()[0])
            self.assertTrue(form is None or form.fullmatch(line), line)
        revisions = [int(line.split()[1]) for line in told + resumed if line.startswith("change ")]
        self.assertEqual(revisions, self.log_after(cut_at, epoch), "nothing missed, nothing twice")

        # Another service in the place of the first.
        self.proxy.cut()
        self.service.kill()
        self.service = self.enter(Service(f"127.0.0.1:{self.port}"))
        self.client = self.enter(Client(self.service.address))
        self.client.wait_for_status(self.port, READY)
        self.proxy.target = self.service.address
        self.proxy.mend()
        restarted = example.until_line("a snapshot", says("snapshot", "ready"))
        self.assertTrue(re.fullmatch(r"missed 0 changes .*EPOCH_CHANGED", restarted[-2]), restarted)
        peer.kill()
        example.until_line("the loss", says("change", "remote_closed"))


    def goes_on_after_errors_of_a_proxy(self, language):
        """The codes are those of refusals, but the service did not send them."""
        peer = self.start_peer()
        self.proxy.fail(error_page(404))
        example = self.start(language)
        example.until_line("UNIMPLEMENTED", loses_to("unimplemented"))
        self.proxy.fail(grpc_error(13))
        example.until_line("INTERNAL", loses_to("internal"))
        self.proxy.cut()
        self.proxy.mend()
        started = example.until_line("a snapshot", says("snapshot", "ready"))
        peer.kill()
        example.until_line("the loss", says("change", "remote_closed"))

        for page, code in ((error_page(403), "permissiondenied"), (error_page(401), "unauthenticated"), (error_page(502), "unavailable")):
            self.proxy.fail(page)
            example.until_line(code, loses_to(code))
        self.start_peer()
        self.proxy.cut()
        self.proxy.mend()
        example.until_line("what was missed", says("change", "ready"))


class WhatTheySay(unittest.TestCase):
    def test_is_short_and_names_the_versions_that_are_tested(self):
        pins = (ROOT / "tests" / "interop" / "python" / "requirements.txt").read_text() + (ROOT / "tools" / "versions.sh").read_text()
        for path in ["python/watch.py", "go/main.go", "node/watch.js"]:
            text = (ROOT / "examples" / path).read_text(encoding="utf-8")
            self.assertLess(len(text.splitlines()), 80, path)
            for package, version in re.findall(r"([\w-]+)(?:==|@)(\d+\.\d+\.\d+)", text):
                self.assertRegex(pins, rf"(?im)^{package}(_VERSION=|==){version}$", path)


if __name__ == "__main__":
    unittest.main()
