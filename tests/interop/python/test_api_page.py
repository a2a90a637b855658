"""docs/api.md keeps its word: its commands are run in its order, and must be answered as it shows."""

import json
import os
import re
import shlex
import subprocess
import time
import unittest

from harness import PATIENCE_S, ROOT, Process, Service, TestCase, reserved_port
from test_grpcurl import GRPCURL, POOL, STATUS

# A command, and the answer that follows it, if one does: documents, or what grpcurl says of an error.
STEP = re.compile(r"^```sh\n(.*?)^```\n(?:\n```(json|text)\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
# What differs from run to run. The names must be there all the same.
VARIES = {
    *("epoch", "revision", "previousRevision", "lag", "nextPageToken", "consecutiveFailures", "client"),
    *("time", "statusSince", "lastReadyTime", "healthSince", "createTime", "expireTime"),
}
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


def differences(shown, got, at="answer"):
    """Where an answer is not as the page shows it."""
    if isinstance(shown, dict) and isinstance(got, dict):
        unlike = [f"{at}: {name} is only in one of them" for name in sorted(shown.keys() ^ got.keys())]
        names = [name for name in shown.keys() & got.keys() if name not in VARIES]
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


if __name__ == "__main__":
    unittest.main()
