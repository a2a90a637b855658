"""In a daemonset, a rollout leaves the clients of a node without a stream for a moment only."""

from __future__ import annotations

import kubectl
from case import TestCase, Watcher
from settings import NODE

# What docs/kubernetes.md promises.
LONGEST_GAP_S = 3


class DaemonSet(TestCase):
    def test_a_rollout_leaves_the_nodes_clients_without_a_stream_for_less_than_3_s(self) -> None:
        leaf = self.leaf()
        values = {"mode": "daemonset", "pools": [{"peers": [leaf.name]}]}
        self.install(values, leaf)
        [before] = self.namespace.pods()
        with Watcher(self.address()) as watcher:
            self.namespace.install({**values, "podAnnotations": {"changed": "yes"}})
            self.namespace.kubectl("rollout", "status", f"daemonset/{kubectl.NAME}", "--timeout=60s")
            self.namespace.kubectl("wait", f"pod/{before['metadata']['name']}", "--for=delete", "--timeout=60s")
            self.assertTrue(watcher.has_stream.wait(30))
        print(f"gaps: {', '.join(f'{gap:.2f} s' for gap in watcher.gaps)}", end=" ", flush=True)
        self.assertTrue(watcher.gaps, "the client has not noticed the rollout")
        self.assertLess(max(watcher.gaps), LONGEST_GAP_S)
        self.assertEqual(len(self.namespace.pods()), 1)

    def test_pods_do_not_take_the_name_of_the_nodes_agent(self) -> None:
        leaf = self.leaf()
        self.install({"mode": "daemonset"}, leaf)
        self.assertEqual(set(leaf.last_ids), {f"{NODE}-peerstatus"})
