"""h2spec, the conformance suite for HTTP/2, against the real service."""

import os
import pathlib
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

from harness import Service, TestCase

PATIENCE_S = 120
# What it asks for. It is no gRPC, so every method answers with a sentence.
PATH = "/opflex.peerstatus.v1.PoolService/ListPools"
# The first is answered as HTTP/1.1, which the port speaks too. The others come when the answer to their request is
# complete, which does not wait for the request's end.
EXCEPTIONS = {
    ("http2/3.5", "Sends invalid connection preface"),
    ("http2/5.1", "closed: Sends a DATA frame after sending RST_STREAM frame"),
    ("http2/8.1.2.1", "Sends a HEADERS frame that contains a pseudo-header field as trailers"),
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
        self.assertLessEqual(rest, EXCEPTIONS, said.stdout.partition("Failures:")[2])


if __name__ == "__main__":
    unittest.main()
