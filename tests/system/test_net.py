#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Frames between guests through the server's switch, generated and checked by vio-net: every arm, every mode."""

import json
import os
import subprocess
import unittest

from common import ARMS, BUILD, LAYOUTS, SLOW, MachineError, NetMachine, Program, main, telemetry, until

MORE_ARMS = ["zero-copy,mapping=single-use", "zero-copy,mapping=deferred", "copy,mapping=cached", "copy,ring=direct",
             "copy,notify=poll", "zero-copy,notify=crq", "zero-copy,notify=suppress", "zero-copy,payload=copybreak", "premapped,ring=copy",
             *(f"{arm},layout={layout}" for layout in LAYOUTS for arm in ARMS)]
# Where there are two for each: what the others have of their own runs under the sanitizers in the test of all sizes.
SOME_ARMS = ["copy", "zero-copy"] if SLOW else ARMS
MAC = ["02:56:49:4f:00:00", "02:56:49:4f:00:01"]


def vio_net(m, guest, *args):
    return [os.path.join(BUILD, "guest", "vio-net"), "--phyp", m.socket, "--partition", f"guest{guest}", *args]


def run_net(m, guest, *args, timeout=90):
    """vio-net to its end; its JSON."""
    r = subprocess.run(vio_net(m, guest, "--json", "-", *args), capture_output=True, text=True, timeout=timeout, check=False)
    if r.returncode:
        raise MachineError(f"vio-net {' '.join(args)}: exit {r.returncode}\n{r.stderr}--- vios:\n{m.vios.log()[-2000:]}")
    return json.loads(r.stdout)


class Partner(Program):
    """A vio-net in guest1 that goes on until it is stopped."""

    def __init__(self, m, *args):
        self.out = os.path.join(m.dir, "partner.json")
        super().__init__("partner", vio_net(m, 1, "--json", self.out, "--ready-fd", "@READY", "--seconds", "3600",
                                            "--warm-seconds", "0", "--drain-seconds", "0", "--idle-us", "200", *args), m.dir)
        self.wait_ready(30)

    def result(self):
        if self.stop(30):
            raise MachineError(f"the partner: exit {self.proc.returncode}\n{self.log()}")
        with open(self.out) as f:
            return json.load(f)


def machine(net="mtu=9000", vios_args=(), **kw):
    return NetMachine(BUILD, phypd_args=["--guests", "2", "--server-memory", "128"],
                      vios_args=[f"--net={net}", f"--net={net}", *vios_args], **kw)


