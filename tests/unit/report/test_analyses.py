#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The analyses find what was planted in simulated samples, and say so when it is nothing; a missing arm makes a shorter
section, not a crash."""

import unittest
import warnings

import numpy as np
import simulate as sim
from ab.report import plots
from ab.analyses import anchors, batch, exposure, latency, losses, overview, poller, sizes
from ab.report import parts
from ab.instrument.model import Point, Samples
from ab.report.report_model import Report, problems

sim.cheaply()
SIZES = [64 << i for i in range(0, 15, 2)]  # to 1 MiB


def everything(section):
    """All text of a section."""
    cells = [c for t in section.tables for r in t.rows for c in r]
    return " ".join([section.lead, *section.text, *cells, *(v.claim + v.answer for v in section.verdicts)])


class Case(unittest.TestCase):
    def sound(self, section):
        """What the report asks of every section."""
        self.assertEqual(problems(Report(title="t", when="w", headline="h", sections=[section])), [])
        self.assertNotRegex(everything(section), r"\b(nan|inf)\b")
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
        points = [Point(backend="memory", bs=b) for b in kw.pop("sizes", SIZES)]
        return self.sound(sizes.analyse(sim.context(sim.simulate(arms, points, blocks, truth=truth, experiment="sizes",
                                                                 again=["zero-copy"],
                                                                 **kw))))

    def test_planted_crossover_lies_in_its_interval(self):
        for size in (700, 3000, 40000):
            got = self.section(self.ARMS, by_size(size), noise=0.01, sizes=[128 << i for i in range(14)]).data["crossovers"]
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
        got = latency.percentiles([calm] * 13 + [slow] * 13)[50]
        np.testing.assert_allclose((got.low, got.high), (100, 300))

    def test_tail_ends_at_the_slowest_request(self):
        x, y = latency.tail_curve([[[10, 900], [20, 99]], [[50, 1]]])
        self.assertEqual(list(x), [10, 20, 50])
        np.testing.assert_allclose(y, [0.1, 0.001, 0.0005])

    def test_overload_is_named_and_not_plotted(self):
        points = [Point(backend="memory", depth=32, rate=r) for r in (1e4, 1e6)]
        samples = sim.simulate(["copy", "zero-copy"], points, truth=lambda a, p: max(1e9 / p.rate, 3000 if a == "copy" else 100),
                               noise=0.001,
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


class Exposure(Case):
    """Planted: 1,000,000 requests/s of 4,096 bytes, three pages each, that stay mapped 5 µs and are needed for 2 µs."""

    POINT = Point(backend="memory", depth=1)
    RINGS, RATE, LIFE, NEED = 20480, 1e6, 5e-6, 2e-6

    def count(self, arm, point):
        pages = 3 * exposure.PAGE * self.RATE * self.LIFE
        pool = exposure.mapping_of(arm) == "pool"
        return {"ring_bytes": self.RINGS, "need_bytes": (4096 + 17) * self.RATE * self.NEED, "tce_updates": 0.0 if pool else 6.0,
                "reach_bytes": self.RINGS + (1 << 23 if pool else pages), "reach_write_bytes": (self.RINGS + pages) / 2}

    def section(self, arms, truth=lambda a, p: 1000.0, noise=0.0, **kw):
        return exposure.analyse(sim.context(sim.simulate(arms, [self.POINT], truth=truth, noise=noise, count=self.count,
                                                         experiment="exposure", **kw), noise=0.02))

    def test_arithmetic(self):
        row = {r["arm"]: r for r in self.section(["copy", "zero-copy"]).data["arms"]}
        need = (4096 + 17) * self.RATE * self.NEED
        mapped = 3 * 4096 * self.RATE * self.LIFE
        self.assertAlmostEqual(row["copy"]["exposure_bytes"]["estimate"], mapped - need)
        self.assertAlmostEqual(row["copy"]["exposure_s"]["estimate"], (mapped - need) / (4096 * self.RATE), delta=1e-12)
        self.assertAlmostEqual(row["copy"]["stale_s"]["estimate"], self.LIFE - self.NEED, delta=1e-12)
        self.assertAlmostEqual(row["copy"]["write_share"]["estimate"], 0.5)
        self.assertAlmostEqual(row["zero-copy"]["exposure_bytes"]["estimate"], (1 << 23) - need)
        self.assertIsNone(row["zero-copy"]["stale_s"])

    def test_mapping_of_an_arm(self):
        self.assertEqual([exposure.mapping_of(a) for a in ("copy", "premapped", "copy,mapping=cached",
                                                           "zero-copy,mapping=single-use")],
                         ["single-use", "pool", "cached", "single-use"])

    def test_a_choice_between_speed_and_exposure_is_said_so(self):
        fast = {"copy": 3000, "zero-copy": 1000}
        s = self.sound(self.section(["copy", "zero-copy"], lambda a, p: fast[a], noise=0.02))
        self.assertIn("protection costs 3.0", s.lead.replace("2.9", "3.0"))
        self.assertEqual(s.data["undominated"], {self.POINT.label(): ["copy", "zero-copy"]})

    def test_an_arm_that_is_slower_and_more_exposed_is_dominated(self):
        fast = {"copy": 1000, "zero-copy": 3000}
        s = self.sound(self.section(["copy", "zero-copy"], lambda a, p: fast[a], noise=0.02))
        self.assertIn("is also the least exposed", s.lead)
        self.assertEqual(s.data["undominated"], {self.POINT.label(): ["copy"]})

    def test_without_counters_there_is_no_section(self):
        self.assertIsNone(exposure.analyse(sim.context(sim.simulate(["copy"], [self.POINT], experiment="exposure"))))
        self.sound(self.section(["premapped"], blocks=2))


class Poller(Case):
    RATES = [1.0, 1e4, 1e5, 1e6]
    POINTS = [Point(backend="memory", depth=32, rate=r) for r in RATES] + [Point(backend="memory", depth=32)]

    def section(self, arms, points=None, per_request=2e-6, blocks=10, polled=0.2):
        """Interrupts cost 2 µs a request; polling keeps `polled` cores busy and costs 0.1 µs: equal at 105,263 a second."""
        rng = np.random.default_rng(5)

        def count(arm, point):
            rate = point.rate or 2e6
            cores = polled + rate * 1e-7 if arm == "zero-copy" else rate * per_request
            cores = min(cores, 2.0) * np.exp(rng.normal(0, 0.02))
            return {"guest_cpu": cores / 2, "server_cpu": cores / 2}
        samples = sim.simulate(arms, points or self.POINTS, blocks, truth=lambda a, p: 1e9 / (p.rate or 2e6), noise=1e-4,
                               block_noise=1e-4,
                               spikes=0, count=count, experiment="load")
        return poller.analyse(sim.context(samples, noise=0.03))

    def test_planted_break_even_load_lies_in_its_interval(self):
        s = self.sound(self.section(["copy", "zero-copy"]))
        got = s.data["break_even"]
        self.assertEqual(len(got), 1)
        # Interpolation between the decades is not the truth's hyperbola: it must lie in the decade, and near.
        self.assertTrue(1e5 <= got[0]["low"] <= got[0]["rate"] <= got[0]["high"] < 1.3e5, got[0])
        self.assertIn("Polling costs less above", s.lead)

    def test_polling_that_is_always_dearer(self):
        s = self.sound(self.section(["copy", "zero-copy"], per_request=1e-8))
        self.assertIn("Against copy, the cost of polling is more at every rate", s.lead)
        self.assertEqual([v.answer for v in s.verdicts], ["less"])

    def test_requests_per_core_second(self):
        cpu = {r[0]: r for r in self.section(["copy", "zero-copy"]).tables[0].rows}["copy"][-1]
        self.assertAlmostEqual(float(cpu.split(" ")[0].replace(",", "")) / 1e6, 1.0, delta=0.05)  # 2 cores, 2e6 a second

    def test_reduced(self):
        self.sound(self.section(["zero-copy"]))
        self.sound(self.section(["copy", "zero-copy"], self.POINTS[-1:], blocks=5))
        self.assertIsNone(poller.analyse(sim.context(sim.simulate(["copy"], self.POINTS, experiment="load"))))


class Losses(Case):
    TINY = [Point(backend="memory", bs=64, depth=1), Point(backend="memory", depth=32),
            Point(backend="memory", depth=32, cores="shared")]

    def losses(self, truth, arms=("copy", "premapped", "zero-copy"), points=None, extra=()):
        samples = list(sim.simulate(list(arms), points or self.TINY, truth=truth, experiment="losses")) + list(extra)
        return losses.analyse(sim.context(Samples(samples), noise=0.03))

    def test_planted_loss_is_found_and_leads(self):
        s = self.sound(self.losses(lambda a, p: {"copy": 3000, "premapped": 600, "zero-copy": 500 if p.cores == "split"
                                                 else 4000}[a]))
        self.assertIn("Zero-copy loses in 2 of 6 comparisons", s.lead)
        self.assertIn("guest and server on one core", s.lead)
        self.assertEqual({v.answer for v in s.verdicts}, {"slower"})

    def test_no_loss_is_said_so(self):
        s = self.sound(self.losses(lambda a, p: {"copy": 3000, "premapped": 600, "zero-copy": 500}[a]))
        self.assertIn("zero-copy did not lose", s.lead)
        self.assertEqual(s.verdicts, [])

    def test_small_pool_is_compared_with_copy_that_has_no_pool(self):
        points = [Point(backend="memory", depth=32, pool_kib=16), Point(backend="memory", depth=32, buffers=128)]

        def truth(arm, p):
            if p.pool_kib:
                return {"zero-copy": 4000, "premapped": 3500}.get(arm)
            return {"copy": 3000, "premapped": 600, "zero-copy": 500}[arm]
        got = {(r["condition"], r["rival"]): r["answer"] for r in self.losses(truth, points=points).data["conditions"]}
        self.assertEqual(got["pool of 16 KiB, read 4 KiB, depth 32", "copy"], "slower")
        self.assertEqual(got["pool of 16 KiB, read 4 KiB, depth 32", "premapped"], "slower")

    def test_break_even_of_a_short_lived_disk(self):
        self.assertEqual(losses.requests_to_win(3e6, 500, 2e6, 1500), 1000)
        self.assertEqual(losses.requests_to_win(2e6, 500, 2e6, 1500), 0)
        self.assertEqual(losses.requests_to_win(3e6, 1500, 2e6, 500), float("inf"))
        self.assertTrue(np.isnan(losses.requests_to_win(1e6, 1500, 2e6, 500)))

    def test_planted_break_even_lies_in_its_interval(self):
        def count(arm, point):
            return {"ready_ns": 5e6 if arm == "zero-copy" else 2e6}
        quick = sim.simulate(["copy", "zero-copy"], [Point(backend="memory")], truth=lambda a, p: 3000 if a == "copy" else 1000,
                             count=count, experiment="quick")
        s = self.sound(losses.analyse(sim.context(quick)))
        got = s.data["start_up"][0]
        self.assertTrue(got["low"] <= 1500 <= got["high"], got)
        self.assertIn("A short-lived disk pays for its start-up", s.lead)

    def test_reduced(self):
        self.sound(self.losses(lambda a, p: 500, arms=["zero-copy", "copy"], points=self.TINY[:1]))
        self.assertIsNone(losses.analyse(sim.context(Samples([]))))


class Anchors(Case):
    def section(self, pairs, truth, again=()):
        out = []
        for op, bs, arms in pairs:
            out += sim.simulate(arms, [Point(backend="anchor", op=op, bs=bs)], truth=truth, experiment="anchors", count=lambda a,
                                p: {})
        return anchors.analyse(sim.context(Samples(out), noise=0.03))

    def test_planted_price_of_mapping_for_each_request(self):
        ns = {"mmap-per-request": 2300.0, "standing-window": 300.0}
        s = self.sound(self.section([("map", 4096, list(ns))], lambda a, p: ns[a]))
        row = next(r for r in s.data["rows"] if r["arm"] == "mmap-per-request")
        self.assertTrue(row["extra"]["low"] <= 2000 <= row["extra"]["high"])
        self.assertTrue(row["ratio"]["low"] <= 2300 / 300 <= row["ratio"]["high"])
        self.assertIn("inside the 0 to 10 µs that the cost plane injects for mapping", s.lead)
        self.assertEqual([v.answer for v in s.verdicts], ["more"])

    def test_no_difference_is_said_so(self):
        s = self.sound(self.section([("io_uring", 4096, ["registered", "plain"])], lambda a, p: 5000.0))
        self.assertIn("no difference between plain and registered is shown", s.lead)

    def test_several_sizes_unknown_ops_and_single_arms(self):
        s = self.sound(self.section([("copy", b, ["process_vm_readv", "memcpy"]) for b in (64, 4096, 65536)] +
                                    [("kick", 0, ["eventfd"]), ("other", 64, ["this", "that"])],
                                    lambda a, p: 100 + p.bs / 8 + 900 * (a == "process_vm_readv")))
        self.assertEqual(len(s.tables), 3)
        self.assertIn("--cost rdma", everything(s) + "".join(t.note for t in s.tables))

    def test_without_samples(self):
        self.assertIsNone(anchors.analyse(sim.context(Samples([]))))


if __name__ == "__main__":
    warnings.simplefilter("error", RuntimeWarning)
    unittest.main()
