"""A Python client against the real service and a real OpFlex peer.

What it drives is in `client.py`.
"""

import threading
import time
import unittest

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from client import CONNECTED, CONNECTING, READY, Client, detail, healths, is_status, statuses
from harness import PATIENCE_S, OpflexPeer, Proxy, Service, TestCase, reserved_port, until
from opflex.peerstatus.v1 import peer_status_service_pb2 as status_pb
from opflex.peerstatus.v1 import types_pb2 as types

USER_DATA = b"\x00 opaque \xff bytes"
DOWN, DEGRADED, HEALTHY = types.POOL_HEALTH_DOWN, types.POOL_HEALTH_DEGRADED, types.POOL_HEALTH_HEALTHY


class Interop(TestCase):
    maxDiff = None

    def assert_error(self, error, code, reason):
        self.assertIsNotNone(error, f"ended with OK, not {code} {reason}")
        self.assertEqual(error.code(), code, error)
        info = detail(error, error_details_pb2.ErrorInfo)
        self.assertEqual((info.domain, info.reason), ("opflex.peerstatus", reason))


class ALifeOfAPeer(Interop):
    def setUp(self):
        self.port = self.enter(reserved_port())
        self.service = self.enter(Service(f"127.0.0.1:{self.port}"))
        self.client = self.enter(Client(self.service.address))
        self.proxy = self.enter(Proxy(self.service.address))
        self.remote = self.enter(Client(self.proxy.address))

    def start_peer(self):
        return self.enter(OpflexPeer(self.port))

    def test_is_told_in_order_and_nothing_is_missed_when_the_connection_breaks(self):
        # A listener, before its peer exists.
        created = self.remote.create(user_data=USER_DATA)
        name, epoch = created.listener.name, created.cursor.epoch
        self.assertRegex(name, r"^listeners/[a-z0-9-]{1,63}$")
        watch = self.remote.watch(listener=name, resume_after=created.cursor)
        self.assertTrue(watch.attached.resumed)
        self.assertEqual(watch.attached.cursor, created.cursor)
        self.assertEqual(watch.attached.listener.user_data, USER_DATA)
        self.assertEqual(watch.user_data, USER_DATA)
        watch.until_synced()

        # Up.
        peer = self.start_peer()
        ready, _ = watch.until_change("READY", is_status(READY))
        self.assertEqual(statuses(watch.changes)[-2:], [CONNECTED, READY])
        self.assertEqual(ready.peer.peer.name, f"pools/default/peers/127.0.0.1:{self.port}")
        self.assertEqual((ready.peer.peer.host, ready.peer.peer.port), ("127.0.0.1", self.port))
        self.assertEqual(ready.peer.peer.reason, types.REASON_HANDSHAKE_COMPLETE)
        self.assertEqual(list(ready.peer.peer.roles), [types.ROLE_POLICY_REPOSITORY, types.ROLE_ENDPOINT_REGISTRY, types.ROLE_OBSERVER])
        self.assertEqual((ready.health.previous, ready.health.health), (DOWN, HEALTHY), "the health belongs to the change that caused it")
        self.assertEqual((ready.health.pool, ready.health.cause), ("pools/default", ready.peer.peer.name))
        self.assertEqual((ready.health.ready_count, ready.health.peer_count), (1, 1))

        # Down.
        killed = time.monotonic()
        peer.kill()
        lost, at = watch.until_change("the loss", is_status(CONNECTING))
        print(f"\n  loss told after {(at - killed) * 1000:.1f} ms", end="")
        self.assertEqual(lost.peer.previous_status, READY)
        self.assertEqual(lost.peer.peer.reason, types.REASON_REMOTE_CLOSED)
        self.assertEqual((lost.health.previous, lost.health.health), (HEALTHY, DOWN))

        # Up again.
        peer = self.start_peer()
        started = time.monotonic()
        _, at = watch.until_change("READY again", is_status(READY))
        print(f", return told after {max(0, at - started) * 1000:.0f} ms ", end="")
        self.assertEqual(statuses(watch.changes)[-4:], [READY, CONNECTING, CONNECTED, READY])
        self.assertEqual(healths(watch.changes), [HEALTHY, DOWN, HEALTHY])

        # The connection breaks, and things happen meanwhile.
        last_seen = types.Cursor(epoch=epoch, revision=watch.revision)
        self.proxy.cut()
        _, error = watch.until_end()
        self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error)
        until("the listener to be detached", lambda: self.client.get_listener(name).state == status_pb.LISTENER_STATE_DETACHED)
        peer.kill()
        self.client.wait_for_status(self.port, CONNECTING)
        peer = self.start_peer()
        self.client.wait_for_status(self.port, READY)
        self.proxy.mend()
        again = self.remote.watch(listener=name, resume_after=last_seen)
        self.assertTrue(again.attached.resumed)
        self.assertEqual(again.attached.cursor, last_seen)
        self.assertEqual(again.user_data, USER_DATA)
        again.until_synced()
        self.assertEqual(statuses(again.changes), [CONNECTING, CONNECTED, READY])
        self.assertEqual(healths(again.changes), [DOWN, HEALTHY])

        # The log from its beginning says the same as the two streams did.
        history = self.client.watch(resume_after=types.Cursor(epoch=epoch, revision=0), stop_after_sync=True)
        history.until_synced()
        self.assertEqual(history.until_end(), (None, None), "stop_after_sync must end with OK after synced")
        self.assertEqual(history.changes[0][1].peer.kind, types.CHANGE_KIND_ADDED)
        self.assertEqual(history.changes[0][1].peer.peer.origin, types.PEER_ORIGIN_CONFIGURED)
        self.assertEqual(statuses(history.changes), [CONNECTING, CONNECTED, READY] * 3)
        told = [change for change in history.changes if change[0] > created.cursor.revision]
        self.assertEqual([revision for revision, _ in told], [revision for revision, _ in watch.changes + again.changes])
        self.assertEqual(told, watch.changes + again.changes)

        # The end of the listener.
        self.client.destroy(name)
        _, error = again.until_end()
        self.assert_error(error, grpc.StatusCode.CANCELLED, "LISTENER_DESTROYED")
        with self.assertRaises(grpc.RpcError) as raised:
            self.client.destroy(name)
        self.assert_error(raised.exception, grpc.StatusCode.NOT_FOUND, "LISTENER_NOT_FOUND")
        self.client.destroy(name, allow_missing=True)

    def test_begins_with_a_snapshot_for_who_did_not_hear_it(self):
        self.start_peer()
        self.client.wait_for_status(self.port, READY)
        watch = self.client.watch(user_data=USER_DATA, stop_after_sync=True)
        self.assertFalse(watch.attached.resumed)
        kind, message = watch.event()
        self.assertEqual(kind, "snapshot")
        self.assertEqual([(p.port, p.status) for p in message.snapshot.peers], [(self.port, READY)])
        self.assertEqual([(p.name, p.health, p.ready_count) for p in message.snapshot.pools], [("pools/default", HEALTHY, 1)])
        self.assertEqual(watch.until_synced().peer_count, 1)
        self.assertEqual(watch.until_end(), (None, None))


