"""What the tests of the chart share: helm, the values that it is tried with, and the manifests that come of them."""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "helm"
CHART = ROOT / "helm" / "opflex-peerstatus"
HELM = os.environ.get("HELM") or str(ROOT / ".tools" / "bin" / "helm")
NEWEST = "1.37"
CASES = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))
PATIENCE_S = 60


def helm(*arguments):
    """Runs it. It never asks a cluster; none is needed and none is touched."""
    env = {**os.environ, "KUBECONFIG": os.devnull, "HELM_KUBEAPISERVER": "", "HELM_NO_PLUGINS": "1"}
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, env=env)


def template(case, *options, version=NEWEST, chart=CHART):
    """What `helm template` makes of the values of that name."""
    values = ["--values", str(HERE / "values" / f"{case}.yaml")]
    return helm("template", "watch", str(chart), "--namespace", "opflex", "--kube-version", f"{version}.0", *values, *options)


def rendered(case, *options, **more):
    result = template(case, *options, **more)
    if result.returncode:
        raise AssertionError(f"{case}: {result.stderr}")
    return result.stdout


@functools.cache
def manifests(case, *options, **more):
    return [manifest for manifest in yaml.safe_load_all(rendered(case, *options, **more)) if manifest]


def fleet(found):
    """Those of the service of a fleet."""
    return [m for m in found if m["metadata"].get("labels", {}).get("app.kubernetes.io/component", "").startswith("fleet")]


def nodes(found):
    """Those without the service of a fleet, unless there are no others."""
    return [manifest for manifest in found if manifest not in fleet(found)] or found


def one(found, kind):
    """The manifest of that kind, of which there is one."""
    [manifest] = [manifest for manifest in nodes(found) if manifest["kind"] == kind]
    return manifest


def workload(found):
    [manifest] = [m for m in nodes(found) if m["kind"] in ("StatefulSet", "DaemonSet", "Deployment")]
    return manifest


def config(found):
    """The service's configuration file."""
    [text] = [manifest["data"]["peerstatus.toml"] for manifest in nodes(found) if "peerstatus.toml" in manifest.get("data", {})]
    return text


def test_pods(found):
    """The pods of `helm test`, in the order in which they run."""
    hooks = [manifest for manifest in found if manifest["kind"] == "Pod"]
    return sorted(hooks, key=lambda pod: int(pod["metadata"]["annotations"]["helm.sh/hook-weight"]))


def pods(found):
    """The spec of each kind of pod: the service's, and those of `helm test`."""
    return [workload(found)["spec"]["template"]["spec"], *(pod["spec"] for pod in test_pods(found))]


def containers(pod):
    return pod["containers"] + pod.get("initContainers", [])


def service_container(found):
    [container] = [c for c in workload(found)["spec"]["template"]["spec"]["containers"] if c["name"] == "peerstatus"]
    return container


def services(found):
    """The Service of gRPC, and that of the admin port."""
    [grpc, admin] = [manifest for manifest in nodes(found) if manifest["kind"] == "Service"]
    return grpc, admin


def notes_of(case, *options):
    """NOTES.txt, which `helm template` leaves out: here it is a manifest of a copy of the chart."""
    with tempfile.TemporaryDirectory() as folder:
        chart = pathlib.Path(shutil.copytree(CHART, pathlib.Path(folder, CHART.name)))
        (chart / "templates" / "NOTES.txt").rename(chart / "files" / "NOTES.txt")
        (chart / "templates" / "notes.yaml").write_text('notes: {{ tpl (.Files.Get "files/NOTES.txt") . | toJson }}\n')
        text = rendered(case, "--show-only", "templates/notes.yaml", *options, chart=chart)
    return yaml.safe_load(text)["notes"]
