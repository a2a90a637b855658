"""The watcher, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Optional, Union

import grpc
import grpc.aio

from opflex.peerstatus.v1 import peer_status_service_pb2_grpc as rpc

from .events import Disconnected, Event, Gap
from .session import ChainBroken, Session, is_existing, make_filter
from .types import Cursor, PeerStatus, ResetReason

log = logging.getLogger("opflex_peerstatus")

CALL_TIMEOUT_S = 10.0
OPTIONS: list[tuple[str, Any]] = [
    # Detects a connection that broke silently.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The pauses are the session's; those of gRPC grow up to two minutes. "min" is the time that a connection has to be made in.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]


class Watcher:
    """Iterates over what happens to OpFlex peers, and goes on where it was when a connection breaks.

    `for event in Watcher(…)` waits in the calling thread, `async for event in Watcher(…)` in asyncio. The events are
    `Snapshot`, `Change`, `Gap` and `Disconnected`. Nothing is missed silently: a change that the service has no more is told
    as a `Gap`. What would be refused again is raised as `WatchError`; everything else is tried again, after at most 10 s.

    Args:
        server: `HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`, as for `peerstatus --server`.
        pools, peers, nodes: globs; empty is all. `peers` match `HOST:PORT`, nodes are those of a fleet.
        statuses: only changes that enter or leave one of them; empty is all.
        health_only: only changes of the health of pools.
        listener: the name of a listener, which outlives its streams and is shown by `peerstatus listeners list`. Another
            watcher with the same name takes over, and this one raises `WatchError`. Unset: the stream is its own listener.
        user_data: up to 4,096 bytes that are kept with the listener.
        resume_after: the cursor of an earlier watcher.
        ca, certificate, key: PEM files for TLS: the authority to trust instead of the system's, and a client certificate.
        token: a function that returns the bearer token; it is called for each connection.
        token_file: a file with the token instead, read for each connection.
    """

    def __init__(
        self,
        server: str = "127.0.0.1:50051",
        *,
        pools: Sequence[str] = (),
        peers: Sequence[str] = (),
        nodes: Sequence[str] = (),
        statuses: Iterable[PeerStatus] = (),
        health_only: bool = False,
        listener: str = "",
        user_data: bytes = b"",
        resume_after: Optional[Cursor] = None,
        ca: Union[str, pathlib.Path, None] = None,
        certificate: Union[str, pathlib.Path, None] = None,
        key: Union[str, pathlib.Path, None] = None,
        token: Optional[Callable[[], str]] = None,
        token_file: Union[str, pathlib.Path, None] = None,
    ) -> None:
        for name, globs in (("pools", pools), ("peers", peers), ("nodes", nodes)):
            if isinstance(globs, str):
                raise TypeError(f"{name} is a list of globs: write {name}=[{globs!r}]")
        if token and token_file:
            raise ValueError("token and token_file exclude each other")
        self._target, is_tls = _target(server)
        if not is_tls and (ca or certificate or key):
            raise ValueError("ca, certificate and key need an https:// address")
        if (token or token_file) and not is_tls and not _is_local(self._target):
            raise ValueError("a token is not sent in plaintext beyond this machine: use an https:// address")
        self._files = (ca, key, certificate)
        self._is_tls = is_tls
        self._token = token or (lambda: pathlib.Path(token_file).read_text().strip() if token_file else "")
        self._session = Session(make_filter(pools, peers, nodes, statuses, health_only), listener, user_data, resume_after)
        self._closed = threading.Event()
        self._call: Any = None
        self._wake: Optional[Callable[[], object]] = None

    @property
    def cursor(self) -> Optional[Cursor]:
        """Where a watcher goes on that is given it as `resume_after`: after the last event that was handled, which is when
        the next one is asked for."""
        return self._session.cursor

    def close(self) -> None:
        """Ends the iteration, from any thread."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()
        if self._wake is not None:
            self._wake()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        told = ""
        while not self._closed.is_set():
            error = ""
            try:
                with self._channel(grpc) as channel:
                    for event in self._stream(rpc.PeerStatusServiceStub(channel)):
                        told = ""
                        yield event
                        self._advance(event)
                error = "the stream ended"
            except ChainBroken as failure:
                error = told = str(failure)
                yield Gap(ResetReason.UNSPECIFIED, None)
            except (grpc.RpcError, OSError) as failure:
                error = self._lost(failure)
            if not self._closed.is_set() and error != told:
                told = error
                yield Disconnected(error)
            self._closed.wait(self._pause(error))

    def _stream(self, stub: rpc.PeerStatusServiceStub) -> Iterator[Event]:
        metadata, session = self._metadata(), self._session
        if session.listener:
            try:
                stub.CreateListener(session.create_request(), timeout=CALL_TIMEOUT_S, metadata=metadata)
            except grpc.RpcError as error:
                if not is_existing(error):
                    raise
        self._call = call = stub.WatchPeerStatus(session.watch_request(), metadata=metadata)
        if self._closed.is_set():
            call.cancel()
        try:
            for message in call:
                if event := session.receive(message):
                    yield event
        finally:
            call.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        loop, closed = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(closed.set)
        told = ""
        while not self._closed.is_set():
            error = ""
            try:
                async with self._channel(grpc.aio) as channel:
                    stub: rpc.PeerStatusServiceAsyncStub = rpc.PeerStatusServiceStub(channel)
                    async for event in self._async_stream(stub):
                        told = ""
                        yield event
                        self._advance(event)
                error = "the stream ended"
            except ChainBroken as failure:
                error = told = str(failure)
                yield Gap(ResetReason.UNSPECIFIED, None)
            except (grpc.RpcError, OSError) as failure:
                error = self._lost(failure)
            except asyncio.CancelledError:
                if not self._closed.is_set():
                    raise
            if not self._closed.is_set() and error != told:
                told = error
                yield Disconnected(error)
            try:
                await asyncio.wait_for(closed.wait(), self._pause(error))
            except asyncio.TimeoutError:
                pass

    async def _async_stream(self, stub: rpc.PeerStatusServiceAsyncStub) -> AsyncIterator[Event]:
        metadata, session = self._metadata(), self._session
        if session.listener:
            try:
                await stub.CreateListener(session.create_request(), timeout=CALL_TIMEOUT_S, metadata=metadata)
            except grpc.RpcError as error:
                if not is_existing(error):
                    raise
        self._call = call = stub.WatchPeerStatus(session.watch_request(), metadata=metadata)
        if self._closed.is_set():
            call.cancel()
        try:
            async for message in call:
                if event := session.receive(message):
                    yield event
        finally:
            call.cancel()

    def _advance(self, event: Event) -> None:
        cursor: Optional[Cursor] = getattr(event, "cursor", None)
        if cursor is not None:
            self._session.advance(cursor)

    def _lost(self, failure: Exception) -> str:
        if self._closed.is_set():
            return ""
        return self._session.lost(failure) if isinstance(failure, grpc.RpcError) else str(failure)

    def _pause(self, error: str) -> float:
        pause = self._session.pause()
        log.warning("%s: %s; next attempt in %.1f s", self._target, error, pause) if error else None
        return pause

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._token()
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _channel(self, library: Any) -> Any:
        if not self._is_tls:
            return library.insecure_channel(self._target, options=OPTIONS)
        ca, key, certificate = (pathlib.Path(file).read_bytes() if file else None for file in self._files)
        return library.secure_channel(self._target, grpc.ssl_channel_credentials(ca, key, certificate), options=OPTIONS)


def _target(server: str) -> tuple[str, bool]:
    """The address as gRPC spells it, and whether it is reached with TLS."""
    scheme, separator, rest = server.partition("://")
    if not separator:
        scheme, rest = ("unix", server) if server.startswith("unix:") else ("http", server)
    if scheme == "unix":
        return (server if server.startswith("unix:") else f"unix:{rest}"), False
    host = rest.rstrip("/")
    if scheme not in ("http", "https") or not host or "/" in host:
        raise ValueError(f"{server!r} is not an address of the service: HOST:PORT, https://HOST:PORT or unix:/PATH is expected")
    has_port = host.rpartition("]")[2].count(":") == 1
    return (host if has_port else f"{host}:50051"), scheme == "https"


def _is_local(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    return target.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")
