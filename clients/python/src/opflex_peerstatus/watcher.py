"""The watcher, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Optional, Union

import grpc
import grpc.aio

from opflex.peerstatus.v1 import peer_status_service_pb2_grpc as rpc

from . import arguments
from .arguments import UnusableFile
from .events import Disconnected, Event, Gap
from .patience import Patience, silence
from .session import ChainBroken, Session, is_existing, make_filter
from .types import Cursor, PeerStatus, ResetReason

log = logging.getLogger("opflex_peerstatus")

CALL_TIMEOUT_S = 10.0
OPTIONS: list[tuple[str, Any]] = [
    # Detects a connection that broke silently.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The time that gRPC waits for the answer to a ping: a minute by default, whatever the timeout of keepalive.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Else gRPC sends two pings, and then one in a minute, because a watch sends no data.
    ("grpc.http2.max_pings_without_data", 0),
    # The pauses are the session's; those of gRPC grow up to two minutes. "min" is the time that a connection has to be made in.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]


class Watcher:
    """Iterates over what happens to OpFlex peers, and goes on where it was when a connection breaks.

    `for event in Watcher(…)` waits in the calling thread, `async for event in Watcher(…)` in asyncio. The events are
    `Snapshot`, `Change`, `Gap`, `Disconnected` and `Resumed`. Nothing is missed silently: a change that the service has no more is told
    as a `Gap`. What would be refused again is raised as `WatchError`; everything else is tried again, after at most 10 s.

    Args:
        server: `HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`, as for `peerstatus --server`; the port is 50051 if there is none.
        pools, peers, nodes: globs; empty is all. `peers` match `HOST:PORT`, nodes are those of a fleet.
        statuses: only changes that enter or leave one of them; empty is all.
        health_only: only changes of the health of pools.
        listener: the name of a listener, which outlives its streams and is shown by `peerstatus listeners list`. Another
            watcher with the same name takes over, and this one raises `WatchError`. Unset: the stream is its own listener.
        user_data: up to 4,096 bytes that are kept with the listener.
        resume_after: the cursor of an earlier watcher, or its text.
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
        resume_after: Union[Cursor, str, None] = None,
        ca: arguments.Path = None,
        certificate: arguments.Path = None,
        key: arguments.Path = None,
        token: Optional[Callable[[], str]] = None,
        token_file: arguments.Path = None,
    ) -> None:
        if token and token_file:
            raise ValueError("token and token_file exclude each other")
        if token is not None and not callable(token):
            raise TypeError(f"token is a {type(token).__name__}: a function that returns the token is expected, such as token=lambda: TOKEN")
        self._target, self._is_tls = arguments.address(server)
        if not self._is_tls and (ca or certificate or key):
            raise ValueError(f"ca, certificate and key need an https:// address, and server is {server!r}")
        if bool(certificate) != bool(key):
            raise ValueError("certificate and key need each other: both or neither is expected")
        if (token or token_file) and not self._is_tls and not arguments.is_local(self._target):
            raise ValueError(f"a token is not sent in plaintext beyond this machine: server is {server!r}, an https:// address is expected")
        self._ca, self._certificate, self._key = ca, certificate, key
        self._token, self._token_file = token, token_file
        globs = {name: arguments.globs(name, value) for name, value in (("pools", pools), ("peers", peers), ("nodes", nodes))}
        self._session = Session(
            make_filter(**globs, statuses=arguments.statuses(statuses), health_only=health_only),
            arguments.text("listener", listener),
            arguments.data("user_data", user_data),
            arguments.cursor(resume_after),
        )
        # A file that is missing now would be tried again for ever. Later it may be one that is just being replaced.
        self._credentials()
        if token_file:
            arguments.read_token(token_file)
        self._closed = threading.Event()
        self._cancel: Callable[[], object] = lambda: None
        self._stop: Optional[Callable[[], object]] = None

    @property
    def cursor(self) -> Optional[Cursor]:
        """Where a watcher goes on that is given it as `resume_after`: after the last event that was handled, which is when
        the next one is asked for."""
        return self._session.cursor

    def close(self) -> None:
        """Ends the iteration, from any thread."""
        self._closed.set()
        with contextlib.suppress(RuntimeError):  # the loop of asyncio has ended, and with it the iteration
            (self._stop or self._cancel)()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        while not self._closed.is_set():
            error, is_told = "", False
            try:
                with self._channel(grpc) as channel:
                    for event in self._stream(rpc.PeerStatusServiceStub(channel)):
                        yield event
                        self._advance(event)
                        if self._closed.is_set():
                            break
                error = "the stream ended"
            except ChainBroken as failure:
                error, is_told = str(failure), True
                yield Gap(ResetReason.UNSPECIFIED, None)
            except (grpc.RpcError, OSError, UnusableFile) as failure:
                error = self._lost(failure)
            if self._is_new(error) and not is_told:
                yield Disconnected(error)
            self._closed.wait(self._session.pause())

    def _stream(self, stub: rpc.PeerStatusServiceStub) -> Iterator[Event]:
        metadata, session = self._metadata(), self._session
        if session.listener:
            try:
                stub.CreateListener(session.create_request(), timeout=CALL_TIMEOUT_S, metadata=metadata)
            except grpc.RpcError as error:
                if not is_existing(error):
                    raise
        call: Any = stub.WatchPeerStatus(session.watch_request(), metadata=metadata)
        self._cancel = call.cancel
        if self._closed.is_set():
            call.cancel()
        with Patience(call, session) as patience:
            for message in patience.messages():
                if event := session.receive(message):
                    yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            closed.set()
            self._cancel()

        self._stop = lambda: loop.call_soon_threadsafe(stop)
        while not self._closed.is_set():
            error, is_told = "", False
            try:
                async with self._channel(grpc.aio) as channel:
                    stub: rpc.PeerStatusServiceAsyncStub = rpc.PeerStatusServiceStub(channel)
                    async for event in self._async_stream(stub):
                        yield event
                        self._advance(event)
                        if self._closed.is_set():
                            break
                error = "the stream ended"
            except ChainBroken as failure:
                error, is_told = str(failure), True
                yield Gap(ResetReason.UNSPECIFIED, None)
            except (grpc.RpcError, OSError, UnusableFile) as failure:
                error = self._lost(failure)
            except asyncio.CancelledError:
                if not self._closed.is_set():
                    raise
            if self._is_new(error) and not is_told:
                yield Disconnected(error)
            try:
                await asyncio.wait_for(closed.wait(), self._session.pause())
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
        call: Any = stub.WatchPeerStatus(session.watch_request(), metadata=metadata)
        self._cancel = call.cancel
        if self._closed.is_set():
            call.cancel()
        try:
            async for message in _messages(call, session):
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

    def _is_new(self, error: str) -> bool:
        """Whether the present outage has not had this cause yet. Others are not logged as warnings, either."""
        if self._closed.is_set() or not error:
            return False
        is_new = self._session.is_new_cause(error)
        log.log(logging.WARNING if is_new else logging.DEBUG, "%s: %s; trying again", self._target, error)
        return is_new

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        token = arguments.read_token(self._token_file) if self._token_file else self._token() if self._token else ""
        if not arguments.is_token(token):
            raise TypeError("token returned what is no string of printable ASCII")
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _credentials(self) -> Optional[grpc.ChannelCredentials]:
        if not self._is_tls:
            return None
        return grpc.ssl_channel_credentials(
            arguments.read_pem("ca", self._ca, "CERTIFICATE"),
            arguments.read_pem("key", self._key, "PRIVATE KEY"),
            arguments.read_pem("certificate", self._certificate, "CERTIFICATE"),
        )

    def _channel(self, library: Any) -> Any:
        credentials = self._credentials()
        if self._target.startswith("unix:"):
            # The default is the path, which is no authority in HTTP.
            return library.insecure_channel(self._target, options=[*OPTIONS, ("grpc.default_authority", "localhost")])
        if credentials is None:
            return library.insecure_channel(self._target, options=OPTIONS)
        return library.secure_channel(self._target, credentials, options=OPTIONS)


async def _messages(call: Any, session: Session) -> AsyncIterator[Any]:
    """The messages of the call, which is cancelled when the next one was waited for too long."""
    is_silent, messages, loop = False, call.__aiter__(), asyncio.get_running_loop()

    def give_up() -> None:
        nonlocal is_silent
        is_silent = True
        call.cancel()

    while True:
        timer = loop.call_later(session.patience, give_up)
        try:
            message = await messages.__anext__()
        except StopAsyncIteration:
            return
        except asyncio.CancelledError:
            if is_silent:
                raise silence(session.patience) from None
            raise
        finally:
            timer.cancel()
        yield message
