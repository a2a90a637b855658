"""Small floods of docs/security.md against the service: `floods.py KIND HOST PORT CA`, until it is killed.

Raw connections, because no gRPC library does such things. Where the service closes one, there is another one.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import time

# More handshakes than the configuration allows at a time.
CONNECTIONS = {"idle": 100, "handshakes": 150, "unread": 4}
TIMEOUT_S = 2.0
# Between two looks at whether connections are still there.
PAUSE_S = 0.2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
LIST_PEERS = "/opflex.peerstatus.v1.PoolService/ListPeers"
# The limit of a connection is 128.
REQUESTS = 120
# The beginning of a TLS record that announces 512 bytes.
BEGUN_HANDSHAKE = bytes([22, 3, 1, 2, 0, 1, 0, 1])


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header(name: str, value: str) -> bytes:
    """A literal header field of HPACK, without index."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def requests() -> bytes:
    """Many calls at once."""
    fields = {":method": "POST", ":scheme": "https", ":path": LIST_PEERS, ":authority": "flood",
              "content-type": "application/grpc", "te": "trailers"}
    block = b"".join(header(name, value) for name, value in fields.items())
    calls = [
        frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, bytes(5))
        for stream in range(1, 2 * REQUESTS, 2)
    ]
    return PREFACE + frame(SETTINGS, 0, 0) + b"".join(calls)


def open_one(kind: str, address: tuple[str, int], ca: str) -> socket.socket:
    """One connection of the flood."""
    connection = socket.create_connection(address, TIMEOUT_S)
    if kind == "handshakes":
        connection.sendall(BEGUN_HANDSHAKE)
    if kind == "unread":
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])
        connection = context.wrap_socket(connection, server_hostname=address[0])
        connection.sendall(requests())
    connection.setblocking(False)
    return connection


def is_closed(kind: str, connection: socket.socket) -> bool:
    """Whether the service has closed it; the answers of an unread one stay unread."""
    if kind == "unread":
        return False
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def main() -> None:
    """Keeps the connections open, and opens those again that were closed."""
    kind, address, ca = sys.argv[1], (sys.argv[2], int(sys.argv[3])), sys.argv[4]
    connections: list[socket.socket] = []
    while True:
        for connection in [one for one in connections if is_closed(kind, one)]:
            connection.close()
            connections.remove(connection)
        with contextlib.suppress(OSError):
            while len(connections) < CONNECTIONS[kind]:
                connections.append(open_one(kind, address, ca))
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
