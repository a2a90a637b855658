"""The README keeps its word: its commands and its clients in Python and Go are run as they stand there."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

from harness import PATIENCE_S, ROOT, OpflexPeer, Service, go_program, until
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


def blocks(language):
    """The fenced blocks of that language in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


class Readme(unittest.TestCase):
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

    def first_output(self, command, wanted, **more):
        """Runs a command that does not end until it has printed `wanted`, and ends it."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
        try:
            seen = []
            until(f"{wanted!r} from {command}", lambda: seen.append(process.stdout.readline()) or wanted in seen[-1] or not seen[-1])
            self.assertIn(wanted, seen[-1], "".join(seen))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

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
        self.first_output([sys.executable, "-u", "-c", program.replace(ADDRESS, self.service.address)], " READY")

    def test_go_client(self):
        [block] = blocks("go")
        with tempfile.TemporaryDirectory() as folder:
            program = go_program(GO_FRAME % block.replace(ADDRESS, self.service.address), folder)
            self.first_output([program], "PEER_STATUS_READY")


if __name__ == "__main__":
    unittest.main()
