#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""NBD counts bytes: what is asked of the guest's disk at any offset and length happens to exactly those bytes."""

import os
import random
import subprocess
import tempfile
import threading
import unittest

from common import ARMS, BUILD, SLOW, Machine, main
from nbd_disk import PLUGIN, io, nbdkit, preload, run, sh

OFFSET, RANGE, DISK = 100, 8192, 64 << 10


class Exact(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory(prefix="vio-exact-")
        self.image = os.path.join(self.tmp.name, "disk.img")
        self.before = random.Random(7).randbytes(DISK)
        self.fill(self.before)

    def tearDown(self):
        self.tmp.cleanup()

    def fill(self, data):
        with open(self.image, "wb") as f:
            f.write(data)

    def now(self):
        with open(self.image, "rb") as f:
            return f.read()

    def disk(self, more=""):
        return Machine(BUILD, vios_args=["--disk", f"file,path={self.image}{more}"])

    def same(self, want):
        got = self.now()
        wrong = [i for i in range(len(want)) if got[i] != want[i]]
        self.assertFalse(bool(wrong), f"{len(wrong)} bytes differ, the first at {wrong[:1]}")

    def test_a_copy_through_an_offset_that_is_no_sector_changes_those_bytes_and_no_other(self):
        source = os.path.join(self.tmp.name, "source")
        data = random.Random(8).randbytes(RANGE)
        with open(source, "wb") as f:
            f.write(data)
        for arm in ARMS:
            self.fill(self.before)
            with self.subTest(arm=arm), self.disk() as m:
                with nbdkit(m, arm, f"offset={OFFSET}", f"range={RANGE}", before=["--filter=offset"]) as uri:
                    sh("nbdcopy", "--flush", source, uri)
                    out = os.path.join(self.tmp.name, "out")
                    sh("nbdcopy", uri, out)
                    with open(out, "rb") as f:
                        self.assertEqual(f.read(), data, "what was read differs from what was written")
                self.same(self.before[:OFFSET] + data + self.before[OFFSET + RANGE:])

    def test_writes_zeroes_trims_and_reads_of_single_bytes_are_exact(self):
        for arm, more in (("copy", ""), ("zero-copy", ""), ("zero-copy", ",block=4096")):
            self.fill(self.before)
            want = bytearray(self.before)
            with self.subTest(arm=arm, disk=more), self.disk(more) as m, nbdkit(m, arm) as uri:
                commands = []
                for at, n in ((1, 1), (511, 2), (1000, 77), (4095, 4098), (9000, 9000), (DISK - 3, 3)):
                    commands += [f"write -P 0xa5 {at} {n}", f"read -P 0xa5 {at} {n}"]
                    want[at:at + n] = b"\xa5" * n
                for at, n in ((3, 5), (20000, 700), (24575, 8194), (DISK - 700, 699)):
                    commands += [f"write -z {at} {n}", f"read -P 0 {at} {n}"]
                    want[at:at + n] = bytes(n)
                for at, n in ((40001, 100), (44000, 9000)):
                    commands.append(f"discard {at} {n}")
                rc, out = io(uri, *commands, "flush")
                self.assertEqual(rc, 0, out)
                self.assertNotIn("failed", out)
                got = self.now()
                # What is trimmed may be anything afterwards; its neighbours may not.
                for at, n in ((40001, 100), (44000, 9000)):
                    want[at:at + n] = got[at:at + n]
                self.same(want)

    def test_parts_of_one_sector_written_by_two_clients_at_once_are_both_there(self):
        sectors = 40 if SLOW else 120
        with self.disk() as m, nbdkit(m, "zero-copy", "queues=2") as uri:
            said = {}

            def client(pattern, first):
                commands = [f"aio_write -P {pattern} {s * 512 + first} 256" for s in range(sectors)]
                said[pattern] = io(uri, *commands, "aio_flush", "flush")
            both = [threading.Thread(target=client, args=a) for a in ((1, 0), (2, 256))]
            for t in both:
                t.start()
            for t in both:
                t.join()
            for rc, out in said.values():
                self.assertEqual(rc, 0, out)
        self.same((b"\1" * 256 + b"\2" * 256) * sectors + self.before[sectors * 512:])


class Start(unittest.TestCase):
    @unittest.skipIf(SLOW, "with a sanitizer's run time nbdkit does not end after an error")
    def test_nbdkit_in_the_background_says_so_when_there_is_no_machine_to_be_in(self):
        with tempfile.TemporaryDirectory(prefix="vio-exact-") as d:
            env = {**os.environ, **preload()}
            argv = ["nbdkit", "--unix", os.path.join(d, "s"), "--pidfile", os.path.join(d, "pid"), PLUGIN,
                    f"phyp={d}/none.sock"]
            r = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=env,
                               check=False)
            self.assertNotEqual(r.returncode, 0, "nbdkit says that it has started")
            self.assertIn("none.sock", r.stderr)

    def test_help_says_what_several_queues_need(self):
        rc, out = run("env", *(f"{k}={v}" for k, v in preload().items()), "nbdkit", PLUGIN, "--help")
        self.assertEqual(rc, 0, out)
        self.assertIn("--guest-memory", out)
        with Machine(BUILD, vios_args=["--disk", "null"]) as m:
            with nbdkit(m, "zero-copy", "queues=3"):
                pass  # so many fit, as it says


if __name__ == "__main__":
    main()
