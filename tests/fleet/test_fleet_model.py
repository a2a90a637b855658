"""The model of what clients of a fleet may be sent, on logs made by hand: each kind of violation is found, and nothing else."""

from __future__ import annotations

import copy
import unittest
from pathlib import Path

from fleet_model import FleetAgreement, FleetListener
from fleet_mutations import FLEET_MUTATIONS
from logs import Log
from model import Json
from mutations import undetected
from plan import View

EPOCH = "7"
CONNECTING, READY = "PEER_STATUS_CONNECTING", "PEER_STATUS_READY"
DOWN, DEGRADED, HEALTHY = "POOL_HEALTH_DOWN", "POOL_HEALTH_DEGRADED", "POOL_HEALTH_HEALTHY"
LIVE = "NODE_STATE_LIVE"


def at(sequence: int, index: int = 0) -> int:
    return sequence << 16 | index


def head(sequence: int) -> int:
    return at(sequence, 0xFFFF)


def node(name: str, epoch: str = "1", breaks: int = 0) -> Json:
    return {"name": f"nodes/{name}", "state": LIVE, "epoch": epoch, "chainBreakCount": str(breaks)}


def peer(pool: str, host: str, status: str, revision: int, transitions: int = 2) -> Json:
    return {
        "name": f"pools/{pool}/peers/{host}:8009", "pool": pool, "host": host, "port": 8009, "origin": "PEER_ORIGIN_CONFIGURED",
        "status": status, "reason": "REASON_HANDSHAKE_COMPLETE" if status == READY else "REASON_REMOTE_CLOSED",
        "revision": str(revision), "wanted": True, "transitionCount": str(transitions),
    }


def attached(revision: int, resumed: bool = False) -> Json:
    return {"revision": str(revision), "attached": {"cursor": {"epoch": EPOCH, "revision": str(revision)}, "resumed": resumed}}


def snapshot(sequence: int) -> list[Json]:
    """Two nodes with a pool each, of two peers."""
    pools = [f"{name}.default" for name in ("n1", "n2")]
    content = {
        "nodes": [node("n1"), node("n2")],
        "pools": [{"name": f"pools/{pool}", "health": HEALTHY, "readyCount": 2, "peerCount": 2} for pool in pools],
        "peers": [peer(pool, host, READY, at(1)) for pool in pools for host in ("a", "b")],
    }
    revision = head(sequence)
    cursor = {"epoch": EPOCH, "revision": str(revision)}
    return [attached(revision), {"revision": str(revision), "snapshot": content},
            {"revision": str(revision), "synced": {"cursor": cursor, "peerCount": 4}}]


def heartbeat(revision: int) -> Json:
    return {"revision": str(revision), "heartbeat": {"cursor": {"epoch": EPOCH, "revision": str(revision)}}}


def change(previous: int, revision: int, pool: str, host: str, status: str, transitions: int, health: str = "", ready: int = 0) -> Json:
    """The change of a peer between READY and CONNECTING, and of its pool's health to this one, with so many READY."""
    time = f"2026-01-01T00:00:{revision >> 16:02}.500{revision >> 16:04}Z"
    of_peer = {
        "peer": peer(pool, host, status, revision, transitions), "kind": "CHANGE_KIND_STATUS",
        "previousStatus": CONNECTING if status == READY else READY, "time": time,
    }
    content: Json = {"peer": of_peer}
    if health:
        before = {DEGRADED: HEALTHY if status == CONNECTING else DOWN, HEALTHY: DEGRADED, DOWN: DEGRADED}[health]
        content["health"] = {
            "pool": f"pools/{pool}", "previous": before, "health": health, "readyCount": ready, "peerCount": 2,
            "cause": of_peer["peer"]["name"], "time": time,
        }
    return {"revision": str(revision), "previousRevision": str(previous), "change": content}


def change_of_node(previous: int, revision: int, after: Json) -> Json:
    content = {"node": after, "previous": LIVE, "time": "2026-01-01T00:00:30Z"}
    return {"revision": str(revision), "previousRevision": str(previous), "change": {"node": content}}


