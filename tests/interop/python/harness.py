"""What every interop test needs: the service and its OpFlex peers as processes, a network that breaks, and waits that end.

Processes are ended by the object that started them. Every wait has a deadline and says what it waited for.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECORDINGS = ROOT / "tests" / "golden"
# Far beyond what anything here takes: it ends a hang, it measures nothing.
PATIENCE_S = 20


def until(what, probe, timeout=PATIENCE_S):
    """Asks `probe` until its answer is truthy, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.01)


class TestCase(unittest.TestCase):
    def enter(self, context):
        """Enters a context that is left, in reverse order, when the test ends, however it ends."""
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value


class Process:
    """A child process whose output is read line by line."""

    def __init__(self, name, command):
        self.name = name
        self.stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.stderr, stdin=subprocess.DEVNULL)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.decode(errors="replace").rstrip("\n"))
        self.lines.put(None)

    def until_line(self, what, condition):
        """Reads on until a line fulfils the condition; returns all that were read."""
        deadline, read = time.monotonic() + PATIENCE_S, []
        while True:
            try:
                line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self.name} did not say {what} within {PATIENCE_S} s, but {read}:\n{self.log()}") from None
            if line is None:
                raise AssertionError(f"{self.name} ended before it said {what}, after {read}:\n{self.log()}")
            read.append(line)
            if condition(line):
                return read

    def log(self):
        """The last of what the process wrote on stderr, also after its end."""
        if not self.stderr.closed:
            self.stderr.seek(0)
            self.written = self.stderr.read().decode(errors="replace")[-4000:]
        return self.written

    def kill(self):
        """Ends it as a crash would."""
        if self.process.poll() is None:
            self.process.kill()
        self._reap()

    def ended(self):
        """Waits for its end; returns its exit code."""
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {PATIENCE_S} s:\n{self.log()}") from None
        return self.process.returncode

    def stop(self, timeout=PATIENCE_S):
        """Ends it politely and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            log = self.log()
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout} s of SIGTERM:\n{log}") from None
        self._reap()
        return self.process.returncode

    def _reap(self):
        self.process.wait()
        self.reader.join(PATIENCE_S)
        self.process.stdout.close()
        self.log()
        self.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Server(Process):
    """A child process that prints `listening on HOST:PORT` when it is ready."""

    def __init__(self, name, command):
        super().__init__(name, command)
        try:
            ready = self.until_line("`listening on …`", lambda line: line.startswith("listening on "))[-1]
        except BaseException:
            self.kill()
            raise
        self.address = ready.removeprefix("listening on ").strip()
        self.port = int(self.address.rpartition(":")[2])


class Service(Server):
    """`peerstatus serve` with the given peers and options, on a port of the system's choice."""

    def __init__(self, *peers, options=(), admin="off"):
        binary = os.environ.get("PEERSTATUS_BIN") or str(ROOT / "target" / "release" / "peerstatus")
        if not os.access(binary, os.X_OK):
            raise AssertionError(f"{binary} is not there: build it with `make build`, or name it in PEERSTATUS_BIN")
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--admin", admin, *options]
        for peer in peers:
            command += ["--peer", peer]
        super().__init__("the service", command)


class OpflexPeer(Server):
    """A strict OpFlex peer. Leaving the block fails if its client has departed from the protocol."""

    def __init__(self, port=0, peers=()):
        command = [sys.executable, str(ROOT / "tests" / "opflex_peer.py"), "--strict", "--port", str(port), "--peers", ",".join(peers)]
        super().__init__("the OpFlex peer", command)

    def kill(self):
        violated = self.process.poll() not in (None, 0, -signal.SIGKILL)
        super().kill()
        if violated:
            raise AssertionError(f"the OpFlex peer saw a violation of the protocol:\n{self.log()}")

    def __exit__(self, kind, *_):
        try:
            self.kill()
        except AssertionError:
            if kind is None:
                raise
            print(self.log(), file=sys.stderr)


def literal(name, value):
    """A header field of HPACK, without any index."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def error_page(status):
    """The header block of a response in HTTP, without a body."""
    return literal(":status", str(status)) + literal("content-type", "text/html")


def grpc_error(code):
    """The header block of a gRPC error without details."""
    return literal(":status", "200") + literal("content-type", "application/grpc") + literal("grpc-status", str(code))


SETTINGS, PING, HEADERS, ACK, END_STREAM, END_HEADERS = 4, 6, 1, 1, 1, 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Proxy:
    """A TCP proxy in front of `target`. `cut` breaks its connections and has new ones refused, until `mend`.

    After `fail` it serves HTTP/2 itself, and answers each request with that header block, until `cut`.
    """

    def __init__(self, target):
        self.target = target
        self.error = None
        self.server, self.writers, self.tasks = None, set(), set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.reservation = reserved_port()
        self.port = self.reservation.__enter__()
        self.address = f"127.0.0.1:{self.port}"
        self.mend()

    def mend(self):
        self.error = None
        self._run(self._listen())

    def fail(self, block):
        was_failing, self.error = self.error is not None, block
        if not was_failing:
            self.cut()
            self._run(self._listen())

    def cut(self):
        self._run(self._break())

    def _run(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    async def _listen(self):
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _break(self):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        while self.tasks:
            await asyncio.wait(self.tasks)
        self.writers.clear()

    async def _connected(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.writers.add(writer)
        if self.error is not None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._fail(reader, writer)
            writer.close()
            return
        host, _, port = self.target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        self.writers.add(far_writer)
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _fail(self, reader, writer):
        await reader.readexactly(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        writer.write(frame(SETTINGS, 0, 0))
        while True:
            head = await reader.readexactly(9)
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if kind in (SETTINGS, PING) and not flags & ACK:
                writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind == HEADERS:
                writer.write(frame(HEADERS, END_STREAM | END_HEADERS, stream, self.error))

    async def _carry(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)
        self.loop.close()
        self.reservation.__exit__(None, None, None)


def go_program(source, folder):
    """Builds a file in Go in that folder, as if it were in the module of the example, for its dependencies."""
    module, go = ROOT / "examples" / "go", os.environ.get("GO", "go")
    written, overlay, program = (pathlib.Path(folder, name) for name in ("main.go", "overlay.json", "program"))
    written.write_text(source, encoding="utf-8")
    overlay.write_text(json.dumps({"Replace": {str(module / "quoted" / "main.go"): str(written)}}), encoding="utf-8")
    subprocess.run([go, "build", "-overlay", overlay, "-o", program, "./quoted"], cwd=module, check=True)
    return program


@contextlib.contextmanager
def reserved_port():
    """A port on which nobody listens, that stays ours while peers on it come and go.

    On Linux a bound socket that does not listen keeps it from the system's other uses and refuses
    connections, and with SO_REUSEADDR a peer can listen on it all the same. Elsewhere: a port that was free.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port


def recorded_frames(name, direction):
    """The frames that went one way on the first connection of a recording."""
    with open(RECORDINGS / f"{name}.frames.jsonl", encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    return [entry["raw"].encode() for entry in entries if entry.get("dir") == direction and entry["conn"] == 1 and "raw" in entry]
