"""The chart installs, and `helm test` and `kubectl` do with it what docs/kubernetes.md says."""

from __future__ import annotations

import json
import re
import shutil
import time

import kubectl
import programs
from case import TestCase
from certificates import make_certificate, make_self_signed
from cluster import until
from sandbox import FOLDER
from settings import ISSUER

AUDIENCE = "opflex-peerstatus"


class Install(TestCase):
    def test_the_pod_is_ready_under_pod_security_restricted(self) -> None:
        leaf = self.leaf()
        started = time.monotonic()
        done = self.namespace.install({"pools": [{"peers": [leaf.name]}]})
        print(f"ready after {time.monotonic() - started:.1f} s", end=" ", flush=True)
        self.assertNotIn("would violate", done.stdout + done.stderr)
        [pod] = self.namespace.pods()
        self.assertEqual(pod["status"]["containerStatuses"][0]["restartCount"], 0)
        until("a ready peer", lambda: self.peers() == {leaf.name: "READY"})

    def test_commands_from_the_documentation_run_in_the_pod_and_beside_it(self) -> None:
        self.install({}, self.leaf())
        watch = ["exec", f"statefulset/{kubectl.NAME}", "--", "peerstatus", "watch", "--until-synced"]
        until("a ready peer", lambda: "READY" in self.namespace.kubectl(*watch).stdout)
        debug = ["debug", "--profile=restricted", f"--image={kubectl.IMAGE}", "--target=peerstatus", "--container=look", kubectl.POD]
        self.namespace.kubectl(*debug, "--", "peerstatus", "--server=127.0.0.1", "peers", "list")
        until("the debug container's list", lambda: "8009" in self.namespace.kubectl("logs", kubectl.POD, "--container=look", check=False).stdout)

    def test_rendered_manifests_go_into_their_namespace_without_helm(self) -> None:
        manifests = self.namespace.helm("template", kubectl.RELEASE, str(kubectl.CHART), "--no-hooks", "--kube-version=1.35.0").stdout
        kubectl.kubectl("apply", "--filename=-", text=manifests)
        self.namespace.kubectl("rollout", "status", f"statefulset/{kubectl.NAME}", "--timeout=60s")

    def test_a_parent_chart_enables_it_and_says_where_its_image_is(self) -> None:
        leaf, parent = self.leaf(), FOLDER / "parent"
        shutil.copytree(kubectl.CHART, parent / "charts" / kubectl.CHART.name)
        condition = f"{kubectl.CHART.name}.enabled"
        version = re.search(r"^version: (.*)", (kubectl.CHART / "Chart.yaml").read_text(), re.MULTILINE)[1]
        dependency = {"name": kubectl.CHART.name, "version": version, "condition": condition}
        chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
        (parent / "Chart.yaml").write_text(json.dumps(chart))
        values = {"global": {"imageRegistry": "docker.io"}, kubectl.CHART.name: {"pools": [{"peers": [leaf.name]}]}}
        self.namespace.install(values, chart=parent)
        until("a session", leaf.sources)
        self.assertTrue(self.namespace.pods()[0]["spec"]["containers"][0]["image"].startswith("docker.io/"))
        self.namespace.install({kubectl.CHART.name: {"enabled": False}}, chart=parent)
        until("no pod", lambda: not self.namespace.pods())


class HelmTest(TestCase):
    def assert_ends(self, passes: bool, *texts: str) -> None:
        """Runs `helm test` with each helm. Its output has the texts."""
        for helm in programs.HELMS:
            with self.subTest(helm):
                done = self.namespace.helm_test(helm)
                self.assertEqual(done.returncode == 0, passes, done.stdout + done.stderr)
                for text in texts:
                    self.assertIn(text, done.stdout + done.stderr)

    def assert_passes(self, *texts: str) -> None:
        self.assert_ends(True, *texts)

    def assert_fails(self, *texts: str) -> None:
        self.assert_ends(False, *texts)

    def test_it_passes_and_prints_the_state_of_the_peers(self) -> None:
        leaf = self.leaf()
        self.install({}, leaf)
        self.assert_passes(leaf.host, "READY")

    def test_it_prints_the_logs_of_both_pods_if_the_pool_does_not_get_healthy(self) -> None:
        self.install({"pools": [{"peers": ["10.77.0.250:9"]}], "test": {"timeout": "5s"}})
        self.assert_fails(*(f"POD LOGS: {kubectl.NAME}-test-{pod}" for pod in ("watch", "wait")), "10.77.0.250", "CONNECTING")

    def test_it_prints_the_log_of_the_first_pod_if_there_is_no_service(self) -> None:
        self.install({"test": {"timeout": "5s"}})
        self.namespace.kubectl("scale", f"statefulset/{kubectl.NAME}", "--replicas=0")
        until("no pod", lambda: not self.namespace.pods())
        self.assert_fails(f"cannot reach the service at {kubectl.NAME}")

    def test_a_certificate_that_signs_itself_needs_no_ca(self) -> None:
        place = make_self_signed(kubectl.NAME, FOLDER / "own")
        self.namespace.create_secret("tls", "own", f"--cert={place}.crt", f"--key={place}.key")
        leaf = self.leaf()
        self.install({"server": {"tls": {"secret": "own"}, "auth": {"anonymous": "viewer"}}}, leaf)
        self.assert_passes("READY")

    def test_a_certificate_of_an_authority_and_a_token_of_the_service_account(self) -> None:
        authority, signed = make_certificate(kubectl.NAME, FOLDER / "signed")
        self.namespace.create_secret("tls", "signed", f"--cert={signed}.crt", f"--key={signed}.key")
        self.namespace.kubectl("create", "configmap", "authority", f"--from-file=ca.crt={authority}.crt")
        keys = FOLDER / "jwks.json"
        keys.write_text(kubectl.kubectl("get", "--raw", "/openid/v1/jwks").stdout)
        self.namespace.kubectl("create", "configmap", "keys", f"--from-file=jwks.json={keys}")
        jwt = {"jwks": {"configMap": "keys"}, "issuer": ISSUER, "audience": AUDIENCE}
        server = {"tls": {"secret": "signed"}, "auth": {"jwt": jwt, "local": "operator"}}
        leaf = self.leaf()
        self.install({"server": server, "test": {"ca": {"configMap": "authority"}, "token": {"audience": AUDIENCE}}}, leaf)
        self.assert_passes("READY")
        self.install({"server": server, "test": {"ca": {"configMap": "authority"}, "timeout": "5s"}}, leaf)
        self.assert_fails("UNAUTHENTICATED")
