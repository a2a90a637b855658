"""An unchanged program for the reference's C API sees the statuses of the recordings, in their order.

Each recording in `../golden/*.callbacks.jsonl` is played: its events start and end OpFlex peers, and at each of them the program has
to have been called with what the reference called back until then. Where the service differs on purpose, DIFFERENCES says how, with
the row of `docs/opflex-conformance.md` that has the reason. What differs in every recording:

- The present state is called back first: the health DOWN, which the reference does not announce (section 7 of its notes).
- 11.1: a peer that leaves is DISCONNECTED after CLOSING.
- 11.3, 11.4: the health at the end is that of the peers that are left, and so ends at DOWN.
- 11.6: the order between peers is that of the reference's hash map, so peers are compared one by one, each with the order of its own.
"""

import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from support import BINARY, RECORDINGS, OpflexPeer, Reference, Server, Service, TestCase, certificates, reserved_port, until

CODES = {"DISCONNECTED": 0, "CONNECTING": 1, "CONNECTED": 2, "READY": 3, "CLOSING": 4}
HEALTH = {"DOWN": 0, "DEGRADED": 1, "HEALTHY": 2}

# What is expected instead, for peers by their letter, and for the health until the reference stops.
DIFFERENCES = {
    # 7.24: a learned peer that fails stays in its pool, where the reference gives it up and learns it again.
    "d-bootstrap-B-never-up": {"B": ["CONNECTING", "CLOSING"]},
    # 5.3, 7.21: CONNECTED comes after TLS, which never succeeds here.
    "h3-tls-verify-wrong-ca": {"A": ["CONNECTING", "CLOSING"]},
    # The stub of this recording took one more connection while it was killed.
    "l-50-dead-then-up": {"S24028": ["CONNECTING", "CONNECTED", "READY", "CONNECTING", "CLOSING"]},
}

# How each recording is played: the letters of its peers, who of them is configured (the others are learned), and options.
PLAYS = {
    "a2-server-killed-restarted-direct": {"peers": {"A": 21012}},
    "b-late-server": {"peers": {"A": 21021}},
    "c-bootstrap-discovery": {"peers": {"A": 21031, "B": 21032}, "learned": "B"},
    "d-bootstrap-B-never-up": {"peers": {"A": 21041, "B": 21042}, "learned": "B"},
    "g-two-configured": {"peers": {"A": 21081, "B": 21082}},
    "h2-tls-verify-right-ca": {"peers": {"A": 22002}, "tls": "right"},
    "h3-tls-verify-wrong-ca": {"peers": {"A": 22003}, "tls": "wrong"},
    # With a timer of 45 s, and of 120 s, which are a second here.
    "i2-handshake-silent-default": {"peers": {"A": 21092}, "behaviour": "silent", "timers": {"handshake": "1s"}},
    "j2-silent-after-handshake-default120s": {"peers": {"A": 21094}, "behaviour": "mute", "timers": {"keepalive": "1s", "echo": "500ms"}},
    "l-50-dead-then-up": {"peers": {f"S{port}": port for port in range(24000, 24050)}},
    "o1-stop-two-ready": {"peers": {"A": 21111, "B": 21112}},
}


# A kill is recorded when it is done, and so after the callbacks that it has caused.
KILL_MS = 10


