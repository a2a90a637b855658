"""OpFlex peers that note who is connected to them, and when."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import threading
import time
from typing import Any

import programs
import settings

sys.path.insert(0, str(programs.ROOT / "tests"))
import opflex_peer  # noqa: E402

PORT = 8009


@dataclasses.dataclass
class Session:
    """A connection of a pod."""

    source: str
    writer: Any
    began: float
    ended: float | None = None


class Leaf(opflex_peer.Peer):
    """A peer at an address of its own, in a thread of its own. It lists itself alone, unless peers are given."""

    def __init__(self, number: int, family: str = settings.FAMILY) -> None:
        host = settings.leaf_address(number, family)
        self.host, self.name = host, f"[{host}]:{PORT}" if ":" in host else f"{host}:{PORT}"
        self.sessions: list[Session] = []
        super().__init__(opflex_peer.IDENTITY, [], strict=False, verbose=False)
        self.address = self.name
        self.loop = asyncio.new_event_loop()
        self.listening = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.serve_connection, self.host, PORT))
        self.listening.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0.1))
        self.loop.close()

    async def serve_connection(self, reader: Any, writer: Any) -> None:
        session = Session(writer.get_extra_info("peername")[0], writer, time.monotonic())
        self.sessions.append(session)
        try:
            await super().serve_connection(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            session.ended = time.monotonic()

    def sources(self) -> set[str]:
        """The pods that are connected now."""
        return {session.source for session in list(self.sessions) if session.ended is None}

    def disconnect(self) -> None:
        """Closes all sessions."""
        for session in list(self.sessions):
            self.loop.call_soon_threadsafe(session.writer.close)

    def overlaps(self) -> list[tuple[Session, Session]]:
        """Sessions of different pods at the same time."""
        known = sorted(self.sessions, key=lambda session: session.began)
        pairs = [(first, second) for index, first in enumerate(known) for second in known[index + 1:]]
        return [(first, second) for first, second in pairs if first.source != second.source and (first.ended is None or first.ended > second.began)]

    def __enter__(self) -> Leaf:
        self.thread.start()
        assert self.listening.wait(10), f"{self.name} cannot listen"
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