class Frames(unittest.TestCase):
    RATE = ["--rate", "500" if SLOW else "2000", "--count", "300" if SLOW else "1000", "--warm-seconds", "0", "--idle-us", "200"]

    def check_echo(self, r, count=None):
        """Of a sender whose partner sends everything back: what came is right; a busy machine may lose some."""
        run = r["run"]
        self.assertEqual(run["mismatches"], 0, run["first_mismatch"])
        self.assertEqual(run["disordered"], 0)
        self.assertEqual((run["rx_bad"], run["tx_bad"], run["tx_lost"]), (0, 0, 0))
        self.assertEqual(run["tx_frames"], count or int(self.RATE[3]))
        return run

    def echo(self, m, *args):
        """A sender whose partner sends everything back, at a rate at which a quarter and more arrives.

        A program that has no processor for longer than its queue is long loses frames: it is given longer.
        """
        rate, count = int(self.RATE[1]), int(self.RATE[3])
        for slower in (1, 4, 16):
            r = run_net(m, 0, "--forward", "flowgen", "--drain-seconds", "0.5", "--rate", str(rate // slower), "--count",
                        str(count // slower), *self.RATE[4:], *args)
            own = self.check_echo(r, count // slower)["own"]
            if own > count // slower // 4:
                return r
        self.fail(f"{own} of {count // slower} frames came back at {rate // slower} a second")

    def test_frames_of_all_sizes_go_there_and_back_unchanged_in_every_arm(self):
        with machine() as m:
            for arm in [*ARMS, *(MORE_ARMS[:4] if SLOW else MORE_ARMS)]:  # under a sanitizer: those with code of their own
                with self.subTest(arm=arm):
                    p = Partner(m, "--arm", arm, "--forward", "io")
                    r = self.echo(m, "--arm", arm, "--size", "64,65,1518,4000,9000", "--touch", "all")
                    self.assertEqual(r["arm"], r["arm_wanted"])
                    # What the measurement itself did not see came while it drained; nothing is invented.
                    self.assertLessEqual(r["run"]["own"], p.result()["run"]["tx_frames"])

    def test_a_forwarder_in_mac_mode_sends_back_to_the_sender_alone(self):
        with machine() as m:
            p = Partner(m, "--forward", "mac")
            self.echo(m, "--peer", MAC[1], "--promisc", "off")
            p.result()

    def test_arms_of_the_two_ends_need_not_be_the_same(self):
        with machine() as m:
            for a, b in (("copy", "zero-copy"), ("zero-copy", "copy"), ("premapped", "copy-tuned"))[:2 if SLOW else 3]:
                with self.subTest(sender=a, echo=b):
                    p = Partner(m, "--arm", b, "--forward", "io")
                    r = run_net(m, 0, "--arm", a, "--forward", "flowgen", "--size", "64,1518,9000", "--touch", "all",
                                "--drain-seconds", "0.5", *self.RATE)
                    self.check_echo(r)
                    p.result()

    def test_one_large_buffer_a_frame_works_without_merging(self):
        with machine() as m:
            p = Partner(m, "--forward", "io", "--no-merge", "--buf-len", "16k")
            r = run_net(m, 0, "--forward", "flowgen", "--size", "9000", "--touch", "all", "--no-merge", "--buf-len", "16k",
                        "--drain-seconds", "0.5", *self.RATE)
            self.assertEqual(r["run"]["tx_bufs"], r["run"]["tx_frames"])
            self.check_echo(r)
            p.result()

    def test_several_pairs_of_queues_carry_frames(self):
        with machine("mtu=9000,queues=3") as m:
            for arm in SOME_ARMS:
                with self.subTest(arm=arm):
                    p = Partner(m, "--arm", arm, "--forward", "io", "--queues", "3")
                    # A flow keeps its order on the queue that it has; several of one stream are on several queues.
                    r = run_net(m, 0, "--arm", arm, "--forward", "flowgen", "--queues", "3", "--size", "64,3000",
                                "--flows", "1", "--touch", "all", "--drain-seconds", "0.5", *self.RATE)
                    self.assertEqual(r["pairs"], 3)
                    self.check_echo(r)
                    p.result()

    def test_zero_copy_makes_no_call_and_moves_nothing_by_rdma_in_steady_state(self):
        # Whoever fell asleep for want of a processor would have to be woken by a call.
        with machine(vios_args=["--idle-ms", "never"]) as m:
            p = Partner(m, "--forward", "rxonly", "--idle-us", "never")
            r = run_net(m, 0, "--forward", "txonly", "--peer", MAC[1], "--seconds", "0.5", "--size", "64,1518",
                        "--warm-seconds", "0.3", "--idle-us", "never")
            self.assertGreater(r["run"]["tx_frames"], 1000)
            for who in ("guest0", "guest1", "vios"):
                c = r["partitions"][who]
                self.assertEqual(c["hcalls"], {}, who)
                for key in ("tce_updates", "rdma_bytes", "irq_raised", "kicks", "used_notifications"):
                    self.assertEqual(c[key], 0, f"{who} {key}")
            for who in ("guest0", "guest1"):
                self.assertEqual(r["partitions"][who]["cpu_bytes"], 0, who)
            self.assertEqual(p.result()["run"]["mismatches"], 0)

    def test_a_flood_loses_frames_only_where_it_is_counted(self):
        # More than the receiver can take: what arrives is right and in order, and no buffer is missing at either end.
        with machine() as m:
            for arm in SOME_ARMS:
                with self.subTest(arm=arm):
                    p = Partner(m, "--arm", arm, "--forward", "rxonly", "--touch", "all")
                    r = run_net(m, 0, "--arm", arm, "--forward", "txonly", "--touch", "all", "--peer", MAC[1], "--seconds", "0.4",
                                "--size", "64,1518,9000")
                    got = p.result()["run"]
                    self.assertEqual((got["mismatches"], got["disordered"], got["rx_bad"]), (0, 0, 0), got["first_mismatch"])
                    self.assertGreater(got["own"], 0)
                    self.assertGreater(r["run"]["tx_frames"], 0)

    def test_a_trunk_reaches_the_vlans_that_it_tags_and_no_others(self):
        with NetMachine(BUILD, phypd_args=["--guests", "2", "--server-memory", "128"],
                        vios_args=["--net=trunk=10+20", "--net=vlan=10"]) as m:
            for arm in ("copy", "zero-copy"):
                p = Partner(m, "--arm", arm, "--forward", "io")
                for vlan, comes_back in ((10, True), (20, False), (30, False)):
                    with self.subTest(arm=arm, vlan=vlan):
                        # A full frame and its tag; what comes back has been untagged for the partner and tagged again.
                        r = run_net(m, 0, "--arm", arm, "--forward", "flowgen", "--vlan", str(vlan), "--size", "64,1518",
                                    "--touch", "all", "--drain-seconds", "0.5", *self.RATE)
                        self.check_echo(r)
                        self.assertEqual(r["run"]["own"] > 0, comes_back)
                p.result()

    def test_an_old_protocol_is_refused_with_a_sentence(self):
        with machine() as m, self.assertRaisesRegex(MachineError, "(?i)version"):
            run_net(m, 0, "--proto", "1", "--fallback", "--info")

    def test_wrong_use_is_refused_with_a_sentence(self):
        with machine("mtu=1500") as m:
            for args, word in ((["--size", "9000"], "MTU"), (["--size", "63"], "64"), (["--forward", "mirror"], "txonly"),
                               (["--peer", "02:00"], "address"), (["--buf-len", "3000"], "power of two"),
                               (["--flows", "3"], "flowgen"), (["--vlan", "4095"], "4094"), (["--queues", "16"], "15")):
                with self.subTest(args=args), self.assertRaisesRegex(MachineError, word):
                    run_net(m, 0, *args)


class Deaths(unittest.TestCase):
    @staticmethod
    def to_sender(m):
        """All that the sender gets are its own frames, sent back."""
        return telemetry(m, "/vio/port,0")[0]["out_frames"]

    def frames_come_back(self, m, sender, before):
        until(lambda: self.to_sender(m) > before + 100 or not sender.alive(), "frames to come back")
        self.assertTrue(sender.alive(), sender.log() + m.vios.log())

    def test_a_killed_server_comes_back_and_frames_flow_again(self):
        with machine() as m:
            for arm in SOME_ARMS:
                with self.subTest(arm=arm):
                    p = Partner(m, "--arm", arm, "--forward", "io")
                    out, before = os.path.join(m.dir, "sender.json"), self.to_sender(m)
                    s = Program("sender", vio_net(m, 0, "--arm", arm, "--forward", "flowgen", "--rate", "500", "--touch", "all",
                                                  "--seconds", "3600", "--warm-seconds", "0", "--drain-seconds", "0", "--idle-us", "200", "--json", out), m.dir)
                    self.frames_come_back(m, s, before)
                    m.vios.kill()
                    until(lambda: "has gone" in s.log() and "has gone" in p.log(), "the guests' word on the server's death")
                    m.start_vios()
                    self.frames_come_back(m, s, 0)
                    self.assertEqual(s.stop(30), 0, s.log() + m.vios.log())
                    self.assertIn("is back", s.log())
                    with open(out) as f:
                        run = json.load(f)["run"]
                    self.assertEqual(run["mismatches"], 0)
                    self.assertGreater(run["own"], 100)
                    self.assertIn("is back", p.log())
                    p.result()

    def test_a_killed_guest_disturbs_no_other_and_its_successor_gets_frames(self):
        with machine() as m:
            for arm in ("copy", "zero-copy"):
                with self.subTest(arm=arm):
                    p = Partner(m, "--arm", arm, "--forward", "io")
                    p.kill()
                    p = Partner(m, "--arm", arm, "--forward", "io")
                    r = run_net(m, 0, "--arm", arm, "--forward", "flowgen", "--touch", "all", "--drain-seconds", "0.5",
                                *Frames.RATE)
                    self.assertGreater(r["run"]["own"], 0)
                    p.result()


if __name__ == "__main__":
    main()
