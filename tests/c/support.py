"""The service, its OpFlex peers and the programs in C as processes, beside those of the interop tests."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "interop" / "python"))
import harness  # noqa: E402
from harness import RECORDINGS, Process, Proxy, TestCase, reserved_port  # noqa: E402, F401

BINARY = os.environ.get("PEERSTATUS_BIN") or str(ROOT / "target" / "release" / "peerstatus")
# Where the Makefile has built the programs.
PROGRAMS = pathlib.Path(os.environ.get("C_PROGRAMS") or ROOT / "target" / "c-test" / "programs")
PATIENCE_S = 30


def until(what, probe, timeout=PATIENCE_S, detail=lambda: ""):
    """Asks `probe` until its answer is truthy."""
    deadline = time.monotonic() + timeout
    while not probe():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}; {detail()}")
        time.sleep(0.01)


def environment(address):
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PEERSTATUS_")}
    return {**ours, "PEERSTATUS_SERVER": address}


class Server(Process):
    """A process that is ready when it has written a line that begins with `first`."""

    def __init__(self, name, command, first="listening on "):
        super().__init__(name, [str(part) for part in command])
        try:
            self.ready = self.until_line(first, lambda line: line.startswith(first))[-1]
        except BaseException:
            self.kill()
            raise


class Service(harness.Server):
    """`peerstatus serve` with these peers and options; port 0 is one of the system's choice."""

    def __init__(self, *peers, options=(), port=0):
        command = [BINARY, "serve", "--listen", f"127.0.0.1:{port}", "--admin", "off", *options]
        super().__init__("the service", command + [part for peer in peers for part in ("--peer", peer)])


class OpflexPeer(harness.OpflexPeer):
    """The same, with the identity of a recording."""

    def __init__(self, port=0, peers=(), recording=None):
        if recording is None:
            super().__init__(port=port, peers=peers)
        else:
            command = [sys.executable, str(ROOT / "tests" / "opflex_peer.py"), "--strict", "--port", str(port), "--recording", str(recording)]
            harness.Server.__init__(self, "the OpFlex peer", command)


class Program:
    """A program in C; `line` is called with each of its lines."""

    def __init__(self, command, address, line=None, wrapper=()):
        self.lines = []
        self.line = line or (lambda _: None)
        self.process = subprocess.Popen([*wrapper, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environment(address), text=True)
        self.errors = []
        self.threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self.threads:
            thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.line(line.rstrip("\n"))
            self.lines.append(line.rstrip("\n"))

    def _read_errors(self):
        self.errors.extend(self.process.stderr)

    def close_input(self):
        self.process.stdin.close()

    def ended(self, timeout=PATIENCE_S):
        """Waits for its end, which must be a success."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {timeout} s: {self.lines[-20:]}") from None
        for thread in self.threads:
            thread.join()
        if code != 0:
            raise AssertionError(f"exit code {code}: {self.lines[-20:]}\n{''.join(self.errors)[-6000:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for thread in self.threads:
            thread.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


class Reference(Program):
    """`reference.c`, and its callbacks."""

    def __init__(self, header, address):
        self.peers, self.health, self.ending = {}, [], None
        super().__init__([PROGRAMS / f"reference-{header}"], address, line=self._parse)

    def _parse(self, line):
        kind, *values = line.split()
        if kind == "peer":
            self.peers.setdefault(values[0], []).append(int(values[1]))
        elif kind == "health":
            self.health.append(int(values[0]))
        else:
            self.ending = line

    def calls(self):
        return f"the program was called with {self.peers} and {self.health}"

    def is_past(self, wanted):
        """Whether these calls were made. A status that differs from them fails."""
        peers, health = wanted
        pairs = [(self.peers.get(address, []), statuses) for address, statuses in peers.items()] + [(self.health, health)]
        for found, expected in pairs:
            length = min(len(found), len(expected))
            if list(found)[:length] != expected[:length]:
                raise AssertionError(f"expected {wanted}; {self.calls()}")
        return all(len(found) >= len(expected) for found, expected in pairs)

    def end(self):
        self.close_input()
        self.ended()
        if self.ending != "end 0 1 1":
            raise AssertionError(self.ending)


def certificates(folder):
    """An authority, another one, and a certificate for 127.0.0.1."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True, timeout=PATIENCE_S)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2")
    openssl("req", *key, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (pathlib.Path(folder) / "names").write_text("subjectAltName=IP:127.0.0.1\n", encoding="utf-8")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "server.pem")
