"""The package for Python beside the service: what it hands over is what the service knows, whatever breaks."""

import asyncio
import concurrent.futures
import doctest
import pathlib
import queue
import socket
import tempfile
import threading
import unittest
import unittest.mock

import grpc
import opflex_peerstatus
from client import READY, Client
from harness import ACK, PATIENCE_S, PING, ROOT, SETTINGS, OpflexPeer, Proxy, Service, TestCase, error_page, frame, reserved_port, until
from opflex.peerstatus.v1 import peer_status_service_pb2 as api
from opflex.peerstatus.v1 import types_pb2
from opflex_peerstatus import Change, Disconnected, Gap, PeerStatus, PoolHealth, ResetReason, Resumed, Snapshot, Watcher, WatchError, session, watcher

CURSOR = types_pb2.Cursor(epoch=7, revision=1)


class Events:
    """The events of a watcher in a thread of its own."""

    def __init__(self, watcher):
        self.watcher, self.events = watcher, queue.Queue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            for event in self.watcher:
                self.events.put(event)
            self.events.put(None)
        except Exception as error:  # the test looks at it
            self.events.put(error)

    def until(self, what, condition):
        """Reads on until an event fulfils the condition; returns all that were read."""
        read = []
        while True:
            try:
                read.append(self.events.get(timeout=PATIENCE_S))
            except queue.Empty:
                raise AssertionError(f"waited {PATIENCE_S} s in vain for {what}, but got {read}") from None
            if condition(read[-1]):
                return read
            if read[-1] is None or isinstance(read[-1], Exception):
                raise AssertionError(f"ended before {what}: {read}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watcher.close()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "close() ends the iteration"


class Pings:
    """A server in HTTP/2 that answers pings, which it counts, and nothing else."""

    def __init__(self):
        self.listening, self.count = socket.create_server(("127.0.0.1", 0)), 0
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.connection, _ = self.listening.accept()
        with self.connection, self.connection.makefile("rb") as frames:
            frames.read(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            self.connection.sendall(frame(SETTINGS, 0, 0))
            while len(head := frames.read(9)) == 9:
                kind, flags, payload = head[3], head[4], frames.read(int.from_bytes(head[:3], "big"))
                if kind in (SETTINGS, PING) and not flags & ACK:
                    self.count += kind == PING
                    self.connection.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listening.close()
        self.thread.join(PATIENCE_S)


def status(wanted):
    return lambda event: isinstance(event, Change) and event.peer and event.peer.peer.status is wanted


class PythonClient(TestCase):
    def setUp(self):
        self.port = self.enter(reserved_port())
        self.service = self.enter(Service(f"127.0.0.1:{self.port}"))
        self.proxy = self.enter(Proxy(self.service.address))
        self.client = self.enter(Client(self.service.address))

    def start_peer(self):
        peer = self.enter(OpflexPeer(self.port))
        self.client.wait_for_status(self.port, READY)
        return peer

    def watch(self, **more):
        return self.enter(Events(Watcher(self.proxy.address, **more)))

    def test_it_goes_on_where_it_was_and_tells_a_gap(self):
        peer = self.start_peer()
        events = self.watch(listener="mine")
        [snapshot] = events.until("a snapshot", lambda event: isinstance(event, Snapshot))
        self.assertEqual([peer.status for peer in snapshot.peers], [PeerStatus.READY])
        self.assertEqual([pool.health for pool in snapshot.pools], [PoolHealth.HEALTHY])

        peer.kill()
        changes = events.until("the loss", status(PeerStatus.CONNECTING))
        self.proxy.cut()
        changes += events.until("that the service is away", lambda event: isinstance(event, Disconnected))
        peer = self.start_peer()
        self.proxy.mend()
        changes += events.until("what was missed, and that this was all", lambda event: isinstance(event, Resumed))
        self.assertTrue(status(PeerStatus.READY)(changes[-2]), changes)
        changes = [event for event in changes if isinstance(event, Change)]
        for earlier, later in zip([snapshot, *changes], changes):
            self.assertEqual(later.previous_revision, earlier.cursor.revision, "a chain")

        self.proxy.cut()
        self.service.kill()
        self.service = self.enter(Service(f"127.0.0.1:{self.port}"))
        self.proxy.target = self.service.address
        self.proxy.mend()
        told = events.until("a snapshot", lambda event: isinstance(event, Snapshot))
        self.assertIn(Gap(ResetReason.EPOCH_CHANGED, None), told)

    def test_errors_of_a_proxy_are_no_refusals(self):
        self.start_peer()
        self.proxy.fail(error_page(403))
        events = self.watch()
        [away] = events.until("that the service is away", lambda event: isinstance(event, Disconnected))
        self.assertIn("PERMISSION_DENIED", away.error)
        self.proxy.cut()
        self.proxy.mend()
        events.until("a snapshot", lambda event: isinstance(event, Snapshot))

    def test_what_is_hopeless_is_raised(self):
        refused = self.watch(peers=[""]).until("a refusal", lambda event: isinstance(event, Exception))[-1]
        self.assertIsInstance(refused, WatchError)
        self.assertEqual(refused.reason, "BAD_FILTER")
        first = self.watch(listener="one")
        first.until("a snapshot", lambda event: isinstance(event, Snapshot))
        self.watch(listener="one").until("a snapshot", lambda event: isinstance(event, Snapshot))
        taken = first.until("the end", lambda event: isinstance(event, Exception))[-1]
        self.assertEqual(taken.reason, "LISTENER_TAKEN_OVER")
        other = self.watch(listener="one", pools=["another"]).until("a refusal", lambda event: isinstance(event, Exception))[-1]
        self.assertIn("another filter", str(other))

    def test_a_stored_cursor_is_where_another_watcher_begins(self):
        peer = self.start_peer()
        events = self.watch()
        [snapshot] = events.until("a snapshot", lambda event: isinstance(event, Snapshot))
        peer.kill()
        events.until("the loss", status(PeerStatus.CONNECTING))
        self.start_peer()
        told = self.watch(resume_after=opflex_peerstatus.Cursor.parse(str(snapshot.cursor))).until("all changes", status(PeerStatus.READY))
        self.assertTrue(all(isinstance(event, Change) for event in told), told)
        self.assertEqual(told[0].previous_revision, snapshot.cursor.revision)

    def test_asyncio(self):
        peer = self.start_peer()

        async def run():
            seen, returned = [], None
            async for event in (watcher := Watcher(self.proxy.address)):
                seen.append(event)
                if isinstance(event, Snapshot) and len(seen) == 1:
                    peer.kill()
                elif status(PeerStatus.CONNECTING)(event) and not returned:  # there may be one for each reason
                    self.proxy.cut()
                elif isinstance(event, Disconnected) and not returned:  # there is one for each cause
                    returned = self.start_peer()
                    self.proxy.mend()
                elif status(PeerStatus.READY)(event):
                    watcher.close()
            return seen

        seen = asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
        changes = [event for event in seen if isinstance(event, Change)]
        for earlier, later in zip([seen[0], *changes], changes):
            self.assertEqual(later.previous_revision, earlier.cursor.revision, "a chain")

    def test_a_silent_connection_is_probed_for_as_long_as_it_is_silent(self):
        keepalive = [("grpc.keepalive_time_ms", 500), ("grpc.keepalive_timeout_ms", 10_000)]
        options = [option for option in watcher.OPTIONS if not option[0].startswith("grpc.keepalive")]
        with unittest.mock.patch.object(watcher, "OPTIONS", options + keepalive):
            silent = self.enter(Pings())
            self.enter(Events(Watcher(silent.address)))
            until("more pings than gRPC allows by default, which are two in a minute", lambda: silent.count > 4)

    def test_a_service_that_is_silent_behind_a_proxy_is_away(self):
        async def lost(watcher):
            async for event in watcher:
                if isinstance(event, Disconnected):
                    return event.error

        def messages(count):
            yield from [api.WatchPeerStatusResponse(attached=api.Attached(cursor=CURSOR)), api.WatchPeerStatusResponse(snapshot=api.Snapshot()),
                        api.WatchPeerStatusResponse(synced=api.Synced(cursor=CURSOR))][:count]
            ended.wait()

        ended = threading.Event()
        for count, limit in ((0, "FIRST_MESSAGE_S"), (3, "SILENCE_S")):
            with concurrent.futures.ThreadPoolExecutor() as threads, unittest.mock.patch.object(session, limit, 0.5):
                handler = grpc.unary_stream_rpc_method_handler(
                    lambda *_, count=count: messages(count), api.WatchPeerStatusRequest.FromString, api.WatchPeerStatusResponse.SerializeToString)
                server = grpc.server(threads)
                server.add_registered_method_handlers("opflex.peerstatus.v1.PeerStatusService", {"WatchPeerStatus": handler})
                port = server.add_insecure_port("127.0.0.1:0")
                server.start()
                events = self.enter(Events(Watcher(f"127.0.0.1:{port}")))
                told = events.until("silence", lambda event: isinstance(event, Disconnected))
                errors = told[-1].error, asyncio.run(asyncio.wait_for(lost(Watcher(f"127.0.0.1:{port}")), PATIENCE_S))
                self.assertEqual(set(errors), {"no message from the service for 0.5 s"})
                ended.set()
                server.stop(0).wait()
                ended.clear()

    def test_a_unix_socket(self):
        folder = pathlib.Path(self.enter(tempfile.TemporaryDirectory()))
        config = folder / "peerstatus.toml"
        config.write_text(f'[server.socket]\npath = "{folder}/socket"\n', encoding="utf-8")
        self.enter(Service(options=["--config", str(config)]))

        async def first(watcher):
            async for event in watcher:
                return event

        for address in (f"unix:{folder}/socket", f"unix://{folder}/socket"):
            self.assertIsInstance(next(iter(Watcher(address))), Snapshot)
            self.assertIsInstance(asyncio.run(asyncio.wait_for(first(Watcher(address, listener="mine")), PATIENCE_S)), Snapshot)

    def test_asyncio_can_be_closed_by_a_thread_and_after_its_end(self):
        async def run(watcher):
            async for event in watcher:
                self.assertIsInstance(event, Snapshot)
                threading.Timer(0, watcher.close).start()  # nothing happens any more that would end the wait

        with Watcher(self.service.address) as watcher:
            asyncio.run(asyncio.wait_for(run(watcher), PATIENCE_S))

    def test_asyncio_can_be_cancelled(self):
        async def run():
            async def forever():
                async for _ in Watcher(self.proxy.address):
                    attached.set()

            attached = asyncio.Event()
            task = asyncio.create_task(forever())
            await attached.wait()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task

        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))

    def test_the_readme_keeps_its_word(self):
        self.start_peer()
        text = (ROOT / "clients" / "python" / "README.md").read_text(encoding="utf-8").replace("```", "")
        test = doctest.DocTestParser().get_doctest(text.replace("127.0.0.1:50051", self.service.address), {}, "README.md", "README.md", 0)
        self.assertGreater(len(test.examples), 4)
        output = []
        self.assertEqual(doctest.DocTestRunner().run(test, out=output.append).failed, 0, "".join(output))


if __name__ == "__main__":
    unittest.main()
