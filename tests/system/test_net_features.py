#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Features of the card with real programs: what a kernel leaves to it, what a tap asks of it, mirrors, announcements."""

import os
import re
import shutil
import socket
import sys
import tempfile

from common import main, telemetry, until
from net_lan import Lan, NetTest, sh
from test_uplink import BondLan

HERE = os.path.dirname(os.path.abspath(__file__))


def port(lan, i):
    return telemetry(lan.m, f"/vio/port,{i}")[0]


class Cut(NetTest):
    tools = ("iperf3", "ethtool")

    def datagrams(self, lan, to):
        """How many of 2,000 datagrams came whole."""
        server = lan.spawn(1, sys.executable, os.path.join(HERE, "udp_gso.py"), "serve", to)
        try:
            self.assertEqual(server.stdout.readline(), "ready\n")
            lan.run(0, sys.executable, os.path.join(HERE, "udp_gso.py"), "send", to, "2000", "1200")
            said = server.communicate(timeout=60)[0].split()
        finally:
            if server.poll() is None:
                server.kill()
                server.communicate()
        return int(said[0])

    def test_datagrams_that_a_kernel_leaves_to_be_cut_arrive_whatever_the_receiver_takes(self):
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm), Lan([arm, arm]) as lan:
                for i in (0, 1):
                    sh("ip", "-n", lan.names[i], "addr", "add", f"fd09::{i + 1}/64", "dev", "vio0", "nodad")
                self.assertTrue(lan.reach(0, 1) and lan.reach(0, 1, address="fd09::2"))
                for args in ([], ["--no-offload"]):
                    if args:
                        self.assertEqual(lan.taps[1].stop(20), 0)
                        lan.tap_args = args
                        lan.taps[1] = lan.start_tap(1, arm)
                        sh("ip", "-n", lan.names[1], "addr", "add", "fd09::2/64", "dev", "vio0", "nodad")
                        self.assertTrue(lan.reach(0, 1) and lan.reach(0, 1, address="fd09::2"))
                    for to in (lan.address(1), "fd09::2"):
                        before = port(lan, 1)["segmented"]
                        # UDP may lose, on a busy machine: most of them came.
                        self.assertGreater(self.datagrams(lan, to), 1000, f"{args} {to}\n{lan.m.vios.log()}")
                        cut = port(lan, 1)["segmented"] - before
                        left = "tx-udp-segmentation: on" in lan.run(0, "ethtool", "-k", "vio0")
                        if args and left:
                            self.assertGreater(cut, 0, "the server cut them")
                        elif not args:
                            self.assertEqual(cut, 0, "the receiver takes them whole")
                self.assertEqual([port(lan, i)["drop_offload"] for i in (0, 1)], [0, 0])
                lan.stop_taps(self)

    def test_a_tap_that_wants_nothing_put_together_gets_segments_from_then_on(self):
        with Lan(["zero-copy", "copy"]) as lan:
            self.assertTrue(lan.reach(0, 1))
            lan.iperf(0, 1, None, "-n", "4M")
            self.assertEqual(port(lan, 1)["segmented"], 0)
            lan.run(1, "ethtool", "-K", "vio0", "gro", "off")

            def cut():
                before = port(lan, 1)["segmented"]
                lan.iperf(0, 1, None, "-n", "4M")
                return port(lan, 1)["segmented"] > before

            until(cut, "segments instead of large frames")
            lan.run(1, "ethtool", "-K", "vio0", "gro", "on")
            until(lambda: not cut(), "large frames again")
            lan.stop_taps(self)

    def test_a_tap_that_was_renamed_or_moved_to_another_namespace_is_still_followed(self):
        with Lan(["zero-copy", "copy"], tap_args=["--promisc", "off"], spaces=3) as lan:
            self.assertTrue(lan.reach(0, 1))

            def renamed(space, old, new):
                for words in ((old, "down"), (old, "name", new), (new, "up")):
                    sh("ip", "-n", lan.names[space], "link", "set", *words)

            def cut():
                before = port(lan, 0)["segmented"]
                lan.iperf(1, 0, None, "-n", "4M")
                return port(lan, 0)["segmented"] > before

            renamed(0, "vio0", "eth9")
            lan.run(0, "ethtool", "-K", "eth9", "gro", "off")
            until(cut, "segments instead of large frames")
            sh("ip", "-n", lan.names[0], "link", "set", "eth9", "netns", lan.names[2])
            sh("ip", "-n", lan.names[2], "addr", "add", lan.address(0) + "/24", "dev", "eth9")
            renamed(2, "eth9", "eth8")
            sh("ip", "-n", lan.names[2], "link", "set", "eth8", "address", "02:00:00:00:aa:cc")
            self.assertTrue(lan.reach(2, 1), "the card passes the new address")
            lan.stop_taps(self)

    def test_the_speed_that_was_given_is_the_taps(self):
        with Lan(["zero-copy", "copy"], nets=["speed=25000", ""]) as lan:
            self.assertIn("Speed: 25000Mb/s", lan.run(0, "ethtool", "vio0"))
            self.assertIn("Duplex: Full", lan.run(0, "ethtool", "vio0"))
            lan.stop_taps(self)