def recording(name):
    """The entries of a recording, a kill before what it has caused."""
    with open(RECORDINGS / f"{name}.callbacks.jsonl", encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    for index, entry in enumerate(entries):
        if "killed" in entry.get("event", ""):
            while "event" not in entries[index - 1] and entry["t"] - entries[index - 1]["t"] <= KILL_MS:
                entries[index - 1], entries[index] = entries[index], entries[index - 1]
                index -= 1
    return entries


class Play:
    """One recording, played."""

    def __init__(self, test, name, header):
        self.test, self.name, self.play = test, name, PLAYS[name]
        self.entries = recording(name)
        self.folder = pathlib.Path(test.enter(tempfile.TemporaryDirectory()))
        self.ports = {letter: test.enter(reserved_port()) for letter in self.play["peers"]}
        self.letters = {f"127.0.0.1:{port}": letter for letter, port in self.play["peers"].items()}
        self.running = {}
        if "tls" in self.play:
            certificates(self.folder)
        self.service = test.enter(Service(options=["--config", self.config()]))
        self.program = test.enter(Reference(header, self.service.address))
        # As far as the recording was played.
        self.expected, self.expected_health = {letter: [] for letter in self.ports}, ["DOWN"]

    def config(self):
        configured = [port for letter, port in self.ports.items() if letter not in self.play.get("learned", "")]
        lines = ["[[pool]]", f"peers = {json.dumps([f'127.0.0.1:{port}' for port in configured])}", "[pool.timers]"]
        lines += [f'{timer} = "{time}"' for timer, time in self.play.get("timers", {}).items()]
        if "tls" in self.play:
            authority = "ca.pem" if self.play["tls"] == "right" else "other.pem"
            lines += ["[pool.tls]", 'mode = "verify"', f'ca = "{self.folder / authority}"']
        path = self.folder / "peerstatus.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    def start(self, letter):
        port = self.ports[letter]
        if "tls" in self.play or "behaviour" in self.play:
            peer = f'[[peer]]\nname = "a"\nlisten = "127.0.0.1:{port}"\ntls = {json.dumps("tls" in self.play)}\n'
            scenario = self.folder / "scenario.toml"
            scenario.write_text(peer + f'behaviour = "{self.play.get("behaviour", "normal")}"\n', encoding="utf-8")
            options = ["--tls-cert", self.folder / "server.pem", "--tls-key", self.folder / "server.key"] if "tls" in self.play else []
            process = Server("simulate", [BINARY, "simulate", "--scenario", scenario, *options], first="a at ")
        else:
            listed = [f"127.0.0.1:{self.ports[other]}" for other in self.ports] if letter[0] != "S" else []
            process = OpflexPeer(port=port, peers=listed if len(listed) > 1 else [])
        self.running[letter] = self.test.enter(process)

    def event(self, text):
        """Does what happened to the peers in the recording."""
        action = re.fullmatch(r"(?:server|stub) (\w) start.*|(\w) killed", text)
        if action:
            letter = action[1] or action[2]
            for each in self.ports if letter == "S" else letter:
                if action[2]:
                    self.running.pop(each).kill()
                else:
                    self.start(each)

    def run(self):
        # Those that ran before the reference started are started after it, so that nothing happens before the program listens.
        until("the present state", lambda: self.program.health == [0])
        for entry in self.entries:
            if entry.get("event") == "stop":
                break
            if "peer" in entry:
                self.expected[self.letters[entry["peer"]]].append(entry["status"])
            elif "health" in entry:
                self.expected_health.append(entry["health"])
            elif "event" in entry:
                self.check()
                self.event(entry["event"])
        self.check()
        self.stop()

    def check(self):
        until(f"{self.name} as far as {self.wanted()}", lambda: self.program.is_past(self.wanted()), detail=self.program.calls)

    def wanted(self):
        peers = {f"127.0.0.1:{self.ports[letter]}": self.codes(letter, statuses) for letter, statuses in self.expected.items()}
        return peers, [HEALTH[health] for health in self.expected_health]

    def codes(self, letter, statuses):
        instead = DIFFERENCES.get(self.name, {}).get(letter)
        if instead is not None:
            statuses = instead[: min(len(statuses), len(instead) - 1)]
        return [CODES[status] for status in statuses]

    def stop(self):
        """The reference stops: each of its peers is CLOSING. Here it is removed."""
        for letter, port in self.ports.items():
            if letter in self.play.get("learned", ""):
                continue
            command = [BINARY, "peers", "remove", f"127.0.0.1:{port}", "--server", self.service.address]
            subprocess.run(command, check=True, capture_output=True, timeout=20)
        until("the end of all peers", lambda: all(found[-1:] == [0] for found in self.program.peers.values()) and self.program.health[-1] == 0,
              detail=self.program.calls)
        for address, found in self.program.peers.items():
            self.test.assertEqual(found[-2:], [CODES["CLOSING"], CODES["DISCONNECTED"]], address)
        self.test.assertEqual(set(self.program.peers), {f"127.0.0.1:{port}" for port in self.ports.values()})
        self.program.end()


class Recordings(TestCase):
    def play(self, name, header="ours"):
        if "tls" in PLAYS[name] and not shutil.which("openssl"):
            self.skipTest("no openssl to make certificates with")
        Play(self, name, header).run()

    def test_every_recording_is_played(self):
        names = {path.name.removesuffix(".callbacks.jsonl") for path in RECORDINGS.glob("*.callbacks.jsonl")}
        self.assertEqual(names, set(PLAYS))

    def test_the_framework_s_own_name_of_the_header(self):
        self.play("a2-server-killed-restarted-direct", header="compat")

    def test_transport_mode_and_a_minute_of_keepalives_are_one_ready_peer(self):
        # Recordings of frames alone: the program sees a peer that becomes READY.
        for name, mode in [("n1-transport-proxies", "transport"), ("q2-ping-ok-60s", "stitched")]:
            with self.subTest(name), contextlib.ExitStack() as stack:
                folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
                port = stack.enter_context(reserved_port())
                config = folder / "peerstatus.toml"
                config.write_text(f'[[pool]]\nmode = "{mode}"\npeers = ["127.0.0.1:{port}"]\n', encoding="utf-8")
                service = stack.enter_context(Service(options=["--config", str(config)]))
                program = stack.enter_context(Reference("ours", service.address))
                until("the present state", lambda: program.health == [0])
                stack.enter_context(OpflexPeer(port=port, recording=RECORDINGS / f"{name}.frames.jsonl"))
                until("READY", lambda: program.is_past(({f"127.0.0.1:{port}": [1, 2, 3]}, [0, 2])), detail=program.calls)
                program.end()


for each in PLAYS:
    setattr(Recordings, "test_" + re.sub(r"\W", "_", each), lambda self, name=each: self.play(name))

if __name__ == "__main__":
    unittest.main()
