"""A cluster of one node in a sandbox: its network, its programs in the order in which they start, and its images."""

from __future__ import annotations

import functools
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubectl
import programs
import settings
from nameserver import Nameserver
from sandbox import FOLDER, run
from settings import FAMILIES, KUBECONFIG, NODE, NODE_ADDRESS

PATIENCE_S = 120
LEAVES = range(1, 5)


def until(what: str, probe: Callable[[], Any], timeout: float = PATIENCE_S, pause: float = 0.1) -> Any:
    """Asks until the answer is truthy, and returns that."""
    deadline = time.monotonic() + timeout
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(pause)
    return answer


def answers(url: str) -> bool:
    """Whether there is a good answer."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {settings.ADMIN_TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=5, context=ssl._create_unverified_context()):
            return True
    except (urllib.error.URLError, OSError):
        return False


class Cluster:
    """The programs. The sandbox ends them."""

    def __init__(self) -> None:
        self.environment = {
            **programs.environment(), "KUBECONFIG": str(KUBECONFIG), "HOME": str(FOLDER), "TMPDIR": str(FOLDER / "tmp"),
            "XDG_CACHE_HOME": str(FOLDER / "cache"),
        }
        self.logs = programs.LOGS / FAMILIES[0]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *options: str) -> None:
        """Starts a program, with its log in a file."""
        with open(self.logs / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen([name, *options], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self, what: str, probe: Callable[[], Any]) -> None:
        """Waits, unless a program has ended meanwhile."""
        def alive_and_ready() -> Any:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    log = (self.logs / f"{name}.log").read_text(errors="replace")
                    raise AssertionError(f"{name} ended with {process.returncode}: {log[-3000:]}")
            return probe()
        until(f"{what}; see {self.logs}", alive_and_ready)

    def bring_up(self) -> None:
        """Starts everything, and waits until pods can run."""
        started = time.monotonic()
        self.logs.mkdir(parents=True, exist_ok=True)
        settings.write(os.environ["CLUSTER_CGROUP"])
        make_network()
        self.names = Nameserver()
        self.start("containerd", "--config", str(FOLDER / "containerd.toml"))
        self.start("etcd", "--data-dir", str(FOLDER / "etcd"), "--unsafe-no-fsync")
        self.wait("etcd", lambda: answers("http://127.0.0.1:2379/health"))
        self.start_control_plane()
        self.wait("containerd", lambda: self.ctr("version").returncode == 0)
        self.load_images()
        self.start(
            "kubelet", f"--config={FOLDER}/kubelet.json", f"--kubeconfig={KUBECONFIG}", f"--root-dir={FOLDER}/kubelet",
            f"--hostname-override={NODE}", f"--node-ip={settings.listed(settings.NODE_ADDRESSES)}",
        )
        self.start("kube-proxy", f"--config={FOLDER}/proxy.json")
        self.wait("a ready node", lambda: "True" in kubectl.kubectl(
            "get", "node", NODE, "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}", check=False).stdout)
        ranges = [f"--service-cluster-ip-range={settings.SERVICE_RANGES[family]}" for family in FAMILIES]
        families = [f"--enable-{family}={str(family in FAMILIES).lower()}" for family in settings.NODE_ADDRESSES]
        only = ["--run-firewall=true", "--run-router=false", "--run-service-proxy=false"]
        self.start("kube-router", f"--kubeconfig={KUBECONFIG}", f"--hostname-override={NODE}", *only, *ranges, *families)
        print(f"a cluster with {' and '.join(FAMILIES)} after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    def start_control_plane(self) -> None:
        """Starts the API server, and what runs on it."""
        run("openssl", "genrsa", "-out", str(FOLDER / "accounts.key"), "2048")
        self.start(
            "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--service-cluster-ip-range={settings.listed(settings.SERVICE_RANGES)}",
            f"--bind-address={'0.0.0.0' if FAMILIES[0] == 'ipv4' else '::'}", f"--advertise-address={NODE_ADDRESS}", f"--cert-dir={FOLDER}/certificates",
            f"--service-account-key-file={FOLDER}/accounts.key", f"--service-account-signing-key-file={FOLDER}/accounts.key",
            f"--service-account-issuer={settings.ISSUER}", f"--token-auth-file={FOLDER}/tokens.csv", "--authorization-mode=Node,RBAC",
            "--kubelet-preferred-address-types=InternalIP",
        )
        self.wait("the API server", lambda: answers(f"{settings.API}/readyz"))
        self.start(
            "kube-controller-manager", f"--kubeconfig={KUBECONFIG}", f"--service-account-private-key-file={FOLDER}/accounts.key",
            f"--root-ca-file={FOLDER}/certificates/apiserver.crt", "--leader-elect=false", "--allocate-node-cidrs=false",
        )
        self.start("kube-scheduler", f"--kubeconfig={KUBECONFIG}", "--leader-elect=false")

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs containerd's client."""
        command = ["ctr", "--address", settings.CONTAINERD, "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def load_images(self) -> None:
        """Loads the image of the service, and that of the first process of each pod."""
        pause = FOLDER / "pause"
        (pause / "root").mkdir(parents=True)
        (pause / "root" / "pause").write_bytes((programs.BUILT / "pause").read_bytes())
        (pause / "root" / "pause").chmod(0o755)
        dockerfile = Path(__file__).resolve().parent / "kubernetes" / "pause" / "Dockerfile"
        service = programs.ROOT / "image" / "Dockerfile"
        for name, folder, file in ((settings.PAUSE, pause, dockerfile), (kubectl.IMAGE, programs.IMAGE_ROOT.parent, service)):
            archive = FOLDER / "image.tar"
            run(sys.executable, str(programs.ROOT / "image" / "archive.py"), "--file", str(file), "--tag", name, "--output", str(archive), str(folder))
            done = self.ctr("images", "import", str(archive))
            assert done.returncode == 0, f"{name}: {done.stderr}"
            archive.unlink()


def make_network() -> None:
    """The node's address and those of the OpFlex peers, on an interface that leads nowhere else."""
    run("ip", "link", "set", "lo", "up")
    # Both ends are here. Not every kernel has dummy interfaces.
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0-end")
    for path in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        Path("/proc/sys", path).write_text("1")
    for interface in ("eth0", "eth0-end"):
        run("ip", "link", "set", interface, "up")
    for family in FAMILIES:
        for address in (settings.NODE_ADDRESSES[family], *(settings.leaf_address(number, family) for number in LEAVES)):
            flags = ["nodad"] if family == "ipv6" else []
            run("ip", "address", "add", f"{address}/{settings.NODE_PREFIXES[family]}", "dev", "eth0", *flags)
        run("ip", "-6" if family == "ipv6" else "-4", "route", "add", "default", "dev", "eth0")


@functools.cache
def cluster() -> Cluster:
    """The cluster of this process."""
    made = Cluster()
    made.bring_up()
    return made
