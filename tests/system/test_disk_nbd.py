#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Disks behind an NBD server that goes and comes back, grows, or is another one when it is back."""

import contextlib
import os
import subprocess
import tempfile
import time
import unittest

from common import ARMS, BUILD, Machine, MachineError, main, telemetry, until
from nbd_disk import Nbdkit, io, nbdkit, sh
from test_disk_stop import Writer, resume, stopped

MIB = 1 << 20


class Server:
    """An NBD server on a socket, killed and started again."""

    def __init__(self, sock, *argv):
        self.sock, self.argv, self.p = sock, argv, None
        self.start()

    def start(self, *argv):
        self.p = subprocess.Popen(argv or self.argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: os.path.exists(self.sock), "the NBD server's socket")

    def kill(self):
        self.p.kill()
        self.p.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.sock)


class Nbd(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory(prefix="vio-again-", dir="/var/tmp")
        self.d = self.tmp.name
        self.sock = os.path.join(self.d, "s.sock")
        self.image = os.path.join(self.d, "disk.img")
        with open(self.image, "wb") as f:
            f.truncate(64 * MIB)
        self.servers = []

    def tearDown(self):
        for s in self.servers:
            s.kill()
        self.tmp.cleanup()

    def qemu_nbd(self, image=None):
        return ["qemu-nbd", "-f", "raw", "--persistent", "--shared=8", f"--socket={self.sock}", image or self.image]

    def file(self, image=None):
        return ["nbdkit", "--foreground", "--exit-with-parent", "--unix", self.sock, "file", image or self.image]

    def server(self, argv):
        self.servers.append(Server(self.sock, *argv))
        return self.servers[-1]

    def other(self, mib):
        path = os.path.join(self.d, "other.img")
        with open(path, "wb") as f:
            f.truncate(mib * MIB)
        return path

    def untouched(self, image):
        with open(image, "rb") as f:
            self.assertEqual(f.read(64 << 10), bytes(64 << 10))

    def machine(self, more=""):
        return Machine(BUILD, vios_args=["--disk", f"nbd,uri=nbd+unix:///?socket={self.sock}{more}"])


class Again(Nbd):
    def test_requests_wait_for_a_server_that_comes_back_in_time(self):
        for i, arm in enumerate(ARMS):
            with self.subTest(arm=arm):
                s = self.server(self.file() if i % 2 else self.qemu_nbd())
                with self.machine(",reconnect-delay=60") as m, nbdkit(m, arm) as uri:
                    rc, out = io(uri, "write -P 1 0 4M", "flush")
                    self.assertEqual(rc, 0, out)
                    s.kill()
                    w = Writer(uri, "read -P 1 0 4M", "write -P 2 1M 1M", "aio_write -P 3 8M 1M", "aio_write -P 4 9M 1M",
                               "aio_flush", "read -P 2 1M 1M", "read -P 3 8M 1M", "read -P 4 9M 1M", "flush")
                    time.sleep(0.5)  # some tries come to nothing
                    self.assertTrue(w.waits())
                    s.start()
                    rc, out = w.end()
                    self.assertEqual(rc, 0, out)
                    self.assertIn("wait up to 60 s", m.vios.log())
                    self.assertIn("connected again", m.vios.log())
                s.kill()

    def test_a_server_that_is_killed_under_load_leaves_every_byte_right(self):
        s = self.server(self.qemu_nbd())
        with self.machine(",reconnect-delay=60") as m, nbdkit(m, "zero-copy") as uri:
            self.assertEqual(io(uri, "read 0 4k")[0], 0)
            writes = [f"aio_write -P {i % 250 + 1} {i * 256}k 256k" for i in range(200)]
            w = Writer(uri, *writes, "aio_flush", cache="writeback")  # without a flush after each write
            for _ in range(4):
                time.sleep(0.05)
                s.kill()
                s.start()
            rc, out = w.end()
            self.assertNotIn("refused", out, m.vios.log())
            # Flushes after a loss tell that acknowledged writes may be gone; here they are not, for the page cache has them.
            self.assertNotIn("aio_write failed", out, m.vios.log())
            rc, out = io(uri, *[f"read -P {i % 250 + 1} {i * 256}k 256k" for i in range(200)])
            self.assertEqual(rc, 0, out)

    def test_requests_fail_when_the_time_is_over_and_at_once_without_one(self):
        for delay, words in (("", "fail until it is back"), (",reconnect-delay=1", "not back within 1 s")):
            s = self.server(self.file())
            with self.machine(delay) as m, nbdkit(m, "zero-copy") as uri:
                self.assertEqual(io(uri, "write 0 4k")[0], 0)
                s.kill()
                self.assertNotEqual(io(uri, "write 0 4k")[0], 0)
                self.assertIn(words, m.vios.log())
                s.start()
                until(lambda u=uri: io(u, "read 0 4k")[0] == 0, "the disk to be back")
            s.kill()

    def test_another_disk_behind_the_same_socket_is_refused_while_requests_wait(self):
        for mib, words in ((32, "another disk"), (96, "NBD does not tell")):
            s = self.server(self.file())
            other = self.other(mib)
            with self.subTest(mib=mib), self.machine(",reconnect-delay=60") as m, nbdkit(m, "zero-copy") as uri:
                self.assertEqual(io(uri, "write -P 1 0 64k", "flush")[0], 0)
                s.kill()
                s.start(*self.file(other))
                w = Writer(uri, "write -P 2 0 64k", "read -P 2 0 64k")
                until(lambda words=words: words in m.vios.log(), "the stranger to be noticed")
                self.assertTrue(w.waits())
                s.kill()
                self.untouched(other)
                s.start()
                rc, out = w.end()
                self.assertEqual(rc, 0, out)
            s.kill()

    def test_a_larger_disk_gets_nothing_of_a_guest_whose_own_server_was_started_again_as_well(self):
        s = self.server(self.file())
        other = self.other(96)
        with self.machine() as m:
            kit = Nbdkit(m, "zero-copy")
            with kit:
                self.assertEqual(io(kit.uri, "write -P 1 0 64k", "flush")[0], 0)
                m.vios.kill()
                w = Writer(kit.uri, "write -P 2 0 64k", "read -P 2 0 64k")
                s.kill()
                s.start(*self.file(other))
                m.start_vios()
                until(lambda: "under the name of a disk of" in kit.log(), "the guest's word on the larger disk")
                self.assertTrue(w.waits())
                m.vios.kill()
                s.kill()
                self.untouched(other)
                s.start()
                m.start_vios()
                rc, out = w.end()
                self.assertEqual(rc, 0, out)

    def test_a_guest_that_comes_while_the_server_is_away_waits_as_well(self):
        s = self.server(self.file())
        with self.machine(",reconnect-delay=60") as m:
            with nbdkit(m, "copy") as uri:
                self.assertEqual(io(uri, "write -P 1 0 64k", "flush")[0], 0)
            s.kill()
            g = m.start_guest(["--count", "100", "--rw", "randread", "--verify", "off"])
            until(lambda: "its requests wait up to 60 s" in m.vios.log() or not g.alive(), "the guest to wait")
            self.assertTrue(g.alive(), g.log() + m.vios.log())
            s.start()
            self.assertEqual(g.proc.wait(60), 0, g.log())

    def test_a_reset_and_an_end_do_not_wait_for_the_server(self):
        s = self.server(self.file())
        with self.machine(",reconnect-delay=600") as m:
            with nbdkit(m, "zero-copy") as uri:
                self.assertEqual(io(uri, "write 0 4k")[0], 0)
                s.kill()
                w = Writer(uri, "write 0 4k")
                until(lambda: "wait up to 600 s" in m.vios.log(), "the loss to be noticed")
            w.end()
            until(lambda: telemetry(m, "/vio/adapter,0")[0]["state"] == "IDLE", "the guest's end")

    def test_a_disk_that_stops_at_a_lost_server_goes_on_with_the_next(self):
        s = self.server(self.qemu_nbd())
        with self.machine(",werror=stop,rerror=stop") as m, nbdkit(m, "zero-copy") as uri:
            self.assertEqual(io(uri, "write -P 1 0 64k", "flush")[0], 0)
            s.kill()
            w = Writer(uri, "write -P 2 0 64k", "read -P 2 0 64k")
            stopped(m, "EIO")
            s.start()
            def goes_on():
                resume(m)
                return not w.waits()
            until(goes_on, "the disk to go on")
            rc, out = w.end()
            self.assertEqual(rc, 0, out)

    def test_a_delay_that_is_none_is_refused(self):
        self.server(self.file())
        for bad in ("x", "-1", "1.5", "86401", "5s"):
            with self.assertRaisesRegex(MachineError, f"reconnect-delay={bad}: whole seconds, 0 to 86400"):
                with self.machine(f",reconnect-delay={bad}"):
                    pass


class Growth(Nbd):
    def size(self, uri):
        return int(sh("nbdinfo", "--size", uri))

    def grown(self, m, uri):
        until(lambda: self.size(uri) == 96 * MIB, "the disk to be larger for a new client")
        rc, out = io(uri, "write -P 9 95M 1M", "read -P 9 95M 1M", "read -P 1 0 1M", "flush")
        self.assertEqual(rc, 0, out)
        self.assertIn("has grown from 67108864 to 100663296 bytes", m.vios.log())
        self.assertEqual(telemetry(m, "/vio/blk,0")[0]["size"], 96 * MIB)

    def test_growth_is_seen_when_somebody_asks_and_the_connection_is_made_anew(self):
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm):
                os.truncate(self.image, 64 * MIB)
                s = self.server(self.file())
                with self.machine() as m, nbdkit(m, arm) as uri:
                    self.assertEqual(io(uri, "write -P 1 0 1M", "flush")[0], 0)
                    self.assertIn("as it was", telemetry(m, "/vio/blk/resize,0")[0]["answer"])
                    os.truncate(self.image, 96 * MIB)
                    self.assertEqual(self.size(uri), 64 * MIB)
                    self.assertIn("grown", telemetry(m, "/vio/blk/resize,0")[0]["answer"])
                    self.grown(m, uri)
                s.kill()

    def test_growth_is_seen_when_the_server_comes_back(self):
        s = self.server([*self.qemu_nbd(), "--description=the-disk-that-grows"])
        with self.machine(",reconnect-delay=60") as m, nbdkit(m, "zero-copy") as uri:
            self.assertEqual(io(uri, "write -P 1 0 1M", "flush")[0], 0)
            s.kill()
            os.truncate(self.image, 96 * MIB)
            s.start()
            self.assertEqual(io(uri, "read -P 1 0 1M")[0], 0)
            self.grown(m, uri)

    def test_a_server_that_takes_one_client_and_one_that_shrank_are_answered_in_words(self):
        self.server(["nbdkit", "--foreground", "--exit-with-parent", "--unix", self.sock, "--filter=limit", "file",
                     self.image, "limit=1"])
        with self.machine() as m, nbdkit(m, "zero-copy") as uri:
            self.assertEqual(io(uri, "write -P 1 0 1M")[0], 0)
            answer = telemetry(m, "/vio/blk/resize,0")[0]["answer"]
            self.assertNotIn("grown", answer)
            self.assertEqual(io(uri, "read -P 1 0 1M")[0], 0)
        self.servers[-1].kill()
        self.server(self.file())
        with self.machine() as m, nbdkit(m, "zero-copy") as uri:
            self.assertEqual(io(uri, "write -P 1 0 1M")[0], 0)
            os.truncate(self.image, 32 * MIB)
            self.assertIn("smaller", telemetry(m, "/vio/blk/resize,0")[0]["answer"])
            self.assertEqual(io(uri, "read -P 1 0 1M")[0], 0)


if __name__ == "__main__":
    main()
