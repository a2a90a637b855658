"""The files that the service and the simulated peers read."""

from __future__ import annotations

import json
from pathlib import Path

from certificates import Certificates
from plan import ANYCAST, PEERS_OF_SITE, POOLS, PORT, PeerEvent, hosts_of_pool, peer_host, pool_of_site

GRPC_PORT = 50051

# Timers are a fraction of the defaults, so that a run takes seconds. There are few handshakes at a time, so that a flood reaches
# the limit.
SERVER = """
[server]
listen = "0.0.0.0:{port}"
admin = "off"
drain_timeout = "1s"
[server.socket]
path = "{socket}"
[server.tls]
cert = "{cert}"
key = "{key}"
[server.auth]
local = "operator"
anonymous = "viewer"
[limits]
max_handshakes = 64
[history]
changes = {history}
[log]
level = "{level}"
"""
POOL = """
[[pool]]
name = "{name}"
peers = {peers}
[pool.timers]
connect = "1s"
handshake = "2s"
keepalive = "3s"
echo = "500ms"
"""


def configured(pool: str) -> list[str]:
    """The configured peers: one pool learns its peers from an anycast address, the other one has them all."""
    hosts = [ANYCAST] if pool == POOLS[0] else hosts_of_pool(pool)
    return [f"{host}:{PORT}" for host in hosts]


class Configuration:
    """The service's configuration file, which is spoilt and restored."""

    def __init__(self, folder: Path, history: int, certificates: Certificates) -> None:
        self.file, self.socket = folder / "config.toml", folder / "peerstatus.sock"
        self.history, self.certificates = history, certificates
        self.restore("renamed")

    def text(self, level: str = "info", left_out: int = 0) -> str:
        """The good configuration; `left_out` of the peers of the second pool are not in it."""
        server = SERVER.format(
            port=GRPC_PORT, socket=self.socket, cert=self.certificates.cert, key=self.certificates.key,
            history=self.history, level=level,
        )
        lists = {POOLS[0]: configured(POOLS[0]), POOLS[1]: configured(POOLS[1])[left_out:]}
        return server + "".join(POOL.format(name=name, peers=json.dumps(peers)) for name, peers in lists.items())

    def spoil(self, content: str, how: str) -> None:
        """Changes the file: for another good one or for a bad one."""
        good = self.text()
        texts = {
            "fewer-peers": self.text(left_out=3),
            "other-level": self.text(level="debug"),
            "unknown-key": good.replace("[limits]", "[limits]\nmax_wishes = 3"),
            "no-toml": "this is = no [toml",
            "empty": "",
            # In the middle of the first pool: the rest of the settings and all of its peers are missing.
            "truncated": good[: good.index("peers =") + 3],
        }
        self._put(texts[content], how)

    def restore(self, how: str) -> None:
        """Writes the good configuration."""
        self._put(self.text(), how)

    def _put(self, text: str, how: str) -> None:
        if how == "renamed":
            new = self.file.with_suffix(".new")
            new.write_text(text)
            new.rename(self.file)
        else:
            self.file.write_text(text)


def scenario(site: int, events: tuple[PeerEvent, ...]) -> str:
    """The scenario file of a site: its peers list all peers of their pool."""
    lists = json.dumps([f"{host}:{PORT}" for host in hosts_of_pool(pool_of_site(site))])
    text = ""
    for peer in range(PEERS_OF_SITE):
        text += f'[[peer]]\nname = "peer-{peer}"\nlisten = "{peer_host(site, peer)}:{PORT}"\nlists = {lists}\n'
    if site == 0:
        text += f'[[peer]]\nname = "anycast"\nlisten = "{ANYCAST}:{PORT}"\nanycast = true\nlists = {lists}\n'
    for event in events:
        every = 'every = "300ms"\n' if event.behaviour == "flap" else ""
        # Connections that are mute or silent would stay so.
        close = "close = true\n" if event.behaviour == "normal" else ""
        text += f'[[event]]\nat = "{event.at_ms}ms"\npeers = ["peer-{event.peer}"]\nbehaviour = "{event.behaviour}"\n{every}{close}'
    return text
