"""Beside an agent: its pod's log is read from the node's folder, through what the kubelet does to it, and nothing connects to a leaf."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import kubectl
from case import GRPC, TestCase, join
from cluster import until
from kubectl import Namespace
from leaves import Leaf
from programs import IMAGE_ROOT

# As the chart's default for the log has them.
NAMESPACE, AGENT, CONTAINER = "aci-containers-system", "aci-containers-host", "opflex-agent"
PRIVILEGED = "pod-security.kubernetes.io/enforce=privileged"
PODS = Path("/var/log/pods")
LISTEN = f"127.0.0.1:{GRPC}"
# What docs/observe.md promises, and a program's time to print it.
NOTICED_S = 1.5
ROTATIONS = 2


def daemonset(leaf: str) -> dict[str, Any]:
    """The stand-in for an agent on each node."""
    container = {
        "name": CONTAINER, "image": kubectl.IMAGE, "imagePullPolicy": "Never",
        "args": ["simulate", "--agent-log=-", f"--agent-peers={leaf}"],
    }
    labels = {"name": AGENT}
    pod = {"hostNetwork": True, "terminationGracePeriodSeconds": 5, "containers": [container]}
    return {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": AGENT},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def agents() -> list[int]:
    """The agent's processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"--agent-log=-" in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def logs(pattern: str) -> set[Path]:
    """Files of the agent's containers."""
    return set(PODS.glob(f"{NAMESPACE}_{AGENT}-*/{CONTAINER}/{pattern}"))


class Watch:
    """What `watch` shows of one peer after its first state: (kind, status, evidence)."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.seen: list[tuple[str, str, str]] = []
        command = [str(IMAGE_ROOT / "usr/bin/peerstatus"), f"--server={LISTEN}", "watch", "--output=json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.has_stream = threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)

    def read(self) -> None:
        for line in self.process.stdout:
            self.has_stream.set()
            change = json.loads(line).get("change", {}).get("peer")
            if change and join(change["peer"]["host"], change["peer"]["port"]) == self.peer:
                values = (change["kind"], change["peer"]["status"], change["peer"]["evidence"])
                prefixes = ("CHANGE_KIND_", "PEER_STATUS_", "EVIDENCE_")
                self.seen.append(tuple(map(str.removeprefix, values, prefixes)))

    def count(self, status: str) -> int:
        """How often the peer got that status."""
        return sum(seen[1] == status for seen in list(self.seen))

    def __enter__(self) -> Watch:
        self.thread.start()
        assert self.has_stream.wait(30), "no stream"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join(10)
        self.process.stdout.close()


class Observed(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.agent: Namespace = self.enter(kubectl.namespace(NAMESPACE))
        for namespace in (self.agent, self.namespace):
            kubectl.kubectl("label", "--overwrite", "namespace", namespace.name, PRIVILEGED)

    def observed(self, name: str) -> str:
        """The status of the peer now."""
        command = [str(IMAGE_ROOT / "usr/bin/peerstatus"), f"--server={LISTEN}", "peers", "list", "--output=json"]
        peers = map(json.loads, kubectl.command(*command, check=False).stdout.splitlines())
        known = {join(peer["host"], peer["port"]): peer["status"] for peer in peers}
        return known.get(name, "none").removeprefix("PEER_STATUS_")

    def until_status(self, leaf: Leaf, expected: str, timeout: float = 90) -> float:
        """Waits for it. How long that took."""
        begin = time.monotonic()
        until(f"{leaf.name} to be {expected}", lambda: self.observed(leaf.name) == expected, timeout, pause=0.02)
        return time.monotonic() - begin

    def test_watch_shows_the_agents_life_through_rotations_of_its_log(self) -> None:
        leaf = self.leaf()
        self.namespace.install({"mode": "daemonset", "hostNetwork": True, "server": {"listen": LISTEN}, "pools": [{"source": "agent"}]})
        [before] = self.namespace.pods()
        watch = self.enter(Watch(leaf.name))
        self.agent.kubectl("apply", "--filename=-", text=json.dumps(daemonset(leaf.name)))
        until("a session of the agent", leaf.sources)
        self.until_status(leaf, "READY")
        watch.seen.clear()
        flaps = self.lose_connections_until_the_log_was_rotated(leaf, watch)
        noticed = self.kill_the_agent(watch)
        self.until_status(leaf, "READY")
        self.assertTrue(logs("1.log"), "the kubelet has not started the container again")
        self.agent.kubectl("delete", "daemonset", AGENT, "--timeout=60s")
        self.until_status(leaf, "none")
        self.check(watch, flaps)
        self.assertEqual(len(leaf.sessions), flaps + 2, "somebody besides the agent has connected to the leaf")
        [after] = self.namespace.pods()
        self.assertEqual(after["metadata"]["uid"], before["metadata"]["uid"])
        print(f"{flaps} losses, {ROTATIONS} rotations, a killed agent noticed after {noticed:.2f} s", end=" ", flush=True)

    def lose_connections_until_the_log_was_rotated(self, leaf: Leaf, watch: Watch) -> int:
        """How many it took."""
        renamed: set[str] = set()
        flaps = 0
        while len(renamed) < ROTATIONS:
            self.assertLess(flaps, 100, "the kubelet does not rotate the log")
            leaf.disconnect()
            flaps += 1
            until(f"loss {flaps} and its end", lambda: watch.count("READY") >= flaps, 30, pause=0.02)
            # The kubelet compresses all but the newest.
            renamed |= {path.name.partition(".log.")[2].partition(".")[0] for path in logs("0.log.*")}
        return flaps

    def kill_the_agent(self, watch: Watch) -> float:
        """How long it took to be noticed."""
        [agent] = agents()
        told, begin = len(watch.seen), time.monotonic()
        os.kill(agent, signal.SIGKILL)
        until("a change", lambda: len(watch.seen) > told, 10, pause=0.01)
        noticed = time.monotonic() - begin
        self.assertNotEqual(watch.seen[told][1], "READY")
        self.assertLess(noticed, NOTICED_S)
        return noticed

    def check(self, watch: Watch, flaps: int) -> None:
        """Nothing of the agent's life is missing or doubled: each loss, the killed agent, and the last one, which stops."""
        up = ["CONNECTED", "READY"]
        life = [seen[1] for seen in watch.seen if seen[0] == "STATUS"]
        without_attempts = [status for status, _ in itertools.groupby(life)]
        self.assertEqual(without_attempts, (flaps + 1) * ["CONNECTING", *up] + ["CLOSING"])
        evidence = {seen[2] for seen in watch.seen if seen[1] == "READY"}
        self.assertEqual(evidence, {"BOTH"}, "each READY is one that the log and the sockets tell")
