"""kubectl and helm, and a release of the chart in a namespace of its own."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import programs
from sandbox import FOLDER
from settings import KUBECONFIG

CHART = programs.CHART
# What the chart takes if nothing else is said.
IMAGE = "opflex-peerstatus:" + re.search(r'^appVersion: "(.*)"', (CHART / "Chart.yaml").read_text(), re.MULTILINE)[1]
RELEASE = "peers"
NAME = f"{RELEASE}-opflex-peerstatus"
POD = f"{NAME}-0"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
LONGEST_S = 240

Done = subprocess.CompletedProcess[str]


def command(*words: str, check: bool = True, text: str | None = None) -> Done:
    """Runs a program as an administrator of the cluster."""
    environment = {**programs.environment(), "KUBECONFIG": str(KUBECONFIG), "HOME": str(FOLDER), "XDG_CACHE_HOME": str(FOLDER / "cache")}
    done = subprocess.run(words, env=environment, input=text, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done


def kubectl(*words: str, **more: Any) -> Done:
    """Runs kubectl."""
    return command("kubectl", *words, **more)


class Namespace:
    """A namespace for pods of the standard `restricted`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *words: str, **more: Any) -> Done:
        """Runs kubectl for this namespace."""
        return kubectl("--namespace", self.name, *words, **more)

    def get(self, *words: str) -> Any:
        """What `kubectl get` returns."""
        return json.loads(self.kubectl("get", "--output=json", *words).stdout)

    def pods(self) -> list[dict[str, Any]]:
        """The pods of the service."""
        return self.get("pods", "--selector=app.kubernetes.io/component=service")["items"]

    def create_secret(self, kind: str, name: str, *options: str) -> None:
        """Creates a secret, or replaces its content."""
        made = self.kubectl("create", "secret", kind, name, *options, "--dry-run=client", "--output=yaml").stdout
        self.kubectl("apply", "--filename=-", text=made)

    def peerstatus(self, *words: str, **more: Any) -> Done:
        """Runs a command in the service's pod."""
        return self.kubectl("exec", POD, "--", "peerstatus", *words, **more)

    def helm(self, *words: str, helm: str = "helm 3", **more: Any) -> Done:
        """Runs helm for this namespace."""
        return command(str(programs.HELMS[helm]), "--namespace", self.name, *words, **more)

    def install(self, values: dict[str, Any], wait: bool = True, chart: Path = CHART) -> Done:
        """Installs or upgrades the release, and usually waits until its pod is ready."""
        file = FOLDER / f"{self.name}.json"
        file.write_text(json.dumps(values))
        options = ["--wait", "--timeout=90s"] if wait else []
        return self.helm("upgrade", "--install", RELEASE, str(chart), "--values", str(file), *options)

    def helm_test(self, helm: str) -> Done:
        """Runs the tests of the release."""
        return self.helm("test", RELEASE, "--logs", "--timeout=90s", helm=helm, check=False)


@contextlib.contextmanager
def namespace(name: str) -> Iterator[Namespace]:
    """A new namespace, which goes with all that is in it. Its pods are gone at the end; the rest goes later."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
    kubectl("apply", "--filename=-", text=json.dumps(manifest))
    try:
        yield Namespace(name)
    finally:
        kubectl("--namespace", name, "delete", "statefulset,daemonset,pod", "--all", "--timeout=60s")
        kubectl("delete", "namespace", name, "--wait=false")
