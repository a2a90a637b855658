"""The network of a run: a namespace for the service and one for each site of peers or clients, connected by veth pairs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from plan import CLIENT_SITES, PEER_SITES, PEERS_OF_SITE, peer_host

SERVICE_IP = "10.77.0.1"
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


class Network:
    """The namespaces of one run. The service is at `SERVICE_IP`; peers and clients are on the links of their sites."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.sites = [f"peers-{n}" for n in range(PEER_SITES)] + [f"clients-{n}" for n in range(CLIENT_SITES)]

    def namespace(self, site: str) -> str:
        """The namespace of a site, or of `service`."""
        return f"{self.prefix}-{site}"

    def build(self) -> None:
        """Creates everything."""
        service = self.namespace("service")
        ip(f"netns add {service}")
        ip(f"-n {service} link set lo up")
        ip(f"-n {service} address add {SERVICE_IP}/32 dev lo")
        for site in self.sites:
            namespace = self.namespace(site)
            ip(f"netns add {namespace}")
            ip(f"-n {namespace} link set lo up")
            ip(f"link add {site} netns {service} type veth peer name service netns {namespace}")
            ip(f"-n {service} address add {self.gateway(site)}/24 dev {site}")
            for host in self.hosts(site):
                ip(f"-n {namespace} address add {host}/24 dev service")
            ip(f"-n {service} link set {site} up")
            ip(f"-n {namespace} link set service up")
            self._route(site)

    def remove(self) -> None:
        """Deletes what there is of it; the veth pairs go with their namespaces."""
        for site in [*self.sites, "service"]:
            if Path("/run/netns", self.namespace(site)).exists():
                ip(f"netns del {self.namespace(site)}")

    def hosts(self, site: str) -> list[str]:
        """The addresses in a site."""
        kind, number = site.split("-")
        if kind == "clients":
            return [f"10.79.{number}.1"]
        anycast = ["10.78.0.9"] if site == "peers-0" else []
        return [peer_host(int(number), n) for n in range(PEERS_OF_SITE)] + anycast

    def gateway(self, site: str) -> str:
        """The service's end of a site's link."""
        kind, number = site.split("-")
        return f"10.{79 if kind == 'clients' else 78}.{number}.254"

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
        namespace, interface = self._end(site, "at-service" if direction == "to-site" else "at-site")
        run("tc", "-n", namespace, *f"qdisc add dev {interface} {SLOW}".split())

    def fast(self, site: str, direction: str) -> None:
        """Takes the limit away."""
        namespace, interface = self._end(site, "at-service" if direction == "to-site" else "at-site")
        run("tc", "-n", namespace, *f"qdisc del dev {interface} root".split())

    def reset(self, site: str) -> None:
        """Resets all connections of a site, if the kernel can do that."""
        run("ss", "--net", self.namespace(site), "--kill", "state", "established")

    def _end(self, site: str, end: str) -> tuple[str, str]:
        if end == "at-site":
            return self.namespace(site), "service"
        return self.namespace("service"), site

    def _senders(self, site: str, direction: str) -> list[tuple[str, str, str]]:
        """Namespace, interface and receiver of what is sent in this direction."""
        if direction == "from-site":
            return [(self.namespace(site), "service", self.gateway(site))]
        return [(self.namespace("service"), site, host) for host in self.hosts(site)]

    def _route(self, site: str) -> None:
        """A link that was down has forgotten its routes."""
        ip(f"-n {self.namespace(site)} route replace default via {self.gateway(site)}")
