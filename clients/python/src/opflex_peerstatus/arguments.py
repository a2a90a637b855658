"""The arguments of a watcher, checked. Each error names the argument, its value and what is expected."""

from __future__ import annotations

import collections.abc
import ipaddress
import pathlib
import re
from typing import Any, Optional, Union

from .types import Cursor, PeerStatus

Path = Union[str, pathlib.Path, None]

DEFAULT_PORT = 50051
STATUSES = ", ".join(f"PeerStatus.{status.name}" for status in PeerStatus if status)


class UnusableFile(ValueError):
    """A file can be read, but does not have what it should have. It may be replaced."""


def address(server: str) -> tuple[str, bool]:
    """The address as gRPC spells it, and whether it is reached with TLS. The rules are those of `peerstatus --server`."""
    if not isinstance(server, str):
        raise TypeError(f"server is {server!r}: a string is expected, such as 'HOST:PORT'")
    if server.startswith("unix:"):
        path = server.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"server is {server!r}: the whole path of a socket is expected, unix:/PATH")
        return f"unix:{path}", False
    scheme, separator, rest = server.partition("://")
    scheme, rest = (scheme.lower(), rest.removesuffix("/")) if separator else ("http", server.removesuffix("/"))
    parts = re.fullmatch(r"([^\s/@:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", rest)
    port = int(parts[2] or DEFAULT_PORT) if parts else 0
    if scheme not in ("http", "https") or not parts or not 0 < port < 2**16:
        expected = f"HOST, HOST:PORT, https://HOST:PORT or unix:/PATH is expected, the port from 1 to 65535 ({DEFAULT_PORT} if there is none)"
        raise ValueError(f"server is {server!r}: {expected}, and an IPv6 address in brackets")
    return f"{parts[1]}:{port}", scheme == "https"


def is_local(target: str) -> bool:
    """Whether what is sent there in plaintext stays on this machine."""
    host = target.rpartition(":")[0].strip("[]")
    if target.startswith("unix:") or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def globs(name: str, value: Any) -> list[str]:
    """A list of globs; a single string would be one of characters."""
    if isinstance(value, str):
        raise TypeError(f"{name} is {value!r}: a list of globs is expected, such as {name}=[{value!r}]")
    listed = list(value) if isinstance(value, collections.abc.Iterable) and not isinstance(value, bytes) else [value]
    for glob in listed:
        if not isinstance(glob, str):
            raise TypeError(f"{name} has {glob!r}: a list of globs is expected, such as {name}=['*']")
    return listed


def statuses(value: Any) -> list[PeerStatus]:
    """A list of statuses."""
    is_list = isinstance(value, collections.abc.Iterable) and not isinstance(value, (str, bytes))
    listed = list(value) if is_list else [value]
    for status in listed:
        if not is_list or not isinstance(status, int):
            raise TypeError(f"statuses has {status!r}: a list of {STATUSES} is expected, such as statuses=[PeerStatus.READY]")
    return [PeerStatus(status) for status in listed]


def cursor(value: Any) -> Optional[Cursor]:
    """A cursor, or its text."""
    if isinstance(value, str):
        try:
            return Cursor.parse(value)
        except ValueError as error:
            raise ValueError(f"resume_after: {error}") from None
    if value is not None and not isinstance(value, Cursor):
        raise TypeError(f"resume_after is {value!r}: a Cursor is expected, or its text, EPOCH.REVISION")
    return value


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}: a string is expected")
    return value


def data(name: str, value: Any) -> bytes:
    """Bytes."""
    if not isinstance(value, bytes):
        raise TypeError(f"{name} is {value!r}: bytes are expected")
    return value


def read(name: str, path: Path) -> Optional[bytes]:
    """The content of the file that an argument names, if it does."""
    if not path:
        return None
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise OSError(error.errno, f"{name} cannot be read: {error.strerror}", str(path)) from None


def read_pem(name: str, path: Path, kind: str) -> Optional[bytes]:
    """The same of a PEM file. gRPC reports one that is none as a failed handshake."""
    content = read(name, path)
    if content is not None and not re.search(rb"-----BEGIN [A-Z0-9 ]*" + kind.encode() + b"-----", content):
        raise UnusableFile(f"{name}: {str(path)!r} has no PEM block -----BEGIN {kind}-----")
    return content


def read_token(path: Path) -> str:
    """The token in a file."""
    token = (read("token_file", path) or b"").decode(errors="replace").strip()
    if not token or not is_token(token):
        raise UnusableFile(f"token_file: {str(path)!r} {'has no token' if token else 'is empty'}: one line of printable ASCII is expected")
    return token


def is_token(token: Any) -> bool:
    """Whether it can be sent in a header."""
    return isinstance(token, str) and token.isascii() and token.isprintable()
