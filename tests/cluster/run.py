"""Brings up clusters and runs the tests on them: `run.py [TEST…]`. The exit code is 1 if a test failed.

Without root, the programs of the cluster, or what the kernel needs for it, nothing is run, and that is said.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import programs
import sandbox

HERE = Path(__file__).resolve().parent
# The families of addresses of a cluster, the preferred one first, and its tests.
CLUSTERS = {"ipv4,ipv6": "test_*.py", "ipv6": "ipv6_*.py"}


def why_impossible() -> str | None:
    """Why there can be no cluster here; `None` if there can."""
    if os.geteuid() != 0:
        return "not root"
    missing = programs.missing()
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        with sandbox.cgroup():
            pass
    except OSError as error:
        return f"no cgroups: {error}"
    probe = ["unshare", "--net", "--mount", "--pid", "ip", "link", "add", "peerstatus", "type", "bridge"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else None


def stop(*_: object) -> None:
    """Ends this process as Ctrl-C does, so that it cleans up."""
    raise KeyboardInterrupt


def main(names: list[str]) -> int:
    reason = why_impossible()
    if reason:
        print(f"SKIPPED: the tests on a cluster: {reason}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    sandbox.remove_leftovers()
    shutil.rmtree(programs.LOGS, ignore_errors=True)
    print(programs.versions(), flush=True)
    code = 0
    for families, pattern in CLUSTERS.items():
        chosen = [name for name in names if Path(name.partition(".")[0] + ".py").match(pattern)]
        if names and not chosen:
            continue
        what = ["-v", *chosen] if chosen else ["discover", "-v", "-s", str(HERE), "-p", pattern]
        with sandbox.cgroup() as cgroup:
            environment = {**os.environ, "CLUSTER_FAMILIES": families, "CLUSTER_CGROUP": cgroup}
            code = sandbox.enter([sys.executable, str(HERE / "inside.py"), *what], environment) or code
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
