"""Certificates for tests, made by `openssl`: files with the suffixes `.key` and `.crt`."""

from __future__ import annotations

from pathlib import Path

from sandbox import run

REQUEST = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]


def make_self_signed(host: str, place: Path) -> Path:
    """A certificate for a host, which signs itself."""
    run(*REQUEST, "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-keyout", f"{place}.key", "-out", f"{place}.crt")
    return place


def make_certificate(host: str, place: Path, serial: str = "service") -> tuple[Path, Path]:
    """An authority, unless there is one beside `place`, and a certificate of it for a host."""
    authority = place.with_name(f"{place.name}-authority")
    if not authority.with_suffix(".crt").exists():
        run(*REQUEST, "-subj", "/CN=authority", "-keyout", f"{authority}.key", "-out", f"{authority}.crt")
    run(*REQUEST, "-subj", f"/CN={serial}", "-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE",
        "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-keyout", f"{place}.key", "-out", f"{place}.crt")
    return authority, place
