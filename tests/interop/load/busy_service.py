"""A service whose peers keep changing, and the programs that put load on it. Shared by the load and the proxy tests."""

import contextlib
import json
import os
import re
import subprocess
import threading
import urllib.request

import grpc

from client import Client
from harness import PATIENCE_S, ROOT, Process, Service, TestCase, reserved_port
from opflex.peerstatus.v1 import pool_service_pb2 as pool_pb
from opflex.peerstatus.v1 import types_pb2 as types

# How long each client runs. The short form is a part of `make test`; a minute is for `LOAD_SECONDS=60 make load-test proxy-test`.
SECONDS = float(os.environ.get("LOAD_SECONDS") or 2)
IS_LONG = SECONDS >= 60
POOL = "pools/default"
# Enough for `ListPeers` to answer with several KiB, so that clients have to enlarge their flow-control windows.
PEERS = 40
# One peer is reset per interval, which is four or more changes: a watch has about 100 messages/s.
RESET_INTERVAL_S = 0.04

LOAD_GO = os.environ.get("LOAD_GO", str(ROOT / ".tools" / "bin" / "load-go"))


class SimulatedPeers(Process):
    """OpFlex peers on ports of the system's choice."""

    def __init__(self, binary, count):
        super().__init__("peerstatus simulate", [binary, "simulate", "--ports", ",".join(["0"] * count)])
        try:
            lines = []
            while len(lines) < count:
                lines += self.until_line("that a peer is up", lambda line: re.search(r"127\.0\.0\.1:\d+", line))
        except BaseException:
            self.kill()
            raise
        self.addresses = re.findall(r"127\.0\.0\.1:\d+", "\n".join(lines))


class BusyService:
    """A service with many peers, all READY, one of which is reset every few milliseconds inside the block."""

    def __init__(self, options=()):
        with contextlib.ExitStack() as stack:
            admin = stack.enter_context(reserved_port())
            self.metrics_url = f"http://127.0.0.1:{admin}/metrics"
            self.peers = stack.enter_context(SimulatedPeers(os.environ["PEERSTATUS_BIN"], PEERS))
            self.service = stack.enter_context(Service(*self.peers.addresses, options=options, admin=f"127.0.0.1:{admin}"))
            self.address = self.service.address
            self.client = stack.enter_context(Client(self.address))
            healthy = pool_pb.WaitForPoolRequest(name=POOL, health=types.POOL_HEALTH_HEALTHY)
            self.client.pool.WaitForPool(healthy, timeout=PATIENCE_S, wait_for_ready=True)
            self.stack = stack.pop_all()
        self.stopping = threading.Event()
        self.churn = threading.Thread(target=self._reset_peers, daemon=True)
        self.churn_error = None

    def _reset_peers(self):
        turn = 0
        while not self.stopping.wait(RESET_INTERVAL_S):
            name = f"{POOL}/peers/{self.peers.addresses[turn % PEERS]}"
            request = pool_pb.ResetPeersRequest(parent=POOL, scope=pool_pb.RESET_SCOPE_NAMED, names=[name])
            try:
                self.client.pool.ResetPeers(request, timeout=PATIENCE_S)
            except grpc.RpcError as error:
                self.churn_error = error
                return
            turn += 1

    def handled(self):
        """How many calls of each unary method ended with each code, by the service's own count."""
        with urllib.request.urlopen(self.metrics_url, timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        counts = {}
        for labels, count in re.findall(r"^grpc_server_handled_total\{(.*?)\} (\d+)", text, re.MULTILINE):
            labels = dict(re.findall(r'(\w+)="(.*?)"', labels))
            if labels["grpc_type"] == "unary" and int(count):
                counts[labels["grpc_method"], labels["grpc_code"]] = int(count)
        return counts

    def __enter__(self):
        self.churn.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.churn.join(PATIENCE_S)
        self.stack.close()


class LoadTestCase(TestCase):
    """Runs programs beside a busy service. Fails if any call failed, for the client or by the service's count."""

    def start_service(self, options=()):
        self.busy = self.enter(BusyService(options))

    def run_program(self, command, seconds=SECONDS):
        """Runs a program to its end, which has to come soon after the load; returns its exit code and output."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                output, errors = process.communicate(timeout=seconds + 3 * PATIENCE_S)
            except BaseException:
                process.kill()
                raise
        return process.returncode, output, errors

    def load(self, what, command):
        """Runs one of the load clients and checks its report."""
        code, output, errors = self.run_program(command)
        self.assertIn(code, (0, 1), errors)
        return self.check_report(what, json.loads(output))

    def check_report(self, what, report):
        self.print_rates(what, report)
        self.assertEqual(report["failures"], {}, f"{what}: {report}")
        self.assertGreater(report["changes"], 0, "nothing changed: the watch was not tested")
        return report

    @staticmethod
    def print_rates(what, report):
        rate = report["calls"] / report["seconds"]
        cancelled = f", {report['cancelled']:,} cancelled" if report["cancelled"] else ""
        failed = f", {sum(report['failures'].values()):,} FAILED" if report["failures"] else ""
        print(f"\n    {what}: {rate:,.0f} calls/s{cancelled}{failed}, {report['changes']:,} changes watched", flush=True)

    def check_service(self, allowed=("OK",)):
        """The service itself must not count any other outcome, and the peers must have changed all along."""
        self.assertIsNone(self.busy.churn_error, "resetting peers failed")
        handled = self.busy.handled()
        self.assertEqual({key: count for key, count in handled.items() if key[1] not in allowed}, {})
        return handled


def grpc_go(address, *flags, seconds=SECONDS):
    return [LOAD_GO, "-address", address, "-seconds", str(seconds), *map(str, flags)]
