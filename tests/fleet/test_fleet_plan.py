"""The plans of seeds: always the same, never in conflict, and with every kind of fault."""

from __future__ import annotations

import tomllib
import unittest

import fleet_settings as settings
from fleet_inject import FleetInjector
from fleet_plan import MOST_FAULTS, RACKS, plan, sites
from inject import actions

MANY = range(1, 201)


class FleetPlanTest(unittest.TestCase):
    def test_a_seed_always_chooses_the_same(self) -> None:
        for seed in MANY:
            self.assertEqual(plan(seed), plan(seed))

    def test_seeds_choose_differently(self) -> None:
        self.assertEqual(len({plan(seed).faults for seed in MANY}), len(MANY))

    def test_every_kind_of_fault_and_fleet_is_chosen_and_known(self) -> None:
        plans = [plan(seed) for seed in MANY]
        faults = [fault for one in plans for fault in one.faults]
        self.assertEqual({one.nats for one in plans}, {1, 3})
        self.assertEqual({one.replicas for one in plans}, {2, 3})
        self.assertEqual(
            {fault.kind for fault in faults}, {"kill", "stop", "restart", "cut", "lose", "reset", "reset-peers", "add-peer"}
        )
        for kind in ("node", "nats", "replica", "peers", "rust", "python"):
            self.assertTrue(any(fault.kind == "kill" and fault.target.startswith(kind) for fault in faults), kind)
        for action in (action for one in plans for action in actions(one.faults)):
            name = f"{'begin' if action.is_begin else 'end'}_{action.fault.kind.replace('-', '_')}"
            self.assertTrue(hasattr(FleetInjector, name), name)

    def test_faults_that_need_the_same_thing_follow_each_other(self) -> None:
        for seed in MANY:
            faults = plan(seed).faults
            self.assertLessEqual(len(faults), MOST_FAULTS)
            for place, fault in enumerate(faults):
                self.assertFalse([other for other in faults[place + 1 :] if fault.collides(other)], f"seed {seed}: {fault}")

    def test_faults_are_of_what_there_is(self) -> None:
        for seed in MANY:
            chosen = plan(seed)
            known = sites(chosen.nats, chosen.replicas)
            for fault in chosen.faults:
                if fault.kind in ("cut", "lose", "reset"):
                    self.assertIn(fault.target, known)

    def test_peers_are_normal_in_the_end(self) -> None:
        for seed in MANY:
            for rack in range(RACKS):
                last = {}
                for event in tomllib.loads(settings.scenario(rack, plan(seed).events)).get("event", []):
                    last[event["peers"][0]] = event["behaviour"]
                self.assertLessEqual(set(last.values()), {"normal"})


if __name__ == "__main__":
    unittest.main()
