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

from chart import (
    CASES, CHART, HERE, NEWEST, ROOT, config, containers, helm, manifests, one, pods, rendered, service_container, services, template,
    test_pods as hooks, workload,
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
            self.assertNotEqual(security.get("runAsUser"), 0)
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
            for container in containers(pod):
                expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
                self.assertLessEqual(expected.items(), container["securityContext"].items())
            kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
            self.assertLessEqual(kinds, {"configMap", "secret", "emptyDir", "projected"})

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
            [first, second] = [pod["spec"].get("volumes", []) for pod in hooks(manifests(*options))]
            self.assertEqual(first, second)
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
        "mode=replicaset": ["/mode", "does not match pattern", "statefulset|daemonset"],
        "mode=deployment": ["mode: a deployment is not supported", "statefulset", "docs/kubernetes.md"],
        "enabled=false": ["enabled", "condition: opflex-peerstatus.enabled"],
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
        "fullnameOverride=" + "a" * 53: ["/fullnameOverride", "does not match pattern"],
        "nameOverride=a_b": ["/nameOverride", "does not match pattern"],
        "resources.limit.memory=1Gi": ["/resources", "'limit' not allowed"],
        "server.listen=50051": ["/server/listen", "want string"],
        "server.listen=localhost:50051": ["/server/listen", "does not match pattern"],
        "server.listen=127.0.0.1:50051": ["server.listen", "nobody can reach"],
        "server.admin=off": ["/server/admin", "does not match pattern"],
        "server.admin_allowed_hosts={a.example,a.example:80}": ["/server/admin_allowed_hosts/1", "does not match pattern"],
        "server.admin_allowed_hosts={*}": ["/server/admin_allowed_hosts/0", "does not match pattern"],
        "server.admin_allowed_hosts={10.0.0.1}": ["/server/admin_allowed_hosts/0", "does not match pattern"],
        "server.admin=[::]:50051": ["server.listen and server.admin", "two ports"],
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
        "test.token.key=a,server.tls.secret=b": ["test.token", "either a secret or an audience"],
        "test.token.secret=a": ["test.token", "plaintext", "server.tls.secret"],
        "test.pool=fabric-9": ["test.pool", '"fabric-9"'],
        "pools[0].name=fabric-1,test.pool=default": ["test.pool", '"default"'],
        "mode=daemonset,pools[0].name=fabric-1": ["pools[0].name", "one pool, `default`"],
        "mode=daemonset,pools[0].identity.name=node": ["pools[0].identity.name", "use identity.name"],
        "mode=daemonset,podDisruptionBudget.enabled=true": ["podDisruptionBudget", "daemonset"],
        "mode=daemonset,identity.name=node": ["identity.name", "must contain {node}"],
        "mode=daemonset,extraEnv[0].name=PEERSTATUS_NAME,extraEnv[0].value=a": ["extraEnv", "PEERSTATUS_NAME", "identity.name"],
        "identity.name=a": ["identity.name", "pools[].identity.name"],
        "nodeSelector.kubernetes\\.io/hostname=node-1,pools[0].identity.name=node-1": ["pools[0].identity.name", "iKnowThisReplacesTheAgent"],
        "hostNetwork=true,server.listen=127.0.0.1:1,pools[0].peers={leaf-101:8009}": ["hostNetwork", "iKnowHostNetworkDisablesTheAgentsWatchdog"],
        "service.type=ExternalName": ["/service/type", "'ClusterIP', 'NodePort', 'LoadBalancer'"],
        "service.headless=true,service.type=LoadBalancer": ["service.headless", "LoadBalancer"],
        "service.headless=true,service.type=NodePort": ["service.headless", "NodePort"],
        "service.nodePort=30000": ["service.nodePort", "NodePort or LoadBalancer"],
        "service.nodePort=65536,service.type=NodePort": ["/service/nodePort", "maximum"],
        "service.externalTrafficPolicy=Local": ["service.externalTrafficPolicy", "NodePort or LoadBalancer"],
        "service.type=NodePort,service.loadBalancerClass=a": ["service.loadBalancerClass", "LoadBalancer, not NodePort"],
        "service.loadBalancerSourceRanges={10.0.0.0/8}": ["service.loadBalancerSourceRanges", "LoadBalancer, not ClusterIP"],
        "service.type=LoadBalancer,service.loadBalancerSourceRanges={10.0.0.256/8}": ['service.loadBalancerSourceRanges: "10.0.0.256/8" is no network'],
        "service.ipFamilies={IPv5}": ["/service/ipFamilies/0", "'IPv4', 'IPv6'"],
        "service.ipFamilies={IPv4,IPv6}": ["service.ipFamilies", "PreferDualStack or RequireDualStack"],
        "service.ipFamilies={IPv6},server.listen=0.0.0.0:1": ["server.listen", "0.0.0.0:1", "service.ipFamilies", "[::]"],
        "service.ipFamilyPolicy=RequireDualStack,server.admin=0.0.0.0:1": ["server.admin", "service.ipFamilyPolicy"],
        "service.labels.app\\.kubernetes\\.io/name=a": ["service.labels", "app.kubernetes.io/name", "selectors"],
        "adminService.labels.app\\.kubernetes\\.io/component=a": ["adminService.labels", "app.kubernetes.io/component"],
        "commonLabels.app\\.kubernetes\\.io/instance=a": ["commonLabels", "app.kubernetes.io/instance"],
        "podLabels.app\\.kubernetes\\.io/component=a": ["podLabels", "app.kubernetes.io/component"],
        "podLabels.a=b c": ["/podLabels/a", "does not match pattern"],
        "podLabels.-a=b": ["/podLabels", "'-a' not allowed"],
        "podAnnotations.a b=c": ["/podAnnotations", "'a b' not allowed"],
        "networkPolicy.peerCIDRs={10.0.0.0}": ["networkPolicy.peerCIDRs", '"10.0.0.0" is no network'],
        "networkPolicy.peerCIDRs={10.0.0.0/33}": ["networkPolicy.peerCIDRs", '"10.0.0.0/33" is no network'],
        "networkPolicy.peerCIDRs={2001:db8:::/64}": ["networkPolicy.peerCIDRs", '"2001:db8:::/64" is no network'],
        "networkPolicy.peerCIDRs={2001:db8::/129}": ["networkPolicy.peerCIDRs", '"2001:db8::/129" is no network'],
        "networkPolicy.clients[0].ipBlock.cidr=10.0.0.0": ['networkPolicy.clients[0].ipBlock.cidr: "10.0.0.0"'],
        "networkPolicy.clients[0].podSelectors.a=b": ["/networkPolicy/clients/0", "'podSelectors' not allowed"],
        "networkPolicy.dnsPorts={0}": ["/networkPolicy/dnsPorts/0", "minimum"],
        "resources.limits.memory=1GiB": ["/resources/limits/memory", "does not match pattern"],
        "resources.requests.cpu=-1": ["/resources/requests/cpu", "minimum"],
        "resources.requests.memory=1Gi": ["resources.requests.memory: 1Gi", "resources.limits.memory, 512Mi"],
        "resources.requests.cpu=2,resources.limits.cpu=1500m": ["resources.requests.cpu: 2", "1500m"],
        "affinity.nodeAfinity.a=b": ["/affinity", "'nodeAfinity' not allowed"],
        "affinity.podAntiAffinity.required=a": ["/affinity/podAntiAffinity", "'required' not allowed"],
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.a=b": ["/affinity/nodeAffinity", "'nodeSelectorTerms'"],
        "tolerations[0].effects=NoSchedule": ["/tolerations/0", "'effects' not allowed"],
        "server.socket.path=/etc/peerstatus/config/a.sock": ["server.socket.path", "/etc/peerstatus/config", "collides"],
        "server.socket.path=/usr/bin/a.sock": ["server.socket.path", "collides with /usr/bin"],
        "server.socket.path=/usr/a.sock": ["server.socket.path", "collides with /usr/bin"],
        "extraVolumes[0].name=config": ["extraVolumes[0].name", '"config"'],
        "extraVolumes[0].name=a,extraVolumes[1].name=a": ["extraVolumes[1].name", '"a"'],
        "extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/a": ["extraVolumeMounts[0].name", "no volume"],
        "extraVolumeMounts[0].name=socket,extraVolumeMounts[0].mountPath=/run/peerstatus/": ["extraVolumeMounts[0].mountPath", "/run/peerstatus/"],
        "extraContainers[0].name=peerstatus": ["extraContainers[0].name", '"peerstatus"'],
        "initContainers[0].name=a,extraContainers[0].name=a": ["extraContainers[0].name", '"a"'],
        "extraEnv[0].name=a,extraEnv[0].value=1": ["/extraEnv/0/value", "want string"],
        "extraEnv[0].name=PEERSTATUS_SERVER,extraEnv[0].value=a": ["extraEnv", "PEERSTATUS_SERVER"],
        "test.env[0].name=a,test.env[1].name=a": ["test.env", "a is set already"],
        "dnsPolicy=None": ["dnsPolicy", "dnsConfig.nameservers"],
        "dnsConfig.option=a": ["/dnsConfig", "'option' not allowed"],
        "dnsConfig.nameservers={dns.example}": ["/dnsConfig/nameservers/0", "'dns.example' is not valid ipv4"],
        "hostAliases[0].ip=10.0.0.300,hostAliases[0].hostnames={a}": ["/hostAliases/0/ip", "'10.0.0.300' is not valid ipv4"],
        "updateStrategy.type=Recreate": ["/updateStrategy/type", "'RollingUpdate', 'OnDelete'"],
        "updateStrategy.rollingUpdate.maxUnavailable=1": ["updateStrategy.rollingUpdate", "only for mode daemonset"],
        "mode=daemonset,updateStrategy.type=OnDelete,updateStrategy.rollingUpdate.maxSurge=1": ["updateStrategy.rollingUpdate", "OnDelete"],
        "mode=daemonset,updateStrategy.rollingUpdate.maxSurge=1": ["updateStrategy.rollingUpdate", "maxUnavailable must be 0"],
        "mode=daemonset,updateStrategy.rollingUpdate.maxUnavailable=0": ["updateStrategy.rollingUpdate", "must be 0"],
        "mode=daemonset,hostNetwork=true,server.listen=127.0.0.1:1,updateStrategy.rollingUpdate.maxSurge=1": ["maxSurge", "ports", "hostNetwork"],
        "readinessProbe.periodSeconds=0": ["/readinessProbe/periodSeconds", "minimum"],
        "livenessProbe.httpGet.path=a": ["/livenessProbe", "'httpGet' not allowed"],
        "serviceMonitor.scrapeTimeout=1m": ["serviceMonitor.scrapeTimeout: 1m", "serviceMonitor.interval, 30s"],
        "prometheusRule.alerts.OpflexDown.enabled=false": ["prometheusRule.alerts", '"OpflexDown"', "OpflexPoolDown"],
        "prometheusRule.alerts.OpflexPoolDown.enable=false": ["/prometheusRule/alerts/OpflexPoolDown", "'enable' not allowed"],
        "grpcRoute.enabled=true": ["/grpcRoute/parentRefs", "minItems"],
        "grpcRoute.enabled=true,grpcRoute.parentRefs[0].name=a,hostNetwork=true,server.listen=127.0.0.1:1": ["grpcRoute", "127.0.0.1:1"],
        "test.token.audience=a,test.token.secret=b,server.tls.secret=c": ["test.token", "either a secret or an audience"],
        "test.token.audience=a,test.token.key=b,server.tls.secret=c": ["test.token.key", "test.token.secret"],
        "test.ca.secret=a": ["test.ca", "no effect"],
        "image.tag=a/b": ["/image/tag", "does not match pattern"],
    }

    def test_bad_values_are_refused_with_place_and_reason(self):
        for values, words in self.BAD.items():
            with self.subTest(values):
                result = template("default", "--set", values)
                self.assertNotEqual(result.returncode, 0)
                for word in words:
                    self.assertIn(word, result.stderr)


    def test_the_name_of_the_node_alone_is_refused(self):
        result = template("daemonset", "--set-literal", "identity.name={node}")
        self.assertNotEqual(result.returncode, 0)
        for word in ("identity.name", "opflex-agent", "{node}-peerstatus", "identity.iKnowThisReplacesTheAgent"):
            self.assertIn(word, result.stderr)

    def test_values_of_an_older_chart_are_refused_with_what_to_do(self):
        result = template("default", "--set", "commonLabels=null")
        self.assertIn("--reset-then-reuse-values", result.stderr)

    def test_addresses_and_networks_of_both_families_are_taken(self):
        for network in ("0.0.0.0/0", "10.1.2.3/32", "::/0", "2001:db8::/32", "fe80::1/64", "1:2:3:4:5:6:7:8/128", "1::8/0", "::1/128"):
            with self.subTest(network):
                rendered("default", "--set", f"networkPolicy.peerCIDRs={{{network}}}")


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
        self.assertEqual(left, {"hostNetwork", "dnsNames", "duration", "renewBefore"})

    def test_the_commands_and_values_of_the_documentation_work(self):
        text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```yaml\n(# values .*?)^```", text, re.DOTALL | re.MULTILINE)
        aci, remote, *others = blocks
        for values in ([aci], [aci, remote], *([block] for block in others)):
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
                refused = case in ("cert-manager", "full")
                self.assertEqual("helm test watch --namespace opflex" in notes, not refused)
                self.assertEqual("`helm test` would be refused" in notes, refused)
                self.assertIn("debug --stdin --tty --profile=restricted", notes)
                self.assertNotIn("\n\n\n", notes)

    def test_they_name_the_values_where_credentials_are_needed(self):
        notes = self.notes("service-accounts", "--set", "test.token=null")
        self.assertIn("test.token.audience=opflex-peerstatus", notes)
        self.assertIn("test.token.secret", notes)
        self.assertIn("server.auth.local=viewer", notes)
        self.assertNotIn("server.auth.local=viewer", self.notes("service-accounts", "--set", "server.auth.local=viewer"))
        self.assertNotIn("would be refused", self.notes("service-accounts"))
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
