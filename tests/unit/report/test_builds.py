#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""./run compare-builds: a slowdown that was planted in the newer build is found, nothing is where nothing is, and each slot's programs
are those of its own build."""

import functools
import math
import os
import random
import tempfile
import unittest

import numpy as np

from simulate_windows import World, linear, simulate_windows
from ab import builds, stats
from ab.drivers import duet_trial
from ab.instrument.model import AGAIN, Interval, Point, Sample, Samples
from ab.stats import duet

NAMES, ARMS = ("old", "middle", "new"), ["copy", "zero-copy"]


@functools.cache
def measured(starts=0.004, blocks=12, **factors):
    """Samples of both builds' arms; a factor's key is "copy_of_new", a slot with _ for spaces."""
    arms = {"copy": linear(900, 8), "zero-copy": linear(70, 2.7)}
    factors = {k.replace("_", " ").replace("zero copy", "zero-copy"): v for k, v in factors.items()}
    plan = {builds.slot_of(a, n): (a, factors.get(builds.slot_of(a, n), 1.0)) for n in NAMES for a in arms}
    plan |= {builds.slot_of(a, "new") + AGAIN: plan[builds.slot_of(a, "new")] for a in arms}
    slots = {s: lambda p, r, h, f=f, a=a: f * arms[a](p, r, h) for s, (a, f) in plan.items()}
    rows, header, _ = simulate_windows(slots, blocks=blocks, dances=1, rounds=30, world=World(r=(104.0,), starts=starts))
    m = duet.measure(rows, header)
    return Samples(Sample("builds", v.block, "main", 0, m.header["slots"][v.slot], "", Point(), {"ns_per_request": v.ns}, plateau=0)
                   for v in duet.values(m) if np.isfinite(v.ns))


def found(bound=builds.BOUND, **kw):
    return builds.compared(measured(**kw), ARMS, NAMES, bound)


class Compared(unittest.TestCase):
    def answers(self, got):
        return {r["arm"]: r["answer"] for r in got["lost"] if r["base"] == "old"}

    def test_a_loss_that_was_planted_in_one_arm_is_found_in_it_alone(self):
        got = found(copy_of_new=1.05)
        self.assertEqual(self.answers(got), {"copy": builds.SLOWER, "zero-copy": builds.WITHIN})
        iv = next(r["ratio"] for r in got["lost"] if r["arm"] == "copy")
        self.assertTrue(iv.low <= 1.05 <= iv.high, iv.text())

    def test_among_three_builds_it_is_told_since_which_one(self):
        got = found(copy_of_new=1.05, copy_of_middle=1.05)
        self.assertEqual({r["base"]: r["answer"] for r in got["lost"] if r["arm"] == "copy"}, {"old": builds.SLOWER, "middle": builds.WITHIN})

    def test_builds_that_are_alike_are_not_said_to_lose_and_their_twins_say_how_much_is_noise(self):
        got = found()
        self.assertEqual(self.answers(got), dict.fromkeys(ARMS, builds.WITHIN))
        self.assertTrue(0 < got["floor"] < 0.01)
        for r in got["lost"]:
            self.assertFalse(r["twin"].excludes(1.0), r["twin"].text())

    def test_what_noise_hides_is_undecided(self):
        self.assertEqual(set(self.answers(found(starts=0.06)).values()), {builds.UNDECIDED})
        self.assertEqual(set(self.answers(found(blocks=stats.MIN_VERDICT - 1)).values()), {builds.UNDECIDED})

    def test_an_answer_is_that_of_the_whole_interval_against_the_bound(self):
        def of(low, high, n=9):
            return builds.answer(Interval((low + high) / 2, low, high, n), 0.02)
        self.assertEqual([of(0.9, 1.019), of(0.9, 1.021), of(1.021, 1.1), of(math.nan, math.nan)],
                         [builds.WITHIN, builds.UNDECIDED, builds.SLOWER, builds.UNDECIDED])

    def test_what_the_other_arm_gained_is_seen_in_the_ratio_of_the_two(self):
        got = found(copy_of_new=0.8)["shrunk"]
        self.assertEqual([(r["arm"], r["rival"], r["of"]) for r in got], [("copy", "zero-copy", n) for n in NAMES[:-1]])
        old = (900 + 8 * 104) / (70 + 2.7 * 104)
        for key, want in (("base", old), ("head", 0.8 * old), ("change", 0.8)):
            self.assertLess(abs(math.log(got[0][key].estimate / want)), 0.01, key)

    def test_the_text_says_plateau_builds_bound_and_every_row(self):
        got = found(copy_of_new=1.05)
        text = builds.text(got, NAMES, "R = 104 ns", 0.02)
        for part in ("R = 104 ns", "old", "new", "2 %", "| slower by more |", "| not slower by more |", "copy / zero-copy"):
            self.assertIn(part, text)


class Plan(unittest.TestCase):
    def test_each_slots_programs_are_those_of_its_build_and_twins_are_the_newer_ones(self):
        with tempfile.TemporaryDirectory() as folder:
            e = builds.plan([("old", folder + "/a"), ("new", folder + "/b")], ARMS, 8)
            self.assertEqual(sorted(e.slots), sorted(["copy of old", "copy of new", "zero-copy of old", "zero-copy of new",
                                                      "copy of new" + AGAIN, "zero-copy of new" + AGAIN]))
            make = duet_trial.DuetTrial("elsewhere", {"guest_core": 0, "server_core": 1}, e, None, 1, ([], []))
            for slot, arm in e.slots.items():
                for point in e.points[slot]:
                    key = duet_trial.key_of(point)
                    m = make.kind(arm, key[0]).machine(make, slot, arm, key, "x,slot=0", ("4k", folder), random.Random(1))
                    self.assertEqual(m.build, os.path.join(folder, "a" if "old" in slot else "b"))

    def test_a_build_is_named_by_its_sources_commit_or_as_it_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(builds.MachineError, "no build directory"):
                builds.named(folder)
            os.mkdir(os.path.join(folder, "meson-info"))
            with open(os.path.join(folder, "meson-info", "meson-info.json"), "w") as f:
                f.write('{"directories": {"source": "%s"}}' % folder)
            self.assertEqual(builds.named("before=" + folder), ("before", folder))
            self.assertEqual(builds.named(folder), (os.path.basename(folder), folder))


if __name__ == "__main__":
    unittest.main()
