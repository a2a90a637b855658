"""gRPC's own health client, against the real service and a real OpFlex peer."""

import unittest

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from harness import PATIENCE_S, OpflexPeer, Service, TestCase, reserved_port

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING


class Health(TestCase):
    def test_follows_a_pool_to_the_end_of_the_service(self):
        port = self.enter(reserved_port())
        service = self.enter(Service(f"127.0.0.1:{port}"))
        channel = self.enter(grpc.insecure_channel(service.address))
        stub = health_pb2_grpc.HealthStub(channel)
        ask = pb.HealthCheckRequest(service="pools/default")
        self.assertEqual(stub.Check(pb.HealthCheckRequest(), timeout=PATIENCE_S).status, SERVING)
        self.assertEqual(stub.Check(ask, timeout=PATIENCE_S).status, NOT_SERVING)
        watch = stub.Watch(ask, timeout=2 * PATIENCE_S)
        self.assertEqual(next(watch).status, NOT_SERVING)
        self.enter(OpflexPeer(port))
        self.assertEqual(next(watch).status, SERVING)
        with self.assertRaises(grpc.RpcError) as refused:
            stub.Check(pb.HealthCheckRequest(service="pools/lab"), timeout=PATIENCE_S)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.NOT_FOUND)
        service.process.terminate()
        self.assertEqual(next(watch).status, NOT_SERVING)
        with self.assertRaises(grpc.RpcError) as end:
            next(watch)
        self.assertEqual(end.exception.code(), grpc.StatusCode.UNAVAILABLE)


if __name__ == "__main__":
    unittest.main()
