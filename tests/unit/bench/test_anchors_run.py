# SPDX-License-Identifier: BSD-3-Clause
"""bench-anchors through the runner's eyes: samples that the analysis takes, and failures that say what to do."""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../bench"))

from machine import MachineError
from ab.drivers import anchors_run
from ab.analyses import anchors

BUILD = sys.argv.pop() if len(sys.argv) > 1 else "build"


class AnchorsRun(unittest.TestCase):
    def test_samples_have_what_the_runner_reads(self):
        cpus = sorted(os.sched_getaffinity(0))
        got = anchors_run.run_anchors(BUILD, (cpus[0], cpus[-1]), 3, 0.2)
        self.assertTrue(got)
        for g in got:
            self.assertEqual(set(g), {"op", "arm", "bs", "depth", "values"})
            self.assertGreater(g["values"]["ns_per_request"], 0)
            self.assertGreater(g["values"]["requests"], 0)
        keys = [(g["op"], g["arm"], g["bs"], g["depth"]) for g in got]
        self.assertEqual(len(keys), len(set(keys)), "two samples for one point and arm")
        self.assertIn(("map", "mmap-per-request", 4096, 1), keys)

    def test_every_compared_point_has_the_base_that_the_analysis_looks_for(self):
        cpus = sorted(os.sched_getaffinity(0))
        got = anchors_run.run_anchors(BUILD, (cpus[0], cpus[-1]), 4, 0.2)
        for op in {g["op"] for g in got}:
            group = next((x for x in anchors.GROUPS if op.startswith(x.ops)), None)
            self.assertIsNotNone(group, f"the analysis has no group for {op}")
            arms = {g["arm"] for g in got if g["op"] == op}
            if len(arms) > 1:
                self.assertTrue(arms & set(group.base), f"{op}: none of {group.base} among {arms}")

    def test_what_was_not_measured_gives_no_sample(self):
        point = {"point": "map", "level": "map-only", "size_bytes": 4096, "depth": 1, "ns_per_op": 5.0, "ops": 7}
        got = anchors_run.samples({"points": [point], "not_measured": [{"point": "kick", "reason": "one core"}]})
        self.assertEqual(got, [{"op": "map", "arm": "map-only", "bs": 4096, "depth": 1,
                                "values": {"ns_per_request": 5.0, "requests": 7}}])

    def test_a_failure_says_what_the_program_said(self):
        with self.assertRaisesRegex(MachineError, "CPU 65535"):
            anchors_run.run_anchors(BUILD, (0, 65535), 1, 0.2)
        with self.assertRaisesRegex(MachineError, "build it"):
            anchors_run.run_anchors("/nonexistent", (0, 1), 1, 0.2)


if __name__ == "__main__":
    unittest.main()
