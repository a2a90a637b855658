#!/usr/bin/env python3
"""Packages the chart with the licence, and with the address of the repository in place of what only a checkout has.

    package-chart.py HELM DESTINATION [REPOSITORY]

REPOSITORY is for example https://git.example/opflex-peerstatus. It becomes `home` and `sources` of Chart.yaml and the place of its
maintainers and icon, the base of the links in the README, and the default of prometheusRule.runbookBase. Without it, links to other
files of the repository become their paths.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "opflex-peerstatus"
PLACEHOLDER = "https://git.example/opflex-peerstatus/blob/main/"


def link(match, base):
    text, path = match.groups()
    if base:
        return f"[{text}]({base}{path})"
    return text if text == path else f"{text} ({path})"


def edit(path, change):
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def about(repository):
    return f"""home: {repository}
sources: [{repository}]
icon: {repository}/raw/main/docs/pictures/icon.svg
maintainers:
  - name: the maintainers of opflex-peerstatus
    url: {repository}
"""


def main():
    helm, destination, repository = sys.argv[1], sys.argv[2], "".join(sys.argv[3:]).rstrip("/")
    base = f"{repository}/blob/main/" if repository else ""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(shutil.copytree(CHART, pathlib.Path(folder, CHART.name)))
        shutil.copy2(ROOT / "LICENSE", copy)
        edit(copy / "README.md", lambda text: re.sub(r"\[([^]]*)\]\(\.\./\.\./([^)]*)\)", lambda match: link(match, base), text))
        if repository:
            edit(copy / "Chart.yaml", lambda text: f"{text}{about(repository)}")
            for name in ("values.yaml", "README.md"):
                edit(copy / name, lambda text: text.replace(PLACEHOLDER, base))
        subprocess.run([helm, "package", str(copy), "--destination", destination], check=True)


if __name__ == "__main__":
    main()
