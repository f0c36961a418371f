#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A trace of a real configuration equals the 2010 slides' sequence, step by step, in both protocol versions."""

import re
import unittest

from common import BUILD, Machine, main

# The slides' steps in order: a pattern that must appear after the one before it, in the merged trace of both programs'
# own traces. g: guest's trace, s: server's.
SLIDES_G = ["PROBE  ", "PROBE reply", "ACKNOWLEDGE  ", "ACKNOWLEDGE reply", "DRIVER", "QUEUE.*desc", "QUEUE.*avail",
            "QUEUE.*used", "DRIVER_OK", "DRIVER_OK reply"]
SLIDES_S = ["PROBE  ", r"H_(COPY|WRITE)_RDMA", "PROBE reply", "ACKNOWLEDGE  ", r"H_(COPY|WRITE)_RDMA",
            "ACKNOWLEDGE reply", "DRIVER", "QUEUE.*desc", "QUEUE.*avail", "QUEUE.*used", "DRIVER_OK",
            r"H_(COPY|READ)_RDMA", "DRIVER_OK reply"]


def in_order(lines, steps):
    """The first step that is not found after the ones before it, or None."""
    at = 0
    for s in steps:
        pattern = re.compile(r"(^|\s)" + s + r"(\W|$)")
        while at < len(lines) and not pattern.search(lines[at]):
            at += 1
        if at == len(lines):
            return s
        at += 1
    return None


class Trace(unittest.TestCase):
    def traces(self, proto):
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M", "--trace", "--proto", proto]) as m:
            g = m.start_guest(["--trace", "--arm", "copy", "--fallback", "--count", "1", "--warm-seconds", "0",
                               "--verify", "off", "--span", "1M"])
            g.proc.wait(60)
            self.assertEqual(g.proc.returncode, 0, g.log())
            return g.log().splitlines(), m.vios.log().splitlines()

    def test_the_guest_and_the_server_go_through_the_slides_steps_in_order_in_both_versions(self):
        for proto in ("1", "2"):
            with self.subTest(proto=proto):
                guest, server = self.traces(proto)
                extra = ["FEATURES_OK", "FEATURES_OK reply"] if proto == "2" else []
                steps = SLIDES_G[:5] + extra + SLIDES_G[5:]
                self.assertIsNone(in_order(guest, steps), "\n".join(guest[:60]))
                self.assertIsNone(in_order(server, SLIDES_S), "\n".join(server[:80]))
                self.assertEqual(proto == "1", not any("FEATURES_OK" in line for line in guest))

    def test_a_step_out_of_order_would_be_noticed(self):
        self.assertEqual(in_order(["x DRIVER y", "x PROBE y"], ["PROBE", "DRIVER"]), "DRIVER")


if __name__ == "__main__":
    main()
