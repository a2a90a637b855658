"""Values that change one thing each: what they change, and that they change it."""

import pathlib
import shutil
import tempfile
import unittest

import yaml

from chart import CHART, containers, helm, manifests, one, pods, service_container, services, workload
from test_rules import rules


def pod(*options):
    return workload(manifests(*options))["spec"]["template"]["spec"]


def name_of(case, *options):
    found = service_container(manifests(case, *options))
    return {variable["name"]: variable.get("value") for variable in found["env"]}.get("PEERSTATUS_NAME")


class Values(unittest.TestCase):
    def test_common_labels_are_everywhere_and_in_no_selector(self):
        found = manifests("full")
        own = [manifest for manifest in found if not manifest["metadata"]["name"].endswith("-more")]
        for manifest in own:
            self.assertEqual(manifest["metadata"]["labels"]["team"], "network", manifest["kind"])
        self.assertEqual(workload(found)["spec"]["template"]["metadata"]["labels"]["team"], "network")
        self.assertNotIn("team", workload(found)["spec"]["selector"]["matchLabels"])
        self.assertEqual(len(found) - len(own), 2, "extraObjects")

    def test_a_registry_of_the_parent_replaces_that_of_the_image(self):
        images = {
            "registry.example:5000/opflex/peerstatus": "mirror.example/opflex/peerstatus:0.1.0",
            "localhost/peerstatus": "mirror.example/peerstatus:0.1.0",
            "opflex/peerstatus": "mirror.example/opflex/peerstatus:0.1.0",
        }
        for repository, image in images.items():
            found = manifests("default", "--set", f"image.repository={repository},global.imageRegistry=mirror.example")
            self.assertEqual({containers(pod)[0]["image"] for pod in pods(found)}, {image})

    def test_pull_secrets_of_the_parent_are_names_or_objects(self):
        found = manifests("default", "--set", "global.imagePullSecrets[0]=a,global.imagePullSecrets[1].name=b,imagePullSecrets[0].name=c")
        for spec in pods(found):
            self.assertEqual([secret["name"] for secret in spec["imagePullSecrets"]], ["a", "b", "c"])

    def test_few_lookups_are_made_by_default(self):
        for spec in pods(manifests("default")):
            self.assertEqual(spec["dnsConfig"], {"options": [{"name": "ndots", "value": "1"}]})
        self.assertNotIn("dnsConfig", pod("default", "--set", "dnsConfig=null"))

    def test_pods_get_what_the_values_add(self):
        spec = pod("full")
        self.assertEqual((spec["dnsPolicy"], spec["dnsConfig"]["nameservers"]), ("None", ["192.0.2.53"]))
        self.assertEqual(spec["hostAliases"], [{"ip": "192.0.2.1", "hostnames": ["leaf-101"]}])
        self.assertEqual([container["name"] for container in spec["initContainers"]], ["before"])
        self.assertEqual([container["name"] for container in spec["containers"]], ["peerstatus", "beside"])
        self.assertEqual(workload(manifests("full"))["metadata"]["annotations"], {"example.com/workload": "yes"})
        self.assertEqual(workload(manifests("full"))["spec"]["revisionHistoryLimit"], 5)
        self.assertEqual(workload(manifests("full"))["spec"]["updateStrategy"], {"type": "OnDelete"})

    def test_probes_have_the_numbers_of_the_values(self):
        container = service_container(manifests("full"))
        numbers = {name: {key: value for key, value in container[name].items() if key != "httpGet"} for name in container if name.endswith("Probe")}
        self.assertEqual(numbers, {
            "startupProbe": {"periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 20},
            "readinessProbe": {"initialDelaySeconds": 1, "periodSeconds": 6, "timeoutSeconds": 3, "failureThreshold": 2},
            "livenessProbe": {"initialDelaySeconds": 1, "periodSeconds": 20, "timeoutSeconds": 6, "failureThreshold": 4},
        })

    def test_the_service_has_what_the_values_say_and_the_admin_port_only_its_own(self):
        grpc, admin = services(manifests("full"))
        expected = {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.com/internal",
            "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32"], "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"],
        }
        self.assertEqual({key: grpc["spec"][key] for key in expected}, expected)
        self.assertEqual(grpc["spec"]["ports"][0]["nodePort"], 30051)
        self.assertEqual((grpc["metadata"]["labels"]["example.com/service"], admin["metadata"]["labels"]["example.com/service"]), ("grpc", "admin"))
        self.assertEqual(admin["spec"].keys(), {"type", "ipFamilyPolicy", "ipFamilies", "selector", "ports"})

    def test_a_route_leads_to_the_service(self):
        route = one(manifests("full"), "GRPCRoute")
        grpc, _ = services(manifests("full"))
        [rule] = route["spec"]["rules"]
        self.assertEqual(rule["backendRefs"], [{"name": grpc["metadata"]["name"], "port": grpc["spec"]["ports"][0]["port"]}])
        self.assertEqual(route["spec"]["parentRefs"], [{"name": "gateway", "namespace": "gateways"}])
        self.assertEqual(route["spec"]["hostnames"], ["peerstatus.example"])

    def test_the_monitor_keeps_the_label_of_the_node(self):
        relabelings = ("--set", "serviceMonitor.relabelings[0].targetLabel=cluster,serviceMonitor.scrapeTimeout=5s")
        [endpoint] = one(manifests("aci", *relabelings), "ServiceMonitor")["spec"]["endpoints"]
        self.assertEqual([relabeling["targetLabel"] for relabeling in endpoint["relabelings"]], ["node", "cluster"])
        self.assertEqual(endpoint["scrapeTimeout"], "5s")
        [endpoint] = one(manifests("full"), "ServiceMonitor")["spec"]["endpoints"]
        self.assertEqual(endpoint["metricRelabelings"][0]["action"], "drop")

    def test_single_alerts_are_left_out_or_changed(self):
        def rendered(*options):
            groups = one(manifests(*options), "PrometheusRule")["spec"]["groups"]
            return {rule["alert"]: rule for group in groups for rule in group["rules"]}

        all_ = {rule["alert"]: rule for rule in rules()}
        self.assertEqual(rendered("aci"), all_)
        found = rendered("full", "--set", "prometheusRule.runbookBase=https://git.example/opflex-peerstatus/blob/main/")
        self.assertEqual(all_.keys() - found.keys(), {"PeerstatusAbsent"})
        changed = found.pop("OpflexPoolDegraded")
        self.assertEqual(changed, {**all_["OpflexPoolDegraded"], "for": "1h", "labels": {"severity": "info"}})
        self.assertEqual(found, {name: all_[name] for name in found})
        none = [f"prometheusRule.alerts.{rule['alert']}.enabled=false" for rule in rules() if rule["alert"].startswith("OpflexPool")]
        groups = one(manifests("aci", "--set", ",".join(none)), "PrometheusRule")["spec"]["groups"]
        self.assertEqual([group["name"] for group in groups], ["opflex-peers", "opflex-peerstatus", "opflex-fleet"])

    def test_the_network_policy_has_the_ports_of_dns(self):
        [lookups, _] = one(manifests("openshift"), "NetworkPolicy")["spec"]["egress"]
        self.assertEqual(lookups["ports"], [{"port": 5353, "protocol": "UDP"}, {"port": 5353, "protocol": "TCP"}])

    def test_the_identity_in_a_daemonset_has_the_name_of_the_node(self):
        self.assertEqual(name_of("daemonset"), "$(NODE_NAME)-peerstatus")
        self.assertEqual(name_of("daemonset", "--set-literal", "identity.name=watch-{node}"), "watch-$(NODE_NAME)")
        agent = ("--set-literal", "identity.name={node}", "--set", "identity.iKnowThisReplacesTheAgent=true")
        self.assertEqual(name_of("daemonset", *agent), "$(NODE_NAME)")
        self.assertIsNone(name_of("default"))

    def test_authorities_and_certificates_of_pools_have_folders_of_their_own(self):
        values = "pools[0].name=a,pools[0].tls.mode=verify,pools[0].tls.ca.secret=x,pools[1].name=a-ca,pools[1].tls.mode=encrypted,pools[1].tls.secret=y"
        mounts = [mount["mountPath"] for mount in service_container(manifests("default", "--set", values))["volumeMounts"]]
        self.assertEqual(len(mounts), len(set(mounts)))


