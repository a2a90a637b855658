"""The chart: what it makes of its values is what it made before, and what Kubernetes takes."""

import difflib
import functools
import json
import pathlib
import re
import shlex
import tempfile
import tomllib
import unittest

import kubernetes_validate
import yaml

from chart import (
    CASES, CHART, HERE, NEWEST, ROOT, config, containers, fleet, helm, manifests, nodes, notes_of, one, pods, rendered, service_container, services,
    template, test_pods as hooks, workload,
)
from reference import README, entries, names_in_values, with_table

VERSIONS = ["1.35", "1.36", NEWEST]
# Of others; snapshots have to do for these.
FOREIGN = ("monitoring.coreos.com/", "cert-manager.io/", "gateway.networking.k8s.io/")


class Manifests(unittest.TestCase):
    def test_lint_is_content(self):
        for case in CASES:
            with self.subTest(case):
                values = str(HERE / "values" / f"{case}.yaml")
                result = helm("lint", "--strict", "--quiet", "--kube-version", f"{NEWEST}.0", "--values", values, str(CHART))
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_they_are_the_snapshots(self):
        self.assertEqual(CASES, sorted(path.stem for path in (HERE / "snapshots").glob("*.yaml")), "make helm-snapshots")
        for case in CASES:
            with self.subTest(case):
                before = (HERE / "snapshots" / f"{case}.yaml").read_text(encoding="utf-8")
                now = rendered(case)
                changes = difflib.unified_diff(before.splitlines(), now.splitlines(), "snapshot", "now", lineterm="", n=2)
                self.assertEqual(now, before, "if that is meant: make helm-snapshots\n" + "\n".join(changes))

    def test_kubernetes_takes_them(self):
        self.assertEqual(VERSIONS, known_versions()[-len(VERSIONS):])
        for case in CASES:
            for version in VERSIONS:
                for manifest in manifests(case, version=version):
                    if manifest["apiVersion"].startswith(FOREIGN):
                        continue
                    with self.subTest(case=case, version=version, kind=manifest["kind"]):
                        kubernetes_validate.validate(manifest, version, strict=True)

    def test_an_older_kubernetes_is_refused(self):
        self.assertIn("kubeVersion", template("default", version="1.29").stderr)

    def test_no_line_ends_in_blanks_and_no_key_is_there_twice(self):
        for case in CASES:
            with self.subTest(case):
                text = rendered(case)
                own = [line for line in text.splitlines() if line.strip()]
                self.assertEqual([line for line in own if line != line.rstrip()], [])
                list(yaml.load_all(text, Loader=Strict))


