"""The exercise with forty peers (docs/simulate.md), run by the real binary: its peers, the service, and what both tell."""

import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import urllib.request

from chart import PATIENCE_S, ROOT
from container import until

BINARY = os.environ.get("PEERSTATUS_BIN") or str(ROOT / "target" / "release" / "peerstatus")
SCREEN = (80, 24)
PEERS = 39  # the fortieth is a name that does not resolve


def free_port():
    """One that is free on every address of 127.0.0.0/8."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]


class Exercise:
    """The two files of `examples/`, with a free port in place of 18009, and these changes to the scenario and the service."""

    def __init__(self, scenario_changes, service_changes):
        self.folder = tempfile.TemporaryDirectory()
        self.port, self.grpc, self.admin = free_port(), free_port(), free_port()
        self.processes = []
        scenario = self.example("forty-peers.toml", scenario_changes)
        service = self.example("forty-peers-service.toml", service_changes)
        output = self.start("simulate", "--scenario", scenario)
        until("the peers", lambda: pathlib.Path(output).read_text(encoding="utf-8").count(" at 127.0.") == PEERS)
        self.started = time.time()
        self.start("serve", "--config", service, "--listen", f"127.0.0.1:{self.grpc}", "--admin", f"127.0.0.1:{self.admin}")
        until("the service", self.metrics)

    def example(self, name, changes):
        text = (ROOT / "examples" / name).read_text(encoding="utf-8").replace(":18009", f":{self.port}")
        for before, after in changes.items():
            assert before in text, f"{name} no longer has {before!r}"
            text = text.replace(before, after)
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self, *arguments):
        """Starts the command, and returns the file with its output."""
        path = os.path.join(self.folder.name, arguments[0])
        with open(path, "wb") as output:
            self.processes.append(subprocess.Popen([BINARY, *arguments], stdout=output, stderr=output))
        return path

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.folder.cleanup()

    def metrics(self):
        """Series and values, or nothing while the service starts."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=PATIENCE_S) as response:
                page = response.read().decode()
        except OSError:
            return {}
        lines = [line for line in page.splitlines() if line and not line.startswith("#")]
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}

    def screen(self, *arguments):
        """What a terminal of 80 columns and 24 rows shows first of the output of a command, without colours."""
        command = " ".join([BINARY, *arguments, "--server", f"127.0.0.1:{self.grpc}"])
        columns, rows = SCREEN
        # `script` gives the command a terminal.
        shell = f"stty cols {columns} rows {rows}; {command}"
        result = subprocess.run(
            ["script", "--quiet", "--return", "--command", shell, os.devnull],
            capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
        )
        assert result.returncode == 0, result.stdout
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.stdout).splitlines()
        assert all(len(line) <= columns for line in lines), f"wider than the terminal:\n{result.stdout}"
        return lines[: rows - 1]  # the last row is the shell's prompt
