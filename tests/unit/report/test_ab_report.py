#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The table and the targets, on made-up results: arithmetic that a reader relies on."""

import copy
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
import ab_report as rep  # noqa: E402

NONE = {"hcalls": {}, "tce_updates": 0, "rdma_bytes": 0, "cpu_bytes": 0, "kicks": 0, "irq_raised": 0, "irq_wakes": 0}


def counters(requests, hcalls=None, **kw):
    return {**NONE, "hcalls": {k: v * requests for k, v in (hcalls or {}).items()},
            **{k: v * requests for k, v in kw.items()}}


def point(arm, backend, bs, depth, ns, guest=None, server=None, op="read", requests=1000):
    return {"arm_asked": arm, "backend": backend, "op": op, "queue_size": 256,
            "load": {"bs": bs, "depth": depth, "span": 1 << 24},
            "run": {"requests": requests, "elapsed_ns": ns * requests, "bytes_read": bs * requests,
                    "latency_ns": {"p50": ns, "p99": 2 * ns, "p99.9": 3 * ns}},
            "partitions": {"guest0": guest or counters(requests), "vios": server or counters(requests)}}


def copy_point(bs, requests=1000):
    pages = 2 + max(1, bs // 4096)
    return point("copy", "memory", bs, 1, 5000,
                 counters(requests, {"H_PUT_TCE_INDIRECT": 1, "H_STUFF_TCE": 1, "H_SEND_CRQ": 1},
                          tce_updates=2 * pages, kicks=1),
                 counters(requests, {"H_READ_RDMA": 2, "H_COPY_RDMA": 4, "H_WRITE_RDMA": 2, "H_SEND_CRQ": 1},
                          rdma_bytes=26 * 256 + 12 + 16 + bs + 1))


def limits(r):
    return {"round_trip": {"samples_ns": [r, r, r]}, "syscall": {"median_ns": 70}, "eventfd_wake": {"one_way_ns": 30000},
            "memcpy": [{"size_bytes": 65536, "footprint_bytes": 1 << 24, "gb_per_s": 10.0, "level": "L3"},
                       {"size_bytes": 65536, "footprint_bytes": 1 << 20, "gb_per_s": 50.0, "level": "L2"}]}


def results(points):
    return {"points": points, "limits_before": limits(200), "limits_after": limits(200), "cost": "free", "seconds": 1,
            "machines": [{"arm": "copy", "backend": "memory", "start_seconds": 0.4, "server_memory": {}}],
            "when": "now", "environment": {"commit": "x", "dirty": False, "cpu": "c", "kernel": "k", "compiler": "g",
                                           "dpdk": "d"}, "cores": {"guest_core": 0, "server_core": 1}}


def by_name(res, word):
    return next(t for t in rep.targets(res) if word in t[0])


class Report(unittest.TestCase):
    def test_a_target_in_round_trips_is_met_at_its_limit_and_missed_above(self):
        for ns, met in ((500, True), (501, False)):
            self.assertEqual(by_name(results([point("zero-copy", "null", 4096, 1, ns)]), "depth 1")[3], met)
        for ns, met in ((70, True), (71, False)):
            self.assertEqual(by_name(results([point("zero-copy", "null", 4096, 32, ns)]), "depth 32")[3], met)

    def test_a_disturbed_round_trip_never_flatters(self):
        res = results([point("zero-copy", "null", 4096, 1, 501)])
        res["limits_after"] = limits(900)
        self.assertFalse(by_name(res, "depth 1")[3])

    def test_one_hypercall_in_a_million_requests_misses_the_zero_target(self):
        p = point("zero-copy", "memory", 4096, 32, 100, requests=1000000)
        self.assertTrue(by_name(results([p]), "steady")[3])
        q = copy.deepcopy(p)
        q["partitions"]["vios"]["hcalls"] = {"H_SEND_CRQ": 1}
        self.assertFalse(by_name(results([q]), "steady")[3])
        q = copy.deepcopy(p)
        q["partitions"]["guest0"]["tce_updates"] = 1
        self.assertFalse(by_name(results([q]), "steady")[3])

    def test_the_copy_formula_is_checked_exactly(self):
        for bs in (512, 4096, 65536):
            self.assertTrue(by_name(results([copy_point(bs)]), "copy,")[3])
            p = copy_point(bs)
            p["partitions"]["vios"]["rdma_bytes"] += 1
            row = by_name(results([p]), "copy,")
            self.assertFalse(row[3])
            self.assertIn("rdma_bytes", row[2])

    def test_memcpy_is_compared_at_the_nearest_footprint(self):
        # 16 MiB of disk and 32 buffers of 64 KiB: the 16 MiB footprint at 10 GB/s, not the 1 MiB one at 50.
        for ns, met in ((7710, True), (7800, False)):  # 65536 bytes in 7,710 ns are 8.5 GB/s
            self.assertEqual(by_name(results([point("zero-copy", "memory", 65536, 32, ns)]), "64 KiB")[3], met)

    def test_ratios_are_against_the_copy_arm_of_the_same_point(self):
        rows = rep.throughput_rows(results([point("copy", "null", 512, 1, 1000), point("zero-copy", "null", 512, 1, 250)]),
                                   "null")
        self.assertEqual(rows[1][1:], ["1000.0k", "4000.0k (4.0x)"])

    def test_a_rare_call_is_not_shown_as_none(self):
        self.assertEqual((rep.count_text(0), rep.count_text(1e-6), rep.count_text(2)), ("0", "<0.001", "2"))

    def test_counters_are_per_request(self):
        rows = rep.counter_rows(results([copy_point(4096)]), "memory", 4096, 1, "read")
        values = {r[0]: r[1] for r in rows}
        self.assertEqual(values["hypercalls, both"], "12")
        self.assertEqual(values["TCE updates"], "6")
        self.assertEqual(values["bytes copied by RDMA"], str(26 * 256 + 12 + 16 + 4096 + 1))

    def test_screen_and_markdown_show_every_point_and_target(self):
        res = results([copy_point(4096), point("zero-copy", "memory", 4096, 1, 600)])
        for text in (rep.screen(res), rep.markdown(res)):
            self.assertIn("read 4 KiB, depth 1", text)
            self.assertIn("zero-copy", text)
            self.assertIn("equal to the formula", text)

    def test_no_copy_arm_means_no_ratio_instead_of_a_crash(self):
        self.assertIn("zero-copy", rep.screen(results([point("zero-copy", "null", 4096, 1, 300)])))


if __name__ == "__main__":
    r = unittest.main(exit=False).result
    bad = len(r.failures) + len(r.errors)
    print(f"{r.testsRun - bad} passed, {bad} failed")
    sys.exit(1 if bad else 0)
