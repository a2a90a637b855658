"""A pool has one owner: never are two pods connected to one OpFlex peer, and a drain gets the pod out of the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import kubectl
from case import TestCase, stopped_watch
from cluster import until
from settings import NODE


class OneOwner(TestCase):
    def replaced(self, what: str, replace: Callable[[], Any]) -> None:
        """Replaces the pod, with a client that keeps it draining as long as it may."""
        leaf = self.leaf()
        self.install({}, leaf)
        [before] = leaf.sources()
        with stopped_watch(self.address()):
            started = time.monotonic()
            replace()
            until(f"a session of another pod after {what}", lambda: leaf.sources() - {before})
            print(f"{time.monotonic() - started:.1f} s without the pool's owner", end=" ", flush=True)
            self.namespace.kubectl("rollout", "status", f"statefulset/{kubectl.NAME}", "--timeout=60s")
            until("the end of the old sessions", lambda: before not in leaf.sources())
        self.assertEqual(leaf.overlaps(), [])
        self.assertEqual(len(self.namespace.pods()), 1)

    def test_a_deleted_pod_is_gone_before_the_next_one_connects(self) -> None:
        self.replaced("kubectl delete pod", lambda: self.namespace.kubectl("delete", "pod", kubectl.POD, "--wait=false"))

    def test_an_evicted_pod_is_gone_before_the_next_one_connects(self) -> None:
        self.replaced("an eviction", self.evict)

    def test_a_replaced_pod_is_gone_before_the_next_one_connects(self) -> None:
        def roll_out() -> None:
            [leaf_name] = self.peers()
            self.namespace.install({"pools": [{"peers": [leaf_name]}], "podAnnotations": {"changed": "yes"}})
        self.replaced("helm upgrade", roll_out)

    def evict(self) -> None:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": kubectl.POD, "namespace": self.namespace.name}}
        path = f"/api/v1/namespaces/{self.namespace.name}/pods/{kubectl.POD}/eviction"
        kubectl.kubectl("create", "--raw", path, "--filename=-", text=json.dumps(eviction))


class BrokenUpgrade(TestCase):
    def test_a_pod_that_never_gets_ready_is_replaced_by_the_next_upgrade(self) -> None:
        leaf = self.leaf()
        self.install({}, leaf)
        upgrade = ["upgrade", kubectl.RELEASE, str(kubectl.CHART), "--reuse-values", "--set=image.tag=none", "--wait", "--timeout=8s"]
        self.assertNotEqual(self.namespace.helm(*upgrade, check=False).returncode, 0)
        self.install({}, leaf)
        self.assertEqual(leaf.overlaps(), [])


class Drain(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(kubectl.kubectl, "uncordon", NODE)

    def drain(self, *options: str) -> kubectl.Done:
        """Drains the node: of its pods, those of this test."""
        return kubectl.kubectl("drain", NODE, "--pod-selector=app.kubernetes.io/name=opflex-peerstatus", "--timeout=20s", *options, check=False)

    def test_a_drain_needs_the_flag_for_the_socket_and_no_other(self) -> None:
        leaf = self.leaf()
        self.install({}, leaf)
        refused = self.drain("--ignore-daemonsets")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("--delete-emptydir-data", refused.stderr)
        done = self.drain("--ignore-daemonsets", "--delete-emptydir-data")
        self.assertEqual(done.returncode, 0, done.stderr)
        until("the end of the session", lambda: not leaf.sources())
        kubectl.kubectl("uncordon", NODE)
        until("a session after the drain", leaf.sources)
        self.assertEqual(leaf.overlaps(), [])

    def test_without_a_socket_a_drain_needs_no_flag(self) -> None:
        self.install({"server": {"socket": {"path": ""}}})
        done = self.drain()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_with_a_disruption_budget_a_drain_waits_for_the_deletion_of_the_pod(self) -> None:
        self.install({"podDisruptionBudget": {"enabled": True}})
        [before] = self.namespace.pods()
        done = self.drain("--delete-emptydir-data")
        self.assertIn("disruption budget", done.stderr)
        self.assertEqual([pod["metadata"]["uid"] for pod in self.namespace.pods()], [before["metadata"]["uid"]])
        self.namespace.kubectl("delete", "pod", kubectl.POD)
        done = self.drain("--delete-emptydir-data")
        self.assertEqual(done.returncode, 0, done.stderr)
