"""Clients behind the proxies of docs/proxies.md: none is cut, watches stay up, and errors arrive as that page says."""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from busy_service import IS_LONG, LoadTestCase, grpc_go
from client import Client, detail
from harness import PATIENCE_S, Service, TestCase, until
from opflex.peerstatus.v1 import peer_status_service_pb2 as status_pb
from opflex.peerstatus.v1 import pool_service_pb2 as pool_pb
from opflex.peerstatus.v1 import types_pb2 as types
from servers import PAGE, Caddy, Envoy, HAProxy, Nginx, missing, snippets

POOL = "pools/default"


class Page(unittest.TestCase):
    def test_every_configuration_is_tested(self):
        self.assertEqual(set(snippets()), {proxy.snippet for proxy in (Nginx, HAProxy, Envoy, Caddy)})


class ProxyTest:
    """The tests of one proxy; `proxy` is which."""

    proxy = None

    def setUp(self):
        if reason := missing(self.proxy):
            self.skipTest(reason)


class FullSpeed(ProxyTest):
    """Calls over the connection that carries the watch, as in the load tests."""

    changes_for_cancelling = None

    def grpc_go(self, what, *flags, changes=None):
        self.start_service()
        front = self.enter(self.proxy(self.busy.address, changes))
        return self.load(f"{self.proxy.program}, {what}", grpc_go(front.address, *front.flags_of_load_go(), *flags))

    def test_no_call_fails(self):
        report = self.grpc_go("grpc-go, 16 goroutines, small answers", "-parallel", 16, "-small")
        self.assertEqual(report["connections"], 1, "grpc-go had to connect to the proxy again")
        self.check_service()

    def test_no_call_fails_if_a_third_is_cancelled(self):
        what = "grpc-go, 16 goroutines, a third cancelled"
        report = self.grpc_go(what, "-parallel", 16, "-cancel", changes=self.changes_for_cancelling)
        self.assertGreater(report["cancelled"], 0)
        self.check_service(allowed=("OK", "Canceled"))


