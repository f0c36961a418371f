#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A kernel that does what none should, at the mailbox of a virtual machine: refused or contained, and said.

It is this program, in QEMU's place at the ivshmem socket: with the partition's memory and the mailboxes, and nothing else.
"""

import contextlib
import json
import mmap
import os
import random
import select
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from common import BUILD, Machine, Program, main, until
from machine import die_with_parent

H_PUT_TCE, H_REG_CRQ, H_SEND_CRQ, H_FREE_CRQ, ANEW = 0x20, 0xFC, 0x108, 0x100, 1
H_SUCCESS, H_CLOSED, H_DROPPED = 0, 2, -12
BOXES, BOX, REGS, UNITS, UP, ASLEEP = 0x4000, 256, 9, 0x1000, 64, 128
PROBE, ACKNOWLEDGE, REPLY, FORMAT = 1, 2, 0x80, 0x56  # proto/msg.h
PAGE, MIB = 4096, 1 << 20
CRQ, HEADER, MARKED = 1 * MIB, 1 * MIB + PAGE, 2 * MIB  # where in the partition's memory
MARK = b"\x5a" * PAGE


class Kernel:
    """The virtual machine."""

    def __init__(self, path, ram):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        fds = []
        while len(fds) < 3:  # memory, our doorbell at it, our interrupt
            data, got, _, _ = socket.recv_fds(self.s, 8, 1)
            assert len(data) == 8
            fds += got
        self.bar, self.doorbell = mmap.mmap(fds[0], MIB), fds[1]
        self.fds = fds
        fd = os.open(ram, os.O_RDWR)
        self.ram = mmap.mmap(fd, 16 * MIB)
        os.close(fd)
        self.unit, self.liobn, self.window, self.window_bytes = struct.unpack_from("<IIQQ", self.bar, UNITS)
        self.next = 0

    def close(self):
        self.s.close()
        for fd in self.fds:
            os.close(fd)

    def post(self, box, op, *args):
        """A call, whose answer nobody waits for."""
        at = BOXES + box * BOX
        struct.pack_into("<Q9Q", self.bar, at + 8, op, *args, *[0] * (REGS - len(args)))
        request = (struct.unpack_from("<I", self.bar, at)[0] + 1) & 0xFFFFFFFF
        struct.pack_into("<I", self.bar, at, request)
        if struct.unpack_from("<I", self.bar, ASLEEP)[0]:
            os.write(self.doorbell, struct.pack("<Q", 1))
        return request

    def call(self, op, *args, box=0):
        at = BOXES + box * BOX
        request = self.post(box, op, *args)
        for _ in range(2000):  # usually at once
            if struct.unpack_from("<I", self.bar, at + 128)[0] == request:
                break
        until(lambda: struct.unpack_from("<I", self.bar, at + 128)[0] == request, "an answer of the mailbox")
        return struct.unpack_from("<q", self.bar, at + 136)[0]

    def map(self, page, gpa, perm=3):
        return self.call(H_PUT_TCE, self.liobn, self.window + page * PAGE, gpa | perm if perm else 0)

    def entry(self):
        """The next one of the CRQ, or None."""
        at = CRQ + self.next * 16
        hi, lo = struct.unpack_from(">QQ", self.ram, at)
        if not hi >> 63:
            return None
        struct.pack_into(">QQ", self.ram, at, 0, 0)
        self.next = (self.next + 1) % (PAGE // 16)
        return hi, lo

    def anew(self):
        until(lambda: self.call(ANEW) == H_SUCCESS, "an end of what was left behind")

    def connect(self):
        assert self.map(0, CRQ) == H_SUCCESS
        self.ram[CRQ:CRQ + PAGE] = bytes(PAGE)
        self.next = 0
        rc = self.call(H_REG_CRQ, self.unit, self.window, PAGE)
        assert rc in (H_SUCCESS, H_CLOSED), rc

        def greeted():
            self.call(H_SEND_CRQ, self.unit, 0xC001 << 48, 0)
            time.sleep(0.05)
            got = iter(self.entry, None)
            return any(hi >> 48 in (0xC001, 0xC002) for hi, _ in got)
        until(greeted, "the server's greeting")
        time.sleep(0.1)
        while self.entry():
            pass

    def ask(self, op, arg, arg16):
        """The status of the server's answer."""
        hi = 0x8000 << 48 | FORMAT << 48 | 2 << 40 | op << 32 | arg16
        assert self.call(H_SEND_CRQ, self.unit, hi, arg) == H_SUCCESS
        found = until(lambda: next((h for h, _ in iter(self.entry, None) if h >> 32 & 0xFF == op | REPLY), None), f"an answer to {op}")
        return found >> 24 & 0xFF


