"""The plans of seeds: always the same, never in conflict, and with every kind of fault."""

from __future__ import annotations

import unittest

from inject import Injector, actions
from plan import KINDS, MOST_FAULTS, plan
from runner import seeds

MANY = range(1, 301)


class PlanTest(unittest.TestCase):
    def test_a_seed_always_chooses_the_same(self) -> None:
        for seed in MANY:
            self.assertEqual(plan(seed), plan(seed))
        # From another process and another day.
        self.assertEqual(str(plan(17).faults[0]), "0.1-2.4s certificates mismatched")

    def test_seeds_choose_differently(self) -> None:
        self.assertEqual(len({plan(seed).faults for seed in MANY}), len(MANY))

    def test_every_kind_of_fault_is_chosen_and_known(self) -> None:
        chosen = [action for seed in MANY for action in actions(plan(seed).faults)]
        self.assertGreaterEqual(len({action.fault.kind for action in chosen}), len(set(KINDS)))
        for action in chosen:
            name = f"{'begin' if action.is_begin else 'end'}_{action.fault.kind.replace('-', '_')}"
            self.assertTrue(hasattr(Injector, name), name)

    def test_faults_that_need_the_same_thing_follow_each_other(self) -> None:
        for seed in MANY:
            in_use: set[str] = set()
            chosen = plan(seed)
            self.assertLessEqual(len(chosen.faults), MOST_FAULTS)
            for action in actions(chosen.faults):
                if action.is_begin:
                    self.assertFalse(in_use & action.fault.needs, f"seed {seed}: {action.fault}")
                    in_use |= action.fault.needs
                else:
                    in_use -= action.fault.needs

    def test_faults_overlap(self) -> None:
        def overlap(seed: int) -> bool:
            faults = plan(seed).faults
            return any(one.end > other.begin for one, other in zip(faults, faults[1:], strict=False))

        self.assertTrue(all(overlap(seed) for seed in MANY))

    def test_seeds_are_one_or_a_range(self) -> None:
        self.assertEqual((seeds("17"), seeds("2-4")), ([17], [2, 3, 4]))


if __name__ == "__main__":
    unittest.main()
