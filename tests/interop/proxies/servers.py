"""The proxies of docs/proxies.md as processes. Their configuration is taken from that page, so that it cannot rot."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

import grpc

from client import Client
from harness import PATIENCE_S, ROOT, Process, reserved_port, until

PAGE = ROOT / "docs" / "proxies.md"
# As the page has it.
SERVICE = "127.0.0.1:50051"
NAME = "peerstatus.example"
CERTIFICATE, KEY, BOTH = "/etc/ssl/peerstatus/cert.pem", "/etc/ssl/peerstatus/key.pem", "/etc/ssl/peerstatus/both.pem"


def snippets(page=PAGE):
    """The fenced blocks of the page that begin with a comment with a file's name, by that name."""
    found = re.findall(r"^```\w*\n# (\S+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(found) == len(dict(found)), f"a name is there twice: {[name for name, _ in found]}"
    return {name: text for name, text in found}


def substitute(text, replacements):
    """Replaces each, which has to be there."""
    for old, new in replacements.items():
        assert old in text, f"{old!r} is not in:\n{text}"
        text = text.replace(old, new)
    return text


class ProxyServer(Process):
    """A proxy with the configuration of the page, in front of `target`, on a port of the system's choice.

    `changes` replaces parts of the configuration: what a test is about.
    """

    snippet = program = None
    is_tls = True

    def __init__(self, target, changes=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="peerstatus-proxy-"))
        self.reservation = reserved_port()
        self.port = self.reservation.__enter__()
        self.address = f"127.0.0.1:{self.port}"
        try:
            if self.is_tls:
                self.make_certificate()
            text = substitute(snippets()[self.snippet], {**self.address_of_service(target), **(changes or {})})
            super().__init__(self.program, self.command(text))
            try:
                until(f"{self.program} to listen", self.is_up)
            except BaseException:
                super().stop()
                raise
        except BaseException:
            self.clean_up()
            raise

    def address_of_service(self, target):
        return {SERVICE: target}

    def command(self, text):
        """Writes the configuration, and what only a test needs, into the folder; returns the command that uses it."""
        raise NotImplementedError

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def make_certificate(self):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                   "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", "key.pem", "-out", "cert.pem"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=PATIENCE_S)
        self.write("both.pem", "".join((self.folder / name).read_text() for name in ("cert.pem", "key.pem")))

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.program} ended with {self.process.returncode}:\n{self.log()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def client(self):
        """A client of the service, through the proxy."""
        if not self.is_tls:
            return Client(self.address)
        credentials = grpc.ssl_channel_credentials((self.folder / "cert.pem").read_bytes())
        return Client(self.address, credentials, [("grpc.ssl_target_name_override", NAME)])

    def flags_of_load_go(self):
        return ["-ca", self.folder / "cert.pem", "-server-name", NAME] if self.is_tls else []

    def clean_up(self):
        self.reservation.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    def __exit__(self, *_):
        try:
            # Not killed: nginx would leave its workers behind.
            if self.process.poll() is None:
                self.stop()
            else:
                self.kill()
        finally:
            self.clean_up()


class Nginx(ProxyServer):
    snippet, program = "/etc/nginx/conf.d/peerstatus.conf", "nginx"

    def command(self, text):
        text = substitute(text, {"listen 443 ": f"listen {self.address} ", CERTIFICATE: f"{self.folder}/cert.pem", KEY: f"{self.folder}/key.pem"})
        paths = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;\n" if os.geteuid() == 0 else ""
        main = f"""{user}daemon off;
worker_processes 1;
pid {self.folder}/pid;
events {{}}
http {{
access_log off;
{paths}include {self.write("peerstatus.conf", text)};
}}
"""
        return ["nginx", "-e", "stderr", "-p", str(self.folder), "-c", self.write("nginx.conf", main)]


class HAProxy(ProxyServer):
    snippet, program = "/etc/haproxy/haproxy.cfg", "haproxy"

    def command(self, text):
        text = substitute(text, {"bind :443 ": f"bind {self.address} ", BOTH: f"{self.folder}/both.pem"})
        return ["haproxy", "-db", "-f", self.write("haproxy.cfg", text)]


class Envoy(ProxyServer):
    snippet, program, is_tls = "/etc/envoy/envoy.yaml", "envoy", False

    def address_of_service(self, target):
        form = "address: {}, port_value: {}"
        return {form.format(*SERVICE.split(":")): form.format(*target.split(":"))}

    def command(self, text):
        text = substitute(text, {"0.0.0.0": "127.0.0.1", "port_value: 8080": f"port_value: {self.port}"})
        path = self.write("envoy.yaml", text)
        return ["envoy", "--config-path", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]


class Caddy(ProxyServer):
    snippet, program = "/etc/caddy/Caddyfile", "caddy"

    def command(self, text):
        text = substitute(text, {f"{NAME} {{": f"{NAME}:{self.port} {{", CERTIFICATE: f"{self.folder}/cert.pem", KEY: f"{self.folder}/key.pem"})
        options = "{\nadmin off\npersist_config off\nauto_https disable_redirects\ndefault_bind 127.0.0.1\ngrace_period 1s\n}\n"
        path = self.write("Caddyfile", options + text)
        return ["env", f"HOME={self.folder}", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "caddy", "run", "--adapter", "caddyfile", "--config", path]


def missing(proxy):
    """Why a proxy cannot be tested; empty if it can."""
    if not shutil.which(proxy.program):
        return f"{proxy.program} is not installed"
    return "" if shutil.which("openssl") or not proxy.is_tls else "no openssl to make certificates with"
