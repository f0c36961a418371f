#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""bench-duet and bench-tail as a person meets them: what they refuse, and that nothing that was asked for is left out."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

BUILD = sys.argv.pop(1)
CORES = sorted(os.sched_getaffinity(0))[:2]


def run(program, *args):
    return subprocess.run([os.path.join(BUILD, "bench", program), *args], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=60, check=False)


@unittest.skipIf(len(CORES) < 2, "two processors are needed")
class Programs(unittest.TestCase):
    cores = ",".join(str(c) for c in CORES)

    def test_wrong_use_is_refused_with_the_option_named(self):
        for program, args, said in (("bench-tail", ["--rate", "5"], "--cores"), ("bench-tail", ["--cores", "0,0", "--rate", "5"], "--cores"),
                                    ("bench-tail", ["--cores", "0,1", "--rate", "0"], "--rate"),
                                    ("bench-tail", ["--cores", "0,1", "--rate", "5", "--seconds", "-1"], "--seconds"),
                                    ("bench-tail", ["--wat"], "--wat"), ("bench-duet", [], "--score"),
                                    ("bench-duet", ["--score", "x", "--cores", "1"], "--cores"),
                                    ("bench-duet", ["--score", "x", "--cores", "0,1", "--size", "12"], "--size"),
                                    ("bench-duet", ["--score", "x", "--cores", "0,1", "--round-trip", "64"], "--round-trip")):
            r = run(program, *args)
            self.assertEqual((r.returncode, r.stdout), (2, ""), f"{program} {args}")
            self.assertIn(said, r.stderr)

    def test_a_missing_score_or_processor_fails_with_its_name(self):
        r = run("bench-duet", "--score", "/nowhere", "--cores", self.cores, "--round-trip", "0")
        self.assertEqual(r.returncode, 1)
        self.assertIn("/nowhere", r.stderr)
        r = run("bench-tail", "--cores", f"{CORES[0]},4000", "--rate", "10", "--seconds", "0.1")
        self.assertEqual(r.returncode, 1)
        self.assertIn("4000", r.stderr)

    def test_every_request_of_an_open_loop_is_in_its_latency_however_late(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tail.json")
            r = run("bench-tail", "--cores", self.cores, "--rate", "20000", "--seconds", "0.25", "--json", path)
            self.assertEqual(r.returncode, 0, r.stderr)
            with open(path) as f:
                got = json.load(f)
        self.assertEqual(got["requests"], 5000)
        self.assertEqual(sum(n for _, n in got["latency_ns"]["histogram"]), 5000)
        self.assertGreaterEqual(got["latency_ns"]["max"], got["latency_ns"]["p99.9"])
        self.assertLessEqual(got["gaps"]["requests"], 5000)
        self.assertTrue(got["gaps"]["count"] > 0 or got["gaps"]["requests"] == 0)

    def test_the_tick_counters_rate_is_a_plain_number(self):
        r = run("bench-duet", "--tick-hz")
        self.assertEqual(r.returncode, 0)
        self.assertGreater(int(r.stdout), 1000000)


if __name__ == "__main__":
    unittest.main()
