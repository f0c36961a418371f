#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A trace of a real configuration equals the 2010 slides' sequence, step by step, in both protocol versions."""

import unittest

from common import BUILD, main
from ab.papers.slides import SERVER, guest_steps, in_order, record


class Trace(unittest.TestCase):
    def test_the_guest_and_the_server_go_through_the_slides_steps_in_order_in_both_versions(self):
        for proto in ("1", "2"):
            with self.subTest(proto=proto):
                guest, server = record(BUILD, proto)
                self.assertIsNone(in_order(guest, guest_steps(proto)), "\n".join(guest[:60]))
                self.assertIsNone(in_order(server, SERVER), "\n".join(server[:80]))
                self.assertEqual(proto == "1", not any("FEATURES_OK" in line for line in guest))

    def test_a_step_out_of_order_would_be_noticed(self):
        self.assertEqual(in_order(["x DRIVER y", "x PROBE y"], ["PROBE", "DRIVER"]), "DRIVER")


if __name__ == "__main__":
    main()