class Strict(yaml.SafeLoader):
    """Finds keys that are there twice, which YAML's readers mostly let pass."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise AssertionError(f"a key is there twice: {keys}{node.start_mark}")
        return super().construct_mapping(node, deep=deep)


def known_versions():
    return sorted({".".join(v.split(".")[:2]) for v in kubernetes_validate.utils.all_versions()}, key=lambda v: int(v.split(".")[1]))


def of_each_case(check):
    """A test of the manifests, made one of those of each case, and of those of the service of a fleet."""

    @functools.wraps(check)
    def checks(self):
        for case in CASES:
            found = manifests(case)
            for side in filter(None, (nodes(found), fleet(found))):
                with self.subTest(case, kind=workload(side)["kind"]):
                    check(self, side)

    return checks


class Promises(unittest.TestCase):
    """What holds whatever the values are."""

    @of_each_case
    def test_pods_are_as_the_restricted_standard_wants_them(self, found):
        for pod in pods(found):
            self.assertIs(pod["automountServiceAccountToken"], False)
            security = pod["securityContext"]
            self.assertTrue(security["runAsNonRoot"])
            self.assertNotEqual(security.get("runAsUser"), 0)
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
            for container in containers(pod):
                expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
                self.assertLessEqual(expected.items(), container["securityContext"].items())
            kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
            allowed = {"configMap", "secret", "emptyDir", "projected"}
            # An agent is observed by its log on the node, which takes the level privileged, as its network does.
            if any(volume["name"] == "agent-log" for volume in pod.get("volumes", [])):
                self.assertTrue(pod["hostNetwork"])
                [mount] = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "agent-log"]
                self.assertEqual((mount["mountPath"], mount["readOnly"]), ("/var/log/pods", True))
                allowed = allowed | {"hostPath"}
            self.assertLessEqual(kinds, allowed)

    def test_the_user_is_that_of_the_image_unless_it_is_removed(self):
        ids = ("runAsUser", "runAsGroup", "fsGroup")
        for case, expected in (("default", [65532] * 3), ("openshift", [None] * 3), ("full", [1000] * 3)):
            for pod in pods(manifests(case)):
                with self.subTest(case=case):
                    self.assertEqual([pod["securityContext"].get(key) for key in ids], expected)
        for pod in pods(manifests("default", "--set", "securityContext.readOnlyRootFilesystem=null")):
            self.assertNotIn("readOnlyRootFilesystem", pod["containers"][0]["securityContext"])

    @of_each_case
    def test_a_pool_has_one_owner(self, found):
        self.assertEqual([m for m in found if m["kind"] == "HorizontalPodAutoscaler"], [])
        spec = workload(found)["spec"]
        if workload(found)["kind"] == "StatefulSet":
            self.assertEqual((spec["replicas"], spec["podManagementPolicy"]), (1, "Parallel"))
            self.assertEqual(spec["serviceName"], services(found)[0]["metadata"]["name"])

    def test_a_node_has_two_pods_during_a_rollout_only_where_both_can_have_the_ports(self):
        for case, rolling in {"daemonset": {"maxSurge": 1, "maxUnavailable": 0}, "aci": {"maxSurge": 0, "maxUnavailable": 1}}.items():
            self.assertEqual(workload(manifests(case))["spec"]["updateStrategy"]["rollingUpdate"], rolling)
        own = workload(manifests("aci", "--set", "updateStrategy.rollingUpdate.maxUnavailable=10%"))["spec"]["updateStrategy"]
        self.assertEqual(own, {"rollingUpdate": {"maxUnavailable": "10%"}})

    @of_each_case
    def test_probes_and_service_find_their_ports(self, found):
        container = service_container(found)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        server = tomllib.loads(config(found))["server"]
        self.assertEqual(ports, {"grpc": port_of(server["listen"]), "admin": port_of(server["admin"])})
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(container[probe]["httpGet"]["port"], "admin")
        targets = [[port["targetPort"] for port in service["spec"]["ports"]] for service in services(found)]
        self.assertEqual(targets, [["grpc"], ["admin"]])

    @of_each_case
    def test_the_admin_port_is_not_published(self, found):
        _, admin = services(found)
        self.assertEqual(admin["spec"]["type"], "ClusterIP")
        self.assertNotIn("nodePort", admin["spec"]["ports"][0])

    @of_each_case
    def test_every_object_is_in_the_namespace_of_the_release(self, found):
        self.assertEqual({manifest["metadata"].get("namespace") for manifest in found}, {"opflex"})

    @of_each_case
    def test_names_are_short_enough(self, found):
        self.assertLessEqual(max(len(manifest["metadata"]["name"]) for manifest in found), 63)
        longest = manifests("full", "--set", "fullnameOverride=" + "a" * 52)
        self.assertEqual(max(len(manifest["metadata"]["name"]) for manifest in longest), 63)
        self.assertLessEqual(len(workload(longest)["metadata"]["name"]), 52)

    def test_clients_over_ipv6_and_ipv4_reach_it_by_default(self):
        server = tomllib.loads(config(manifests("default")))["server"]
        self.assertEqual((server["listen"], server["admin"]), ("[::]:50051", "[::]:9613"))
        for service in services(manifests("default")):
            self.assertLessEqual(service["spec"].keys(), {"type", "selector", "ports"})
        for service in services(manifests("dual-stack")):
            self.assertEqual(service["spec"]["ipFamilyPolicy"], "RequireDualStack")
            self.assertEqual(service["spec"]["ipFamilies"], ["IPv6", "IPv4"])

    @of_each_case
    def test_the_admin_port_answers_to_the_names_of_the_service(self, found):
        service, admin = services(found)
        hosts = tomllib.loads(config(found))["server"]["admin_allowed_hosts"]
        for name in (admin["metadata"]["name"], service["metadata"]["name"]):
            for host in (name, f"{name}.opflex", f"{name}.opflex.svc", f"{name}.opflex.svc.cluster.local"):
                self.assertIn(host, hosts)
        headless = service["spec"].get("clusterIP") == "None"
        self.assertEqual(f"*.{name}.opflex.svc.cluster.local" in hosts, headless)

    def test_a_namespace_that_is_a_number_gives_no_name_that_the_service_refuses(self):
        hosts = tomllib.loads(config(manifests("default", "--namespace", "42")))["server"]["admin_allowed_hosts"]
        self.assertEqual([host.removeprefix("watch-opflex-peerstatus") for host in hosts], [
            "-admin", "-admin.42.svc", "-admin.42.svc.cluster.local", "", ".42.svc", ".42.svc.cluster.local",
        ])

    @of_each_case
    def test_selectors_find_the_pods_of_the_service_and_no_others(self, found):
        labels = workload(found)["spec"]["template"]["metadata"]["labels"]
        tests = [pod["metadata"]["labels"] for pod in hooks(found)]
        grpc, admin = services(found)
        selectors = [workload(found)["spec"]["selector"]["matchLabels"], grpc["spec"]["selector"], admin["spec"]["selector"]]
        selectors += [m["spec"]["podSelector"]["matchLabels"] for m in found if m["kind"] == "NetworkPolicy"]
        selectors += [m["spec"]["selector"]["matchLabels"] for m in found if m["kind"] == "PodDisruptionBudget"]
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels.items())
            for test in tests:
                self.assertFalse(selector.items() <= test.items())
        for monitor in (m for m in found if m["kind"] == "ServiceMonitor"):
            selector = monitor["spec"]["selector"]["matchLabels"].items()
            self.assertLessEqual(selector, admin["metadata"]["labels"].items())
            self.assertFalse(selector <= grpc["metadata"]["labels"].items())

    @of_each_case
    def test_the_network_policy_lets_helm_test_in(self, found):
        for policy in (m for m in found if m["kind"] == "NetworkPolicy"):
            [clients] = [rule["from"] for rule in policy["spec"]["ingress"] if {"port": "grpc"} in rule["ports"]]
            for pod in hooks(found):
                self.assertLessEqual(clients[0]["podSelector"]["matchLabels"].items(), pod["metadata"]["labels"].items())

    def test_there_is_time_to_drain(self):
        for case, seconds in {"default": 5 + 5, "full": 120 + 3 + 5, "live": 2 + 5, "daemonset": 5 + 2 + 5}.items():
            with self.subTest(case):
                pod = workload(manifests(case))["spec"]["template"]["spec"]
                self.assertEqual(pod["terminationGracePeriodSeconds"], seconds)
                wait = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                self.assertLess(wait, seconds)

    @of_each_case
    def test_helm_can_print_the_logs_of_its_test(self, found):
        for pod in hooks(found):
            self.assertEqual(len(containers(pod["spec"])), 1)
            self.assertEqual(pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"], "before-hook-creation")
        weights = [pod["metadata"]["annotations"]["helm.sh/hook-weight"] for pod in hooks(found)]
        self.assertEqual(len(set(weights)), len(weights))

    def test_helm_test_watches_and_then_waits_for_a_pool_that_is_there(self):
        def commands(*options):
            return [containers(pod["spec"])[0]["args"][:3] for pod in hooks(manifests(*options))]

        watch = ["watch", "--until-synced", "--timeout"]
        for case, set_, pool in (("default", (), "default"), ("live", (), "fabric-1"), ("live", ("--set", "test.pool=fabric-2"), "fabric-2")):
            with self.subTest(case=case, pool=pool):
                self.assertEqual(commands(case, *set_), [watch, ["pool", "wait", pool]])
        self.assertEqual(commands("bare"), [watch])

    def test_helm_test_has_the_authority_and_the_token_that_the_values_name(self):
        def volumes(*options):
            first, *others = [pod["spec"].get("volumes", []) for pod in hooks(manifests(*options))]
            for other in others:
                self.assertEqual(first, other)
            return {volume["name"]: volume for volume in first}

        own = volumes("cert-manager")["ca"]["secret"]
        self.assertEqual((own["secretName"], own["optional"]), ("watch-opflex-peerstatus-tls", True))
        self.assertEqual([item["key"] for item in own["items"]], ["ca.crt", "tls.crt"])
        other = volumes("full")
        self.assertEqual(other["ca"]["configMap"], {"name": "cluster-ca", "items": [{"key": "root.pem", "path": "ca.crt"}]})
        [source] = other["token"]["projected"]["sources"]
        self.assertEqual(source["serviceAccountToken"]["audience"], "opflex-peerstatus")
        self.assertEqual(volumes("aci-remote")["token"]["secret"]["secretName"], "peerstatus-test")
        self.assertEqual(volumes("default"), {})

    @of_each_case
    def test_every_file_of_the_configuration_is_mounted(self, found):
        container = service_container(found)
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        named = re.findall(r'"(/(?:etc|run)/peerstatus/[^"]+)"', config(found))
        for path in named + container["args"][2:]:
            self.assertTrue({path, str(pathlib.PurePath(path).parent)} & mounted, path)

    def test_a_new_configuration_replaces_the_pod_unless_it_is_live(self):
        def annotations(case):
            metadata = [workload(manifests(case, *set_))["spec"]["template"]["metadata"] for set_ in ((), ("--set", "history.changes=99"))]
            return [m["annotations"] for m in metadata]

        before, after = annotations("default")
        self.assertNotEqual(before["checksum/config"], after["checksum/config"])
        before, after = annotations("live")
        self.assertEqual(before, after)

    def test_nothing_is_open_to_the_network_by_mistake(self):
        for case, access in {
            "default": {"anonymous": "viewer"}, "aci": {"local": "viewer"}, "node-alone": {"local": "viewer"},
            "aci-remote": {"tokens": "/etc/peerstatus/tokens/tokens.txt"}, "cert-manager": {},
        }.items():
            with self.subTest(case):
                auth = tomllib.loads(config(manifests(case)))["server"].get("auth", {})
                auth.pop("grant", None)
                self.assertEqual(auth, access)


def port_of(address):
    return int(address.rpartition(":")[2])


class Documentation(unittest.TestCase):
    def test_the_schema_knows_every_value_and_values_yaml_has_every_key(self):
        missing = {place for place, _, _ in entries() if place.rpartition(".")[2].removesuffix("[]") not in names_in_values()}
        self.assertEqual(missing, set())
        undocumented = [place for place, schema, _ in entries() if not schema.get("description") and "enum" not in schema]
        self.assertEqual(undocumented, [])

    def test_the_readme_has_the_table(self):
        text = README.read_text(encoding="utf-8")
        self.assertEqual(text, with_table(text), "make helm-snapshots")

    def test_the_fullest_values_name_everything(self):
        full = json.dumps(yaml.safe_load((HERE / "values" / "full.yaml").read_text(encoding="utf-8")))
        names = {place.rpartition(".")[2].removesuffix("[]") for place, _, _ in entries()}
        left = {name for name in names if f'"{name}"' not in full}
        # What goes with another choice; other values have these.
        self.assertEqual(left, {"hostNetwork", "dnsNames", "duration", "renewBefore", "source", "peer_port", "level_hint"})

    def test_the_commands_and_values_of_the_documentation_work(self):
        text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```yaml\n(# values .*?)^```", text, re.DOTALL | re.MULTILINE)
        fleet_, aci, remote, *others = blocks
        for values in ([aci], [aci, remote], *([block] for block in (fleet_, *others))):
            with self.subTest(values[-1]), tempfile.TemporaryDirectory() as folder:
                options = []
                for number, block in enumerate(values):
                    path = pathlib.Path(folder, f"{number}.yaml")
                    path.write_text(block, encoding="utf-8")
                    options += ["--values", str(path)]
                rendered("default", *options)
        [install] = re.findall(r"^helm install .*", text, re.MULTILINE)
        _, _, name, _, *options = shlex.split(install)
        options.remove("--create-namespace")
        result = helm("template", name, str(CHART), "--kube-version", f"{NEWEST}.0", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        found = [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]
        self.assertEqual({m["metadata"]["name"] for m in found if m["kind"] in ("StatefulSet", "ConfigMap")}, {"opflex-peerstatus"})
        peers = tomllib.loads(config(found))["pool"][0]["peers"]
        self.assertEqual(peers, ["leaf-101:8009", "leaf-102:8009"])

    def test_versions_are_those_of_the_crate(self):
        crate = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"]
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        self.assertEqual((chart["version"], chart["appVersion"]), (crate, crate))


class Notes(unittest.TestCase):
    """What helm prints after an installation."""

    def test_they_say_what_to_do_next(self):
        for case in CASES:
            with self.subTest(case):
                notes = notes_of(case)
                kind = workload(manifests(case))["kind"].lower()
                name = workload(manifests(case))["metadata"]["name"]
                self.assertIn(f"kubectl --namespace opflex exec {kind}/{name} -- peerstatus watch", notes)
                refused = case in ("cert-manager", "full")
                self.assertEqual("helm test watch --namespace opflex" in notes, not refused)
                self.assertEqual("`helm test` would be refused" in notes, refused)
                self.assertIn("debug --stdin --tty --profile=restricted", notes)
                self.assertNotIn("\n\n\n", notes)

    def test_they_name_the_values_where_credentials_are_needed(self):
        notes = notes_of("service-accounts", "--set", "test.token=null")
        self.assertIn("test.token.audience=opflex-peerstatus", notes)
        self.assertIn("test.token.secret", notes)
        self.assertIn("server.auth.local=viewer", notes)
        self.assertNotIn("server.auth.local=viewer", notes_of("service-accounts", "--set", "server.auth.local=viewer"))
        self.assertNotIn("would be refused", notes_of("service-accounts"))
        self.assertIn("has no certificate to show", notes_of("full"))
        self.assertIn("fabric-1 (test.pool)", notes_of("live"))

    def test_they_say_what_is_open(self):
        self.assertIn("PLAINTEXT", notes_of("peers"))
        self.assertIn("without credentials", notes_of("peers"))
        self.assertNotIn("PLAINTEXT", notes_of("cert-manager"))
        self.assertIn("Every pod of the cluster", notes_of("bare"))

    def test_they_say_that_tokens_go_in_the_clear(self):
        notes = notes_of("peers", "--set", "server.auth.tokens.secret=a")
        for words in ("IN THE CLEAR", "`peerstatus` refuses to send", "server.tls.secret", "without which no token is sent"):
            self.assertIn(words, notes)
        for case in ("peers", "service-accounts", "aci-remote"):
            self.assertNotIn("IN THE CLEAR", notes_of(case))

    def test_they_say_when_there_are_no_peers(self):
        self.assertIn("No peer is configured", notes_of("default"))
        self.assertNotIn("No peer is configured", notes_of("peers"))


if __name__ == "__main__":
    unittest.main()
