"""How names of peers are looked up, and that those that do not exist burden the name servers of the cluster little."""

from __future__ import annotations

import time
import unittest

from case import TestCase
from cluster import until
from nameserver import A, AAAA
from settings import DOMAIN

MEASURED_S = 20
NAMES = [f"unknown-{number}.fabric.example" for number in range(8)]


class Lookups(TestCase):
    def asked(self, since: float, names: list[str] | None = None, kinds: tuple[int, ...] = (A, AAAA)) -> int:
        """How often unknown names, or these alone, were asked for."""
        found = [times for (name, kind), times in list(self.cluster.names.asked.items())
                 if kind in kinds and (name in names if names else name.startswith("unknown-"))]
        return sum(at >= since for times in found for at in list(times))

    def test_a_pool_looks_up_one_unknown_name_a_second(self) -> None:
        self.install({"pools": [{"peers": [f"{name}:8009" for name in NAMES]}]})
        until("lookups", lambda: self.asked(0))
        # The first attempts follow each other sooner.
        time.sleep(2 * MEASURED_S)
        started = time.monotonic()
        time.sleep(MEASURED_S)
        lookups, queries = self.asked(started, NAMES, (A,)) / MEASURED_S, self.asked(started) / MEASURED_S
        print(f"{len(NAMES)} names: {lookups:.1f} lookups and {queries:.1f} queries per second", end=" ", flush=True)
        self.assertGreater(lookups, 0)
        self.assertLessEqual(lookups, 1)

    def test_a_name_with_a_dot_is_not_looked_up_with_the_search_list_first(self) -> None:
        leaf = self.leaf()
        self.cluster.names.known["leaf-1.fabric.example"] = [leaf.host]
        self.install({"pools": [{"peers": ["leaf-1.fabric.example:8009"]}]})
        until("a session", leaf.sources)
        self.assertEqual([name for name, _ in self.cluster.names.asked if name.startswith("leaf-1.") and name.endswith(DOMAIN)], [])
