#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Real programs over virtio-net: ping, iperf3 and tcpdump between network namespaces, through guests and the server."""

import os
import sys
import time

from common import ARMS, SLOW, main, telemetry, until
from net_lan import Lan, NetTest, sh

# TCP over a busy machine of two cores: only that it moves is asserted.
MOVED = 100_000


class Namespaces(NetTest):
    tools = ("iperf3",)

    def test_ping_and_tcp_both_ways_with_and_without_offload(self):
        for arm in ("copy", "zero-copy"):
            for args in ([], ["--no-offload"]):
                with self.subTest(arm=arm, args=args), Lan([arm, arm], tap_args=args) as lan:
                    for size in (1, 56, 1472, 4000):
                        self.assertTrue(lan.reach(0, 1, size=size), f"ping of {size} bytes")
                    self.assertTrue(lan.reach(1, 0))
                    self.assertGreater(lan.iperf(0, 1), MOVED)
                    self.assertGreater(lan.iperf(0, 1, 1, "-R"), MOVED)
                    lan.stop_taps(self)

    def test_every_named_arm_carries_ping_and_tcp(self):
        for arm in (a for a in ARMS if a not in ("copy", "zero-copy")):
            with self.subTest(arm=arm), Lan([arm, arm]) as lan:
                self.assertTrue(lan.reach(0, 1))
                self.assertGreater(lan.iperf(0, 1), MOVED)
                lan.stop_taps(self)

    def test_a_jumbo_mtu_carries_jumbo_frames_whole(self):
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm), Lan([arm, arm], nets=["mtu=9000", "mtu=9000"]) as lan:
                self.assertIn("mtu 9000", lan.run(0, "ip", "link", "show", "vio0"))
                out = lan.run(0, "ping", "-n", "-M", "do", "-c", "3", "-W", "5", "-s", "8972", lan.address(1))
                self.assertRegex(out, " [123] received")
                lan.stop_taps(self)

    def test_several_queues_of_a_tap_carry_ping_and_tcp(self):
        with Lan(["zero-copy", "copy"], nets=["queues=2", "queues=2"], tap_args=["--queues", "2"]) as lan:
            self.assertTrue(lan.reach(0, 1))
            self.assertGreater(lan.iperf(0, 1, 1, "-P", "4"), MOVED)
            lan.stop_taps(self)

    def test_three_guests_reach_each_other_and_broadcast_reaches_all(self):
        with Lan(["copy", "zero-copy", "premapped"]) as lan:
            for a, b in ((0, 1), (1, 2), (2, 0)):
                self.assertTrue(lan.reach(a, b), f"{a} to {b}")
            lan.stop_taps(self)

    def test_vlans_separate_guests(self):
        # A trunk's tagged frames are in test_net.py: not every kernel has VLAN interfaces.
        with Lan(["zero-copy", "copy", "zero-copy", "copy"], nets=["vlan=10", "vlan=10", "vlan=20", "vlan=20"]) as lan:
            self.assertTrue(lan.reach(0, 1))
            self.assertTrue(lan.reach(2, 3))
            for a, b in ((0, 2), (2, 0), (1, 3)):
                self.assertEqual(lan.ping(a, b, count=2), 0, f"{a} must not reach {b}")
            lan.stop_taps(self)

    def test_link_down_is_no_carrier(self):
        with Lan(["zero-copy", "copy"], nets=["link=down", ""]) as lan:
            self.assertEqual(lan.run(0, "cat", "/sys/class/net/vio0/carrier").strip(), "0")
            self.assertEqual(lan.run(1, "cat", "/sys/class/net/vio0/carrier").strip(), "1")
            self.assertEqual(lan.ping(1, 0, count=2), 0)
            lan.stop_taps(self)

    def test_an_idle_tap_sleeps(self):
        with Lan(["zero-copy", "copy"]) as lan:
            self.assertTrue(lan.reach(0, 1))
            time.sleep(1)

            def ticks(t):
                with open(f"/proc/{t.proc.pid}/stat") as f:
                    return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))

            before = [ticks(t) for t in lan.taps]
            time.sleep(2)
            for t, b in zip(lan.taps, before):
                self.assertLess(ticks(t) - b, 100, "half of two seconds: it does not sleep")
            self.assertTrue(lan.reach(0, 1))
            lan.stop_taps(self)

    def test_a_tap_that_ends_leaves_no_interface_and_can_start_again(self):
        with Lan(["zero-copy", "zero-copy"]) as lan:
            self.assertTrue(lan.reach(0, 1))
            self.assertEqual(lan.taps[0].stop(20), 0, lan.taps[0].log())
            self.assertNotIn("vio0", lan.run(0, "ip", "link"))
            lan.taps[0] = lan.start_tap(0, "copy")
            self.assertTrue(lan.reach(1, 0))
            lan.stop_taps(self)


