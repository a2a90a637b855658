"""docs/api.md keeps its word: its commands are run in its order, and must be answered as it shows, and its programs work."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import time
import unittest

import grpc

from client import Client
from harness import PATIENCE_S, ROOT, Process, Service, TestCase, go_program, reserved_port
from test_grpcurl import GRPCURL, POOL, STATUS

# A command, and the answer that follows it, if one does: documents, or what grpcurl says of an error.
STEP = re.compile(r"^```sh\n(.*?)^```\n(?:\n```(json|text)\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
# What differs from run to run. The names must be there all the same.
VARIES = {
    *("epoch", "revision", "previousRevision", "lag", "nextPageToken", "consecutiveFailures", "client"),
    *("time", "statusSince", "lastReadyTime", "healthSince", "createTime", "expireTime"),
    *("notReadySince", "notHealthySince", "failureCount", "flapCount"),
}
# What need not be there: an echo takes a moment to come back.
OPTIONAL = {"echoRtt"}
EPHEMERAL = re.compile(r"listeners/[0-9a-f]{16}")
# A peer that was added may have been dialled before anybody can look.
SAME = {"REASON_DIALING": "REASON_ADDED"}


def documents(text):
    decoder, at, found = json.JSONDecoder(), 0, []
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


def as_added(peer):
    """Takes from a peer that was just added what its first attempt has changed, which may have failed before the answer."""
    if peer["reason"] == "REASON_CONNECT_FAILED":
        peer["reason"] = "REASON_ADDED"
        for name in ("detail", "consecutiveFailures", "failureCount", "lastFailure"):
            del peer[name]


def differences(shown, got, at="answer"):
    """Where an answer is not as the page shows it."""
    if isinstance(shown, dict) and isinstance(got, dict):
        unlike = [f"{at}: {name} is only in one of them" for name in sorted((shown.keys() ^ got.keys()) - OPTIONAL)]
        names = [name for name in shown.keys() & got.keys() if name not in VARIES | OPTIONAL]
        return unlike + [found for name in names for found in differences(shown[name], got[name], f"{at}.{name}")]
    if isinstance(shown, list) and isinstance(got, list) and len(shown) == len(got):
        return [found for i, pair in enumerate(zip(shown, got)) for found in differences(*pair, f"{at}[{i}]")]
    if all(isinstance(value, str) and EPHEMERAL.fullmatch(value) for value in (shown, got)):
        return []
    if isinstance(shown, str) and isinstance(got, str):
        shown, got = SAME.get(shown, shown), SAME.get(got, got)
    return [] if shown == got else [f"{at}: {shown!r} is {got!r}"]


def cursors(value):
    """The epochs and revisions in an answer, in its order."""
    if isinstance(value, list):
        return [found for entry in value for found in cursors(entry)]
    if not isinstance(value, dict):
        return []
    own = [value["epoch"], value["revision"]] if value.keys() == {"epoch", "revision"} else []
    return own + cursors(list(value.values()))


class ApiPage(TestCase):
    def setUp(self):
        self.steps = STEP.findall((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
        simulate, serve = self.steps.pop(0)[0].splitlines()
        self.assertEqual(simulate, "peerstatus simulate --ports 18009-18010")
        binary = os.environ["PEERSTATUS_BIN"]
        peers = self.enter(Process("simulated peers", [binary, "simulate", "--ports", "0,0"]))
        up = [peers.until_line("a peer", lambda line: line.endswith(" up"))[-1] for _ in range(2)]
        ports = sorted(int(line.removesuffix(" up").rpartition(":")[2]) for line in up)
        ports.append(self.enter(reserved_port()))
        # What the page has, and what this run has in its place.
        self.ours = {str(18009 + i): str(port) for i, port in enumerate(ports)}
        _, command, *options = shlex.split(self.translated(serve))
        self.assertEqual(command, "serve")
        self.service = self.enter(Service(options=options))
        self.ours["50051"] = str(self.service.port)

    def translated(self, text):
        return re.sub(r"\d+", lambda number: self.ours.get(number[0], number[0]), text)

    def run_it(self, command):
        name, *arguments = shlex.split(command)
        self.assertEqual(name, "grpcurl")
        return subprocess.run([GRPCURL, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)

    def check(self, command, kind, answer):
        """What is different. Epochs and revisions of the page are ours from then on, where a command has them."""
        quoted = re.sub(r'"(\d+)"', lambda number: f'"{self.cursors.get(number[1], number[1])}"', self.translated(command))
        result = self.run_it(quoted)
        answer = self.translated(answer)
        if kind == "text":
            said = [re.sub(r'"revision": "\d+"', "", " ".join(text.split())) for text in (answer, result.stderr)]
            return [] if result.returncode and said[0] == said[1] else [f"exit {result.returncode}: {result.stdout}{result.stderr}"]
        if result.returncode:
            return [f"exit {result.returncode}: {result.stderr}"]
        shown, got = documents(answer), documents(result.stdout)
        if command.rstrip().endswith("/AddPeer"):
            for document in got:
                as_added(document["peer"])
        unlike = differences(shown, got)
        if not unlike:
            self.cursors.update(zip(cursors(shown), cursors(got)))
        return unlike

    def test_commands_are_answered_as_shown(self):
        self.cursors = {}
        for command, kind, answer in self.steps:
            self.assertTrue(answer, f"no answer is shown to {command}")
            # What takes a moment to become so; the others change something, or know when to answer.
            reads = re.search(r"Service/(Get|List)", command)
            deadline = time.monotonic() + (PATIENCE_S if reads else 0)
            while unlike := self.check(command, kind, answer):
                if time.monotonic() >= deadline:
                    self.fail("\n".join([command, *unlike]))
                time.sleep(0.05)

    def test_every_method_is_shown(self):
        shown = set(re.findall(r"opflex\.peerstatus\.v1\.\w+/\w+", "".join(command for command, _, _ in self.steps)))
        listed = [self.run_it(f"grpcurl -plaintext {self.service.address} list {name}").stdout.split() for name in (STATUS, POOL)]
        self.assertEqual(shown, {"/".join(method.rsplit(".", 1)) for methods in listed for method in methods})


GO_FRAME = """package main