class ALearnedPeer(Interop):
    def test_is_added_and_takes_the_pool_through_degraded_to_healthy(self):
        with reserved_port() as first_port:
            learned = self.enter(OpflexPeer())
            service = self.enter(Service(f"127.0.0.1:{first_port}"))
            client = self.enter(Client(service.address))
            watch = client.watch()
            watch.until_synced()
            self.enter(OpflexPeer(first_port, peers=[f"127.0.0.1:{first_port}", learned.address]))
            watch.until_change("HEALTHY with two", lambda c: c.health.health == HEALTHY and c.health.ready_count == 2)

            about_learned = [c.peer for _, c in watch.changes if c.peer.peer.port == learned.port]
            self.assertEqual(about_learned[0].kind, types.CHANGE_KIND_ADDED)
            self.assertEqual({change.peer.origin for change in about_learned}, {types.PEER_ORIGIN_LEARNED})
            self.assertEqual([c.peer.status for c in about_learned if c.peer.status != c.previous_status], [CONNECTING, CONNECTED, READY])
            self.assertEqual(healths(watch.changes)[-2:], [DEGRADED, HEALTHY])


class Errors(Interop):
    def setUp(self):
        self.service = self.enter(Service())
        self.client = self.enter(Client(self.service.address))

    def refused(self, **fields):
        with self.assertRaises(grpc.RpcError) as raised:
            self.client.create(**fields)
        return raised.exception

    def test_name_the_field(self):
        for fields, reason, field in [
            ({"listener_id": "Bad Name!"}, "BAD_NAME", "listener_id"),
            ({"user_data": bytes(4097)}, "USER_DATA_TOO_LARGE", "user_data"),
            ({"idle_ttl": duration_pb2.Duration(seconds=1)}, "BAD_DURATION", "idle_ttl"),
        ]:
            with self.subTest(reason=reason):
                error = self.refused(**fields)
                self.assert_error(error, grpc.StatusCode.INVALID_ARGUMENT, reason)
                violations = detail(error, error_details_pb2.BadRequest).field_violations
                self.assertEqual([violation.field for violation in violations], [field])
                self.assertTrue(violations[0].description, "a violation must say what is wrong")

    def test_a_listener_has_one_name_and_one_stream(self):
        name = self.client.create(listener_id="only").listener.name
        self.assertEqual(name, "listeners/only")
        self.assert_error(self.refused(listener_id="only"), grpc.StatusCode.ALREADY_EXISTS, "LISTENER_EXISTS")
        older = self.client.watch(listener=name)
        with self.assertRaises(grpc.RpcError) as raised:
            self.client.watch(listener=name)
        self.assert_error(raised.exception, grpc.StatusCode.FAILED_PRECONDITION, "LISTENER_ATTACHED")
        self.client.watch(listener=name, takeover=True).until_synced()
        self.assert_error(older.until_end()[1], grpc.StatusCode.ABORTED, "LISTENER_TAKEN_OVER")

    def test_a_cursor_of_another_process_gets_a_snapshot_or_a_refusal(self):
        stranger = types.Cursor(epoch=self.client.create().cursor.epoch ^ 1, revision=7)
        watch = self.client.watch(resume_after=stranger)
        kind, message = watch.event()
        self.assertEqual((kind, message.reset.reason), ("reset", status_pb.RESET_REASON_EPOCH_CHANGED))
        self.assertEqual(watch.event()[0], "snapshot")
        with self.assertRaises(grpc.RpcError) as raised:
            self.client.watch(resume_after=stranger, gap_policy=status_pb.GAP_POLICY_FAIL)
        self.assert_error(raised.exception, grpc.StatusCode.OUT_OF_RANGE, "EPOCH_MISMATCH")


class TheService(Interop):
    def test_can_be_discovered_by_clients_that_only_know_the_older_reflection(self):
        service = self.enter(Service())
        client = self.enter(Client(service.address))
        services = ProtoReflectionDescriptorDatabase(client.channel).get_services()
        self.assertLessEqual({"opflex.peerstatus.v1.PeerStatusService", "opflex.peerstatus.v1.PoolService"}, set(services))

    def test_says_goodbye_when_it_is_stopped(self):
        peer = self.enter(OpflexPeer())
        service = self.enter(Service(peer.address))
        client = self.enter(Client(service.address))
        client.wait_for_status(peer.port, READY)
        watch = client.watch()
        watch.until_synced()
        stopping = threading.Thread(target=service.stop)
        stopping.start()
        last, error = watch.until_end()
        stopping.join(PATIENCE_S)
        self.assertEqual(last, "draining")
        self.assert_error(error, grpc.StatusCode.UNAVAILABLE, "DRAINING")
        self.assertGreaterEqual(detail(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds(), 0)
        self.assertEqual(service.process.returncode, 0, service.log())


if __name__ == "__main__":
    unittest.main()