class Announce(NetTest):
    def test_a_guests_tap_announces_its_addresses_after_a_change_over_and_says_so_to_the_card(self):
        with BondLan(["zero-copy"]) as lan:
            sh("ip", "-n", lan.names[0], "addr", "add", "fd09::1/64", "dev", "vio0", "nodad")
            mac = lan.run(0, "cat", "/sys/class/net/vio0/address").strip()
            mac = bytes.fromhex(mac.replace(":", ""))
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as second:
                second.bind(("vt1", 0))
                second.settimeout(0.2)
                until(lambda: lan.ping(0, None, count=1, address=lan.STATION), "an answer through the first part")
                sh("ip", "link", "set", "vt0", "down")
                seen = set()

                def told():
                    try:
                        f = second.recv(2000)
                    except OSError:
                        return False
                    if f[6:12] == mac and f[12:14] == b"\x08\x06" and f[28:32] == f[38:42] == socket.inet_aton(lan.address(0)):
                        seen.add("ARP")
                    if f[6:12] == mac and f[12:14] == b"\x86\xdd" and f[54] == 136 and \
                            f[62:78] == socket.inet_pton(socket.AF_INET6, "fd09::1"):
                        seen.add("NA")
                    return seen == {"ARP", "NA"}

                until(told, "a gratuitous ARP and a neighbour advertisement on the other part")
            until(lambda: "announced" in lan.taps[0].log(), "the tap's word on it")
            self.assertNotIn("announced:", lan.taps[0].log(), "the card took the acknowledgement")
            lan.stop_taps(self)


class Mirror(NetTest):
    tools = ("tcpdump",)

    def test_a_mirror_holds_what_ping_sent_and_got_and_ends_when_told(self):
        directory = tempfile.mkdtemp()
        path = os.path.join(directory, "a.pcap")
        try:
            with Lan(["zero-copy", "copy"]) as lan:
                self.assertTrue(lan.reach(0, 1))
                self.assertEqual(telemetry(lan.m, f"/vio/set/mirror,1,file={path}")[0], {"done": 1})
                self.assertTrue(lan.reach(0, 1))
                self.assertEqual(telemetry(lan.m, "/vio/set/mirror,1,off")[0], {"done": 1})
                self.assertTrue(lan.reach(0, 1))
                said = sh("tcpdump", "-nr", path, "icmp")
                for what in ("echo request", "echo reply"):
                    self.assertIn(len(re.findall(what, said)), range(5, 21), said)
                lan.stop_taps(self)
        finally:
            shutil.rmtree(directory)


class Extensions(NetTest):
    """The same program, the same namespaces: over guests, and over a veth."""
    PROGRAM = os.path.join(HERE, "dstopts.py")
    BYTES = 8 << 20

    def seconds(self, lan, to, options):
        server = lan.spawn(1, sys.executable, self.PROGRAM, "serve", to)
        try:
            self.assertEqual(server.stdout.readline(), "ready\n")
            took = float(lan.run(0, sys.executable, self.PROGRAM, "send", to, str(self.BYTES), str(options)))
            said = server.communicate(timeout=60)[0].split()
        finally:
            if server.poll() is None:
                server.kill()
                server.communicate()
        self.assertEqual([int(x) for x in said], [self.BYTES, self.BYTES // 256 * sum(range(256))])
        return took

    def test_tcp_with_destination_options_arrives_over_guests_and_over_a_veth_and_the_ratio_is_printed(self):
        with Lan(["zero-copy", "zero-copy"]) as lan:
            sh("ip", "-n", lan.names[0], "link", "add", "ve0", "type", "veth", "peer", "name", "ve0", "netns", lan.names[1])
            for i in (0, 1):
                sh("ip", "-n", lan.names[i], "link", "set", "ve0", "up")
                for net, dev in ((9, "vio0"), (10, "ve0")):
                    sh("ip", "-n", lan.names[i], "addr", "add", f"fd{net:02d}::{i + 1}/64", "dev", dev, "nodad")
            for net in (9, 10):
                until(lambda to=f"fd{net:02d}::2": lan.ping(0, 1, count=1, address=to), "an answer")
            for options in (8, 128, 256, 512, 1024):
                with self.subTest(options=options):
                    took = {9: [], 10: []}
                    for _ in range(3):
                        for net in took:
                            took[net].append(self.seconds(lan, f"fd{net:02d}::2", options))
                    guests, veth = (sorted(took[n])[1] for n in (9, 10))
                    print(f"IPv6 with {options} bytes of destination options, {self.BYTES >> 20} MiB: guests {guests:.3f} s, veth {veth:.3f} s, "
                          f"ratio {guests / veth:.2f}", flush=True)
            lan.stop_taps(self)


if __name__ == "__main__":
    main()