class Hostile(unittest.TestCase):
    def setUp(self):
        d = tempfile.TemporaryDirectory(prefix="vio-mailbox-")
        self.addCleanup(d.cleanup)
        profile, self.socket, self.ram = (os.path.join(d.name, n) for n in ("profile", "socket", "ram"))
        with open(profile, "w", encoding="ascii") as f:
            json.dump({"partitions": [{"name": "vios", "memory_mib": 64}, {"name": "linux", "memory_mib": 16, "lmb_mib": 16, "pages": "4k"},
                                      {"name": "other", "memory_mib": 32}],
                       "adapters": [{"server": "vios", "client": "linux"}, {"server": "vios", "client": "other"}]}, f)
        self.m = Machine(BUILD, phypd_args=["--profile", profile], vios_args=["--disk", "memory,size=4M", "--disk", "memory,size=4M"])
        self.m.__enter__()
        self.addCleanup(self.m.__exit__, None, None, None)
        self.mailbox = Program("vio-mailbox", [self.m.path("guest/vio-mailbox"), "--phypd", self.m.socket, "--partition", "linux", "--socket",
                                               self.socket, "--ram-link", self.ram, "--ready-fd", "@READY"], self.m.dir)
        self.addCleanup(self.mailbox.stop)
        self.mailbox.wait_ready(30)
        self.kernel = Kernel(self.socket, self.ram)
        self.addCleanup(self.kernel.close)

    def others_go_on(self):
        r = subprocess.run([self.m.path("guest/vio-blk"), "--phyp", self.m.socket, "--partition", "other", "--count", "200", "--span", "1M",
                            "--warm-seconds", "0"], capture_output=True, timeout=60, preexec_fn=die_with_parent, check=False)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertTrue(self.mailbox.alive() and self.m.vios.alive())

    def test_addresses_that_are_raw_or_unmapped_too_early_reach_nothing(self):
        k = self.kernel
        k.ram[MARKED:MARKED + PAGE] = k.ram[HEADER:HEADER + PAGE] = MARK
        k.connect()
        # Raw: the page is there, and nothing maps it. A TCE of what is not the partition's; a queue at such an address.
        self.assertNotEqual(k.ask(PROBE, MARKED, 64), 0)
        self.assertNotEqual(k.map(5, 1 << 40), H_SUCCESS)
        self.assertNotEqual(k.call(H_PUT_TCE, k.liobn, MARKED, MARKED | 3), H_SUCCESS)
        self.assertEqual(k.map(1, HEADER), H_SUCCESS)
        self.assertEqual(k.ask(PROBE, k.window + PAGE, 64), 0)
        self.assertEqual(k.ram[HEADER], 2)  # a disk's
        # Too early: what the server was told of is no longer mapped when it comes to it.
        self.assertEqual(k.map(1, 0, perm=0), H_SUCCESS)
        k.ram[HEADER:HEADER + PAGE] = MARK
        self.assertNotEqual(k.ask(ACKNOWLEDGE, k.window + PAGE, 60), 0)
        self.assertEqual(k.map(1, HEADER, perm=1), H_SUCCESS)  # for reading only, and config space is written
        self.assertNotEqual(k.ask(ACKNOWLEDGE, k.window + PAGE, 60), 0)
        self.assertEqual(k.map(0, 0, perm=0), H_SUCCESS)  # the CRQ's own page
        k.call(H_SEND_CRQ, k.unit, 0x8000 << 48 | FORMAT << 48 | 2 << 40 | PROBE << 32 | 64, MARKED)
        self.others_go_on()
        self.assertEqual((k.ram[MARKED:MARKED + PAGE], k.ram[HEADER:HEADER + PAGE]), (MARK, MARK))
        k.anew()

    def test_a_machine_is_told_of_its_carriers_death_when_nothing_of_it_is_touched_any_more(self):
        k = self.kernel
        k.connect()
        os.set_blocking(k.fds[2], False)
        with contextlib.suppress(BlockingIOError):
            os.read(k.fds[2], 8)  # what was raised before
        self.assertEqual(struct.unpack_from("<I", k.bar, UP)[0], 1)
        self.mailbox.kill()
        until(lambda: struct.unpack_from("<I", k.bar, UP)[0] == 0, "the end of `up`")
        until(lambda: select.select([k.fds[2]], [], [], 0)[0], "an interrupt")
        self.assertTrue(self.m.vios.alive())

    def test_floods_and_silence_are_its_own_trouble(self):
        k, r = self.kernel, random.Random(1)
        ops = [0x1C, H_PUT_TCE, H_REG_CRQ, H_FREE_CRQ, 0x104, H_SEND_CRQ, 0x110, 0x138, 0x13C, 0x1C4, 0x1C8, 0x1CC, 0x1D0, ANEW, 7, 1 << 63]
        interesting = [0, 1, PAGE, k.unit, k.liobn, k.window, k.window + k.window_bytes, 1 << 63, (1 << 64) - 1, 16 * MIB]
        for i in range(5000):  # arguments change under whoever reads them
            k.post(i % 16, r.choice(ops), *(r.choice(interesting) for _ in range(4)))
        self.others_go_on()
        for box in range(16):  # and it still answers in each of them
            k.call(0x1C, k.liobn, k.window, box=box)
        k.anew()
        k.connect()
        # Questions without end, whose answers nobody takes: ours is full, then the server's.
        hi = 0x8000 << 48 | FORMAT << 48 | 2 << 40 | PROBE << 32 | 64
        said = [k.call(H_SEND_CRQ, k.unit, hi, MARKED) for _ in range(600)]
        self.assertTrue(set(said) <= {H_SUCCESS, H_DROPPED, H_CLOSED}, set(said))
        self.others_go_on()
        k.anew()
        k.connect()
        self.assertEqual(k.map(1, HEADER), H_SUCCESS)
        self.assertEqual(k.ask(PROBE, k.window + PAGE, 64), 0)


if __name__ == "__main__":
    main()
