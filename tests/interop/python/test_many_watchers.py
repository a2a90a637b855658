"""A hundred watchers of each client, while connections break and the service is killed: none misses a change that is in the
log, none gets one twice, and each gap is told."""

import json
import os
import sys
import unittest

from client import CONNECTING, READY, Client
from harness import PATIENCE_S, ROOT, OpflexPeer, Process, Proxy, Service, TestCase, reserved_port, until

WATCHERS = 100
COMMANDS = {
    "python": [sys.executable, str(ROOT / "tests" / "interop" / "python" / "many.py")],
    "go": [os.environ.get("MANY_GO", str(ROOT / ".tools" / "bin" / "many-go"))],
}


class Watchers:
    """What the watchers of a process told, checked as it comes."""

    def __init__(self, process):
        self.process = process
        self.position, self.changes, self.gaps, self.is_gap = {}, {}, {}, set()

    def read(self, is_done):
        """Reads on until all are where they should be."""
        while not (len(self.position) == WATCHERS and all(map(is_done, range(WATCHERS)))):
            [*_, line] = self.process.until_line("a line", lambda _: True)
            self.check(**json.loads(line))

    def check(self, watcher, kind, epoch, revision, previous):
        if kind == "gap":
            self.gaps[watcher] = self.gaps.get(watcher, 0) + 1
            self.is_gap.add(watcher)
        elif kind == "snapshot":
            assert watcher not in self.position or watcher in self.is_gap, f"{watcher} got a snapshot, but was told of no gap"
            self.is_gap.discard(watcher)
            self.position[watcher] = (epoch, revision)
        elif kind == "change":
            assert self.position.get(watcher) == (epoch, previous), f"{watcher} is at {self.position.get(watcher)}, and got {epoch}.{previous}"
            self.position[watcher] = (epoch, revision)
            self.changes[watcher] = self.changes.get(watcher, 0) + 1


class ManyWatchers(TestCase):
    def test_python(self):
        self.all_come_back("python")

    def test_go(self):
        self.all_come_back("go")

    def start_service(self):
        service = self.enter(Service(f"127.0.0.1:{self.port}"))
        self.client = self.enter(Client(service.address))
        return service

    def flap(self, times):
        for _ in range(times):
            peer = OpflexPeer(self.port)
            self.client.wait_for_status(self.port, READY)
            peer.kill()
            self.client.wait_for_status(self.port, CONNECTING)

    def newest(self):
        cursor = self.client.create().cursor
        return cursor.epoch, cursor.revision

    def all_come_back(self, language):
        self.port = self.enter(reserved_port())
        service = self.start_service()
        proxy = self.enter(Proxy(service.address))
        process = self.enter(Process(f"the watchers in {language}", [*COMMANDS[language], proxy.address, str(WATCHERS)]))
        watchers = Watchers(process)
        watchers.read(lambda watcher: True)
        for round in range(1, 4):
            # Away, while the changes are in the log.
            self.flap(1)
            proxy.cut()
            self.flap(2)
            proxy.mend()
            newest = self.newest()
            watchers.read(lambda watcher: watchers.position[watcher] >= newest and watchers.position[watcher][0] == newest[0])
            self.assertEqual({watchers.gaps.get(watcher, 0) for watcher in range(WATCHERS)}, {round - 1}, "no gap while all is in the log")
            self.assertGreaterEqual(min(watchers.changes[watcher] for watcher in range(WATCHERS)), 6, "three times READY and lost")

            # Killed, in the middle of changes; another one takes its place.
            service.kill()
            proxy.cut()
            service = self.start_service()
            proxy.target = service.address
            proxy.mend()
            epoch, _ = self.newest()
            watchers.read(lambda watcher: watchers.position[watcher][0] == epoch)
            self.assertEqual({watchers.gaps[watcher] for watcher in range(WATCHERS)}, {round}, "each gap is told, once")
            self.client.wait_for_status(self.port, CONNECTING)
            watchers.changes.clear()
        self.assertIsNone(process.process.poll())


if __name__ == "__main__":
    unittest.main()
