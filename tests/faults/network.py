"""The network of a run: a namespace in the middle and one for each site, connected by veth pairs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# An unassigned MAC address: packets to it are lost.
NOBODY = "02:00:00:00:00:01"
# Slow enough for a backlog: a connection attempt of everybody fills it.
SLOW = "root tbf rate 128kbit burst 4k latency 100ms"


class CommandFailed(Exception):
    """A command of the machine failed."""


def run(*command: str) -> None:
    """Runs a command to its end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        raise CommandFailed(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def ip(arguments: str) -> None:
    """Runs `ip`."""
    run("ip", *arguments.split())


@dataclass(frozen=True)
class Site:
    """The addresses at both ends of a link, all of one /24."""

    gateway: str
    hosts: tuple[str, ...]


class Network:
    """The namespaces of one run: one in the middle, which has an address of its own or routes between the sites."""

    def __init__(self, prefix: str, middle: str, address: str | None, sites: Mapping[str, Site]) -> None:
        self.prefix, self.middle, self.address, self.sites = prefix, middle, address, sites

    def namespace(self, site: str) -> str:
        """The namespace of a site, or of the middle."""
        return f"{self.prefix}-{site}"

    def build(self) -> None:
        """Creates everything."""
        middle = self.namespace(self.middle)
        ip(f"netns add {middle}")
        ip(f"-n {middle} link set lo up")
        if self.address:
            ip(f"-n {middle} address add {self.address}/32 dev lo")
        else:
            ip(f"netns exec {middle} sysctl -q -w net.ipv4.ip_forward=1")
        for name, site in self.sites.items():
            namespace = self.namespace(name)
            ip(f"netns add {namespace}")
            ip(f"-n {namespace} link set lo up")
            ip(f"link add {name} netns {middle} type veth peer name {self.middle} netns {namespace}")
            ip(f"-n {middle} address add {site.gateway}/24 dev {name}")
            for host in site.hosts:
                ip(f"-n {namespace} address add {host}/24 dev {self.middle}")
            ip(f"-n {middle} link set {name} up")
            ip(f"-n {namespace} link set {self.middle} up")
            self._route(name)

    def cut(self, site: str, end: str) -> None:
        """Takes the link of a site down, at one end."""
        namespace, interface = self._end(site, end)
        ip(f"-n {namespace} link set {interface} down")

    def mend(self, site: str, end: str) -> None:
        """Takes it up again."""
        namespace, interface = self._end(site, end)
        ip(f"-n {namespace} link set {interface} up")
        self._route(site)

    def lose(self, site: str, direction: str) -> None:
        """Loses all packets in one direction."""
        for namespace, interface, receiver in self._senders(site, direction):
            ip(f"-n {namespace} neigh replace {receiver} lladdr {NOBODY} dev {interface} nud permanent")

    def deliver(self, site: str, direction: str) -> None:
        """Loses no more of them. A link that was down in between has forgotten the neighbours."""
        for namespace, interface, receiver in self._senders(site, direction):
            ip(f"-n {namespace} neigh replace {receiver} lladdr {NOBODY} dev {interface} nud reachable")
            ip(f"-n {namespace} neigh del {receiver} dev {interface}")

    def slow(self, site: str, direction: str) -> None:
        """Makes a link slow in one direction, with a short queue: the rest is lost."""
        namespace, interface = self._end(site, "at-middle" if direction == "to-site" else "at-site")
        run("tc", "-n", namespace, *f"qdisc add dev {interface} {SLOW}".split())

    def fast(self, site: str, direction: str) -> None:
        """Takes the limit away."""
        namespace, interface = self._end(site, "at-middle" if direction == "to-site" else "at-site")
        run("tc", "-n", namespace, *f"qdisc del dev {interface} root".split())

    def reset(self, site: str) -> None:
        """Resets all connections of a site, if the kernel can do that."""
        run("ss", "--net", self.namespace(site), "--kill", "state", "established")

    def _end(self, site: str, end: str) -> tuple[str, str]:
        if end == "at-site":
            return self.namespace(site), self.middle
        return self.namespace(self.middle), site

    def _senders(self, site: str, direction: str) -> list[tuple[str, str, str]]:
        """Namespace, interface and receiver of what is sent in this direction."""
        if direction == "from-site":
            return [(self.namespace(site), self.middle, self.sites[site].gateway)]
        return [(self.namespace(self.middle), site, host) for host in self.sites[site].hosts]

    def _route(self, site: str) -> None:
        """A link that was down has forgotten its routes."""
        ip(f"-n {self.namespace(site)} route replace default via {self.sites[site].gateway}")


def remove_namespaces(prefix: str) -> None:
    """Deletes what there is of a network; the veth pairs go with their namespaces."""
    for namespace in Path("/run/netns").glob(f"{prefix}-*"):
        ip(f"netns del {namespace.name}")
