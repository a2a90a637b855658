"""grpcurl against the real service: everything by reflection, as a person at a shell would do it."""

import json
import os
import re
import shutil
import subprocess
import unittest

from harness import PATIENCE_S, ROOT, OpflexPeer, Service, until

GRPCURL = os.environ.get("GRPCURL") or shutil.which(str(ROOT / ".tools" / "bin" / "grpcurl")) or "grpcurl"
STATUS = "opflex.peerstatus.v1.PeerStatusService"
POOL = "opflex.peerstatus.v1.PoolService"
NOT_FOUND_EXIT_CODE = 64 + 5  # grpcurl: 64 + the status code


def documents(text):
    """The JSON documents that grpcurl prints one after the other, with names as in the proto files."""

    def as_in_proto(pairs):
        return {re.sub("[A-Z]", lambda capital: "_" + capital[0].lower(), name): value for name, value in pairs}

    decoder, at, found = json.JSONDecoder(object_pairs_hook=as_in_proto), 0, []
    while at < len(text):
        document, end = decoder.raw_decode(text, at)
        found.append(document)
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found


class Grpcurl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.peer = OpflexPeer()
        cls.addClassCleanup(cls.peer.kill)
        cls.service = Service(cls.peer.address)
        cls.addClassCleanup(cls.service.kill)
        cls.peer_name = f"pools/default/peers/{cls.peer.address}"
        until("the peer to be READY", lambda: cls.call(POOL, "GetPeer", name=cls.peer_name)[0]["peer"]["status"] == "PEER_STATUS_READY")

    @classmethod
    def run_it(cls, *arguments):
        return subprocess.run([GRPCURL, "-plaintext", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)

    @classmethod
    def call(cls, service, method, /, **request):
        body = ["-d", json.dumps(request)] if request else []
        result = cls.run_it(*body, cls.service.address, f"{service}/{method}")
        assert result.returncode == 0, f"{method}: exit {result.returncode}\n{result.stderr}"
        return documents(result.stdout)

    def test_lists_and_describes_the_services(self):
        services = self.run_it(self.service.address, "list").stdout.split()
        for expected in [STATUS, POOL, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]:
            self.assertIn(expected, services)
        methods = self.run_it(self.service.address, "list", STATUS).stdout.split()
        self.assertEqual(methods, [f"{STATUS}.{m}" for m in ["CreateListener", "DestroyListener", "GetListener", "ListListeners", "WatchPeerStatus"]])
        self.assertIn("rpc WatchPeerStatus", self.run_it(self.service.address, "describe", STATUS).stdout)

    def test_reads_pools_and_peers(self):
        [pools] = self.call(POOL, "ListPools")
        self.assertEqual([(p["name"], p["health"]) for p in pools["pools"]], [("pools/default", "POOL_HEALTH_HEALTHY")])
        [pool] = self.call(POOL, "GetPool", name="pools/default")
        self.assertEqual((pool["pool"]["peer_count"], pool["pool"]["ready_count"]), (1, 1))
        [peers] = self.call(POOL, "ListPeers")
        self.assertEqual([p["name"] for p in peers["peers"]], [self.peer_name])
        [got] = self.call(POOL, "GetPeer", name=self.peer_name)
        self.assertEqual(got["peer"], peers["peers"][0])

    def test_adds_resets_and_removes_peers(self):
        with OpflexPeer() as peer, Service() as service:

            def call(method, **request):
                result = self.run_it("-d", json.dumps(request), service.address, f"{POOL}/{method}")
                return documents(result.stdout)[0] if result.returncode == 0 else result

            added = call("AddPeer", parent="pools/default", host="127.0.0.1", port=peer.port)["peer"]
            self.assertEqual((added["name"], added["origin"]), (f"pools/default/peers/{peer.address}", "PEER_ORIGIN_CONFIGURED"))
            until("the peer to be READY", lambda: call("GetPeer", name=added["name"])["peer"]["status"] == "PEER_STATUS_READY")
            self.assertEqual(call("ResetPeers", scope="RESET_SCOPE_NAMED", names=[added["name"]]), {"reset_count": 1})
            until("the peer to be READY again", lambda: call("GetPeer", name=added["name"])["peer"]["status"] == "PEER_STATUS_READY")
            self.assertEqual(call("RemovePeer", name=added["name"]), {})
            gone = until("the peer to be gone", lambda: (answer := call("GetPeer", name=added["name"])) and not isinstance(answer, dict) and answer)
            self.assertEqual(gone.returncode, NOT_FOUND_EXIT_CODE, gone.stderr)
            self.assertIn("PEER_NOT_FOUND", gone.stderr)

    def test_keeps_listeners(self):
        [created] = self.call(STATUS, "CreateListener", listener_id="from-grpcurl", user_data="AP8=")
        name = created["listener"]["name"]
        self.assertEqual(name, "listeners/from-grpcurl")
        [got] = self.call(STATUS, "GetListener", name=name)
        self.assertEqual((got["listener"]["user_data"], got["listener"]["state"]), ("AP8=", "LISTENER_STATE_DETACHED"))
        [listed] = self.call(STATUS, "ListListeners")
        self.assertIn(name, [listener["name"] for listener in listed["listeners"]])
        self.call(STATUS, "DestroyListener", name=name)
        again = self.run_it("-d", json.dumps({"name": name}), self.service.address, f"{STATUS}/DestroyListener")
        self.assertEqual(again.returncode, NOT_FOUND_EXIT_CODE, again.stderr)
        self.assertIn("LISTENER_NOT_FOUND", again.stderr)

    def test_watches_up_to_now(self):
        attached, snapshot, synced = self.call(STATUS, "WatchPeerStatus", stop_after_sync=True)
        self.assertIn("attached", attached)
        self.assertEqual([(p["name"], p["status"]) for p in snapshot["snapshot"]["peers"]], [(self.peer_name, "PEER_STATUS_READY")])
        self.assertEqual(synced["synced"]["peer_count"], 1)

    def test_watches_live_without_a_body(self):
        command = [GRPCURL, "-plaintext", "-max-time", str(PATIENCE_S), self.service.address, f"{STATUS}/WatchPeerStatus"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as watch:
            try:
                seen = ""
                while '"synced"' not in seen:
                    line = watch.stdout.readline()
                    self.assertTrue(line, f"the watch ended before it was in sync:\n{seen}")
                    seen += line
                self.assertIn('"attached"', seen)
                self.assertIsNone(watch.poll(), "a watch must not end by itself")
            finally:
                watch.kill()

    def test_asks_for_the_health_of_the_service(self):
        self.assertEqual(self.call("grpc.health.v1.Health", "Check"), [{"status": "SERVING"}])
        self.assertEqual(self.call("grpc.health.v1.Health", "Check", service="pools/default"), [{"status": "SERVING"}])
        # By hand: to `documents` the keys would be names of fields.
        listed = json.loads(self.run_it(self.service.address, "grpc.health.v1.Health/List").stdout)
        self.assertEqual(listed["statuses"], {name: {"status": "SERVING"} for name in ["", STATUS, POOL, "pools/default"]})


if __name__ == "__main__":
    unittest.main()
