"""What the network policy of the chart admits on a cluster that enforces it."""

from __future__ import annotations

import json
import time

import kubectl
from case import TestCase
from cluster import until
from settings import leaf_address

RESTRICTED = {"runAsNonRoot": True, "runAsUser": 65532, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
              "seccompProfile": {"type": "RuntimeDefault"}}

SEVERAL_ATTEMPTS_S = 3


class NetworkPolicy(TestCase):
    def run_pod(self, namespace: kubectl.Namespace, *words: str) -> str:
        """Runs a command of the image in a pod, and returns how that ended."""
        container = {"name": "client", "image": kubectl.IMAGE, "args": list(words), "securityContext": RESTRICTED}
        spec = {"containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": spec}
        namespace.kubectl("apply", "--filename=-", text=json.dumps(pod))

        def end() -> str | None:
            phase = namespace.get("pod", "client")["status"]["phase"]
            return phase if phase in ("Succeeded", "Failed") else None
        phase = until("the end of the client", end)
        namespace.kubectl("delete", "pod", "client")
        return phase

    def test_pods_of_the_namespace_reach_it_and_others_do_not(self) -> None:
        self.install({}, self.leaf())
        other = self.enter(kubectl.namespace(f"{self.namespace.name}-other"))
        wait = [f"--server={self.address()}", "pool", "wait", "--for=degraded"]
        # Policies take effect a moment later than the pods that they are for.
        until("a pod that is blocked", lambda: self.run_pod(other, *wait, "--timeout=5s") == "Failed")
        self.assertEqual(self.run_pod(self.namespace, *wait, "--timeout=30s"), "Succeeded")
        self.assertEqual(self.run_pod(other, *wait, "--timeout=5s"), "Failed")

    def test_it_reaches_its_peers_and_no_others(self) -> None:
        within, outside = self.leaf(1), self.leaf(2)
        family, length = ("ipv6", 128) if ":" in within.host else ("ipv4", 32)
        policy = {"peerCIDRs": [f"{leaf_address(1, family)}/{length}"]}
        self.namespace.install({"networkPolicy": policy, "pools": [{"peers": [within.name, outside.name]}]})
        until("a session with the peer that is admitted", within.sources)

        def is_refused() -> bool:
            # A connection that was there before the policy took effect stays.
            outside.disconnect()
            return self.peers()[outside.name] == "CONNECTING" and not outside.sources()
        until("a failure with the other", is_refused, pause=1)
        known = len(outside.sessions)
        time.sleep(SEVERAL_ATTEMPTS_S)
        self.assertEqual(len(outside.sessions), known)
        self.assertTrue(within.sources())
