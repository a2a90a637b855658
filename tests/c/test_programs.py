"""Programs in C beside a service whose peers flap: many listeners, threads, forks, signals, and memory."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from support import BINARY, PROGRAMS, OpflexPeer, Program, Proxy, Server, Service, TestCase, certificates, reserved_port, until

PEERS = 5
# Under valgrind everything takes twenty times as long.
LONG_S = 600


def has(program):
    return (PROGRAMS / program).exists()


class Flapping(TestCase):
    """A service with peers of which some flap all the time."""

    def setUp(self):
        self.folder = pathlib.Path(self.enter(tempfile.TemporaryDirectory()))
        self.ports = [self.enter(reserved_port()) for _ in range(PEERS)]
        scenario = self.folder / "scenario.toml"
        flap = 'behaviour = "flap"\nevery = "20ms"\n'
        peers = [f'[[peer]]\nname = "p{n}"\nlisten = "127.0.0.1:{port}"\nlists = ["p{n}"]\n{flap if n else ""}'
                 for n, port in enumerate(self.ports)]
        scenario.write_text("\n".join(peers), encoding="utf-8")
        self.enter(Server("simulate", [BINARY, "simulate", "--scenario", scenario], first="p0 at "))
        self.port = self.enter(reserved_port())
        self.service = self.serve()

    def serve(self):
        peers = [f"127.0.0.1:{port}" for port in self.ports]
        return self.enter(Service(*peers, port=self.port))

    def run_case(self, *case, program="cases", wrapper=(), timeout=120):
        with Program([PROGRAMS / program, *case], self.service.address, wrapper=wrapper) as running:
            running.ended(timeout)
            self.assertEqual(running.lines[-1:], ["ok"])
            return running

    def test_a_thousand_listeners_come_and_go(self):
        self.run_case("cycles", 1000)

    def test_a_thousand_listeners_come_and_go_with_asan(self):
        for compiler in ("gcc", "clang"):
            if has(f"cases-asan-{compiler}"):
                with self.subTest(compiler):
                    self.run_case("cycles", 1000, program=f"cases-asan-{compiler}")

    @unittest.skipUnless(shutil.which("valgrind"), "no valgrind")
    def test_a_thousand_listeners_come_and_go_with_valgrind(self):
        memcheck = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect"]
        self.run_case("cycles", 1000, wrapper=memcheck, timeout=LONG_S)
        self.run_case("inside", 3, wrapper=memcheck, timeout=LONG_S)
        self.run_case("arguments", wrapper=memcheck, timeout=LONG_S)

    def test_a_listener_destroys_itself_within_its_callback(self):
        self.run_case("inside", 5)

    def test_listeners_come_and_go_in_eight_threads(self):
        self.run_case("threads", 50)

    def test_a_child_cannot_use_the_library_and_the_parent_goes_on(self):
        self.run_case("forks", 5)

    def test_arguments_that_are_none_are_refused(self):
        self.run_case("arguments")

    def test_the_static_library_does_the_same(self):
        self.run_case("cycles", 20, program="cases-static")

    def test_every_build_runs(self):
        for name in sorted(path.name for path in PROGRAMS.glob("cases-*")):
            with self.subTest(name):
                self.run_case("arguments", program=name)
                self.run_case("cycles", 5, program=name)

    def test_signals_are_the_program_s_and_a_lost_service_raises_none(self):
        with Program([PROGRAMS / "cases", "handlers", 200], self.service.address) as running:
            until("its listeners", lambda: running.lines[:1] == ["live"])
            self.service.kill()
            running.ended()

    def test_the_example_prints_what_happens(self):
        for name in sorted(path.name for path in PROGRAMS.glob("watch-*")):
            with self.subTest(name), Program([PROGRAMS / name], self.service.address) as running:
                until("a READY peer", lambda: any(line == f"127.0.0.1:{self.ports[0]} is READY (HANDSHAKE_COMPLETE)" for line in running.lines),
                      detail=lambda: running.lines)
                until("a health", lambda: any(line.startswith("the pool is ") for line in running.lines))
                running.process.terminate()
                running.ended()


class Outages(TestCase):
    """A service that is killed."""

    def test_a_hundred_listeners_come_back_and_get_the_state_again(self):
        count = 100
        dead, port = self.enter(reserved_port()), self.enter(reserved_port())
        peer = self.enter(reserved_port())
        simulate = [BINARY, "simulate", "--ports", str(peer)]
        self.enter(Server("simulate", simulate, first=f"127.0.0.1:{peer}"))

        def serve():
            peers = [f"127.0.0.1:{peer}", f"127.0.0.1:{dead}"]
            return self.enter(Service(*peers, port=port))

        service = serve()
        calls = {}

        def line(text):
            index, _, rest = text.partition(" ")
            if index.isdigit():
                calls.setdefault(int(index), []).append(" ".join(rest.split()[:3 if rest.startswith("peer") else 2]))

        ready, connecting = f"peer 127.0.0.1:{peer} 3", f"peer 127.0.0.1:{dead} 1"
        program = self.enter(Program([PROGRAMS / "cases", "many", count], service.address, line=line))
        until("the state", lambda: len(calls) == count and all(health(each)[-1:] == ["health 1"] for each in calls.values()),
              detail=lambda: calls)
        for each in calls.values():
            self.assertIn(ready, each)
            self.assertIn(connecting, each)
        for round_ in range(1, 3):
            service.kill()
            until("the outage", lambda r=round_: all(each.count("health -1") == r for each in calls.values()), detail=lambda: calls)
            at = {index: len(each) for index, each in calls.items()}
            service = serve()
            until("the state again", lambda: all(each[-1:] == ["health 1"] for each in calls.values()), detail=lambda: calls)
            for index, each in calls.items():
                since = each[at[index]:]
                # The service may be asked before its peer is READY again.
                self.assertEqual(set(since[:2]) & {connecting}, {connecting}, since)
                self.assertEqual(since[-1], "health 1", since)
                self.assertIn(ready, since)
                self.assertNotIn("health -1", since)
        program.close_input()
        program.ended()

    def test_changes_during_a_lost_connection_are_called_back_once_and_in_order(self):
        count = 100
        port = self.enter(reserved_port())
        peer = self.enter(OpflexPeer(port=port))
        service = self.enter(Service(f"127.0.0.1:{port}"))
        proxy = self.enter(Proxy(service.address))
        calls = {}

        def line(text):
            index, _, rest = text.partition(" ")
            if index.isdigit():
                calls.setdefault(int(index), []).append(" ".join(rest.split()[:3 if rest.startswith("peer") else 2]))

        program = self.enter(Program([PROGRAMS / "cases", "many", count], proxy.address, line=line))
        until("the state", lambda: len(calls) == count and all(each[-1] == "health 2" for each in calls.values()), detail=lambda: calls)
        proxy.cut()
        until("the outage", lambda: all(each[-1] == "health -1" for each in calls.values()), detail=lambda: calls)
        at = {index: len(each) for index, each in calls.items()}
        peer.kill()
        peer = self.enter(OpflexPeer(port=port))

        def is_ready():
            command = [BINARY, "peers", "get", f"127.0.0.1:{port}", "-o", "json", "--server", service.address]
            got = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            return got["status"] == "PEER_STATUS_READY" and int(got["flapCount"]) == 1

        until("READY again", is_ready)
        proxy.mend()
        missed = [f"peer 127.0.0.1:{port} 1", "health 0", f"peer 127.0.0.1:{port} 2", f"peer 127.0.0.1:{port} 3", "health 2"]
        until("what was missed", lambda: all(len(each) >= at[index] + len(missed) for index, each in calls.items()), detail=lambda: calls)
        # What would be repeated comes before the next change.
        peer.kill()
        then = missed + missed[:2]
        until("the next change", lambda: all(each[-1] == "health 0" and len(each) >= at[index] + len(then) for index, each in calls.items()),
              detail=lambda: calls)
        program.close_input()
        program.ended()
        for index, each in calls.items():
            self.assertEqual(each[at[index]:], then)

    def test_a_service_that_is_late_is_an_error_once(self):
        port = self.enter(reserved_port())
        lines = []
        program = self.enter(Program([PROGRAMS / "cases", "many", 1], f"127.0.0.1:{port}", line=lines.append))
        until("the error", lambda: len(lines) == 1)
        self.assertEqual(lines, [f"0 health -1 cannot reach the service at 127.0.0.1:{port}: connection refused"])
        self.enter(Service(port=port))
        until("the state", lambda: lines[1:] == ["0 health 0 "], detail=lambda: lines)
        program.close_input()
        program.ended()

    def test_a_stopped_service_is_an_error_and_its_return_the_state(self):
        port = self.enter(reserved_port())
        service = self.enter(Service(port=port))
        lines = []
        program = self.enter(Program([PROGRAMS / "cases", "many", 1], f"127.0.0.1:{port}", line=lines.append))
        until("the state", lambda: lines == ["0 health 0 "])
        service.stop()
        until("the error", lambda: len(lines) == 2 and lines[1].startswith("0 health -1 "), detail=lambda: lines)
        self.enter(Service(port=port))
        until("the state again", lambda: lines[2:] == ["0 health 0 "], detail=lambda: lines)
        program.close_input()
        program.ended()


def health(lines):
    return [line for line in lines if line.startswith("health")]


@unittest.skipUnless(shutil.which("openssl"), "no openssl to make certificates with")
class Settings(TestCase):
    def test_tls_a_token_and_a_socket(self):
        folder = pathlib.Path(self.enter(tempfile.TemporaryDirectory()))
        certificates(folder)
        made = subprocess.run([BINARY, "token", "new", "ci", "--role", "viewer", "-o", "json"], check=True, capture_output=True, text=True)
        token = json.loads(made.stdout)
        (folder / "ci.token").write_text(token["token"] + "\n", encoding="utf-8")
        (folder / "tokens").write_text(token["line"] + "\n", encoding="utf-8")
        config = folder / "peerstatus.toml"
        config.write_text(f'[server.tls]\ncert = "{folder}/server.pem"\nkey = "{folder}/server.key"\n'
                          f'[server.auth]\ntokens = "{folder}/tokens"\n[server.socket]\npath = "{folder}/socket"\n', encoding="utf-8")
        service = self.enter(Service(options=["--config", str(config)]))
        server, token = f"https://{service.address}", str(folder / "ci.token")

        def first_health(*settings):
            with Program([PROGRAMS / "cases", "settings", *settings], "127.0.0.1:1") as running:
                running.ended()
                return running.lines[0]

        self.assertEqual(first_health("server", server, "ca", f"{folder}/ca.pem", "token", token), "0 health 0 ")
        self.assertEqual(first_health("server", f"unix:{folder}/socket", "token", token), "0 health 0 ")
        self.assertIn("is not signed by a known authority", first_health("server", server, "ca", f"{folder}/other.pem", "token", token))
        self.assertIn("CREDENTIALS_MISSING", first_health("server", server, "ca", f"{folder}/ca.pem"))
        self.assertIn("BAD_FILTER", first_health("server", f"unix:{folder}/socket", "token", token, "pool", ""))


class Library(unittest.TestCase):
    def test_only_our_symbols_are_exported_and_each_has_a_version(self):
        library = pathlib.Path(os.environ.get("C_LIBRARY") or PROGRAMS.parent / "built") / "lib" / "libopflex-peerstatus.so"
        names = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
        names = [line.split()[-1] for line in names.splitlines() if " A " not in line]
        self.assertTrue(names)
        for name in names:
            self.assertRegex(name, r"^(ofpeerstatuslistener|ofps)_\w+@@OPFLEX_PEERSTATUS_0\.1$")
        dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
        self.assertIn("Library soname: [libopflex-peerstatus.so.0]", dynamic)


if __name__ == "__main__":
    unittest.main()
