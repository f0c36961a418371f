#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A guest's tap while others change it, take it away, or take the server away (root, /dev/net/tun)."""

import os
import re
import subprocess

from common import BUILD, main, until
from net_lan import Lan, NetTest, sh


def too_long(tap):
    """What vio-tap says of it when it ends."""
    return int(re.search(r"(\d+) too long for the card", tap.log()).group(1))


def carrier(lan, i):
    return lan.run(i, "cat", "/sys/class/net/vio0/carrier").strip()


class Tap(NetTest):
    def test_a_deleted_interface_ends_its_program_with_a_sentence_and_an_error(self):
        for queues in ("1", "2"):
            with self.subTest(queues=queues), Lan(["zero-copy", "copy"], nets=["queues=2", ""],
                                                  tap_args=["--queues", queues]) as lan:
                self.assertTrue(lan.reach(0, 1))
                sh("ip", "-n", lan.names[0], "link", "del", "vio0")
                lan.taps[0].proc.wait(20)
                self.assertEqual(lan.taps[0].proc.returncode, 1, lan.taps[0].log())
                self.assertIn("was the interface deleted?", lan.taps[0].log())
                lan.m.nothing_kept()

    def test_a_frame_longer_than_the_buffers_is_dropped_whole_and_counted(self):
        with Lan(["zero-copy", "copy"], tap_args=["--no-offload"]) as lan:
            self.assertTrue(lan.reach(0, 1))
            for i in (0, 1):
                sh("ip", "-n", lan.names[i], "link", "set", "vio0", "mtu", "4000")
            self.assertEqual(lan.ping(0, 1, count=3, size=3500), 0)
            until(lambda: "longer than the card takes" in lan.taps[0].log(), "the tap's word on long frames")
            self.assertTrue(lan.reach(0, 1))
            lan.stop_taps(self)
            self.assertGreaterEqual(too_long(lan.taps[0]), 3)

    def test_a_tap_whose_mtu_is_raised_to_the_cards_carries_such_frames_whole(self):
        for args in ([], ["--no-offload"]):
            with self.subTest(args=args), Lan(["zero-copy", "copy"], nets=["mtu=9000"] * 2,
                                              tap_args=["--mtu", "1500", *args]) as lan:
                for i in (0, 1):
                    sh("ip", "-n", lan.names[i], "link", "set", "vio0", "mtu", "9000")
                self.assertTrue(lan.reach(0, 1, size=8972), lan.m.vios.log())
                lan.stop_taps(self)
                self.assertEqual(too_long(lan.taps[0]), 0)

    def test_without_promiscuous_mode_ipv6_multicast_and_a_changed_address_still_arrive(self):
        with Lan(["zero-copy", "copy"], tap_args=["--promisc", "off"]) as lan:
            for i in (0, 1):
                sh("ip", "-n", lan.names[i], "addr", "add", f"fd09::{i + 1}/64", "dev", "vio0", "nodad")
            self.assertTrue(lan.reach(0, 1))
            self.assertTrue(lan.reach(0, 1, address="fd09::2"), "IPv6 asks for addresses by multicast")
            sh("ip", "-n", lan.names[1], "link", "set", "vio0", "address", "02:00:00:00:aa:bb")
            self.assertTrue(lan.reach(1, 0), "a station tells its new address by what it sends")
            self.assertTrue(lan.reach(0, 1))
            lan.stop_taps(self)

    def test_the_tap_has_no_carrier_while_the_server_is_away(self):
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm), Lan([arm, arm]) as lan:
                self.assertTrue(lan.reach(0, 1))
                lan.m.vios.kill()
                for i in (0, 1):
                    until(lambda n=i: carrier(lan, n) == "0", "no carrier without a server")
                lan.m.start_vios()
                for i in (0, 1):
                    until(lambda n=i: carrier(lan, n) == "1", "carrier with a server")
                self.assertTrue(lan.reach(0, 1))
                lan.stop_taps(self)

    def test_a_link_that_went_down_while_the_server_was_away_is_told(self):
        with Lan(["zero-copy"]) as lan:
            self.assertEqual(carrier(lan, 0), "1")
            lan.m.vios.kill()
            until(lambda: carrier(lan, 0) == "0", "no carrier without a server")
            lan.m.vios_args = ["--net", "link=down"]
            lan.m.start_vios()
            until(lambda: "is back" in lan.taps[0].log(), "the server's return")
            self.assertTrue(lan.taps[0].alive())
            self.assertEqual(carrier(lan, 0), "0")

    def test_a_group_address_is_refused_with_a_reason(self):
        with Lan(["zero-copy"]) as lan:
            lan.taps[0].stop(20)
            r = subprocess.run([os.path.join(BUILD, "guest", "vio-tap"), "--phyp", lan.m.socket, "--partition", "guest0",
                                "--netns", lan.names[0], "--tap", "vio1", "--mac", "01:00:5e:00:00:01"],
                               capture_output=True, text=True, timeout=30, check=False)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("a group's address", r.stderr)


if __name__ == "__main__":
    main()