class Extensions(NetTest):
    """TCP behind IPv6's destination options, which the kernel leaves to the card to sum and to cut."""
    BYTES = 1 << 20
    PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dstopts.py")

    def carry(self, lan, options, to="fd09::2"):
        server = lan.spawn(1, sys.executable, self.PROGRAM, "serve", to)
        try:
            self.assertEqual(server.stdout.readline(), "ready\n")
            lan.run(0, sys.executable, self.PROGRAM, "send", to, str(self.BYTES), str(options))
            said = server.communicate(timeout=30)[0].split()
        finally:
            if server.poll() is None:
                server.kill()
                server.communicate()
        self.assertEqual([int(x) for x in said], [self.BYTES, self.BYTES // 256 * sum(range(256))])

    def test_tcp_with_destination_options_of_any_length_arrives_with_and_without_the_receivers_offload(self):
        for arm in ("copy", "zero-copy"):
            for args in ([], ["--no-offload"]):
                with self.subTest(arm=arm, args=args), Lan([arm, arm]) as lan:
                    if args:  # the receiver alone
                        self.assertEqual(lan.taps[1].stop(20), 0)
                        lan.tap_args = args
                        lan.taps[1] = lan.start_tap(1, arm)
                    for i in (0, 1):
                        sh("ip", "-n", lan.names[i], "addr", "add", f"fd09::{i + 1}/64", "dev", "vio0", "nodad")
                    self.assertTrue(lan.reach(0, 1, address="fd09::2"))
                    for options in (0, 8, 128, 256, 512, 1024):
                        with self.subTest(options=options):
                            self.carry(lan, options)
                    # Oversized: a kernel whose longest segment has no room for the options left a jumbo header in each piece.
                    for why in ("drop_offload", "drop_oversized"):
                        self.assertEqual([telemetry(lan.m, f"/vio/port,{i}")[0][why] for i in (0, 1)], [0, 0], why)
                    lan.stop_taps(self)


class Deaths(NetTest):
    def test_ping_goes_on_after_the_server_was_killed_and_came_back(self):
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm), Lan([arm, arm]) as lan:
                self.assertTrue(lan.reach(0, 1))
                lan.m.vios.kill()
                until(lambda: all("server has gone" in t.log() for t in lan.taps), "the taps' word on the server's death")
                lan.m.start_vios()
                until(lambda: all("is back" in t.log() for t in lan.taps), "the taps' word on its return")
                self.assertTrue(lan.reach(0, 1))
                lan.stop_taps(self)

    def test_a_killed_phypd_ends_a_tap_with_a_sentence(self):
        with Lan(["zero-copy", "copy"]) as lan:
            lan.m.phypd.kill()
            for t in lan.taps:
                t.proc.wait(30)
                self.assertEqual(t.proc.returncode, 1)
                self.assertIn("phypd", t.log())


class UplinkLan(Lan):
    """The last namespace has no guest: it is behind an uplink, a veth pair whose near end the server has."""

    def before_machine(self):
        self.near = f"vio{os.getpid()}u"
        far = self.names[-1]
        sh("ip", "link", "add", self.near, "type", "veth", "peer", "name", "vio0", "netns", far)
        sh("ip", "link", "set", self.near, "up")
        # The kernel would leave checksums to a device that isn't there.
        sh("ip", "netns", "exec", far, "ethtool", "-K", "vio0", "tx", "off")
        sh("ip", "-n", far, "addr", "add", self.address(len(self.names) - 1) + "/24", "dev", "vio0")
        sh("ip", "-n", far, "link", "set", "vio0", "up")
        self.vios_args += ["--uplink", f"net_af_packet0,iface={self.near}"]

    def __exit__(self, *exc):
        super().__exit__(*exc)
        sh("ip", "link", "del", self.near, check=False)


class Uplink(NetTest):
    tools = ("iperf3", "ethtool")

    def test_a_namespace_behind_an_uplink_is_reached_with_ping_and_tcp_both_ways_with_and_without_offload(self):
        for arm in ("copy", "zero-copy"):
            for args in ([], ["--no-offload"]):
                with self.subTest(arm=arm, args=args), UplinkLan([arm, arm], spaces=3, tap_args=args) as lan:
                    # No fragments: DPDK's af_packet has the kernel put them together, and then there is no room for the whole.
                    for size in (1, 56, 1472):
                        self.assertTrue(lan.reach(0, 2, size=size), f"ping of {size} bytes\n{lan.m.vios.log()}")
                    self.assertTrue(lan.reach(2, 1))
                    self.assertGreater(lan.iperf(0, 2), MOVED)
                    self.assertGreater(lan.iperf(0, 2, 1, "-R"), MOVED)
                    uplink = telemetry(lan.m, "/vio/port,2")[0]
                    self.assertEqual(uplink["kind"], "uplink")
                    # In both arms the frame leaves from where it is: the guest's pages, or the server's bounce pages.
                    self.assertGreater(uplink["in_place"], 0, uplink)
                    lan.stop_taps(self)


class KernelsSums(UplinkLan):
    """The far kernel leaves checksums to the veth, which passes them on as they are."""

    def before_machine(self):
        super().before_machine()
        # Segments would be longer than the driver's buffers.
        sh("ip", "netns", "exec", self.names[-1], "ethtool", "-K", "vio0", "tx", "on", "tso", "off", "gso", "off")


class UnfinishedSums(NetTest):
    tools = ("iperf3", "ethtool")

    def test_tcp_connects_through_af_packet_where_the_kernel_leaves_checksums_to_the_device(self):
        for args in ([], ["--no-offload"]):
            with self.subTest(args=args), KernelsSums(["zero-copy"], spaces=2, tap_args=args) as lan:
                self.assertTrue(lan.reach(0, 1))
                self.assertGreater(lan.iperf(0, 1), MOVED)
                self.assertGreater(lan.iperf(0, 1, 1, "-R"), MOVED)
                self.assertGreater(telemetry(lan.m, "/vio/port,1")[0]["in_unfinished"], 0)
                lan.stop_taps(self)


class Capture(NetTest):
    tools = ("ethtool", "iperf3", "tcpdump", "tshark")
    CHECK = [a for p in ("ip", "tcp", "udp") for a in ("-o", f"{p}.check_checksum:TRUE")]
    WRONG = " || ".join(["_ws.malformed", "_ws.expert.severity == error",
                         *(f'{p}.checksum.status == "Bad"' for p in ("ip", "tcp", "icmp"))])

    def frames(self, path, *more):
        """Numbers and summaries of a capture's frames, as tshark sees them."""
        columns = ("-e", "frame.number", "-e", "_ws.col.Info")
        out = sh("tshark", "-r", path, *self.CHECK, *more, "-T", "fields", *columns, timeout=120)
        return [x for x in out.splitlines() if x[:1].isdigit()]

    def capture(self, lan, to):
        """Ping and TCP from namespace 0 to `to`, heard there: all of it is right."""
        path = os.path.join(lan.m.dir, "capture.pcap")
        dump = lan.spawn(to, "tcpdump", "-i", "vio0", "--immediate-mode", "-U", "-Z", "root", "-w", path, "-c", "2000")
        until(lambda: os.path.exists(path), "tcpdump's file")
        self.assertTrue(lan.reach(0, to))
        lan.iperf(0, to, None, "-n", "200K" if SLOW else "1M")
        dump.terminate()
        said = dump.communicate(timeout=20)[0]
        self.assertGreater(len(self.frames(path)), 20, said)
        for both_ways in (f"ip.src == {lan.address(0)}", f"ip.dst == {lan.address(0)}"):
            self.assertGreater(len(self.frames(path, "-Y", f"tcp && {both_ways}")), 5, said)
        self.assertEqual(self.frames(path, "-Y", self.WRONG), [])

    def test_a_capture_of_ping_and_tcp_opens_in_tshark_without_a_complaint(self):
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm), Lan([arm, arm], tap_args=["--no-offload"]) as lan:
                self.capture(lan, 1)

    def test_a_capture_behind_an_uplink_opens_in_tshark_without_a_complaint(self):
        # With offload the guest leaves sums and segments to the server; what is on the wire behind it is whole.
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm), UplinkLan([arm], spaces=2) as lan:
                self.capture(lan, 1)


if __name__ == "__main__":
    main()
