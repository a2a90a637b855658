"""The model of what clients may be sent, on logs made by hand: each kind of violation is found, and nothing else."""

from __future__ import annotations

import copy
import unittest
from pathlib import Path
from typing import Any

from logs import Log
from model import Agreement, Listener
from mutations import MUTATIONS, undetected
from plan import View

EPOCH, OTHER_EPOCH = "7", "8"
POOL = "pools/default"
CONNECTING, READY, CLOSING = "PEER_STATUS_CONNECTING", "PEER_STATUS_READY", "PEER_STATUS_CLOSING"
DOWN, DEGRADED, HEALTHY = "POOL_HEALTH_DOWN", "POOL_HEALTH_DEGRADED", "POOL_HEALTH_HEALTHY"
REASONS = {CONNECTING: "REASON_REMOTE_CLOSED", READY: "REASON_HANDSHAKE_COMPLETE", CLOSING: "REASON_RESET"}

Json = dict[str, Any]


def peer(host: str, status: str, revision: int) -> Json:
    return {
        "name": f"{POOL}/peers/{host}:8009", "pool": "default", "host": host, "port": 8009, "origin": "PEER_ORIGIN_CONFIGURED",
        "status": status, "reason": REASONS[status], "revision": str(revision), "wanted": status != CLOSING,
    }


def attached(revision: int, resumed: bool = False, epoch: str = EPOCH) -> Json:
    return {"revision": str(revision), "attached": {"cursor": {"epoch": epoch, "revision": str(revision)}, "resumed": resumed}}


def snapshot(revision: int, health: str = HEALTHY) -> Json:
    pool = {"name": POOL, "health": health, "readyCount": 2, "peerCount": 2}
    return {"revision": str(revision), "snapshot": {"peers": [peer("a", READY, 1), peer("b", READY, 2)], "pools": [pool]}}


def synced(revision: int, peers: int = 2, epoch: str = EPOCH) -> Json:
    return {"revision": str(revision), "synced": {"cursor": {"epoch": epoch, "revision": str(revision)}, "peerCount": peers}}


def heartbeat(revision: int, epoch: str = EPOCH) -> Json:
    return {"revision": str(revision), "heartbeat": {"cursor": {"epoch": epoch, "revision": str(revision)}}}


def reset(reason: str) -> Json:
    return {"reset": {"reason": f"RESET_REASON_{reason}"}}


def change(revision: int, host: str, before: str, status: str, health: tuple[str, str, int, int] | None = None) -> Json:
    """The change of a peer; `health`: the pool's health before and now, READY and wanted peers."""
    time = f"2026-01-01T00:00:{revision:02}.500{revision:04}Z"
    of_peer = {"peer": peer(host, status, revision), "kind": "CHANGE_KIND_STATUS", "previousStatus": before, "time": time}
    content: Json = {"peer": of_peer}
    if health:
        previous, now, ready, wanted = health
        content["health"] = {
            "pool": POOL, "previous": previous, "health": now, "readyCount": ready, "peerCount": wanted,
            "cause": f"{POOL}/peers/{host}:8009", "time": time,
        }
    return {"revision": str(revision), "previousRevision": str(revision - 1), "change": content}


BEGIN = [attached(5), snapshot(5), synced(5)]
LOSS = change(6, "a", READY, CONNECTING, (HEALTHY, DEGRADED, 1, 2))
CLOSE = change(7, "b", READY, CLOSING, (DEGRADED, DOWN, 0, 1))
RETURN = change(8, "a", CONNECTING, READY, (DOWN, HEALTHY, 1, 1))
GOOD = [*BEGIN, LOSS, CLOSE, heartbeat(7), RETURN, heartbeat(8)]


def violations(messages: list[Json], agreement: Agreement | None = None, name: str = "client") -> list[str]:
    shared = agreement or Agreement()
    listener = Listener(name, View(), shared)
    for message in messages:
        listener.feed(message)
    return listener.violations + shared.violations


