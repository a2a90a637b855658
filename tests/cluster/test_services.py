"""What the Services publish: gRPC as they are asked to, and the admin port never beyond the cluster."""

from __future__ import annotations

import urllib.error
import urllib.request

import kubectl
from case import ADMIN, GRPC, TestCase, Watcher, join
from cluster import until
from settings import FAMILIES, NODE_ADDRESS


def is_http(address: str) -> bool:
    """Whether the admin port answers there."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


class Services(TestCase):
    def test_a_node_port_is_for_grpc_and_none_is_for_the_admin_port(self) -> None:
        leaf = self.leaf()
        for kind in ("NodePort", "LoadBalancer"):
            with self.subTest(kind):
                # helm would wait for a load balancer, which this cluster has none of.
                self.install({"service": {"type": kind}}, leaf, wait=False)
                ports = [(port["port"], port["nodePort"]) for service in self.namespace.get("services")["items"]
                         for port in service["spec"]["ports"] if port.get("nodePort")]
                [(port, node_port)] = ports
                self.assertEqual(port, GRPC)
                with Watcher(f"{NODE_ADDRESS}:{node_port}"):
                    pass
                self.assertFalse(is_http(f"{NODE_ADDRESS}:{node_port}"))
                self.assertFalse(is_http(f"{NODE_ADDRESS}:{ADMIN}"))
                until("metrics at the Service of the admin port", lambda: is_http(self.address(ADMIN, "-admin")))

    def test_the_default_services_have_the_family_of_the_cluster(self) -> None:
        self.install({}, self.leaf())
        for service in self.namespace.get("services")["items"]:
            self.assertEqual(service["spec"]["ipFamilies"], [{"ipv4": "IPv4", "ipv6": "IPv6"}[FAMILIES[0]]])
        with Watcher(self.address()):
            pass

    def test_both_families_reach_it_on_a_cluster_with_both(self) -> None:
        self.install({"service": {"ipFamilyPolicy": "RequireDualStack"}}, self.leaf(1, family="ipv4"), self.leaf(2, family="ipv6"))
        until("two ready peers", lambda: list(self.peers().values()) == ["READY", "READY"])
        grpc, admin = (self.namespace.get("service", kubectl.NAME + suffix)["spec"]["clusterIPs"] for suffix in ("", "-admin"))
        self.assertEqual([":" in address for address in grpc], [False, True])
        for address, other in zip(grpc, admin, strict=True):
            with Watcher(join(address, GRPC)):
                pass
            until("metrics", lambda host=other: is_http(join(host, ADMIN)))
