#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The analyses find what was planted in simulated samples, and say so when it is nothing; a missing arm makes a shorter
section, not a crash."""

import unittest
import warnings

import numpy as np
import simulate as sim
from vioab import plots
from vioab.analyses import batch, latency, overview, parts, sizes
from vioab.model import Point, Samples
from vioab.report_model import Report, problems

SIZES = [64 << i for i in range(15)]


def everything(section):
    """All text of a section."""
    cells = [c for t in section.tables for r in t.rows for c in r]
    return " ".join([section.lead, *section.text, *cells, *(v.claim + v.answer for v in section.verdicts)])


class Case(unittest.TestCase):
    def sound(self, section):
        """What the report asks of every section."""
        self.assertEqual(problems(Report(title="t", when="w", headline="h", sections=[section])), [])
        self.assertNotIn("nan", everything(section).replace("finance", ""))
        for f in section.figures:
            self.assertEqual(plots.fixed_colours(f.svg), [])
        return section


def by_size(crossover):
    """Bounce costs a copy, single-use a constant: they are equal at `crossover` bytes."""
    per_byte = 200.0 / crossover

    def truth(arm, point):
        base = 300 + 0.1 * point.bs
        return base + {"premapped": per_byte * point.bs, "zero-copy,mapping=single-use": 200.0, "zero-copy": 0.0,
                       "copy": 2000.0, "copy-tuned": 1500.0}[arm]
    return truth


class Sizes(Case):
    ARMS = ["zero-copy", "premapped", "copy", "copy-tuned", sizes.SINGLE]

    def section(self, arms, truth, blocks=10, **kw):
        points = [Point(backend="memory", bs=b) for b in SIZES]
        return self.sound(sizes.analyse(sim.context(sim.simulate(arms, points, blocks, truth=truth, experiment="sizes", again=["zero-copy"],
                                                                 **kw))))

    def test_planted_crossover_lies_in_its_interval(self):
        for size in (700, 3000, 40000):
            got = self.section(self.ARMS, by_size(size), noise=0.01).data["crossovers"]
            mine = [c for c in got if (c["first"], c["second"]) == (sizes.SINGLE, "premapped")]
            self.assertEqual(len(mine), 1)
            self.assertLessEqual(mine[0]["low"], size)
            self.assertGreaterEqual(mine[0]["high"], size)
            self.assertEqual((mine[0]["smaller"], mine[0]["larger"]), ("premapped", sizes.SINGLE))

    def test_no_crossover_is_said_so(self):
        s = self.section(["zero-copy", "premapped", "copy"], lambda a, p: {"zero-copy": 300, "premapped": 600, "copy": 2000}[a])
        self.assertIn("no crossover between 64 B and 1 MiB, zero-copy is faster at every size", s.lead)
        self.assertEqual([c["size"] for c in s.data["crossovers"]], [None, None])

    def test_identical_arms_show_no_difference(self):
        s = self.section(["zero-copy", "premapped"], lambda a, p: 500 + 0.1 * p.bs)
        self.assertEqual([c["size"] for c in s.data["crossovers"]], [None])

    def test_missing_arms_and_few_blocks(self):
        self.section(["zero-copy"], lambda a, p: 300 + p.bs)
        self.section(["zero-copy", "copy"], by_size(3000), blocks=5)
        self.section(["zero-copy", "copy"], by_size(3000), blocks=2)
        self.assertIsNone(sizes.analyse(sim.context(Samples([]))))


class Crossings(unittest.TestCase):
    def test_two_crossings_are_two(self):
        xs = [2.0 ** i for i in range(9)]
        gap = np.array([0.4, 0.4, 0.2, -0.2, -0.4, -0.2, 0.2, 0.4, 0.4])
        rng = np.random.default_rng(1)
        a = 100 * np.exp(rng.normal(0, 0.01, (10, 9)))
        found, signs = parts.crossings(xs, a, 100 * np.exp(gap + rng.normal(0, 0.01, (10, 9))), 0.02)
        self.assertEqual([(c.below, c.above) for c in found], [("a", "b"), ("b", "a")])
        for c, x in zip(found, (2 ** 2.5, 2 ** 5.5)):
            self.assertLess(abs(np.log2(c.at.estimate / x)), 0.1)

    def test_a_wiggle_below_the_noise_is_none(self):
        a = np.full((10, 4), 100.0) + np.arange(10)[:, None]
        self.assertEqual(parts.crossings([1, 2, 4, 8], a, a * [1.2, 1.2, 1.2, 0.97], 0.05)[0], [])


class Overview(Case):
    POINTS = [Point(backend="memory", depth=d) for d in (1, 32)]

    def test_planted_ratio_and_its_absolutes(self):
        truth = {"copy": 3000, "zero-copy": 1000}
        s = self.sound(overview.analyse(sim.context(sim.simulate(["copy", "zero-copy"], self.POINTS, truth=lambda a, p: truth[a],
                                                                 again=["copy"], experiment="quick"))))
        for row in s.data["quick"]:
            if row["arm"] == "zero-copy":
                self.assertTrue(row["ratio"]["low"] < 3 < row["ratio"]["high"])
                self.assertEqual(row["answer"], "faster")
                self.assertTrue(row["rate"]["low"] < 1e6 < row["rate"]["high"])
        self.assertIn("faster at 2 of 2 points", s.lead)

    def test_a_loss_is_in_the_lead(self):
        s = overview.analyse(sim.context(sim.simulate(["copy", "zero-copy"], self.POINTS, experiment="quick", again=["copy"],
                                                      truth=lambda a, p: 1000 if a == "copy" else 500 * p.depth ** 0.5)))
        self.assertIn("slower at 1 (memory: read 4 KiB, depth 32)", s.lead)

    def test_without_copy_there_is_no_section(self):
        self.assertIsNone(overview.analyse(sim.context(sim.simulate(["zero-copy"], self.POINTS, experiment="quick"))))


class Latency(Case):
    def test_percentiles_of_a_known_distribution(self):
        h = [[u, 100] for u in range(1, 101)]
        got = latency.percentiles([h] * 5)
        self.assertEqual([got[q].estimate for q in (50, 90, 99)], [50, 90, 99])

    def test_a_percentile_with_too_few_requests_beyond_it_is_not_shown(self):
        self.assertEqual(list(latency.percentiles([[[10, 60], [20, 50]]] * 3)), [50, 90])

    def test_interval_resamples_process_starts(self):
        calm, slow = [[100, 10000]], [[300, 10000]]
        got = latency.percentiles([calm] * 6 + [slow] * 6)[50]
        np.testing.assert_allclose((got.low, got.high), (100, 300))

    def test_tail_ends_at_the_slowest_request(self):
        x, y = latency.tail_curve([[[10, 900], [20, 99]], [[50, 1]]])
        self.assertEqual(list(x), [10, 20, 50])
        np.testing.assert_allclose(y, [0.1, 0.001, 0.0005])

    def test_overload_is_named_and_not_plotted(self):
        points = [Point(backend="memory", depth=32, rate=r) for r in (1e4, 1e6)]
        samples = sim.simulate(["copy", "zero-copy"], points, truth=lambda a, p: max(1e9 / p.rate, 3000 if a == "copy" else 100), noise=0.001,
                               block_noise=0.001, spikes=0, experiment="load")
        s = self.sound(latency.analyse(sim.context(samples)))
        self.assertIn("copy kept up with 10,000", s.lead)
        self.assertIn("zero-copy kept up with 1,000,000", s.lead)
        self.assertIn("overload: 33 % served", everything(s))

    def test_reduced_without_copy(self):
        self.sound(latency.analyse(sim.context(sim.simulate(["zero-copy"], [Point(backend="null")], experiment="quick"))))


class Batch(Case):
    def test_ring_bytes_are_compared_with_the_formula(self):
        points = [Point(bs=512, depth=32, batch=b) for b in (1, 8, 32)] + [Point(bs=512, queue_size=n) for n in (16, 256)]
        s = self.sound(batch.analyse(sim.context(sim.simulate(["copy", "copy-tuned", "zero-copy"], points, experiment="batch"))))
        self.assertIn("26N + 12, whatever the batch, at all 5 points", s.lead)

        def wrong(arm, point):
            c = sim.counters(arm, point)
            return {**c, "rdma_bytes": c["rdma_bytes"] + 100 * c["kicks"]}
        s = batch.analyse(sim.context(sim.simulate(["copy", "zero-copy"], points, experiment="batch", count=wrong)))
        self.assertIn("furthest off: 528 against 428", s.lead)

    def test_reduced_without_zero_copy(self):
        points = [Point(bs=512, depth=32, batch=b) for b in (1, 8)]
        self.sound(batch.analyse(sim.context(sim.simulate(["copy"], points, experiment="batch"))))


if __name__ == "__main__":
    warnings.simplefilter("error", RuntimeWarning)
    unittest.main()
