#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Uplinks of the switch with real processes: a guest that sends every frame back, behind DPDK taps, in a network namespace of
its own (root, /dev/net/tun)."""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import unittest

from common import ARMS, BUILD, MachineError, NetMachine, Program, main, telemetry, until

GUEST, STATION = bytes.fromhex("020000000001"), bytes.fromhex("020000000077")
ETHERTYPE = b"\x88\xb5"  # local experiments
INSIDE = "VIO_TEST_NETNS"
ABLE = os.environ.get(INSIDE) == "1"
SOL_PACKET, PACKET_AUXDATA, VLAN_VALID = 263, 8, 0x10


class Tap:
    """A raw socket on a tap's kernel end."""

    def __init__(self, test, name):
        self.name = name
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((name, 0))
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.setblocking(False)
        test.addCleanup(self.sock.close)

    def send(self, body, vlan=None):
        tag = b"" if vlan is None else b"\x81\x00" + struct.pack("!H", vlan)
        try:
            self.sock.send(GUEST + STATION + tag + ETHERTYPE + body)
        except OSError:
            pass  # its link is down

    def take(self):
        """(body, VLAN or None) of the guest's next frame; None when there is none."""
        while True:
            try:
                frame, aux, _, _ = self.sock.recvmsg(10000, 256)
            except OSError:
                return None
            if frame[12:14] != ETHERTYPE or frame[6:12] == STATION:
                continue  # the kernel's own, or ours
            vlan = None
            for _, kind, data in aux:
                status, _, _, _, _, tci = struct.unpack_from("=IIIHHH", data)
                if kind == PACKET_AUXDATA and status & VLAN_VALID:
                    vlan = tci & 0xfff
            return frame[14:], vlan


def body(n, size):
    return struct.pack("!I", n) + bytes((n + 7 * i) & 255 for i in range(size - 4))


class Echo:
    """Machine, server with these options, and a guest that sends back what it gets."""

    def __init__(self, arm, vios_args, net="MAC=02:00:00:00:00:01"):
        self.m = NetMachine(BUILD, phypd_args=["--guests", "1"], vios_args=["--net", net, *vios_args])
        self.arm = arm

    def __enter__(self):
        self.m.__enter__()
        try:
            self.guest = Program("vio-net", [self.m.path("guest/vio-net"), "--phyp", self.m.socket, "--arm", self.arm,
                                             "--forward", "mac", "--seconds", "120", "--ready-fd", "@READY"], self.m.dir)
            self.guest.wait_ready()
        except BaseException:
            self.m.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exc):
        try:
            if not any(exc):
                self.m.nothing_kept()
        finally:
            self.guest.kill()
            self.m.__exit__(*exc)

    def log(self):
        return self.m.vios.log() + self.guest.log()


def echoed(tap, payload, vlan=None, seconds=10):
    """Send until it comes back (the guest may not be at work yet)."""
    def once():
        tap.send(payload, vlan)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            got = tap.take()
            if got and got[0] == payload:
                return got
            time.sleep(0.001)
        return None

    return until(once, f"{len(payload)} bytes back from the guest", seconds)


def counters(m, port):
    """Of a port of the switch."""
    return telemetry(m, f"/vio/port,{port}")[0]