class ModelTest(unittest.TestCase):
    def assert_finds(self, what: str, messages: list[Json]) -> None:
        found = violations(messages)
        self.assertTrue(any(what in violation for violation in found), f"{what!r} is not in {found}")

    def assert_good(self, messages: list[Json]) -> None:
        self.assertEqual(violations(messages), [])

    def test_a_good_log_violates_nothing(self) -> None:
        self.assert_good(GOOD)

    def test_a_gap_is_found(self) -> None:
        self.assert_finds("a gap: revision 7 follows 6, but the client had 5", [*BEGIN, CLOSE])

    def test_a_gap_that_the_service_does_not_know_of_is_found(self) -> None:
        silent = {**CLOSE, "previousRevision": "5"}
        self.assert_finds("a gap: revision 7 after 5, without a filter", [*BEGIN, silent])

    def test_a_change_that_comes_twice_is_found(self) -> None:
        self.assert_finds("a duplicate: revision 6", [*BEGIN, LOSS, LOSS])

    def test_a_revision_that_goes_back_is_found(self) -> None:
        self.assert_finds("a duplicate: revision 6 after 7", [*BEGIN, LOSS, CLOSE, LOSS])

    def test_a_heartbeat_that_skips_a_change_is_found(self) -> None:
        self.assert_finds("heartbeat at revision 7 after revision 6", [*BEGIN, LOSS, heartbeat(7)])

    def test_a_health_that_is_not_that_of_its_counts_is_found(self) -> None:
        self.assert_finds("a wrong health", [*BEGIN, change(6, "a", READY, CONNECTING, (HEALTHY, DOWN, 1, 2))])

    def test_counts_that_are_not_those_of_the_peers_are_found(self) -> None:
        self.assert_finds("but the peers are (1, 2)", [*BEGIN, change(6, "a", READY, CONNECTING, (HEALTHY, DOWN, 0, 2))])

    def test_a_health_change_that_does_not_come_is_found(self) -> None:
        self.assert_finds("a wrong health", [*BEGIN, change(6, "a", READY, CONNECTING), heartbeat(6)])

    def test_a_health_that_follows_within_the_step_is_right(self) -> None:
        first, second = change(6, "a", READY, CONNECTING), change(7, "b", READY, CONNECTING, (HEALTHY, DOWN, 0, 2))
        second["change"]["peer"]["time"] = second["change"]["health"]["time"] = first["change"]["peer"]["time"]
        self.assert_good([*BEGIN, first, second, heartbeat(7)])

    def test_a_wrong_health_in_a_snapshot_is_found(self) -> None:
        self.assert_finds("a wrong health", [attached(5), snapshot(5, DEGRADED), synced(5)])

    def test_a_snapshot_with_missing_peers_is_found(self) -> None:
        self.assert_finds("synced with 3 peers", [attached(5), snapshot(5), synced(5, 3)])

    def test_resuming_where_it_ended_is_right(self) -> None:
        self.assert_good([*BEGIN, LOSS, attached(6, resumed=True), CLOSE, synced(7)])

    def test_resuming_elsewhere_is_found(self) -> None:
        self.assert_finds("resumed after revision 7, not 6", [*BEGIN, LOSS, attached(7, resumed=True), synced(7)])

    def test_resuming_elsewhere_than_asked_is_found(self) -> None:
        ask = {"ask": {"epoch": EPOCH, "revision": "5"}}
        self.assert_finds("resumed after revision 6, not 5", [{"ask": None}, *BEGIN, LOSS, ask, attached(6, resumed=True)])

    def test_a_new_snapshot_without_a_word_is_found(self) -> None:
        self.assert_finds("a snapshot without reset", [*BEGIN, LOSS, attached(6), snapshot(6), synced(6)])

    def test_a_snapshot_after_a_reset_is_right(self) -> None:
        self.assert_good([*BEGIN, attached(9), reset("COMPACTED"), snapshot(9), synced(9)])

    def test_a_reset_that_the_client_did_not_want_is_found(self) -> None:
        listener = Listener("client", View(), Agreement(), fails_on_gap=True)
        for message in [*BEGIN, reset("OVERFLOW")]:
            listener.feed(message)
        self.assertIn("in spite of GAP_POLICY_FAIL", listener.violations[0])

    def test_an_epoch_that_changes_within_a_stream_is_found(self) -> None:
        self.assert_finds("a silent change of epoch", [*BEGIN, heartbeat(5, OTHER_EPOCH)])

    def test_resuming_in_another_epoch_is_found(self) -> None:
        self.assert_finds("a silent change of epoch", [*BEGIN, attached(5, resumed=True, epoch=OTHER_EPOCH)])

    def test_a_new_epoch_that_is_told_as_something_else_is_found(self) -> None:
        again = [attached(9, epoch=OTHER_EPOCH), reset("COMPACTED"), snapshot(9), synced(9, epoch=OTHER_EPOCH)]
        self.assert_finds("RESET_REASON_COMPACTED for a new epoch", [*BEGIN, *again])

    def test_a_new_epoch_that_is_told_is_right(self) -> None:
        again = [attached(9, epoch=OTHER_EPOCH), reset("EPOCH_CHANGED"), snapshot(9), synced(9, epoch=OTHER_EPOCH)]
        self.assert_good([*BEGIN, *again])

    def test_a_new_epoch_may_be_told_twice(self) -> None:
        asks = {"ask": {"epoch": EPOCH, "revision": "5"}}
        first = [asks, attached(9, epoch=OTHER_EPOCH), {"lost": 14, "why": "before the reset"}]
        again = [asks, attached(9, epoch=OTHER_EPOCH), reset("EPOCH_CHANGED"), snapshot(9), synced(9, epoch=OTHER_EPOCH)]
        self.assert_good([{"ask": None}, *BEGIN, *first, *again])

    def test_a_change_from_a_status_that_was_another_is_found(self) -> None:
        self.assert_finds("it was PEER_STATUS_CONNECTING according to", [*BEGIN, change(6, "a", CONNECTING, READY)])

    def test_a_message_after_draining_is_found(self) -> None:
        draining = {"revision": "5", "draining": {"cursor": {"epoch": EPOCH, "revision": "5"}}}
        self.assert_good([*BEGIN, draining, {"lost": 14, "why": ""}, attached(5, resumed=True), synced(5)])
        self.assert_finds("a message after draining", [*BEGIN, draining, LOSS])

    def test_a_stream_that_ends_otherwise_than_documented_is_found(self) -> None:
        self.assert_finds("the stream ended with code 0", [*BEGIN, {"lost": 0, "why": "the end of the stream"}])
        self.assert_finds("the stream ended with code 11", [*BEGIN, {"lost": 11, "why": "only with GAP_POLICY_FAIL"}])

    def test_user_data_of_somebody_else_is_found(self) -> None:
        self.assert_finds("user_data", [{**attached(5), "userData": "eA=="}])

    def test_clients_that_disagree_about_a_change_are_found(self) -> None:
        agreement = Agreement()
        self.assertEqual(violations(GOOD, agreement, "one"), [])
        other = copy.deepcopy(GOOD)
        other[3]["change"]["peer"]["peer"]["detail"] = "something else"
        self.assertIn("disagreement about the peer at revision 6", violations(other, agreement, "other")[0])

    def test_clients_that_disagree_about_a_snapshot_are_found(self) -> None:
        agreement = Agreement()
        self.assertEqual(violations(GOOD, agreement, "one"), [])
        other = [attached(6), snapshot(6), synced(6)]
        self.assertIn("disagreement about the state at revision 6", violations(other, agreement, "other")[0])

    def test_writers_of_json_may_differ(self) -> None:
        agreement = Agreement()
        violations(GOOD, agreement, "one")
        other = copy.deepcopy(GOOD)
        of_peer = other[3]["change"]["peer"]
        of_peer["time"] = other[3]["change"]["health"]["time"] = of_peer["time"].replace("Z", "00Z")
        of_peer["peer"] |= {"detail": "", "roles": [], "failureCount": "0", "port": "8009"}
        self.assertEqual(violations(other, agreement, "other"), [])

    def test_a_clock_that_is_set_changes_times_and_no_ages(self) -> None:
        for since, is_right in (("2026-01-01T09:00:01Z", True), ("2026-01-01T08:00:00Z", False)):
            agreement = Agreement()
            log = copy.deepcopy(GOOD)
            log[3]["change"]["peer"]["peer"]["statusSince"] = "2026-01-01T00:00:01Z"
            self.assertEqual(violations(log, agreement, "one"), [])
            later = copy.deepcopy(log)
            of_peer = later[3]["change"]["peer"]
            of_peer["time"] = later[3]["change"]["health"]["time"] = of_peer["time"].replace("T00", "T09")
            of_peer["peer"]["statusSince"] = since
            self.assertEqual(violations(later, agreement, "other") == [], is_right, since)

    def test_every_mutation_of_a_good_log_is_found(self) -> None:
        agreement = Agreement()
        log = Log(Path("client.jsonl"), Listener("client", View(), agreement), Path("client.stderr"))
        log.messages = [*BEGIN, LOSS, CLOSE, RETURN]
        for message in log.messages:
            log.listener.feed(message)
        self.assertEqual(undetected([log], agreement), [])
        self.assertEqual(len(MUTATIONS), 5)


if __name__ == "__main__":
    unittest.main()