BEGIN = snapshot(5)
FIRST = change(head(5), at(6), "n1.default", "a", CONNECTING, 3, DEGRADED, 1)
OTHER = change(at(6), at(8), "n2.default", "b", CONNECTING, 3, DEGRADED, 1)
BACK = change(at(8), at(9), "n1.default", "a", READY, 4, HEALTHY, 2)
GOOD = [*BEGIN, FIRST, heartbeat(head(7)), OTHER, BACK, heartbeat(head(9))]


def violations(messages: list[Json], agreement: FleetAgreement | None = None, name: str = "client") -> list[str]:
    shared = agreement or FleetAgreement()
    listener = FleetListener(name, View(), shared)
    for message in messages:
        listener.feed(message)
    listener.conclude()
    return listener.violations + shared.violations


class FleetModelTest(unittest.TestCase):
    def assert_finds(self, what: str, messages: list[Json], agreement: FleetAgreement | None = None) -> None:
        found = violations(messages, agreement)
        self.assertTrue(any(what in violation for violation in found), f"{what!r} is not in {found}")

    def assert_good(self, messages: list[Json], agreement: FleetAgreement | None = None) -> None:
        self.assertEqual(violations(messages, agreement), [])

    def test_a_good_log_violates_nothing(self) -> None:
        self.assert_good(GOOD)

    def test_a_gap_is_found(self) -> None:
        self.assert_finds("a gap", [*BEGIN, FIRST, BACK])

    def test_a_change_that_comes_twice_is_found(self) -> None:
        self.assert_finds("a duplicate", [*BEGIN, FIRST, FIRST])

    def test_a_heartbeat_before_a_change_is_found(self) -> None:
        self.assert_finds("heartbeat at revision", [*BEGIN, FIRST, heartbeat(head(5))])

    def test_a_hole_that_only_other_clients_show_is_found(self) -> None:
        agreement = FleetAgreement()
        self.assert_good(GOOD, agreement)
        later = change(at(6), at(9), "n1.default", "a", READY, 4, HEALTHY, 2)
        self.assert_finds(f"revision {at(8)} is missing, which others saw", [*BEGIN, FIRST, later], agreement)

    def test_changes_while_a_client_was_away_without_a_cursor_are_not_missing(self) -> None:
        agreement = FleetAgreement()
        self.assert_good(GOOD, agreement)
        self.assert_good([*BEGIN, FIRST, *reset_and_snapshot(9)], agreement)

    def test_changes_before_the_cursor_of_a_resumed_stream_are_missing(self) -> None:
        agreement = FleetAgreement()
        self.assert_good(GOOD, agreement)
        self.assert_finds("is missing, which others saw", [*BEGIN, FIRST, attached(head(8), resumed=True), heartbeat(head(8))], agreement)

    def test_a_transition_that_is_missing_is_found(self) -> None:
        self.assert_finds("changes are missing and nothing says so", [*BEGIN, change(head(5), at(6), "n1.default", "a", CONNECTING, 5)])

    def test_a_transition_that_is_missing_is_right_after_a_chain_break(self) -> None:
        broken = change_of_node(head(5), at(6), node("n1", breaks=1))
        self.assert_good([*BEGIN, broken, change(at(6), at(7), "n1.default", "a", CONNECTING, 5, DEGRADED, 1)])
        # Of another node it says nothing.
        self.assert_finds("changes are missing", [*BEGIN, broken, change(at(6), at(7), "n2.default", "a", CONNECTING, 5, DEGRADED, 1)])

    def test_another_process_may_be_told_at_the_end_of_its_record(self) -> None:
        moved = change(head(5), at(6), "n1.default", "a", CONNECTING, 1, DEGRADED, 1)
        self.assert_good([*BEGIN, moved, change_of_node(at(6), at(6, 1), node("n1", epoch="2"))])
        self.assert_finds("changes are missing", [*BEGIN, moved, change_of_node(at(6), at(7), node("n1", epoch="2"))])

    def test_a_health_that_is_not_that_of_its_counts_is_found(self) -> None:
        self.assert_finds("a wrong health", [*BEGIN, change(head(5), at(6), "n1.default", "a", CONNECTING, 3, DEGRADED, 2)])

    def test_counts_that_are_not_those_of_the_peers_are_found(self) -> None:
        self.assert_finds("but the peers are (1, 2)", [*BEGIN, change(head(5), at(6), "n1.default", "a", CONNECTING, 3, DOWN, 0)])

    def test_a_health_change_that_does_not_come_is_found(self) -> None:
        silent = change(head(5), at(6), "n1.default", "a", CONNECTING, 3)
        later = change(at(6), at(7), "n1.default", "b", CONNECTING, 3, DOWN, 0)
        self.assert_finds("a wrong health", [*BEGIN, silent, later])

    def test_the_health_may_follow_changes_of_other_nodes(self) -> None:
        first = change(head(5), at(6), "n1.default", "a", CONNECTING, 3)
        last = change(at(7), at(8), "n1.default", "b", CONNECTING, 3, DOWN, 0)
        last["change"]["health"]["previous"] = HEALTHY
        for part in ("peer", "health"):
            last["change"][part]["time"] = first["change"]["peer"]["time"]
        other = change(at(6), at(7), "n2.default", "b", CONNECTING, 3, DEGRADED, 1)
        self.assert_good([*BEGIN, first, other, heartbeat(head(7)), last])

    def test_another_epoch_is_found_also_while_a_stream_resumes(self) -> None:
        early = heartbeat(head(5))
        self.assert_good([*BEGIN, attached(head(5), resumed=True), early])
        early["heartbeat"]["cursor"]["epoch"] = "1"
        self.assert_finds("a silent change of epoch", [*BEGIN, attached(head(5), resumed=True), early])

    def test_a_node_whose_state_was_another_is_found(self) -> None:
        wrong = change_of_node(head(5), at(6), node("n1", breaks=1))
        wrong["change"]["node"]["previous"] = "NODE_STATE_STALE"
        self.assert_finds("it was NODE_STATE_STALE, but", [*BEGIN, wrong])

    def test_clients_that_disagree_are_found(self) -> None:
        agreement = FleetAgreement()
        self.assert_good(GOOD, agreement)
        other = copy.deepcopy(GOOD)
        other[3]["change"]["peer"]["peer"]["detail"] = "something else"
        self.assert_finds("disagreement about the peer", other, agreement)

    def test_replicas_count_chain_breaks_since_their_own_start(self) -> None:
        agreement = FleetAgreement()
        for breaks in (1, 2):
            self.assert_good([*BEGIN, change_of_node(head(5), at(6), node("n1", breaks=breaks))], agreement)

    def assert_mutations_are_found(self, messages: list[Json]) -> None:
        agreement = FleetAgreement()
        log = Log(Path("client.jsonl"), FleetListener("client", View(), agreement), Path("client.stderr"))
        log.messages = messages
        for message in log.messages:
            log.listener.feed(message)
        self.assertEqual(undetected([log], agreement, FLEET_MUTATIONS), [])

    def test_every_mutation_of_a_good_log_is_found(self) -> None:
        self.assert_mutations_are_found([*BEGIN, FIRST, OTHER, BACK])

    def test_a_log_of_nodes_alone_has_no_peers_to_be_spoiled(self) -> None:
        changes = [change_of_node(head(4 + breaks), at(5 + breaks), node("n1", breaks=breaks)) for breaks in (1, 2)]
        self.assert_mutations_are_found([*BEGIN, *changes])


def reset_and_snapshot(sequence: int) -> list[Json]:
    first, *rest = snapshot(sequence)
    return [first, {"reset": {"reason": "RESET_REASON_COMPACTED"}}, *rest]


if __name__ == "__main__":
    unittest.main()
