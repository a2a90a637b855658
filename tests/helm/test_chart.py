"""The chart: what it makes of its values is what it made before, and what Kubernetes takes; bad values are refused."""

import difflib
import functools
import json
import pathlib
import re
import shlex
import shutil
import tempfile
import tomllib
import unittest

import kubernetes_validate
import yaml

from chart import CASES, CHART, HERE, NEWEST, ROOT, config, containers, helm, manifests, one, pods, rendered, template, workload
from reference import README, entries, names_in_values, with_table

VERSIONS = ["1.35", "1.36", NEWEST]
# Of others; snapshots have to do for these.
FOREIGN = ("monitoring.coreos.com/", "cert-manager.io/")


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
    """A test of the manifests, made one of those of each case."""

    @functools.wraps(check)
    def checks(self):
        for case in CASES:
            with self.subTest(case):
                check(self, manifests(case))

    return checks


class Promises(unittest.TestCase):
    """What holds whatever the values are."""

    @of_each_case
    def test_pods_are_as_the_restricted_standard_wants_them(self, found):
        for pod in pods(found):
            self.assertIs(pod["automountServiceAccountToken"], False)
            security = pod["securityContext"]
            self.assertTrue(security["runAsNonRoot"])
            self.assertEqual([security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")], [65532] * 3)
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
            for container in containers(pod):
                expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
                self.assertEqual(container["securityContext"], expected)
            kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
            self.assertLessEqual(kinds, {"configMap", "secret", "emptyDir"})

    @of_each_case
    def test_a_pool_has_one_owner(self, found):
        self.assertEqual([m for m in found if m["kind"] == "HorizontalPodAutoscaler"], [])
        spec = workload(found)["spec"]
        if workload(found)["kind"] == "Deployment":
            self.assertEqual((spec["replicas"], spec["strategy"]["type"]), (1, "Recreate"))

    @of_each_case
    def test_probes_and_service_find_their_ports(self, found):
        [container] = workload(found)["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        server = tomllib.loads(config(found))["server"]
        self.assertEqual(ports, {"grpc": port_of(server["listen"]), "admin": port_of(server["admin"])})
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(container[probe]["httpGet"]["port"], "admin")
        self.assertEqual([port["targetPort"] for port in one(found, "Service")["spec"]["ports"]], ["grpc", "admin"])

    @of_each_case
    def test_the_admin_port_answers_to_the_names_of_the_service(self, found):
        service = one(found, "Service")
        hosts = tomllib.loads(config(found))["server"]["admin_allowed_hosts"]
        name = service["metadata"]["name"]
        for host in (name, f"{name}.opflex", f"{name}.opflex.svc", f"{name}.opflex.svc.cluster.local"):
            self.assertIn(host, hosts)
        headless = service["spec"].get("clusterIP") == "None"
        self.assertEqual(f"*.{name}.opflex.svc.cluster.local" in hosts, headless)

    def test_a_namespace_that_is_a_number_gives_no_name_that_the_service_refuses(self):
        hosts = tomllib.loads(config(manifests("default", "--namespace", "42")))["server"]["admin_allowed_hosts"]
        self.assertEqual([host.removeprefix("watch-opflex-peerstatus") for host in hosts], ["", ".42.svc", ".42.svc.cluster.local"])

    @of_each_case
    def test_selectors_find_the_pods_of_the_service_and_no_others(self, found):
        labels = workload(found)["spec"]["template"]["metadata"]["labels"]
        test = one(found, "Pod")["metadata"]["labels"]
        selectors = [workload(found)["spec"]["selector"]["matchLabels"], one(found, "Service")["spec"]["selector"]]
        selectors += [m["spec"]["podSelector"]["matchLabels"] for m in found if m["kind"] == "NetworkPolicy"]
        selectors += [m["spec"]["selector"]["matchLabels"] for m in found if m["kind"] == "PodDisruptionBudget"]
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels.items())
            self.assertFalse(selector.items() <= test.items())
        for monitor in (m for m in found if m["kind"] == "ServiceMonitor"):
            self.assertLessEqual(monitor["spec"]["selector"]["matchLabels"].items(), one(found, "Service")["metadata"]["labels"].items())

    @of_each_case
    def test_the_network_policy_lets_helm_test_in(self, found):
        labels = one(found, "Pod")["metadata"]["labels"]
        for policy in (m for m in found if m["kind"] == "NetworkPolicy"):
            [clients] = [rule["from"] for rule in policy["spec"]["ingress"] if {"port": "grpc"} in rule["ports"]]
            self.assertLessEqual(clients[0]["podSelector"]["matchLabels"].items(), labels.items())

    def test_there_is_time_to_drain(self):
        for case, seconds in {"default": 5 + 5, "full": 120 + 3 + 5, "live": 2 + 5, "daemonset": 5 + 2 + 5}.items():
            with self.subTest(case):
                pod = workload(manifests(case))["spec"]["template"]["spec"]
                self.assertEqual(pod["terminationGracePeriodSeconds"], seconds)
                wait = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                self.assertLess(wait, seconds)

    def test_helm_test_waits_for_a_pool_that_is_there(self):
        for case, set_, pool in (("default", (), "default"), ("live", (), "fabric-1"), ("live", ("--set", "test.pool=fabric-2"), "fabric-2")):
            with self.subTest(case=case, pool=pool):
                [wait] = one(manifests(case, *set_), "Pod")["spec"]["initContainers"]
                self.assertEqual(wait["args"][:3], ["pool", "wait", pool])
        self.assertNotIn("initContainers", one(manifests("bare"), "Pod")["spec"])

    @of_each_case
    def test_every_file_of_the_configuration_is_mounted(self, found):
        [container] = workload(found)["spec"]["template"]["spec"]["containers"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        named = re.findall(r'"(/(?:etc|run)/peerstatus/[^"]+)"', config(found))
        for path in named + container["args"][2:]:
            self.assertIn(str(pathlib.PurePath(path).parent), mounted)

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


class Refusals(unittest.TestCase):
    """Bad values: each with what the message has to say. test_config.py has those that the service refuses."""

    BAD = {
        "replicas=2": ["additional properties 'replicas' not allowed"],
        "autoscaling.enabled=true": ["additional properties 'autoscaling' not allowed"],
        "server.max_peers=1": ["/server", "'max_peers' not allowed"],
        "server.insecure=perhaps": ["/server/insecure", "got string, want boolean"],
        "limits.max_peers=0": ["/limits/max_peers", "minimum: got 0, want 1"],
        "limits.max_peers=many": ["/limits/max_peers", "want integer"],
        "mode=statefulset": ["/mode", "'deployment', 'daemonset'"],
        "server.auth.anonymous=admin": ["/server/auth/anonymous", "'viewer', 'operator'"],
        "pools[0].tls.mode=on": ["/pools/0/tls/mode", "'disabled', 'encrypted', 'verify'"],
        "pools[0].peer=a:1": ["/pools/0", "'peer' not allowed"],
        "pools[0].peers={leaf-101}": ["/pools/0/peers/0", "'leaf-101' does not match pattern"],
        "pools[0].peers={2001:db8::1:8009}": ["/pools/0/peers/0", "does not match pattern"],
        "pools[0].tls.mode=verify": ["/pools/0/tls", "missing property 'ca'"],
        "pools[0].peers={leaf-101:65536}": ["/pools/0/peers/0", "does not match pattern"],
        "pools[0].peers={leaf-101:0}": ["/pools/0/peers/0", "does not match pattern"],
        "server.auth.jwt.jwks.secret=a,server.auth.jwt.audience=a": ["/server/auth/jwt", "'issuer' required"],
        "server.auth.jwt.jwks.secret=a,server.auth.jwt.issuer=a": ["/server/auth/jwt", "'audience' required"],
        "server.listen=0.0.0.0:65536": ["/server/listen", "does not match pattern"],
        "fullnameOverride=Fabric": ["/fullnameOverride", "does not match pattern"],
        "fullnameOverride=a.b": ["/fullnameOverride", "does not match pattern"],
        "fullnameOverride=" + "a" * 64: ["/fullnameOverride", "does not match pattern"],
        "nameOverride=a_b": ["/nameOverride", "does not match pattern"],
        "resources.limit.memory=1Gi": ["/resources", "'limit' not allowed"],
        "server.listen=50051": ["/server/listen", "want string"],
        "server.listen=localhost:50051": ["/server/listen", "does not match pattern"],
        "server.listen=127.0.0.1:50051": ["server.listen", "nobody can reach"],
        "server.admin=off": ["/server/admin", "does not match pattern"],
        "server.admin_allowed_hosts={a.example,a.example:80}": ["/server/admin_allowed_hosts/1", "does not match pattern"],
        "server.admin_allowed_hosts={*}": ["/server/admin_allowed_hosts/0", "does not match pattern"],
        "server.admin_allowed_hosts={10.0.0.1}": ["/server/admin_allowed_hosts/0", "does not match pattern"],
        "server.admin=0.0.0.0:50051": ["server.listen and server.admin", "two ports"],
        "server.drain_timeout=6m": ["/server/drain_timeout", "does not match pattern"],
        "hostNetwork=true": ["hostNetwork", "server.tls.secret", "server.listen=127.0.0.1:50051"],
        "server.tls.client_ca.secret=ca": ["server.tls.client_ca", "only within TLS"],
        "server.tls.client_auth=required": ["/server/tls/client_ca", "minProperties"],
        "server.tls.client_auth=optional,server.tls.secret=a": ["/server/tls/client_ca", "minProperties"],
        "server.tls.certManager.enabled=true": ["/server/tls/certManager/issuerRef", "missing property 'name'"],
        "server.tls.secret=a,server.tls.certManager.enabled=true,server.tls.certManager.issuerRef.name=a": ["not both"],
        "server.auth.tokens.key=a": ["/server/auth/tokens", "missing property 'secret'"],
        "server.auth.jwt.issuer=a": ["/server/auth/jwt", "'jwks', 'audience' required"],
        "networkPolicy.peerCIDRs={10.0.0.0/8},pools[0].peers={[2001:db8::1]:8009}": ["networkPolicy.peerCIDRs", "IPv6", "pools[0].peers"],
        "networkPolicy.peerCIDRs={2001:db8::/64},pools[0].peers={leaf:1,10.0.0.30:8009}": ["peerCIDRs", "IPv4", "10.0.0.30:8009"],
        "test.token.key=a": ["/test/token", "'secret' required"],
        "test.token.secret=a": ["test.token", "plaintext", "server.tls.secret"],
        "test.pool=fabric-9": ["test.pool", '"fabric-9"'],
        "pools[0].name=fabric-1,test.pool=default": ["test.pool", '"default"'],
        "mode=daemonset,pools[0].name=fabric-1": ["pools[0].name", "one pool, `default`"],
        "mode=daemonset,pools[0].identity.name=node": ["pools[0].identity.name", "the name of the node"],
        "mode=daemonset,podDisruptionBudget.enabled=true": ["podDisruptionBudget", "daemonset"],
    }

    def test_bad_values_are_refused_with_place_and_reason(self):
        for values, words in self.BAD.items():
            with self.subTest(values):
                result = template("default", "--set", values)
                self.assertNotEqual(result.returncode, 0)
                for word in words:
                    self.assertIn(word, result.stderr)


class Documentation(unittest.TestCase):
    def test_the_schema_knows_every_value_and_values_yaml_has_every_key(self):
        missing = {place for place, _, _ in entries() if place.rpartition(".")[2].removesuffix("[]") not in names_in_values()}
        self.assertEqual(missing, {"global"})
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
        self.assertEqual(left, {"global", "hostNetwork", "kind", "dnsNames", "duration", "renewBefore"})

    def test_the_commands_and_values_of_the_documentation_work(self):
        text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```yaml\n(# values .*?)^```", text, re.DOTALL | re.MULTILINE)
        aci, remote, accounts = blocks
        for values in ([aci], [aci, remote], [accounts]):
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
        self.assertEqual({m["metadata"]["name"] for m in found if m["kind"] in ("Deployment", "Service")}, {"opflex-peerstatus"})
        peers = tomllib.loads(config(found))["pool"][0]["peers"]
        self.assertEqual(peers, ["leaf-101:8009", "leaf-102:8009"])

    def test_versions_are_those_of_the_crate(self):
        crate = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"]
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        self.assertEqual((chart["version"], chart["appVersion"]), (crate, crate))


class Notes(unittest.TestCase):
    """NOTES.txt, which `helm template` leaves out: here it is a manifest of a copy of the chart."""

    def notes(self, case, *options):
        with tempfile.TemporaryDirectory() as folder:
            chart = pathlib.Path(shutil.copytree(CHART, pathlib.Path(folder, CHART.name)))
            (chart / "templates" / "NOTES.txt").rename(chart / "files" / "NOTES.txt")
            (chart / "templates" / "notes.yaml").write_text('notes: {{ tpl (.Files.Get "files/NOTES.txt") . | toJson }}\n')
            text = rendered(case, "--show-only", "templates/notes.yaml", *options, chart=chart)
        return yaml.safe_load(text)["notes"]

    def test_they_say_what_to_do_next(self):
        for case in CASES:
            with self.subTest(case):
                notes = self.notes(case)
                kind = workload(manifests(case))["kind"].lower()
                name = workload(manifests(case))["metadata"]["name"]
                self.assertIn(f"kubectl --namespace opflex exec {kind}/{name} -- peerstatus watch", notes)
                refused = case in ("cert-manager", "full", "service-accounts")
                self.assertEqual("helm test watch --namespace opflex" in notes, not refused)
                self.assertEqual("`helm test` would be refused" in notes, refused)
                self.assertNotIn("\n\n\n", notes)

    def test_they_name_the_values_where_credentials_are_needed(self):
        notes = self.notes("service-accounts")
        self.assertIn("test.token.secret", notes)
        self.assertIn("server.auth.local=viewer", notes)
        self.assertNotIn("server.auth.local=viewer", self.notes("service-accounts", "--set", "server.auth.local=viewer"))
        notes = self.notes("service-accounts", "--set", "test.token.secret=a")
        self.assertNotIn("would be refused", notes)
        self.assertIn("has no certificate to show", self.notes("full"))
        self.assertIn("fabric-1 (test.pool)", self.notes("live"))

    def test_they_say_what_is_open(self):
        self.assertIn("PLAINTEXT", self.notes("peers"))
        self.assertIn("without credentials", self.notes("peers"))
        self.assertNotIn("PLAINTEXT", self.notes("cert-manager"))
        self.assertIn("Every pod of the cluster", self.notes("bare"))

    def test_they_say_that_tokens_go_in_the_clear(self):
        notes = self.notes("peers", "--set", "server.auth.tokens.secret=a")
        for words in ("IN THE CLEAR", "`peerstatus` refuses to send", "server.tls.secret", "without which no token is sent"):
            self.assertIn(words, notes)
        for case in ("peers", "service-accounts", "aci-remote"):
            self.assertNotIn("IN THE CLEAR", self.notes(case))

    def test_they_say_when_there_are_no_peers(self):
        self.assertIn("No peer is configured", self.notes("default"))
        self.assertNotIn("No peer is configured", self.notes("peers"))


if __name__ == "__main__":
    unittest.main()
