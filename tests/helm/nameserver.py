"""A DNS server on 127.0.0.1:53 that knows the one name in its argument, as 127.0.0.3, and says of others that they are not."""

import socket
import struct
import sys

KNOWN = sys.argv[1].encode()


def answer(query):
    end = query.index(b"\0", 12)
    name, place = b"", 12
    while place < end:
        name += query[place + 1 : place + 1 + query[place]] + b"."
        place += query[place] + 1
    (kind,) = struct.unpack(">H", query[end + 1 : end + 3])
    known = name == KNOWN + b"."
    records = b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 60, 4, 127, 0, 0, 3) if known and kind == 1 else b""
    head = struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, 1 if records else 0, 0, 0)
    return query[:2] + head + query[12 : end + 5] + records


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 53))
    while True:
        packet, client = server.recvfrom(1500)
        server.sendto(answer(packet), client)