class WhatClientsSee(ProxyTest):
    """Answers of the service and of the proxy itself."""

    def start(self, options=()):
        self.service = self.enter(Service(options=options))
        self.front = self.enter(self.proxy(self.service.address))
        self.client = self.enter(self.front.client())

    def get_pool(self, **more):
        return self.client.pool.GetPool(pool_pb.GetPoolRequest(name=POOL), timeout=PATIENCE_S, wait_for_ready=True, **more)

    def error_of(self, call, *args, **more):
        with self.assertRaises(grpc.RpcError) as failed:
            call(*args, **more)
        return failed.exception

    def assert_error(self, error, code, reason):
        self.assertEqual(error.code(), code, error)
        self.assertEqual(detail(error, error_details_pb2.ErrorInfo).reason, reason)

    def assert_not_from_the_service(self, error, *codes):
        self.assertIn(error.code(), codes, error)
        self.assertIsNone(rpc_status.from_call(error), error)

    def test_errors_of_the_service_keep_their_details(self):
        self.start()
        self.get_pool()
        self.assert_error(self.error_of(self.client.get_peer, 1), grpc.StatusCode.NOT_FOUND, "PEER_NOT_FOUND")
        too_large = self.error_of(self.client.create, user_data=bytes(100_000))
        if not (self.proxy is HAProxy and too_large.code() == grpc.StatusCode.CANCELLED):
            self.assert_error(too_large, grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE")

    def test_credentials_reach_the_service(self):
        command = [os.environ["PEERSTATUS_BIN"], "token", "new", "ci", "--role", "viewer", "-o", "json"]
        made = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S).stdout)
        with tempfile.TemporaryDirectory() as folder:
            tokens, configuration = pathlib.Path(folder, "tokens"), pathlib.Path(folder, "peerstatus.toml")
            tokens.write_text(made["line"] + "\n", encoding="utf-8")
            configuration.write_text(f'[server.auth]\ntokens = "{tokens}"\nlocal = "none"\n', encoding="utf-8")
            self.start(["--config", str(configuration)])
        self.assert_error(self.error_of(self.get_pool), grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING")
        self.get_pool(metadata=[("authorization", f"Bearer {made['token']}")])

    def test_metadata_of_7_kib_is_passed_on(self):
        self.start()
        self.get_pool(metadata=[("x-long", "x" * 7 * 1024)])

    def test_a_watch_ends_with_its_client(self):
        self.start()
        direct = self.enter(Client(self.service.address))
        listeners = lambda: direct.status.ListListeners(status_pb.ListListenersRequest(), timeout=PATIENCE_S, wait_for_ready=True).listeners
        for how, leave in (("cancel", lambda watch: watch.call.cancel()), ("close", lambda _: self.client.channel.close())):
            with self.subTest(how):
                watch = self.client.watch()
                watch.until_synced()
                self.assertEqual(len(listeners()), 1)
                leave(watch)
                until("the watch to end at the service", lambda: not listeners())

    def test_a_service_that_stops(self):
        self.start()
        watch = self.client.watch()
        watch.until_synced()
        self.assertEqual(self.service.stop(), 0)
        last, error = watch.until_end()
        self.assertEqual(last, "draining")
        self.assert_error(error, grpc.StatusCode.UNAVAILABLE, "DRAINING")
        self.assert_not_from_the_service(self.error_of(self.get_pool), grpc.StatusCode.UNAVAILABLE)

    def test_a_service_that_is_killed(self):
        self.start()
        watch = self.client.watch()
        watch.until_synced()
        self.service.kill()
        _, error = watch.until_end()
        self.assert_not_from_the_service(error, *LOST[self.proxy])
        self.assert_not_from_the_service(self.error_of(self.get_pool), grpc.StatusCode.UNAVAILABLE)


# How grpcio reports a watch that the proxy ends in the middle.
LOST = {
    Nginx: [grpc.StatusCode.INTERNAL],
    HAProxy: [grpc.StatusCode.UNKNOWN],
    Envoy: [grpc.StatusCode.INTERNAL],
    Caddy: [grpc.StatusCode.INTERNAL],
}


class NginxFullSpeed(FullSpeed, LoadTestCase):
    proxy = Nginx


class HAProxyFullSpeed(FullSpeed, LoadTestCase):
    proxy = HAProxy


class EnvoyFullSpeed(FullSpeed, LoadTestCase):
    proxy = Envoy
    # Envoy's default codec closes the connections of such clients. This one passes every reset on to the service.
    changes_for_cancelling = {"http2_protocol_options:\n": "http2_protocol_options:\n                  use_oghttp2_codec: true\n"}


class CaddyFullSpeed(FullSpeed, LoadTestCase):
    proxy = Caddy


class NginxAnswers(WhatClientsSee, TestCase):
    proxy = Nginx

    def test_codes_for_answers_of_the_proxy_itself(self):
        """The table of the page."""
        for http, code in page_table("HTTP status", "gRPC code"):
            with self.subTest(http), Nginx("127.0.0.1:1", {"grpc_pass grpc://peerstatus;": f"return {http};"}) as front, front.client() as client:
                error = self.error_of(client.pool.GetPool, pool_pb.GetPoolRequest(name=POOL), timeout=PATIENCE_S, wait_for_ready=True)
                self.assert_not_from_the_service(error, grpc.StatusCode[code])


class HAProxyAnswers(WhatClientsSee, TestCase):
    proxy = HAProxy


class EnvoyAnswers(WhatClientsSee, TestCase):
    proxy = Envoy


class CaddyAnswers(WhatClientsSee, TestCase):
    proxy = Caddy


def page_table(*columns):
    """The rows of the page's table with these columns, without the marks of code."""
    rows = [[cell.strip(" `") for cell in line.strip("| \n").split("|")] for line in PAGE.read_text(encoding="utf-8").splitlines()]
    start = rows.index(list(columns)) + 2
    end = next(row for row in range(start, len(rows)) if len(rows[row]) != len(columns))
    return [tuple(row) for row in rows[start:end]]


class Timeouts(TestCase):
    """Watches on which nothing happens. The long form has the configurations as they are; the short one has timeouts of 2 s."""

    # Longer than nginx's 60 s and HAProxy's 30 s, or than 2 s.
    SECONDS = 70 if IS_LONG else 5
    HEARTBEAT_S = None if IS_LONG else 1  # None: the service's default
    NO_HEARTBEAT_S = 300
    SHORT = {
        Nginx: {"_timeout 60s": "_timeout 2s"},
        HAProxy: {"client 30s": "client 2s", "server 30s": "server 2s"},
        Envoy: {"stream_idle_timeout: 300s": "stream_idle_timeout: 2s"},
        Caddy: {},
    }

    def test_idle_watches(self):
        idle = {proxy: {} if IS_LONG else changes for proxy, changes in self.SHORT.items()}
        # What, the proxy, changes of its configuration, the heartbeat, and after how many seconds the watch is cut.
        cases = [("heartbeats", proxy, changes, self.HEARTBEAT_S, None) for proxy, changes in idle.items()]
        cases += [
            ("no heartbeats, grpc_read_timeout", Nginx, self.SHORT[Nginx], self.NO_HEARTBEAT_S, 2),
            # The service's PINGs, every 20 s, are reads, too.
            ("no heartbeats", Nginx, {}, self.NO_HEARTBEAT_S, None),
            ("no heartbeats", HAProxy, idle[HAProxy], self.NO_HEARTBEAT_S, 30 if IS_LONG else 2),
            ("no heartbeats", Envoy, self.SHORT[Envoy], self.NO_HEARTBEAT_S, 2),
            ("no heartbeats", Caddy, {}, self.NO_HEARTBEAT_S, None),
            ("no heartbeats, grpc_send_timeout", Nginx, {"send_timeout 60s": "send_timeout 2s"}, self.NO_HEARTBEAT_S, None),
            ("no heartbeats, timeout client", HAProxy, {"client 30s": "client 2s"}, self.NO_HEARTBEAT_S, 30 if IS_LONG else None),
            ("no heartbeats, timeout tunnel", HAProxy, {"server 30s": "server 2s\n    timeout tunnel 1h"}, self.NO_HEARTBEAT_S, 2),
            ("heartbeats, timeout of the route", Envoy, {"timeout: 0s": "timeout: 3s"}, 1, 3),
        ]
        with ThreadPoolExecutor(len(cases)) as threads:
            outcomes = list(threads.map(lambda case: missing(case[1]) or self.watch(*case[1:4]), cases))
        for (what, proxy, _, _, expected), outcome in zip(cases, outcomes):
            with self.subTest(f"{proxy.program}, {what}"):
                if reason := missing(proxy):
                    self.skipTest(reason)
                error, seconds = outcome
                if expected is None:
                    self.assertIsNone(error, f"ended after {seconds:.1f} s")
                else:
                    self.assertIsNotNone(error, "nothing ended it")
                    self.assertIn(error.code(), LOST[proxy])
                    self.assertAlmostEqual(seconds, expected, delta=1.5)

    def watch(self, proxy, changes, heartbeat_s):
        """Watches for SECONDS; returns the error that ended it before, and after how many seconds."""
        with Service() as service, proxy(service.address, changes) as front, front.client() as client:
            watch = client.watch(heartbeat_interval=heartbeat_s and duration_pb2.Duration(seconds=heartbeat_s))
            watch.until_synced()
            started = time.monotonic()
            try:
                while (left := started + self.SECONDS - time.monotonic()) > 0:
                    watch.next(timeout=left)
            except grpc.RpcError as error:
                return error, time.monotonic() - started
            except AssertionError:
                pass  # nothing came in the time that was left
            watch.call.cancel()
            return None, self.SECONDS

    def test_a_call_that_waits_is_cut(self):
        """`WaitForPool` sends nothing until it answers."""

        def outcome(proxy):
            with Service() as service, proxy(service.address, self.SHORT[proxy]) as front, front.client() as client:
                request = pool_pb.WaitForPoolRequest(name=POOL, health=types.POOL_HEALTH_HEALTHY)
                return client.pool.WaitForPool.future(request, timeout=PATIENCE_S, wait_for_ready=True).code()

        proxies = (Nginx, HAProxy, Envoy)
        with ThreadPoolExecutor(len(proxies)) as threads:
            outcomes = list(threads.map(lambda proxy: missing(proxy) or outcome(proxy), proxies))
        for proxy, code in zip(proxies, outcomes):
            with self.subTest(proxy.program):
                if reason := missing(proxy):
                    self.skipTest(reason)
                self.assertEqual(code, grpc.StatusCode.UNAVAILABLE)


if __name__ == "__main__":
    unittest.main()
