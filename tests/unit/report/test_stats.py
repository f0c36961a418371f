#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Intervals and verdicts on simulated samples whose truth is known."""

import math
import unittest

import numpy as np

from simulate import context, simulate
from ab import stats
from ab.instrument.model import AGAIN, Interval, Point

POINTS = [Point(backend=b, bs=s, depth=d) for b in ("null", "memory") for s in (512, 4096, 65536) for d in (1, 32)]


def pairs(rng, kind, n):
    """ln of two arms' times in n blocks, of equal medians."""
    def one():
        if kind == "heavy":
            return 0.02 * rng.standard_t(2, n)
        return rng.normal(0, 0.01, n) + (rng.random(n) < 0.15) * rng.exponential(0.3, n)
    block = rng.normal(0, 0.05, n)
    return np.exp(block + one()), np.exp(block + one())


class Coverage(unittest.TestCase):
    def test_ratio_interval_covers_what_it_says(self):
        """Intervals that are too narrow: 99 % ones that miss the truth in more than 3 % of runs (chance of that: below 1e-5)."""
        rng = np.random.default_rng(7)
        for n in (5, 10, 20):
            for kind in ("heavy", "spikes"):
                runs = [stats.ratio(*pairs(rng, kind, n), seed=i) for i in range(400)]
                missed = sum(iv.excludes(1.0) for iv in runs)
                self.assertLessEqual(missed, 12, f"{kind} noise, {n} pairs: {missed} of 400 intervals miss the truth")

    def test_median_interval_covers_what_it_says(self):
        rng = np.random.default_rng(8)
        for n in (5, 10, 20):
            missed = sum(stats.median(rng.lognormal(3, 0.5, n), seed=i).excludes(math.exp(3)) for i in range(400))
            self.assertLessEqual(missed, 12, f"{n} values")

    def test_interval_narrows_with_blocks(self):
        rng = np.random.default_rng(9)

        def width(n):
            got = [stats.ratio(*pairs(rng, "heavy", n)) for _ in range(30)]
            return np.median([math.log(iv.high / iv.low) for iv in got])
        self.assertGreater(width(5), 1.5 * width(40))


    def test_what_a_block_does_to_all_its_arms_widens_no_ratio_and_no_contrast(self):
        """Minutes that differ by 30 % beside arms that differ by 1 %: a ratio of medians over blocks would be as wide as the minutes."""
        rng = np.random.default_rng(11)
        for n in (6, 12, 30):
            block, own = rng.normal(0, 0.3, (n, 1)), rng.normal(0, 0.01, (n, 4))
            calm, rough = np.exp(own), np.exp(own + block)

            def worth(m):
                return (m[:, :1] / m[:, 1:2]) / (m[:, 2:3] / m[:, 3:4])
            for a, b in ((stats.ratio(calm[:, 0], calm[:, 1]), stats.ratio(rough[:, 0], rough[:, 1])),
                         (stats.of_blocks(calm, worth, log=True)[0], stats.of_blocks(rough, worth, log=True)[0])):
                self.assertAlmostEqual(a.estimate, b.estimate, places=9)
                self.assertAlmostEqual(a.high / a.low, b.high / b.low, places=9)


