#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The project's targets on made-up samples: met and missed by the whole interval only, counters by a single count."""

import os
import random
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
from ab.report import targets  # noqa: E402
from ab.instrument.model import Context, Point, Sample, Samples  # noqa: E402
from ab.stats.plateaus import Plateau  # noqa: E402
from ab.instrument.runner import LIMITS, LIMITS_OF  # noqa: E402

BLOCKS = 12


def sample(arm, point, block, experiment="quick", **values):
    return Sample(experiment, block, "main", 0, arm, arm, point, values)


def quick(zero_ns=500.0, spread=0.02, hcalls=0, r_ns=200.0, big_ns=5000.0, copy_bytes=26 * 256 + 12 + 17, start=0.3):
    """Samples of quick: zero-copy's and copy's points that targets read, and R and memcpy of each block."""
    rng, out = random.Random(1), []
    for b in range(BLOCKS):
        def noisy(ns):
            return ns * (1 + spread * (rng.random() - 0.5))
        zero = {"hcalls": 0.0, "tce_updates": 0.0, "rdma_bytes": 0.0, "requests": 1000, "server_rss_bytes": 1e8}
        for depth, ns in ((1, zero_ns), (32, zero_ns / 10)):
            out.append(sample("zero-copy", Point(depth=depth), b, ns_per_request=noisy(ns), **zero))
        out[-1].values["hcalls"] = hcalls / 1000 if b == 3 else 0.0
        out.append(sample("zero-copy", Point(backend="memory", bs=65536, depth=32), b, ns_per_request=noisy(big_ns), **zero))
        for bs in targets.COPY_SIZES:
            pages = 2 + max(1, bs // 4096)
            out.append(sample("copy", Point(backend="memory", bs=bs), b, ns_per_request=noisy(2000), hcalls_guest=3,
                              hcalls_server=9, tce_updates=2 * pages, kicks=1, rdma_calls=8, rdma_bytes=copy_bytes + bs,
                              requests=1000, start_seconds=start))
        out.append(sample(LIMITS, Point(backend=LIMITS, op="round_trip", bs=64), b, "quick" + LIMITS_OF,
                          ns_per_request=noisy(r_ns)))
        out.append(sample(LIMITS, Point(backend=LIMITS, op="memcpy L3", bs=65536), b, "quick" + LIMITS_OF,
                          ns_per_request=noisy(4500)))
    return Samples(out)


def every(samples):
    return targets.all_targets([Context(samples, [], {}, {}, float("nan"))])


def answers(samples, word):
    return [t["answer"] for t in every(samples) if word in t["name"]]


class Targets(unittest.TestCase):
    def test_a_target_in_round_trips_is_met_missed_or_undecided_by_its_whole_interval(self):
        self.assertEqual(answers(quick(zero_ns=450), "null backend, 4 KiB reads, depth 1"), ["met"])
        self.assertEqual(answers(quick(zero_ns=550), "null backend, 4 KiB reads, depth 1"), ["not met"])
        self.assertEqual(answers(quick(zero_ns=500, spread=0.2), "null backend, 4 KiB reads, depth 1"), ["undecided"])

    def test_each_plateau_is_judged_by_its_own_r(self):
        """560 ns are more than 2.5 R while R = 200 ns, 600 ns less while R = 500 ns; bench-limits between the windows say nothing."""
        out = []
        for b in range(BLOCKS):
            for q, r, ns in ((0, 200.0, 560.0), (1, 500.0, 600.0)):
                s = sample("zero-copy", Point(), b, ns_per_request=ns * (1 + 0.001 * b), r_ns=r)
                s.plateau = q
                out.append(s)
        known = [Plateau(r, r, r, 100, 0.5) for r in (200.0, 500.0)]
        rows = targets.all_targets([Context(Samples(out), [], {}, {}, r, plateaus=known, plateau=q)
                                    for q, r in ((0, 200.0), (1, 500.0))])
        self.assertEqual([(t["answer"], t["plateau"]) for t in rows if "depth 1" in t["name"]],
                         [("not met", "R = 200 ns"), ("met", "R = 500 ns")])

    def test_one_hypercall_of_a_whole_run_breaks_the_steady_state(self):
        self.assertEqual(answers(quick(), "steady state"), ["met"])
        self.assertEqual(answers(quick(hcalls=1), "steady state"), ["not met"])

    def test_memcpy_is_compared_block_by_block_with_the_same_size_and_level(self):
        self.assertEqual(answers(quick(big_ns=5000), "64 KiB reads, depth 32"), ["met"])
        self.assertEqual(answers(quick(big_ns=6000), "64 KiB reads, depth 32"), ["not met"])

    def test_a_copy_arm_that_moves_one_byte_more_than_the_formula_is_told(self):
        self.assertEqual(answers(quick(), "counters"), ["met"] * 3)
        off = [t for t in every(quick(copy_bytes=26 * 256 + 12 + 18)) if "counters" in t["name"]]
        self.assertEqual([t["answer"] for t in off], ["not met"] * 3)
        self.assertIn("rdma_bytes", off[0]["measured"])

    def test_start_up_is_judged_by_the_slowest_machine(self):
        s = quick()
        self.assertEqual(answers(s, "start-up"), ["met"])
        s.items[3].values["start_seconds"] = 2.5
        self.assertEqual(answers(s, "start-up"), ["not met"])

    def test_discarded_samples_move_no_target_but_counts_count_them(self):
        s = quick(zero_ns=450)
        for x in s.items[:40]:
            x.kept = False
            x.values["ns_per_request"] *= 100
        self.assertEqual(answers(s, "null backend, 4 KiB reads, depth 1"), ["met"])
        s = quick(hcalls=1)
        for x in s.items:
            x.kept = x.values.get("hcalls", 0) == 0
        self.assertEqual(answers(s, "steady state"), ["not met"], "a discarded sample hid a hypercall")

    def test_without_samples_there_are_no_targets_and_no_crash(self):
        self.assertEqual(every(Samples([])), [])


if __name__ == "__main__":
    unittest.main()