@unittest.skipUnless(ABLE, "needs root, network namespaces and /dev/net/tun")
class Uplink(unittest.TestCase):
    def test_frames_come_back_unharmed_through_a_tap_in_every_arm(self):
        for arm in ARMS:
            with self.subTest(arm=arm), Echo(arm, ["--uplink", "net_tap0,iface=vt0"]) as e:
                tap = Tap(self, "vt0")
                for n, size in enumerate([46, 47, 242, 256, 1000, 1500]):
                    try:
                        echoed(tap, body(n, size))
                    except AssertionError as err:
                        raise AssertionError(f"{err}\n{e.log()}") from None
                port = counters(e.m, 1)
                self.assertEqual(port["name"], "net_tap0", port)
                self.assertGreaterEqual(port["in_place"], 2, port)  # the two largest
                self.assertEqual(sum(v for k, v in port.items() if k.startswith("drop_")), 0, port)

    def test_vlans_are_kept_apart_on_a_trunk(self):
        with Echo("zero-copy", ["--uplink", "net_tap0,iface=vt0,trunk=10+11"], "MAC=02:00:00:00:00:01,vlan=10") as e:
            tap = Tap(self, "vt0")
            got = echoed(tap, body(1, 100), vlan=10)
            self.assertEqual(got[1], 10, e.log())
            tap.send(body(2, 100), vlan=11)
            tap.send(body(3, 100), vlan=12)
            tap.send(body(4, 100))
            # What follows them comes back, so that they would have come back by then.
            echoed(tap, body(5, 100), vlan=10)
            self.assertIsNone(tap.take(), e.log())

    def test_bond_changes_over_when_its_active_port_loses_its_link(self):
        args = ["--vdev", "net_tap0,iface=vt0", "--vdev", "net_tap1,iface=vt1", "--uplink",
                "net_bonding0,mode=1,slave=net_tap0,slave=net_tap1"]
        with Echo("zero-copy", args) as e:
            taps = [Tap(self, "vt0"), Tap(self, "vt1")]
            echoed(taps[0], body(0, 100))
            subprocess.run(["ip", "link", "set", "vt0", "down"], check=True)
            down = time.monotonic()
            got = None
            while got is None and time.monotonic() - down < 5:
                taps[1].send(body(1, 100))
                time.sleep(0.005)
                got = taps[1].take()
            self.assertIsNotNone(got, e.log())

    def test_frames_come_back_unharmed_through_af_packet_on_a_veth(self):
        made = subprocess.run(["ip", "link", "add", "vv0", "type", "veth", "peer", "name", "vv1"], capture_output=True, check=False)
        if made.returncode:
            self.skipTest("this kernel has no veth")
        for name in ("vv0", "vv1"):
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
        self.addCleanup(subprocess.run, ["ip", "link", "del", "vv0"], check=False)
        with Echo("zero-copy", ["--uplink", "net_af_packet0,iface=vv0"]):
            tap = Tap(self, "vv1")
            for n, size in enumerate([46, 300, 1500]):
                echoed(tap, body(n, size))

    def test_frames_to_an_uplink_that_takes_nothing_are_dropped_and_nobody_hangs(self):
        path = "/tmp/vio-test-memif.sock"
        with NetMachine(BUILD, vios_args=["--net", "", "--uplink", f"net_memif0,role=server,socket={path}"]) as m:
            r = subprocess.run([m.path("guest/vio-net"), "--phyp", m.socket, "--forward", "txonly", "--count", "2000"],
                               capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(r.returncode, 0, r.stderr + m.vios.log())
        if os.path.exists(path):
            os.unlink(path)


class Refused(unittest.TestCase):
    def test_options_that_make_no_sense_are_refused_with_the_reason(self):
        for args, says in [(["--net", "", "--proto", "1"], "needs version 2"),
                           (["--disk", "null", "--uplink", "net_null0"], "needs a --net"),
                           (["--net", "colour=red"], "colour"),
                           (["--net", "", "--uplink", "net_no_such0"], "net_no_such0"),
                           (["--net", "", "--uplink", "net_null0,vlan=5000"], "vlan=5000"),
                           (["--net", "", "--net", ""], "2 devices")]:
            with self.subTest(args=args):
                with self.assertRaises(MachineError) as e:
                    with NetMachine(BUILD, vios_args=args):
                        pass
                self.assertIn(says, str(e.exception))


if __name__ == "__main__":
    if INSIDE not in os.environ and os.geteuid() == 0 and os.path.exists("/dev/net/tun") and shutil.which("unshare"):
        works = subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0
        if works:
            os.execvpe("unshare", ["unshare", "-n", sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})
    main()
