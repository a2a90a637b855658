"""The README keeps its word: its commands and its clients in Python and Go are run as they stand there. What docs/clients.md has in Go
is built."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import unittest

from harness import PATIENCE_S, ROOT, OpflexPeer, Proxy, Service, TestCase, go_program, until
from test_grpcurl import GRPCURL

ADDRESS = "127.0.0.1:50051"  # as the README has it
# What the README leaves out of a file in Go.
GO_FRAME = """package main

import (
	"context"
	"fmt"
	"log"

	"git.example/opflex-peerstatus/clients/go/watch"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	ctx := context.Background()
%s}
"""


def blocks(language, page="README.md"):
    """The fenced blocks of that language in the page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


class Readme(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.peer = OpflexPeer()
        cls.addClassCleanup(cls.peer.kill)
        cls.service = Service(cls.peer.address)
        cls.addClassCleanup(cls.service.kill)
        until("the peer to be READY", lambda: "READY" in cls.peerstatus("peers", "list"))

    @classmethod
    def peerstatus(cls, *arguments):
        command = [os.environ["PEERSTATUS_BIN"], *arguments, "--server", cls.service.address]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout

    def first_output(self, command, wanted, proxy=None, **more):
        """Runs a command that does not end until it has printed `wanted` and, if the proxy that it uses is cut, `lost: `; and ends it."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
        patience = threading.Timer(PATIENCE_S, process.kill)
        patience.start()
        try:
            self.read_until(wanted, process.stdout)
            if proxy:
                proxy.cut()
                self.read_until("lost: ", process.stdout)
        finally:
            patience.cancel()
            process.kill()
            process.wait()
            process.stdout.close()

    def read_until(self, wanted, output):
        seen = []
        while not (seen and wanted in seen[-1]):
            seen.append(output.readline())
            self.assertTrue(seen[-1], f"ended before {wanted!r}: {seen}")

    def test_grpcurl_commands(self):
        commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("grpcurl ")]
        self.assertEqual(len(commands), 3)
        for line in commands:
            with self.subTest(line):
                command = shlex.split(line.replace(ADDRESS, self.service.address))
                self.first_output([GRPCURL, *command[1:]], "PEER_STATUS_READY")

    def test_commands_of_the_client(self):
        lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("peerstatus ")]
        commands = [shlex.split(line, comments=True)[1:] for line in lines]
        self.assertIn(["peers", "list"], commands)
        for command in commands:
            with self.subTest(command):
                if command == ["watch"]:
                    self.assertIn("READY", self.peerstatus(*command, "--until-synced"))
                elif "--watch" in command:
                    program = [os.environ["PEERSTATUS_BIN"], *command, "--server", self.service.address]
                    self.first_output(program, "READY")
                elif command == ["top"]:  # which needs a terminal
                    program = [os.environ["PEERSTATUS_BIN"], *command, "--server", self.service.address]
                    self.first_output(program, "standard output is not a terminal")
                elif command[0] != "serve":
                    self.assertTrue(self.peerstatus(*command))

    def test_python_client(self):
        [program] = blocks("python")
        proxy = self.enter(Proxy(self.service.address))
        self.first_output([sys.executable, "-u", "-c", program.replace(ADDRESS, proxy.address)], " READY", proxy)

    def test_go_client(self):
        [block] = blocks("go")
        with tempfile.TemporaryDirectory() as folder:
            proxy = self.enter(Proxy(self.service.address))
            program = go_program(GO_FRAME % block.replace(ADDRESS, proxy.address), folder)
            self.first_output([program], "PEER_STATUS_READY", proxy)

    def test_what_the_page_of_clients_has_in_go_is_built(self):
        [block] = blocks("go", "docs/clients.md")
        frame = GO_FRAME.replace("/insecure", "").replace('\t"fmt"\n', "")
        check = "\tif err != nil {\n\t\tlog.Fatal(err)\n\t}"
        with tempfile.TemporaryDirectory() as folder:
            go_program(frame % (block.replace("…", check) + "\tlog.Fatal(err)\n"), folder)


if __name__ == "__main__":
    unittest.main()
