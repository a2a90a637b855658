"""The package of the chart: what `make chart-package` writes is the chart, and makes sense without the repository."""

import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest

import yaml

from chart import CHART, HELM, PATIENCE_S, ROOT, rendered

REPOSITORY = "https://code.example/team/peerstatus"


class Package(unittest.TestCase):
    def packaged(self, *repository):
        """The path of the package, and its files."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        command = [sys.executable, str(ROOT / "tools" / "package-chart.py"), HELM, folder.name, *repository]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
        [path] = pathlib.Path(folder.name).glob("*.tgz")
        with tarfile.open(path) as archive:
            files = {entry.name.removeprefix(f"{CHART.name}/"): archive.extractfile(entry).read().decode() for entry in archive}
        return path, files

    def test_it_has_the_files_of_the_chart_and_the_licence_and_renders_alike(self):
        path, files = self.packaged()
        own = {str(file.relative_to(CHART)) for file in CHART.rglob("*") if file.is_file()}
        self.assertEqual(files.keys(), own | {"LICENSE"})
        for case in ("default", "full"):
            self.assertEqual(rendered(case, chart=path), rendered(case))

    def test_without_an_address_it_has_no_links_that_lead_nowhere(self):
        _, files = self.packaged()
        self.assertNotIn("../", files["README.md"])
        self.assertIn("docs/kubernetes.md describes", files["README.md"])
        self.assertNotIn("home", yaml.safe_load(files["Chart.yaml"]))

    def test_with_an_address_it_links_to_files_that_are_there(self):
        _, files = self.packaged(REPOSITORY + "/")
        about = yaml.safe_load(files["Chart.yaml"])
        self.assertEqual((about["home"], about["sources"]), (REPOSITORY, [REPOSITORY]))
        self.assertEqual(about["maintainers"][0]["url"], REPOSITORY)
        self.assertTrue((ROOT / about["icon"].removeprefix(f"{REPOSITORY}/raw/main/")).is_file())
        base = f"{REPOSITORY}/blob/main/"
        links = re.findall(r"\]\(([^)#]*)", files["README.md"])
        self.assertNotEqual(links, [])
        for link in links:
            self.assertTrue(link.startswith(base) and (ROOT / link.removeprefix(base)).is_file(), link)
        self.assertEqual(yaml.safe_load(files["values.yaml"])["prometheusRule"]["runbookBase"], base)
        self.assertNotIn("git.example", files["README.md"])


if __name__ == "__main__":
    unittest.main()
