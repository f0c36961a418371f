#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""In the zero-copy arm the server's address space has the granted pages of the guest and no others."""

import re
import time
import unittest

from common import BUILD, Machine, main

LOAD = ["--rw", "randmixed", "--depth", "8", "--span", "4M", "--seconds", "60"]
MAP = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) \S+ \d+\s+(.*)$")


def guest_maps(m, who="guest0"):
    """(permissions, bytes) of every mapping of that partition's memory in the server's process."""
    out = []
    with open(f"/proc/{m.vios.proc.pid}/maps") as f:
        for line in f:
            g = MAP.match(line)
            if g and f"lmb-{who}" in g.group(5):
                out.append((g.group(3), int(g.group(2), 16) - int(g.group(1), 16)))
    return out


class Isolation(unittest.TestCase):
    def during(self, arm):
        """The server's view of the guest's memory in the middle of traffic, and what the guest granted."""
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            granted = m.guest(["--arm", arm, "--depth", "8", "--info"])["granted_bytes"]
            g = m.start_guest(["--arm", arm, *LOAD])
            time.sleep(1.5)
            self.assertTrue(g.alive(), g.log())
            maps = guest_maps(m)
            g.kill()
            return maps, granted

    def test_zero_copy_maps_exactly_what_was_granted(self):
        maps, granted = self.during("zero-copy")
        self.assertGreater(granted, 0)
        self.assertEqual(sum(n for _, n in maps), granted, maps)

    def test_descriptor_table_and_available_ring_are_mapped_read_only(self):
        maps, _ = self.during("zero-copy")
        self.assertIn("r--s", [p for p, _ in maps])
        self.assertFalse([p for p, _ in maps if "x" in p])

    def test_the_check_can_see_a_whole_guest_where_an_arm_needs_it(self):
        # The copy arm's hypervisor alias is the counter-example: a check that passed there would prove nothing.
        maps, granted = self.during("copy")
        self.assertEqual(granted, 0)
        self.assertGreater(sum(n for _, n in maps), 32 << 20)

    def test_nothing_of_a_dead_guest_stays_mapped(self):
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            g = m.start_guest(["--arm", "zero-copy", *LOAD])
            time.sleep(1)
            g.kill()
            for _ in range(500):
                if not guest_maps(m):
                    return
                time.sleep(0.02)
            self.fail(f"still mapped 10 s after the guest died: {guest_maps(m)}")


if __name__ == "__main__":
    main()
