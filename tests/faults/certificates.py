"""The certificates of a run, made by openssl: an authority that clients trust, and the service's, which are replaced."""

from __future__ import annotations

from pathlib import Path

from network import run
from plan import SERVICE_IP

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Certificates:
    """`ca.pem` for clients; `server.pem` and `server.key`, which the service reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        run("openssl", "req", "-x509", *KEY, "-keyout", str(folder / "ca.key"), "-out", str(self.ca),
            "-subj", "/CN=authority", "-days", "2")
        for name in ("first", "second"):
            self._issue(name)
        self.current = "first"
        self._put(self._read("first.pem"), self._read("first.key"))

    def _issue(self, name: str) -> None:
        request, extensions = self.folder / f"{name}.csr", self.folder / "extensions"
        extensions.write_text(f"basicConstraints=CA:FALSE\nsubjectAltName=IP:{SERVICE_IP},IP:127.0.0.1\n")
        run("openssl", "req", *KEY, "-keyout", str(self.folder / f"{name}.key"), "-subj", f"/CN={name}", "-out", str(request))
        run("openssl", "x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(self.folder / "ca.key"),
            "-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", str(self.folder / f"{name}.pem"))

    def spoil(self, variant: str) -> None:
        """Replaces the files: by new ones, or by files that are none."""
        other = "second" if self.current == "first" else "first"
        cert, key = self._read(f"{other}.pem"), self._read(f"{other}.key")
        if variant == "new":
            self.current = other
        elif variant == "empty":
            cert = b""
        elif variant == "truncated":
            cert = cert[: len(cert) // 2]
        elif variant == "mismatched":
            key = self._read(f"{self.current}.key")
        self._put(cert, key)

    def restore(self) -> None:
        """Puts the files back."""
        self._put(self._read(f"{self.current}.pem"), self._read(f"{self.current}.key"))

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def _put(self, cert: bytes, key: bytes) -> None:
        for path, content in ((self.cert, cert), (self.key, key)):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.rename(path)
