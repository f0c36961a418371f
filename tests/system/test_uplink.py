#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Uplinks of the switch with real processes: a guest that sends every frame back, behind DPDK taps, in a network namespace of
its own (root, /dev/net/tun)."""

import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from common import ARMS, BUILD, SLOW, MachineError, NetMachine, Program, main, telemetry, until
from net_lan import Lan, sh, why_not

GUEST, STATION = bytes.fromhex("020000000001"), bytes.fromhex("020000000077")
ETHERTYPE = b"\x88\xb5"  # local experiments
INSIDE = "VIO_TEST_NETNS"
ABLE = os.environ.get(INSIDE) == "1"
BOND = ["--vdev", "net_tap0,iface=vt0", "--vdev", "net_tap1,iface=vt1", "--uplink",
        "net_bonding0,mode=1,slave=net_tap0,slave=net_tap1"]
RATE = 100  # frames a second of a stream
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
        """False: its link is down."""
        tag = b"" if vlan is None else b"\x81\x00" + struct.pack("!H", vlan)
        try:
            self.sock.send(GUEST + STATION + tag + ETHERTYPE + body)
        except OSError:
            return False
        return True

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


def veth(test):
    """vv0 and vv1, joined, for this test."""
    made = subprocess.run(["ip", "link", "add", "vv0", "type", "veth", "peer", "name", "vv1"], capture_output=True,
                          check=False)
    if made.returncode:
        test.skipTest("this kernel has no veth")
    for name in ("vv0", "vv1"):
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    test.addCleanup(subprocess.run, ["ip", "link", "del", "vv0"], check=False)


def counters(m, port):
    """Of a port of the switch."""
    return telemetry(m, f"/vio/port,{port}")[0]


class BondLan(Lan):
    """Namespaces behind guests, and a station in this one, which has the same two addresses on both parts of a bond."""
    STATION = "10.9.0.99"

    def __init__(self, arms):
        super().__init__(arms, vios_args=BOND)

    def __enter__(self):
        super().__enter__()
        try:
            for metric, name in enumerate(("vt0", "vt1"), 1):
                sh("ip", "link", "set", name, "address", "02:00:00:00:00:63")
                sh("ip", "addr", "add", self.STATION + "/24", "dev", name, "metric", str(metric))
                # A station that is moved need not be asked for first, and asking is not what is looked at here.
                for i in range(len(self.names)):
                    mac = self.run(i, "cat", "/sys/class/net/vio0/address").strip()
                    sh("ip", "neigh", "replace", self.address(i), "lladdr", mac, "dev", name)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self


@unittest.skipUnless(ABLE, "needs root, network namespaces and /dev/net/tun")
class Uplink(unittest.TestCase):
    def test_frames_come_back_unharmed_through_a_tap_in_every_arm(self):
        # The last one announces its buffers' windows while frames flow.
        for arm in [*(ARMS[::3] if SLOW else ARMS), "zero-copy,mapping=cached"]:
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

    def only_vlan_10_comes_back(self, name, others, echo):
        """Through this end of the trunk, and with its tag; None in others: a frame without a tag."""
        tap = Tap(self, name)
        got = echoed(tap, body(1, 400), vlan=10)
        self.assertEqual(got[1], 10, echo.log())
        for n, vlan in enumerate(others):
            tap.send(body(2 + n, 100), vlan=vlan)
        # What follows them comes back, so that they would have come back by then.
        echoed(tap, body(9, 100), vlan=10)
        self.assertIsNone(tap.take(), echo.log())

    def test_vlans_are_kept_apart_on_a_trunk(self):
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm), Echo(arm, ["--uplink", "net_tap0,iface=vt0,trunk=10+11"],
                                             "MAC=02:00:00:00:00:01,vlan=10") as e:
                self.only_vlan_10_comes_back("vt0", (11, 12, None), e)

    def test_frames_of_each_vlan_go_through_a_trunk_over_a_veth(self):
        # The kernel takes the tag off what comes in there, and tells the driver of it.
        veth(self)
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm), Echo(arm, ["--uplink", "net_af_packet0,iface=vv0,trunk=10+11,vlan=12"],
                                             "MAC=02:00:00:00:00:01,vlan=10") as e:
                self.only_vlan_10_comes_back("vv1", (11, 12, 13, None), e)

    def test_a_bond_loses_at_most_a_seconds_frames_when_its_active_uplink_is_killed(self):
        for arm, kill in (("copy", ("set", "vt0", "down")), ("zero-copy", ("del", "vt0")), ("zero-copy", ("set", "vt0", "down")))[:2 if SLOW else 3]:
            with self.subTest(arm=arm, kill=kill), Echo(arm, BOND) as e:
                taps = [Tap(self, "vt0"), Tap(self, "vt1")]
                echoed(taps[0], body(0, 300))
                back = set()

                def hear():
                    for t in taps:
                        back.update(struct.unpack_from("!I", got[0])[0] for got in iter(t.take, None))

                last = (2 if SLOW else 3) * RATE
                for n in range(1, last + 1):
                    if n == RATE // 2:
                        subprocess.run(["ip", "link", *kill], check=True)
                    # The station does as a bond of its own: the first port that has a link.
                    self.assertTrue(any(t.send(body(n, 300)) for t in taps))
                    hear()
                    time.sleep(1 / RATE)
                until(lambda: hear() or last in back, "the last frame back")
                lost = set(range(1, last + 1)) - back
                self.assertLessEqual(len(lost), RATE, f"lost: {sorted(lost)}\n{e.log()}")

    def test_ping_through_a_bond_loses_at_most_a_second_when_its_active_uplink_is_killed(self):
        reason = why_not()
        if reason:
            self.skipTest(reason)
        every, count = 0.05, 80
        with BondLan(["zero-copy"]) as lan:
            until(lambda: lan.run(0, "ping", "-n", "-c", "1", "-W", "1", lan.STATION, check=False).count("bytes from"),
                  "an answer to the first ping")
            self.assertTrue(lan.ping(0, None, size=4000, address=lan.STATION), "fragments through a tap")
            ping = lan.spawn(0, "ping", "-n", "-i", str(every), "-c", str(count), "-W", "2", lan.STATION)
            time.sleep(1)
            sh("ip", "link", "set", "vt0", "down")
            said = ping.communicate(timeout=60)[0]
            seen = {int(n) for n in re.findall(r"icmp_seq=(\d+) ttl", said)}
            lost = set(range(1, count + 1)) - seen
            self.assertLessEqual(len(lost), 1 / every, f"{said}\n{lan.m.vios.log()}")
            self.assertIn(count, seen, said)
            lan.stop_taps(self)

    def test_after_a_change_over_the_network_behind_learns_of_a_silent_guest(self):
        with Echo("zero-copy", BOND):
            first, second = Tap(self, "vt0"), Tap(self, "vt1")
            echoed(first, body(1, 100))
            sh("ip", "link", "set", "vt0", "down")

            def told():
                try:
                    frame = second.sock.recv(2000)
                except OSError:
                    return False
                return frame[:14] == b"\xff" * 6 + GUEST + b"\x80\x35" and frame[22:28] == GUEST

            until(told, "a RARP request in the guest's name on the other part")

    def test_frames_come_back_unharmed_through_af_packet_on_a_veth_and_its_carrier_is_the_ports_link(self):
        veth(self)
        with Echo("zero-copy", ["--uplink", "net_af_packet0,iface=vv0"]) as e:
            tap = Tap(self, "vv1")
            for n, size in enumerate([46, 300, 1500]):
                echoed(tap, body(n, size))
            for words, link in (("set vv1 down", "down"), ("set vv1 up", "up"), ("set vv0 down", "down"), ("set vv0 up", "up")):
                sh("ip", "link", *words.split())
                until(lambda link=link: counters(e.m, 1)["link"] == link, f"the link to be {link} after {words}")
            echoed(tap, body(9, 400))
            sh("ip", "link", "del", "vv0")
            until(lambda: counters(e.m, 1)["link"] == "down", "no link without an interface")

    def test_frames_of_a_guests_own_uplink_come_in_in_its_buffers_and_the_server_copies_no_byte(self):
        veth(self)
        for arm, placed in (("zero-copy", True), ("premapped", True), ("copy", False)):
            with self.subTest(arm=arm), Echo(arm, ["--uplink", "net_af_packet0,iface=vv0,rx=in-place"]) as e:
                tap = Tap(self, "vv1")
                for n, size in enumerate([46, 47, 242, 256, 1000, 1500]):
                    echoed(tap, body(n, size))
                self.assertIn("come in where they stay", e.m.vios.log())
                guest, port = counters(e.m, 0), counters(e.m, 1)
                copied = telemetry(e.m, "/vio/queue,0,0")[0]["cpu_bytes"]
                if placed:
                    self.assertEqual([copied, guest["in_place"]], [0, guest["out_frames"]], (guest, port))
                    self.assertGreaterEqual(port["in_placed"], guest["in_place"])
                else:
                    self.assertGreater(copied, 0)
                    self.assertEqual([port["in_placed"], guest["in_place"]], [0, 0])

    def test_an_uplink_that_can_not_write_into_a_guests_buffers_says_why(self):
        for args, says in ((["--net", "", "--uplink", "net_tap0,iface=vt0,rx=in-place"], "this driver has buffers in advance"),
                           (["--net", "", "--net", "", "--uplink", "net_null0,rx=in-place"], "there is not just one")):
            with self.subTest(says=says), NetMachine(BUILD, phypd_args=["--guests", str(args.count("--net"))], vios_args=args) as m:
                self.assertIn(says, m.vios.log())

    def test_frames_to_an_uplink_that_takes_nothing_are_dropped_and_nobody_hangs(self):
        path = "/tmp/vio-test-memif.sock"
        with NetMachine(BUILD, vios_args=["--net", "", "--uplink", f"net_memif0,role=server,socket={path}"]) as m:
            r = subprocess.run([m.path("guest/vio-net"), "--phyp", m.socket, "--forward", "txonly", "--count", "2000"],
                               capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(r.returncode, 0, r.stderr + m.vios.log())
        if os.path.exists(path):
            os.unlink(path)


class VhostUser:
    """The other end of a net_virtio_user: says yes to everything and is gone when it is told of memory."""
    ANSWERED = {1: 1 << 30 | 1 << 32 | 1 << 16, 15: 0, 17: 1}  # GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM
    SET_MEM_TABLE = 5

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.told = False
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        try:
            self.talk(self.listener.accept()[0])
        except OSError:
            pass  # closed by the test's end

    def talk(self, s):
        with s:
            while head := s.recv(12):
                request, _, size = struct.unpack("=III", head)
                while size:
                    size -= len(s.recv(size))
                if request == self.SET_MEM_TABLE:
                    self.told = True
                    return
                if request in self.ANSWERED:
                    s.sendall(struct.pack("=IIIQ", request, 5, 8, self.ANSWERED[request]))

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


class OtherMemory(unittest.TestCase):
    """A port whose other end has no share of a guest's memory."""

    def test_a_port_whose_start_fails_ends_the_server_with_the_drivers_reason(self):
        said = ""
        for _ in range(8):  # the start asks for no answers: it fails only if the other end's close comes before its last message
            said = said or self.failed_start()
        self.assertIn("can't start it", said)
        self.assertIn("DPDK: ", said)

    def failed_start(self):
        """What the server ended with; "" when it had sent everything before the other end was gone."""
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "v.sock")
            other = VhostUser(path)
            try:
                with NetMachine(BUILD, vios_args=["--net", "", "--uplink", f"net_virtio_user0,path={path}"]):
                    return ""
            except MachineError as e:
                return str(e)
            finally:
                other.close()
                self.assertTrue(other.told, "it got as far as the start")

    def test_frames_through_virtio_user_are_copied_and_come_back_whole(self):
        if not shutil.which("dpdk-testpmd"):
            self.skipTest("no dpdk-testpmd (Debian package dpdk)")
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "v.sock")
            other = Program("testpmd", ["dpdk-testpmd", "-l", "0-1", "--no-pci", "--in-memory", "--file-prefix",
                                        os.path.basename(d), "--vdev", f"net_vhost0,iface={path}", "--", "--forward-mode=macswap",
                                        "--auto-start", "--total-num-mbufs=4096", "--stats-period", "1"], d)
            try:
                until(lambda: os.path.exists(path) or not other.alive(), "testpmd's socket")
                if not other.alive():
                    self.skipTest(f"testpmd does not run here: {other.log()[-300:]}")
                self.echo(path)
            finally:
                other.kill()

    def echo(self, path):
        with NetMachine(BUILD, vios_args=["--net", "MAC=02:00:00:00:00:01", "--uplink", f"net_virtio_user0,path={path}"]) as m:
            until(lambda: counters(m, 1)["link"] == "up", "the link")
            for size in (64, 300, 1514):
                before = counters(m, 1)
                r = subprocess.run([m.path("guest/vio-net"), "--phyp", m.socket, "--arm", "zero-copy", "--forward", "txonly",
                                    "--count", "50", "--burst", "8", "--peer", "02:00:00:00:00:77", "--size", str(size)],
                                   capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual(r.returncode, 0, r.stderr)
                until(lambda b=before: counters(m, 1)["in_frames"] > b["in_frames"], f"frames of {size} bytes back")
                now = counters(m, 1)
                self.assertGreaterEqual(now["in_bytes"] - before["in_bytes"], (now["in_frames"] - before["in_frames"]) * (size - 4))
            self.assertEqual([now[k] for k in ("in_place", "lent")], [0, 0])


class Refused(unittest.TestCase):
    def test_options_that_make_no_sense_are_refused_with_the_reason(self):
        for args, says in [(["--net", "", "--proto", "1"], "needs version 2"),
                           (["--disk", "null", "--uplink", "net_null0"], "needs a --net"),
                           (["--net", "colour=red"], "colour"),
                           (["--net", "", "--uplink", "net_no_such0"], "net_no_such0"),
                           (["--net", "", "--uplink", "net_null0,vlan=5000"], "vlan=5000"),
                           (["--net", "", "--uplink", "net_null0", "--uplink", "net_null0"], "are one device to DPDK"),
                           (["--net", "", "--uplink", "net_null0", "--vdev", "net_null0,size=64"], "are one device to DPDK"),
                           (["--net", "", "--uplink", "net_null0,rx=fast"], "rx=fast"),
                           (["--net", "link=uplink"], "there is no --uplink"),
                           (["--net", "storm=5"], "storm=5"),
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