class Verdicts(unittest.TestCase):
    def found(self, samples, noise):
        """(verdict, interval) of copy (again) against copy at each point."""
        out = []
        for p in samples.points():
            at = samples.where(**{k: getattr(p, k) for k in ("backend", "bs", "depth")})
            iv = stats.ratio(*at.where(slot="copy").paired(at.where(slot="copy" + AGAIN), "ns_per_request"))
            out.append((stats.verdict("", iv, noise).answer, iv))
        return out

    def test_identical_arms_show_no_difference(self):
        """An A/A run that reports a difference: over 360 points at most the 1 % that the level allows (3 sd above it)."""
        false = total = 0
        for seed in range(30):
            got = self.found(simulate(["copy"], POINTS, 10, seed=seed, again=["copy"]), noise=0.0)
            total += len(got)
            false += sum(answer != stats.NONE for answer, _ in got)
        self.assertLessEqual(false, 0.01 * total + 3 * math.sqrt(0.01 * total), f"{false} of {total}")

    def test_identical_arms_stay_below_their_own_floor(self):
        s = simulate(["copy"], POINTS, 10, seed=3, again=["copy"])
        self.assertTrue(all(a == stats.NONE for a, _ in self.found(s, stats.noise_floor(s))))

    def test_planted_ten_percent_is_found(self):
        """A 10 % slowdown that goes unseen, or is seen with an interval that does not hold it."""
        for seed in range(5):
            def truth(arm, point):
                return 1100.0 if arm == "premapped" else 1000.0
            s = simulate(["copy", "premapped"], [Point()], 20, seed=seed, noise=0.02, truth=truth, again=["copy"])
            floor = stats.noise_floor(s)
            iv = stats.ratio(*s.where(slot="copy").paired(s.where(slot="premapped"), "ns_per_request"))
            v = stats.verdict("premapped against copy", iv, floor, absolute="1000 ns, 1100 ns")
            self.assertEqual(v.answer, "slower", f"seed {seed}: {iv.text()}, floor {floor:.3f}")
            self.assertTrue(iv.low <= 1.10 <= iv.high, iv.text())
            self.assertLess(abs(iv.estimate - 1.10), 0.04)
            self.assertEqual(stats.verdict("", iv, floor, better="more").answer, "faster")

    def test_effect_below_the_floor_is_no_effect(self):
        iv = Interval(1.02, 1.01, 1.03, 20)
        self.assertEqual(stats.verdict("", iv, 0.05).answer, stats.NONE)
        self.assertEqual(stats.verdict("", iv, 0.01).answer, "slower")

    def test_floor_is_the_largest_difference_of_twins(self):
        def truth(arm, point):
            return 1000.0
        s = simulate(["copy", "zero-copy"], POINTS, 5, truth=truth, noise=0, again=["copy", "zero-copy"])
        self.assertEqual(stats.noise_floor(s), 0.0)
        for x in s:
            if x.slot == "zero-copy" + AGAIN and x.point == POINTS[3]:
                x.values["ns_per_request"] *= 0.9
            if x.slot == "copy" + AGAIN and x.point == POINTS[2]:
                x.values["ns_per_request"] *= 1.05
        self.assertAlmostEqual(stats.noise_floor(s), -math.log(0.9))
        for x in s:
            if x.slot == "zero-copy" + AGAIN:
                x.kept = False
        self.assertAlmostEqual(stats.noise_floor(s), math.log(1.05))
        self.assertEqual(stats.noise_floor(simulate(["copy"], POINTS, 5)), 0.0)


class Degenerate(unittest.TestCase):
    CASES = {"nothing": ([], []), "one pair": ([1.0], [2.0]), "two pairs": ([1, 1.1], [2, 2.3]),
             "four pairs": ([1, 1, 1, 1], [2, 3, 2, 3]),
             "constants": ([1.0] * 12, [2.0] * 12), "nan": ([math.nan] * 9, [1.0] * 9), "zeros": ([0.0] * 9, [1.0] * 9),
             "infinite": ([1.0] * 9, [math.inf] * 9), "one good": ([1.0, math.nan, math.nan], [2.0, 1.0, 1.0]),
             "negative": ([-1.0] * 9, [1.0] * 9)}

    def test_degenerate_input_gives_no_verdict(self):
        for name, (a, b) in self.CASES.items():
            with self.subTest(name):
                iv = stats.ratio(a, b)
                for better in ("less", "more"):
                    self.assertEqual(stats.verdict(name, iv, 0.0, better=better).answer, stats.NONE)
                stats.median(a)
                stats.blocks_needed((np.array(a), np.array(b)), 0.03, 0.99, 5, 30)
        self.assertEqual(stats.verdict("not measured", None).answer, stats.NONE)

    def test_values_that_are_not_numbers_are_left_out_in_pairs(self):
        a, b = np.arange(1.0, 21), 2 * np.arange(1.0, 21)
        a[3], b[7] = math.nan, math.inf
        iv = stats.ratio(a, b)
        self.assertEqual((iv.n, round(iv.estimate, 9)), (18, 2.0))

    def test_unpaired_arrays_are_refused(self):
        self.assertRaises(ValueError, stats.ratio, [1, 2], [1, 2, 3])

    def test_same_seed_same_interval(self):
        a, b = pairs(np.random.default_rng(1), "heavy", 40)
        self.assertEqual(stats.ratio(a, b, seed=4), stats.ratio(a, b, seed=4))
        self.assertNotEqual(stats.ratio(a, b, seed=4), stats.ratio(a, b, seed=5))


