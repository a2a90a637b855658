"""The name server of the pods: it knows the cluster's Services and names that a test gives it, and counts what is asked."""

from __future__ import annotations

import collections
import ipaddress
import json
import socketserver
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import settings

A, AAAA = 1, 28
FAMILY = {A: 4, AAAA: 6}
NO_SUCH_NAME = 3


def get(path: str) -> dict[str, Any]:
    """An object of the API, or nothing."""
    request = urllib.request.Request(settings.API + path, headers={"Authorization": f"Bearer {settings.ADMIN_TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=2, context=ssl._create_unverified_context()) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return {}


def service_addresses(name: str) -> list[str] | None:
    """The addresses of NAME.NAMESPACE.svc.cluster.local; `None` if there is no such Service."""
    labels = name.removesuffix(f".svc.{settings.DOMAIN}").split(".")
    if not name.endswith(f".svc.{settings.DOMAIN}") or len(labels) != 2:
        return None
    service, namespace = labels
    spec = get(f"/api/v1/namespaces/{namespace}/services/{service}").get("spec")
    if spec is None:
        return None
    if spec.get("clusterIP") != "None":
        return spec["clusterIPs"]
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io/service-name={service}"
    endpoints = [endpoint for part in get(path).get("items", []) for endpoint in part.get("endpoints") or []]
    return [address for endpoint in endpoints if endpoint["conditions"].get("ready") for address in endpoint["addresses"]]


class Nameserver:
    """One server for all addresses of the node."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        # When each name was asked for, by its kind of record.
        self.asked: dict[tuple[str, int], list[float]] = collections.defaultdict(list)
        for family in settings.FAMILIES:
            server = make_server(self, settings.NODE_ADDRESSES[family])
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(self, query: bytes) -> bytes:
        """The answer to a query with one question."""
        labels, place = [], 12
        while query[place]:
            labels.append(query[place + 1 : place + 1 + query[place]].decode().lower())
            place += query[place] + 1
        (kind,) = struct.unpack(">H", query[place + 1 : place + 3])
        name = ".".join(labels)
        self.asked[name, kind].append(time.monotonic())
        addresses = self.known.get(name)
        if addresses is None:
            addresses = service_addresses(name)
        found = [ipaddress.ip_address(address) for address in addresses or []]
        records = [address.packed for address in found if address.version == FAMILY.get(kind)]
        code = NO_SUCH_NAME if addresses is None else 0
        body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(packed)) + packed for packed in records)
        return query[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(records), 0, 0) + query[12 : place + 5] + body


def make_server(nameserver: Nameserver, address: str) -> socketserver.UDPServer:
    """A server on one address."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, sock = self.request
            sock.sendto(nameserver.answer(query), self.client_address)

    class Server(socketserver.ThreadingUDPServer):
        address_family = socketserver.socket.AF_INET6 if ":" in address else socketserver.socket.AF_INET
        daemon_threads = True

    return Server((address, 53), Handler)
