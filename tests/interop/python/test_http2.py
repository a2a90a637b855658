"""h2spec, the conformance suite for HTTP/2, against the real service."""

import os
import pathlib
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

from harness import Service, TestCase

PATIENCE_S = 120
# What it asks for: GET, which every method answers with an error in headers alone.
PATH = "/opflex.peerstatus.v1.PoolService/ListPools"
# Those that need an answer with a body, or one that takes a while. The same is tested with such answers in Rust, by
# `src/http2/session/tests.rs` and `tests/it/serving.rs`.
NEED_A_BODY = {
    ("generic/2", "Sends a WINDOW_UPDATE frame on half-closed (remote) stream"),
    ("generic/2", "Sends a PRIORITY frame on half-closed (remote) stream"),
    ("http2/5.1.2", "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded"),
    ("http2/6.5.3", "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE"),
    ("http2/6.9.1", "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame"),
    ("http2/6.9.2", "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame"),
    ("http2/6.9.2", "Sends a SETTINGS frame for window size to be negative"),
}


class Http2(TestCase):
    def test_passes_the_conformance_suite(self):
        service = self.enter(Service())
        port = service.address.rpartition(":")[2]
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "report.xml"
            command = [os.environ["H2SPEC"], "--strict", "--port", port, "--path", PATH, "--junit-report", str(report)]
            said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            cases = list(ElementTree.parse(report).getroot().iter("testcase"))
        self.assertGreater(len(cases), 140, said.stdout)
        # One that has passed says nothing more.
        rest = {(case.get("package"), case.get("classname")) for case in cases if len(case)}
        self.assertEqual(rest, NEED_A_BODY, said.stdout.partition("Failures:")[2])


if __name__ == "__main__":
    unittest.main()
