"""The dataclasses are those of the API."""

import dataclasses
import unittest

from google.protobuf import duration_pb2, timestamp_pb2

from opflex.peerstatus.v1 import node_pb2, peer_status_service_pb2, types_pb2
from opflex_peerstatus import Cursor, PeerStatus, Reason, types

PROTOS = (node_pb2, peer_status_service_pb2, types_pb2)


def descriptor(name, kind):
    return next(getattr(proto.DESCRIPTOR, kind)[name] for proto in PROTOS if name in getattr(proto.DESCRIPTOR, kind))


class Types(unittest.TestCase):
    def test_each_dataclass_has_the_fields_of_its_message_in_their_order(self):
        for name, message in types.MESSAGES.items():
            fields = [field.name for field in sorted(descriptor(name, "message_types_by_name").fields, key=lambda field: field.number)]
            self.assertEqual([field.name for field in dataclasses.fields(message)], fields, name)

    def test_each_enum_has_the_values_of_the_api(self):
        for name, values in types.ENUMS.items():
            api = descriptor(name, "enum_types_by_name")
            prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name).lstrip("_") + "_"
            self.assertEqual({value.name: int(value) for value in values}, {value.name.removeprefix(prefix): value.number for value in api.values}, name)

    def test_a_message_becomes_a_dataclass(self):
        message = types_pb2.Peer(name="pools/default/peers/[::1]:8009", host="::1", port=8009, status=types_pb2.PEER_STATUS_READY, roles=[2, 3])
        message.status_since.CopyFrom(timestamp_pb2.Timestamp(seconds=1, nanos=500_000_000))
        message.echo_rtt.CopyFrom(duration_pb2.Duration(nanos=2_000_000))
        message.last_failure.reason = types_pb2.REASON_CONNECT_FAILED
        peer = types.from_message(message)
        self.assertEqual((peer.host, peer.port, peer.status), ("::1", 8009, PeerStatus.READY))
        self.assertEqual(peer.roles, (types.Role.POLICY_REPOSITORY, types.Role.ENDPOINT_REGISTRY))
        self.assertEqual(peer.status_since.isoformat(), "1970-01-01T00:00:01.500000+00:00")
        self.assertEqual(peer.echo_rtt.total_seconds(), 0.002)
        self.assertEqual(peer.last_failure.reason, Reason.CONNECT_FAILED)
        self.assertIsNone(peer.last_ready_time)

    def test_a_value_of_a_newer_service_has_a_name(self):
        self.assertEqual(str(Reason(99)), "UNKNOWN_99")
        self.assertEqual(Reason(99), 99)

    def test_a_cursor_can_be_stored_as_text(self):
        cursor = Cursor(epoch=2**64 - 1, revision=12)
        self.assertEqual(Cursor.parse(str(cursor)), cursor)
        for text in ("", "1", "1.", ".1", "1.-2", "a.b", f"1.{2**64}"):
            with self.assertRaisesRegex(ValueError, "EPOCH.REVISION"):
                Cursor.parse(text)


if __name__ == "__main__":
    unittest.main()