class Blocks(unittest.TestCase):
    def test_blocks_do_not_depend_on_the_effect(self):
        """A number of blocks that grows or shrinks with the difference found: stopping when it looks good."""
        x = np.random.default_rng(2).normal(0, 0.02, 4)
        want = stats.blocks_needed(x, 0.03, 0.99, 3, 60)
        for effect in (-1.0, 0.1, 2.0):
            self.assertEqual(stats.blocks_needed(x + effect, 0.03, 0.99, 3, 60), want)
        a = np.exp(np.zeros(4))
        self.assertEqual(stats.blocks_needed((a, 3 * np.exp(x)), 0.03, 0.99, 3, 60), want)

    def test_blocks_follow_spread_and_precision(self):
        x = np.random.default_rng(2).normal(0, 0.02, 4)

        def need(scale, precision):
            return stats.blocks_needed(scale * x, precision, 0.99, 3, 500)
        self.assertLess(need(1, 0.03), need(2, 0.03))
        self.assertLess(need(1, 0.03), need(1, 0.01))
        self.assertEqual(stats.blocks_needed(0 * x, 0.03, 0.99, 7, 60), 7)
        self.assertEqual(stats.blocks_needed(100 * x, 0.03, 0.99, 7, 60), 60)
        self.assertEqual(stats.blocks_needed([0.1], 0.03, 0.99, 7, 60), 60)

    def test_blocks_reach_the_precision(self):
        """A plan that does not lead where it says: with a long pilot the interval's half width is near the goal."""
        rng = np.random.default_rng(5)
        n = stats.blocks_needed(rng.normal(0, 0.03, 400), 0.03, 0.99, 5, 200)
        half = [math.log(iv.high / iv.low) / 2 for iv in (stats.ratio(np.ones(n),
            np.exp(rng.normal(0, 0.03, n))) for _ in range(40))]
        self.assertTrue(0.6 * 0.03 < np.median(half) < 1.25 * 0.03, f"{n} blocks, {np.median(half):.3f}")


class Histograms(unittest.TestCase):
    H = [[[10, 50], [20, 49], [1000, 1]], [[10, 50], [30, 50]]]

    def test_percentile_of_merged_counts(self):
        self.assertEqual(stats.percentile_of_histograms(self.H, 50), 10)
        self.assertEqual(stats.percentile_of_histograms(self.H, 50.5), 20)
        self.assertEqual(stats.percentile_of_histograms(self.H, 99), 30)
        self.assertEqual(stats.percentile_of_histograms(self.H, 99.9), 1000)
        self.assertTrue(math.isnan(stats.percentile_of_histograms([[], []], 50)))

    def test_percentile_interval_holds_the_merged_percentile(self):
        iv = stats.percentile(self.H * 6, 99)
        self.assertEqual((iv.estimate, iv.n), (stats.percentile_of_histograms(self.H * 6, 99), 12))
        self.assertTrue(iv.low <= 30 <= iv.high)
        self.assertEqual(stats.percentile([], 99).n, 0)

    def test_floor_of_a_context(self):
        self.assertGreater(context(simulate(["copy"], POINTS, 5, again=["copy"])).noise, 0)


if __name__ == "__main__":
    unittest.main()