import (
	"context"
	"fmt"
	"os"
	"time"

	v1 "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

%s
func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		_, err = v1.NewPeerStatusServiceClient(connection).CreateListener(context.Background(), &v1.CreateListenerRequest{})
	}
	fmt.Println(explained(err))
}
"""
NODE_FRAME = """import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

%s
const file = loadSync("opflex/peerstatus/v1/peer_status_service.proto", { includeDirs: ["../../proto"] });
const { PeerStatusService } = grpc.loadPackageDefinition(file).opflex.peerstatus.v1;
const client = new PeerStatusService(process.argv[1], grpc.credentials.createInsecure());
client.createListener({}, (error) => { console.log(...explained(error)); client.close(); });
"""


class ErrorsInAProgram(TestCase):
    """Each language reads the details of an error as the page says: here of a service that has all its listeners."""

    def setUp(self):
        page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
        self.blocks = dict(re.findall(r"^```(python|go|js)\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
        folder = self.enter(tempfile.TemporaryDirectory())
        config = pathlib.Path(folder, "config.toml")
        config.write_text("[limits]\nmax_listeners = 1\n", encoding="utf-8")
        self.service = self.enter(Service(options=["--config", str(config)]))
        self.client = self.enter(Client(self.service.address))
        self.client.create()

    def said(self, command, **more):
        command = [*command, self.service.address]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True, **more).stdout.strip()

    def test_in_python(self):
        page = {}
        exec(self.blocks["python"], page)
        with self.assertRaises(grpc.RpcError) as refused:
            self.client.create()
        self.assertEqual(page["explained"](refused.exception), ("LISTENER_QUOTA", 5))

    def test_in_go(self):
        folder = self.enter(tempfile.TemporaryDirectory())
        program = go_program(GO_FRAME % self.blocks["go"], folder)
        self.assertEqual(self.said([program]), "LISTENER_QUOTA 5s")

    def test_in_node(self):
        program = [os.environ.get("NODE", "node"), "--input-type=module", "--eval", NODE_FRAME % self.blocks["js"]]
        self.assertEqual(self.said(program, cwd=ROOT / "examples" / "node"), "LISTENER_QUOTA 5000")


if __name__ == "__main__":
    unittest.main()
