#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A frozen adapter: its guest's driver resets and thaws it and goes on without a wrong byte; its neighbour does not notice."""

import json
import os
import signal
import unittest

from common import BUILD, Machine, NetMachine, Program, count, main, until
from test_kill import stopped, two_guests
from test_net import Partner, vio_net

LOAD = ["--rw", "randmixed", "--bs", "4k", "--depth", "16", "--span", "4M", "--warm-seconds", "0"]
MACHINE = ["--freeze", "--guests", "2", "--server-memory", "128"]
# After the messages that set the device up (19 for a disk with one queue), and once more after they were sent again.
ASKED = "H_SEND_CRQ@30=FREEZE,H_SEND_CRQ@55=FREEZE"
# By a copying guest's requests, of which each takes several.
STRAYS = "H_COPY_RDMA@200=STRAY,H_COPY_RDMA@600=STRAY"


class Freeze(unittest.TestCase):
    def frozen(self, g, m, times):
        """Of a program that has ended: how its load went."""
        g.stop()
        self.assertEqual(g.proc.returncode, 0, g.log() + m.vios.log())
        self.assertEqual(g.log().count("reset and thawed"), times, g.log() + m.vios.log())
        with open(os.path.join(m.dir, "frozen.json")) as f:
            return json.load(f)["run"]

    def disk(self, arm, neighbour, why, vios_args=(), guest_args=()):
        with Machine(BUILD, phypd_args=MACHINE, vios_args=["--disk", "memory,size=32M", "--disk", "memory,size=32M",
                                                           *vios_args]) as m:
            other = m.start_guest(["--partition", "guest1", "--arm", neighbour, *LOAD, "--seconds", "2"])
            g = m.start_guest(["--partition", "guest0", "--arm", arm, *LOAD, "--count", count(20000), *guest_args,
                               "--json", os.path.join(m.dir, "frozen.json")])
            g.proc.wait(90)
            run = self.frozen(g, m, 2)
            self.assertIn(why, g.log())
            self.assertEqual(run["mismatches"], 0)
            # The neighbour's own check of every byte, at its end; and that nothing happened to it.
            other.proc.wait(90)
            other.stop()
            self.assertEqual(other.proc.returncode, 0, other.log() + m.vios.log())
            for word in ("frozen", "gone", "stopped"):
                self.assertNotIn(word, other.log())

    def test_a_copying_guest_goes_on_after_the_device_wrote_where_it_may_not(self):
        for arm in ("copy", "copy-tuned"):
            with self.subTest(arm=arm):
                self.disk(arm, "zero-copy", "the device", vios_args=["--fault", STRAYS])

    def test_a_zero_copy_guest_goes_on_after_its_adapter_was_frozen(self):
        for arm in ("zero-copy,notify=crq", "zero-copy,notify=suppress,mapping=cached"):
            with self.subTest(arm=arm):
                self.disk(arm, "copy", "frozen on request", guest_args=["--fault", ASKED])

    def test_a_neighbour_works_while_an_adapter_stays_frozen(self):
        # Its guest stands still in the call that would reset it.
        with two_guests() as m:
            g = m.start_guest(["--partition", "guest0", "--arm", "copy", *LOAD, "--count", count(20000), "--fault",
                               "H_SEND_CRQ@30=FREEZE,H_SET_PE_STATE@1=STOP", "--json", os.path.join(m.dir, "frozen.json")])
            until(lambda: stopped(g.proc.pid), "the frozen guest to stand still")
            for arm in ("copy", "zero-copy"):
                r = m.guest(["--partition", "guest1", "--arm", arm, *LOAD, "--count", count(5000)])
                self.assertEqual(r["run"]["mismatches"], 0)
            self.assertTrue(stopped(g.proc.pid))
            g.signal(signal.SIGCONT)
            g.proc.wait(90)
            self.assertEqual(self.frozen(g, m, 1)["mismatches"], 0)

    def test_a_guest_goes_on_after_the_servers_own_end_was_frozen(self):
        # The server's reset of its end is to the guest what a server's restart is.
        with Machine(BUILD, phypd_args=["--guests", "1"], vios_args=["--disk", "memory,size=32M", "--fault",
                                                                     "H_SEND_CRQ@60=FREEZE"]) as m:
            r = m.guest(["--arm", "copy", *LOAD, "--count", count(8000)])
            self.assertEqual(r["run"]["mismatches"], 0)
            self.assertIn("frozen at this end", m.vios.log())

    def net(self, arm, partner, vios_args=(), guest_args=()):
        with NetMachine(BUILD, phypd_args=MACHINE, vios_args=["--net=mtu=9000", "--net=mtu=9000", *vios_args]) as m:
            p = Partner(m, "--arm", partner, "--forward", "io")
            g = Program("frozen", vio_net(m, 0, "--arm", arm, "--rate", "2000", "--count", count(4000),
                                          "--warm-seconds", "0", "--idle-us", "200", *guest_args, "--json",
                                          os.path.join(m.dir, "frozen.json")), m.dir)
            g.proc.wait(90)
            run = self.frozen(g, m, 2)
            self.assertEqual((run["mismatches"], run["rx_bad"]), (0, 0))
            self.assertGreater(run["rx_frames"], 0)
            p.result()
            self.assertNotIn("frozen", p.log())

    def test_a_network_card_goes_on_after_a_freeze(self):
        with self.subTest(arm="copy"):
            self.net("copy", "zero-copy", vios_args=["--fault", STRAYS])
        with self.subTest(arm="zero-copy"):
            self.net("zero-copy,notify=crq", "copy", guest_args=["--fault", ASKED])


if __name__ == "__main__":
    main()
