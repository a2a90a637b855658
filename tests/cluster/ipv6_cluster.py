"""The chart on a cluster with IPv6 alone, with its default values."""

from __future__ import annotations

import kubectl
import programs
from case import TestCase, Watcher
from cluster import until


class Ipv6Only(TestCase):
    def test_the_default_values_work(self) -> None:
        leaf = self.leaf()
        self.install({}, leaf)
        until("a ready peer", lambda: self.peers() == {leaf.name: "READY"})
        self.assertIn(":", self.namespace.get("service", kubectl.NAME)["spec"]["clusterIP"])
        with Watcher(self.address()):
            pass
        for helm in programs.HELMS:
            done = self.namespace.helm_test(helm)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_daemonset_works(self) -> None:
        leaf = self.leaf()
        self.install({"mode": "daemonset"}, leaf)
        with Watcher(self.address()):
            pass

    def test_names_of_peers_resolve(self) -> None:
        leaf = self.leaf()
        self.cluster.names.known["leaf-1.fabric.example"] = [leaf.host]
        self.install({"pools": [{"peers": ["leaf-1.fabric.example:8009"]}]})
        until("a session", leaf.sources)
