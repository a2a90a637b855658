"""No honest client is cut: clients at full speed, each beside a watch that must neither end nor miss a revision."""

import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from busy_service import POOL, SECONDS, LoadTestCase, grpc_go
from harness import ROOT
from opflex.peerstatus.v1 import pool_service_pb2 as pool_pb

HERE = pathlib.Path(__file__).parent
GHZ = os.environ.get("GHZ", str(ROOT / ".tools" / "bin" / "ghz"))
H2LOAD = os.environ.get("H2LOAD") or shutil.which("h2load")


class WatchOnTheSameConnection(LoadTestCase):
    """Calls over the connection that carries the watch. Once with answers of up to several KiB, and once with the smallest."""

    def setUp(self):
        self.start_service()

    def grpc_go(self, what, *flags):
        report = self.load(what, grpc_go(self.busy.address, *flags))
        self.assertEqual(report["connections"], 1, "grpc-go had to connect again")
        return report

    def test_grpc_go_calls_one_after_the_other(self):
        self.grpc_go("grpc-go, 1 goroutine", "-parallel", 1)
        self.grpc_go("grpc-go, 1 goroutine, small answers", "-parallel", 1, "-small")
        self.check_service()

    def test_grpc_go_calls_from_64_goroutines(self):
        self.grpc_go("grpc-go, 64 goroutines", "-parallel", 64)
        self.grpc_go("grpc-go, 64 goroutines, small answers", "-parallel", 64, "-small")
        self.check_service()

    def test_grpc_go_cancels_a_third_of_its_calls(self):
        self.grpc_go_cancels("64 goroutines", "-parallel", 64)

    def test_grpc_go_cancels_a_third_of_groups_of_calls(self):
        """As the end of a parent context does: many resets arrive together. The service allows at least 128 streams."""
        self.grpc_go_cancels("100 calls at a time", "-parallel", 100, "-together")

    def grpc_go_cancels(self, what, *flags):
        for small in ([], ["-small"]):
            report = self.grpc_go(f"grpc-go, {what}, a third cancelled{', small answers' if small else ''}", "-cancel", *flags, *small)
            self.assertGreater(report["cancelled"], 0)
        self.check_service(allowed=("OK", "Canceled"))

    def test_grpcio_calls_from_16_threads(self):
        command = [sys.executable, str(HERE / "load.py"), self.busy.address, str(SECONDS), "16"]
        self.load("grpcio, 16 threads", command)
        self.load("grpcio, 16 threads, small answers", [*command, "small"])
        self.check_service()

    def test_grpc_js_makes_16_calls_at_a_time(self):
        command = [os.environ.get("NODE", "node"), str(HERE / "load.js"), self.busy.address, str(SECONDS), "16"]
        self.load("grpc-js, 16 calls at a time", command)
        self.load("grpc-js, 16 calls at a time, small answers", [*command, "small"])
        self.check_service()


class WatchOnAnotherConnection(LoadTestCase):
    """Load generators, which cannot watch: the watch beside them has its own connection."""

    def setUp(self):
        self.start_service()
        # Longer than the load, which takes a moment to start.
        command = grpc_go(self.busy.address, "-parallel", 0, seconds=SECONDS + 1)
        self.watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end_watch)

    def end_watch(self):
        self.watch.kill()
        self.watch.communicate()

    def check(self, what, calls, failures):
        output, _ = self.watch.communicate(timeout=SECONDS + 30)
        watched = json.loads(output)
        self.check_report(what, {**watched, "calls": calls, "seconds": SECONDS, "failures": {**failures, **watched["failures"]}})

    def test_ghz(self):
        command = [GHZ, "--insecure", "--proto", "opflex/peerstatus/v1/pool_service.proto", "--import-paths", str(ROOT / "proto")]
        command += ["--call", "opflex.peerstatus.v1.PoolService/ListPeers", "--data", json.dumps({"parent": POOL})]
        command += ["--connections", "2", "--concurrency", "64", "--duration", f"{SECONDS}s", "--duration-stop", "wait"]
        code, output, errors = self.run_program([*command, "--format", "json", self.busy.address])
        self.assertEqual(code, 0, errors)
        report = json.loads(output)
        codes = report["statusCodeDistribution"]
        failures = {**{code: count for code, count in codes.items() if code != "OK"}, **(report.get("errorDistribution") or {})}
        self.check("ghz, 64 calls at a time on 2 connections", codes.get("OK", 0), failures)
        self.check_service()

    @unittest.skipUnless(H2LOAD, "h2load is not installed: apt-get install nghttp2-client")
    def test_h2load(self):
        request = pool_pb.GetPoolRequest(name=POOL).SerializeToString()
        with tempfile.NamedTemporaryFile() as body:
            body.write(b"\0" + struct.pack(">I", len(request)) + request)
            body.flush()
            command = [H2LOAD, "--duration", str(int(SECONDS)), "--clients", "2", "--max-concurrent-streams", "64"]
            command += ["--data", body.name, "--header", "content-type: application/grpc", "--header", "te: trailers"]
            url = f"http://{self.busy.address}/opflex.peerstatus.v1.PoolService/GetPool"
            code, output, errors = self.run_program([*command, url])
        self.assertEqual(code, 0, output + errors)
        counts = {name: int(count) for count, name in re.findall(r"(\d+) (succeeded|failed|errored|timeout)", output)}
        self.assertEqual(set(counts), {"succeeded", "failed", "errored", "timeout"}, output)
        succeeded = counts.pop("succeeded")
        self.check("h2load, 64 calls at a time on 2 connections", succeeded, {name: count for name, count in counts.items() if count})
        # It counts HTTP's status codes; those of gRPC are in the trailers, which only the service has counted.
        handled = self.check_service(allowed=("OK", "Canceled"))
        self.assertGreaterEqual(handled["GetPool", "OK"], succeeded)


if __name__ == "__main__":
    unittest.main()