class Subchart(unittest.TestCase):
    """The chart as a dependency of another one."""

    def parent(self, values):
        with tempfile.TemporaryDirectory() as folder:
            parent = pathlib.Path(folder, "parent")
            shutil.copytree(CHART, parent / "charts" / CHART.name)
            dependency = {"name": CHART.name, "version": "0.1.0", "condition": f"{CHART.name}.enabled"}
            about = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
            (parent / "Chart.yaml").write_text(yaml.safe_dump(about))
            (parent / "values.yaml").write_text(yaml.safe_dump(values))
            result = helm("template", "all", str(parent), "--namespace", "opflex", "--kube-version", "1.37.0")
        self.assertEqual(result.returncode, 0, result.stderr)
        return [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]

    def test_global_values_of_a_parent_apply(self):
        values = {"global": {"imageRegistry": "mirror.example", "imagePullSecrets": ["mirror"], "other": {"value": 1}}}
        for spec in pods(self.parent(values)):
            self.assertEqual(containers(spec)[0]["image"], "mirror.example/opflex-peerstatus:0.1.0")
            self.assertEqual(spec["imagePullSecrets"], [{"name": "mirror"}])

    def test_a_parent_enables_and_disables_it(self):
        self.assertEqual(self.parent({CHART.name: {"enabled": False}}), [])
        self.assertNotEqual(self.parent({CHART.name: {"enabled": True}}), [])

    def test_a_null_of_a_parent_removes_a_field(self):
        for spec in pods(self.parent({CHART.name: {"podSecurityContext": {"runAsUser": None}}})):
            self.assertEqual(spec["securityContext"].get("runAsUser"), None)
            self.assertNotIn("runAsUser", spec["securityContext"])


if __name__ == "__main__":
    unittest.main()
