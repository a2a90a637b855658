"""What a session makes of messages and errors, without a service."""

import unittest

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from opflex.peerstatus.v1 import peer_status_service_pb2 as api
from opflex.peerstatus.v1 import types_pb2
from opflex_peerstatus import Change, Cursor, Gap, ResetReason, Resumed, Snapshot, WatchError
from opflex_peerstatus.session import ChainBroken, Session, make_filter

EPOCH = 7


def cursor(revision):
    return types_pb2.Cursor(epoch=EPOCH, revision=revision)


def attached(revision, filter=None, resumed=False):
    return api.WatchPeerStatusResponse(revision=revision, attached=api.Attached(listener=api.Listener(filter=filter), cursor=cursor(revision), resumed=resumed))


def snapshot(revision, *hosts):
    return api.WatchPeerStatusResponse(revision=revision, snapshot=api.Snapshot(peers=[types_pb2.Peer(host=host) for host in hosts]))


def synced(revision):
    return api.WatchPeerStatusResponse(revision=revision, synced=api.Synced(cursor=cursor(revision)))


def change(previous, revision):
    body = types_pb2.Change(peer=types_pb2.PeerChange(peer=types_pb2.Peer(host="a")))
    return api.WatchPeerStatusResponse(previous_revision=previous, revision=revision, change=body)


def reset():
    return api.WatchPeerStatusResponse(reset=api.Reset(reason=api.RESET_REASON_OVERFLOW, missed_count=3))


class Refusal(grpc.RpcError):
    """An error as gRPC raises it."""

    def __init__(self, code, reason="", domain="opflex.peerstatus", retry_after=0):
        details = [error_details_pb2.ErrorInfo(reason=reason, domain=domain)] if reason else []
        details += [error_details_pb2.RetryInfo(retry_delay={"seconds": retry_after})] if retry_after else []
        status = status_pb2.Status(code=code.value[0], message="no")
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        self._code, self._metadata = code, (("grpc-status-details-bin", status.SerializeToString()),) if details else ()

    def code(self):
        return self._code

    def details(self):
        return "no"

    def trailing_metadata(self):
        return self._metadata


class Sessions(unittest.TestCase):
    def session(self, **more):
        return Session(**{"filter": api.ListenerFilter(), "listener": "", "user_data": b"", "resume_after": None, **more})

    def events(self, session, *messages):
        session.watch_request()
        return [event for event in map(session.receive, messages) if event]

    def test_a_snapshot_of_several_messages_is_one_event(self):
        session = self.session()
        [first, second] = self.events(session, attached(5), snapshot(5, "a", "b"), snapshot(5, "c"), synced(5), change(5, 6))
        self.assertIsInstance(first, Snapshot)
        self.assertEqual([peer.host for peer in first.peers], ["a", "b", "c"])
        self.assertEqual(first.cursor, Cursor(EPOCH, 5))
        self.assertEqual((type(second), second.cursor, second.previous_revision), (Change, Cursor(EPOCH, 6), 5))

    def test_an_empty_snapshot_is_an_event(self):
        [event] = self.events(self.session(), attached(0), snapshot(0), synced(0))
        self.assertEqual(event.peers, ())

    def test_the_cursor_moves_when_an_event_was_handled_and_goes_into_the_next_request(self):
        session = self.session()
        [event] = self.events(session, attached(5), snapshot(5), synced(5))
        self.assertIsNone(session.cursor)
        self.assertFalse(session.watch_request().HasField("resume_after"))
        session.advance(event.cursor)
        self.assertEqual(session.watch_request().resume_after, cursor(5))
        [missed, resumed] = self.events(session, attached(5, resumed=True), change(5, 8), synced(8))
        self.assertIsInstance(missed, Change)
        self.assertEqual(resumed, Resumed(Cursor(EPOCH, 8)))

    def test_a_heartbeat_moves_the_cursor(self):
        session = self.session(resume_after=Cursor(EPOCH, 5))
        self.events(session, attached(5, resumed=True), synced(5), api.WatchPeerStatusResponse(revision=9, heartbeat=api.Heartbeat(cursor=cursor(9))))
        self.assertEqual(session.cursor, Cursor(EPOCH, 9))

    def test_a_reset_is_a_gap_and_a_stream_that_breaks_before_the_snapshot_asks_for_another(self):
        session = self.session(resume_after=Cursor(EPOCH, 5))
        [gap] = self.events(session, attached(5), reset(), snapshot(9, "a"))
        self.assertEqual(gap, Gap(ResetReason.OVERFLOW, 3))
        self.assertFalse(session.watch_request().HasField("resume_after"))
        [event] = self.events(session, attached(9), snapshot(9, "b"), synced(9))
        self.assertEqual([peer.host for peer in event.peers], ["b"])

    def test_a_change_that_does_not_follow_ends_the_stream(self):
        session = self.session(resume_after=Cursor(EPOCH, 5))
        with self.assertRaises(ChainBroken):
            self.events(session, attached(5, resumed=True), change(6, 7))
        self.assertIsNone(session.cursor)

    def test_a_listener_with_another_filter_is_refused(self):
        session = self.session(listener="mine", filter=make_filter(["a"], [], [], [], False))
        self.assertTrue(session.watch_request().takeover)
        self.events(session, attached(1, make_filter(["a"], [], [], [], False)))
        with self.assertRaisesRegex(WatchError, "another filter"):
            self.events(session, attached(1, make_filter(["b"], [], [], [], False)))

    def test_refusals_of_the_service_alone_are_raised(self):
        for code in grpc.StatusCode:
            session = self.session()
            self.assertIn(code.name, session.lost(Refusal(code)), "of a proxy")
            self.assertIn(code.name, session.lost(Refusal(code, "ANY", domain="elsewhere")))
        for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.ABORTED):
            with self.assertRaises(WatchError) as raised:
                self.session().lost(Refusal(code, "BAD_FILTER"))
            self.assertEqual((raised.exception.reason, raised.exception.code), ("BAD_FILTER", code.name))
        self.session().lost(Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING"))
        self.session().lost(Refusal(grpc.StatusCode.NOT_FOUND, "LISTENER_NOT_FOUND"))

    def test_a_token_that_expired_during_a_watch_is_read_again(self):
        expired = Refusal(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
        session = self.session()
        with self.assertRaises(WatchError):
            session.lost(expired)
        self.events(session, attached(1))
        session.lost(expired)

    def test_a_cause_is_new_once_in_an_outage(self):
        session = self.session()
        refused = "write tcp 127.0.0.1:{}->127.0.0.1:50051: broken pipe"
        told = [session.is_new_cause(text) for text in (refused.format(40902), "reset", refused.format(40903), "reset")]
        self.assertEqual(told, [True, True, False, False])
        told = [session.is_new_cause("x" * length) for length in range(100)]
        self.assertEqual(told.count(True), 6, "eight of an outage")
        session.advance(Cursor(EPOCH, 5))
        self.assertTrue(session.is_new_cause("reset"), "another outage")

    def test_pauses_grow_to_ten_seconds_and_are_as_long_as_the_service_asks(self):
        session = self.session()
        pauses = [session.pause() for _ in range(200)]
        self.assertLessEqual(pauses[0], 0.25)
        self.assertLessEqual(max(pauses), 10)
        self.assertGreater(max(pauses), 5)
        session.lost(Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "LISTENER_QUOTA", retry_after=30))
        self.assertEqual(session.pause(), 30)
        session.lost(Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_after=3600))
        self.assertEqual(session.pause(), 60)


if __name__ == "__main__":
    unittest.main()
