"""Addresses of a cluster, and the configuration of its programs."""

from __future__ import annotations

import json
import os
from typing import Any

from programs import CNI
from sandbox import FOLDER

NODE = "node-1"
DOMAIN = "cluster.local"
ISSUER = f"https://kubernetes.default.svc.{DOMAIN}"
ADMIN_TOKEN = "admin"
API = "https://127.0.0.1:6443"
CONTAINERD = "/run/containerd/containerd.sock"
KUBECONFIG = FOLDER / "kubeconfig"
PAUSE = "docker.io/library/pause:cluster"
FAMILIES = os.environ.get("CLUSTER_FAMILIES", "ipv4").split(",")

NODE_ADDRESSES = {"ipv4": "10.77.0.1", "ipv6": "fd77::1"}
NODE_PREFIXES = {"ipv4": 24, "ipv6": 64}
POD_RANGES = {"ipv4": "10.244.0.0/24", "ipv6": "fd44::/64"}
SERVICE_RANGES = {"ipv4": "10.96.0.0/24", "ipv6": "fd96::/112"}
ANY = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}
# The family that the cluster prefers.
FAMILY = FAMILIES[0]
NODE_ADDRESS = NODE_ADDRESSES[FAMILY]


def leaf_address(number: int, family: str = FAMILY) -> str:
    """The address of an OpFlex peer, on the network of the node."""
    return {"ipv4": f"10.77.0.{10 + number}", "ipv6": f"fd77::{10 + number}"}[family]


def listed(values: dict[str, str]) -> str:
    """The values for the families of the cluster, with commas."""
    return ",".join(values[family] for family in FAMILIES)


def kubeconfig() -> dict[str, Any]:
    """The credentials of a cluster administrator, for everybody."""
    cluster = {"server": API, "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": ADMIN_TOKEN}}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "admin"}}],
    }


def kubelet(cgroup: str) -> dict[str, Any]:
    """A node without swap limits or reserved resources, whose API trusts everybody in the network of the cluster."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{cgroup}", "failCgroupV1": False, "failSwapOn": False,
        # Needs a capability that not every root has.
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": [], "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "localStorageCapacityIsolation": False,
        "clusterDNS": [NODE_ADDRESSES[family] for family in FAMILIES], "clusterDomain": DOMAIN, "resolvConf": str(FOLDER / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        # A few losses of a connection, as an agent logs them, so that its log is rotated during a test.
        "containerLogMaxSize": "4Ki", "containerLogMonitorInterval": "3s",
        # How soon changed ConfigMaps and Secrets are in the pods. The default is a minute.
        "syncFrequency": "5s",
    }


def kube_proxy() -> dict[str, Any]:
    """iptables, and no sysctls."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "iptables", "clusterCIDR": listed(POD_RANGES), "hostnameOverride": NODE, "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": str(KUBECONFIG)},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def cni() -> dict[str, Any]:
    """Pods on a bridge."""
    ranges = [[{"subnet": POD_RANGES[family]}] for family in FAMILIES]
    routes = [{"dst": ANY[family]} for family in FAMILIES]
    bridge = {
        "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]}


def containerd() -> str:
    """runc, with cgroups by files, and snapshots by overlayfs."""
    return f"""version = 2
root = "{FOLDER}/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{FOLDER}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def write(cgroup: str) -> None:
    """Writes all files."""
    (FOLDER / "cni").mkdir()
    (FOLDER / "tmp").mkdir()
    for name, value in {"kubeconfig": kubeconfig(), "kubelet.json": kubelet(cgroup), "proxy.json": kube_proxy(), "cni/pods.conflist": cni()}.items():
        (FOLDER / name).write_text(json.dumps(value))
    (FOLDER / "containerd.toml").write_text(containerd())
    (FOLDER / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
    (FOLDER / "resolv.conf").write_text(f"nameserver {NODE_ADDRESS}\n")
