"""Streams of gRPC that are waited for in a thread have no time limit for the next message. This is one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, Optional

import grpc

from .session import Session


def silence(patience: float) -> TimeoutError:
    """The error of a stream that was silent for so long."""
    return TimeoutError(f"no message from the service for {patience:g} s")


class Patience:
    """Cancels a call when its next message was waited for too long, from a thread of its own, and in any case at the end."""

    def __init__(self, call: Any, session: Session) -> None:
        self._call, self._session = call, session
        self._waiting_since: Optional[float] = None
        self._ended = threading.Event()
        self._is_silent = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def messages(self) -> Iterator[Any]:
        """The messages of the call. The time that they are handled in does not count."""
        try:
            self._waiting_since = time.monotonic()
            for message in self._call:
                self._waiting_since = None
                yield message
                self._waiting_since = time.monotonic()
        except grpc.RpcError:
            if self._is_silent:
                raise silence(self._session.patience) from None
            raise

    def _run(self) -> None:
        left = self._session.patience
        while not self._ended.wait(left):
            patience, since = self._session.patience, self._waiting_since
            left = patience if since is None else patience - (time.monotonic() - since)
            if left <= 0:
                self._is_silent = True
                self._call.cancel()
                return

    def __enter__(self) -> Patience:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._call.cancel()
