#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Whoever waits for a program that is away or does not answer can be told to end, and then ends, with a sentence."""

import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from common import BUILD, SLOW, Machine, NetMachine, main, telemetry, until, while_there
from nbd_disk import Nbdkit, io
from net_lan import Lan, why_not

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Client:
    """qemu-io in the background."""

    def __init__(self, uri, *commands):
        argv = ["qemu-io", "-f", "raw"]
        for c in commands:
            argv += ["-c", c]
        self.proc = subprocess.Popen([*argv, uri], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)

    def end(self):
        out, _ = self.proc.communicate(timeout=60)
        return self.proc.returncode, out

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()


@unittest.skipIf(SLOW, "with a sanitizer's run time nbdkit does not end after an error")
class NbdkitWaits(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory(prefix="vio-waits-")
        self.image = os.path.join(self.tmp.name, "disk.img")
        self.requests = os.path.join(self.tmp.name, "requests")
        with open(self.image, "wb") as f:
            f.truncate(16 << 20)
        self.clients = []

    def tearDown(self):
        for c in self.clients:
            c.kill()
        self.tmp.cleanup()

    def machine(self):
        return Machine(BUILD, vios_args=["--disk", f"file,path={self.image}"])

    def nbdkit(self, m, arm, *args):
        """With a file that tells which requests nbdkit has begun."""
        return Nbdkit(m, arm, f"logfile={self.requests}", "logappend=true", *args, before=["--filter=log"])

    def begun(self, what):
        with open(self.requests) as f:
            return f.read().count(what)

    def client(self, n, *commands, what=" Write "):
        """One whose last request waits in the plugin."""
        before = self.begun(what)
        c = Client(n.uri, *commands)
        self.clients.append(c)
        until(lambda: self.begun(what) > before, f"nbdkit to begin{what}")
        return c

    def server_away(self, m, n):
        self.assertEqual(io(n.uri, "write -P 1 0 64k", "read -P 1 0 64k")[0], 0, n.log())
        m.vios.kill()
        until(lambda: "server has gone" in n.log(), "nbdkit's word on the server's death")

    def ended(self, n):
        n.proc.wait(20)
        self.assertIn("whether they are done is not known", n.log())
        self.assertIn("given up", n.log())

    def test_a_signal_ends_nbdkit_while_a_request_waits_for_a_server_that_is_away(self):
        for sig in SIGNALS:
            for arm in ("zero-copy", "copy"):
                with self.subTest(sig=sig, arm=arm), self.machine() as m, self.nbdkit(m, arm) as n:
                    self.server_away(m, n)
                    c = self.client(n, "write -P 2 0 4k")
                    n.proc.send_signal(sig)
                    self.ended(n)
                    self.assertIn("server is away", n.log())
                    self.assertNotEqual(c.end()[0], 0, "a client was told that it is done")

    def test_a_signal_ends_nbdkit_while_requests_wait_for_one_another_and_for_room(self):
        with self.machine() as m, self.nbdkit(m, "zero-copy") as n:
            self.server_away(m, n)
            # A part of a block is read, changed and written under a lock that the others want.
            for i in range(3):
                self.client(n, f"write -P 2 {i * 512 + 1} 100")
            for i in range(20):
                self.client(n, f"read {i * 4096} 4k", what=" Read ")
            n.proc.send_signal(signal.SIGTERM)
            self.ended(n)

    def test_the_same_request_completes_when_the_server_comes_back_instead(self):
        for arm in ("zero-copy", "copy"):
            with self.subTest(arm=arm), self.machine() as m, self.nbdkit(m, arm) as n:
                self.server_away(m, n)
                waiting = [self.client(n, "write -P 2 0 4k"), self.client(n, "write -P 3 8193 100")]
                m.start_vios()
                for c in waiting:
                    rc, out = c.end()
                    self.assertEqual(rc, 0, out + n.log())
                rc, out = io(n.uri, "read -P 2 0 4k", "read -P 1 8192 1", "read -P 3 8193 100", "read -P 1 8293 100")
                self.assertEqual(rc, 0, out)

    def test_a_request_whose_client_has_gone_is_given_up_and_overtaken_by_no_later_one(self):
        for arm in ("zero-copy", "copy"):
            with self.subTest(arm=arm), self.machine() as m, self.nbdkit(m, arm, "queues=2") as n:
                self.server_away(m, n)
                self.client(n, "write -P 2 0 4k").kill()
                until(lambda: "given up" in n.log(), "nbdkit's word on the request")
                later = self.client(n, "write -P 3 0 4k", "flush", "read -P 3 0 4k")
                m.start_vios()
                rc, out = later.end()
                self.assertEqual(rc, 0, out + n.log())
                self.assertEqual(io(n.uri, "read -P 3 0 4k", "read -P 1 4k 60k")[0], 0)

    def test_buffers_of_clients_that_have_gone_are_used_again_when_the_server_is_back(self):
        with self.machine() as m, self.nbdkit(m, "zero-copy") as n:
            self.server_away(m, n)
            for _ in range(20):  # more than there are buffers
                self.client(n, "read 0 4k", what=" Read ").kill()
            m.start_vios()
            for _ in range(3):
                rc, out = io(n.uri, *["aio_read 0 64k"] * 20, "aio_flush", "read -P 1 0 64k")
                self.assertEqual(rc, 0, out + n.log())

    def test_a_signal_ends_nbdkit_while_the_server_is_there_and_does_not_answer(self):
        with self.machine() as m, self.nbdkit(m, "zero-copy") as n:
            self.assertEqual(io(n.uri, "write -P 1 0 64k")[0], 0)
            m.vios.signal(signal.SIGSTOP)
            try:
                self.client(n, "write -P 2 0 4k")
                n.proc.send_signal(signal.SIGTERM)
                self.ended(n)
                self.assertLessEqual(n.log().count("taken back by force"), 1, "a wait for each window")
            finally:
                m.vios.signal(signal.SIGCONT)


class GuestWaits(unittest.TestCase):
    """Programs of guests while the server is away, or there and stopped."""

    def ends(self, g, code=0):
        g.proc.wait(30)
        self.assertEqual(g.stop(), code, g.log())

    def lose(self, m, how, programs):
        if how == "stopped":
            m.vios.signal(signal.SIGSTOP)
            time.sleep(0.3)
            return
        m.vios.kill()
        for g in programs:
            until(lambda g=g: "server has gone" in g.log(), "the guest's word on the server's death")

    def test_a_signal_ends_vio_net_while_the_server_is_away_or_stopped(self):
        for how, mode, arm, sig in (("away", "txonly", "zero-copy", SIGNALS[0]), ("away", "rxonly", "copy", SIGNALS[1]),
                                    ("away", "flowgen", "copy", SIGNALS[0]), ("stopped", "txonly", "copy", SIGNALS[1]),
                                    ("stopped", "rxonly", "zero-copy", SIGNALS[0])):
            with self.subTest(how=how, mode=mode, arm=arm, sig=sig), Machine(
                    BUILD, vios_args=["--net="], program="guest/vio-net") as m:
                g = m.start_guest(["--arm", arm, "--forward", mode, "--seconds", "3600", "--warm-seconds", "0",
                                   "--ready-fd", "@READY"])
                try:
                    g.wait_ready(30)
                    self.lose(m, how, [g])
                    self.assertTrue(g.alive(), g.log())
                    g.signal(sig)
                    self.ends(g)
                finally:
                    m.vios.signal(signal.SIGCONT)
                    g.kill()

    def test_a_signal_ends_vio_blk_while_the_server_is_stopped(self):
        for arm, sig in (("zero-copy", SIGNALS[0]), ("copy", SIGNALS[1])):
            with self.subTest(arm=arm, sig=sig), Machine(
                    BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
                g = m.start_guest(["--arm", arm, "--rw", "randmixed", "--depth", "16", "--span", "4M", "--seconds", "3600",
                                   "--warm-seconds", "0"])
                until(lambda: (telemetry(m, "/vio/queue,0,0")[0] or {}).get("requests", 0) > 10000, "traffic")
                m.vios.signal(signal.SIGSTOP)
                try:
                    time.sleep(0.3)
                    g.signal(sig)
                    g.proc.wait(30)
                    self.assertIn("outstanding", g.log())
                finally:
                    m.vios.signal(signal.SIGCONT)
                    g.kill()

    def test_a_signal_ends_vio_net_that_drains_while_frames_keep_coming(self):
        with NetMachine(BUILD, phypd_args=["--guests", "2", "--server-memory", "128"], vios_args=["--net=", "--net="],
                        program="guest/vio-net") as m:
            sender = m.start_guest(["--partition", "guest1", "--forward", "txonly", "--seconds", "3600",
                                    "--ready-fd", "@READY"])
            sender.wait_ready(30)
            g = m.start_guest(["--forward", "rxonly", "--seconds", "3600", "--warm-seconds", "0", "--drain-seconds", "2",
                               "--ready-fd", "@READY"])
            try:
                g.wait_ready(30)
                g.signal(signal.SIGTERM)
                self.ends(g)
            finally:
                g.kill()
                sender.kill()

    @unittest.skipIf(SLOW, "interfaces and namespaces: no code of ours")
    def test_a_signal_ends_vio_tap_while_the_server_is_away_or_stopped(self):
        if why_not():
            self.skipTest(why_not())
        for how, sig, queues in (("away", SIGNALS[0], "1"), ("away", SIGNALS[1], "2"), ("stopped", SIGNALS[1], "1"),
                                 ("stopped", SIGNALS[0], "2")):
            for arms in (["zero-copy", "copy"],):
                with self.subTest(how=how, sig=sig, queues=queues), Lan(arms, nets=["queues=2"] * 2,
                                                                        tap_args=["--queues", queues]) as lan:
                    self.assertTrue(lan.reach(0, 1))
                    self.lose(lan.m, how, lan.taps)
                    try:
                        for t in lan.taps:
                            t.signal(sig)
                        for t in lan.taps:
                            self.ends(t)
                    finally:
                        lan.m.vios.signal(signal.SIGCONT)

    def test_a_signal_ends_guests_that_start_while_the_server_is_away(self):
        for program in ("guest/vio-net", "guest/vio-tap", "guest/vio-blk"):
            with self.subTest(program=program), Machine(BUILD, vios_args=["--net="], program=program) as m:
                m.vios.kill()
                g = m.start_guest([])
                time.sleep(0.3)
                g.signal(signal.SIGTERM)
                g.proc.wait(20)
                self.assertNotEqual(g.proc.returncode, 0, "it says that all went well")
                g.kill()


class ServerWaits(unittest.TestCase):
    """vios with a disk at an NBD server that is stopped."""

    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory(prefix="vio-waits-")
        self.sock = os.path.join(self.tmp.name, "q.sock")
        self.uri = f"nbd+unix:///?socket={self.sock}"
        image = os.path.join(self.tmp.name, "disk.img")
        with open(image, "wb") as f:
            f.truncate(16 << 20)
        self.nbd = subprocess.Popen(["qemu-nbd", "--format=raw", "--persistent", "--shared=8", f"--socket={self.sock}",
                                     image], stdin=subprocess.DEVNULL)
        until(lambda: os.path.exists(self.sock), "qemu-nbd's socket")

    def tearDown(self):
        self.nbd.send_signal(signal.SIGCONT)
        self.nbd.terminate()
        self.nbd.wait(20)
        self.tmp.cleanup()

    def machine(self):
        return Machine(BUILD, vios_args=["--disk", f"nbd,uri={self.uri}"])

    def test_a_signal_ends_the_server_while_its_store_does_not_answer_and_it_names_the_disk(self):
        for sig in SIGNALS:
            for arm in ("zero-copy", "copy"):
                with self.subTest(sig=sig, arm=arm), self.machine() as m:
                    g = m.start_guest(["--arm", arm, "--rw", "randwrite", "--depth", "4", "--span", "4M", "--seconds",
                                       "60", "--warm-seconds", "0"])
                    until(lambda: sum(self.requests(m)) > 100, "traffic")
                    self.nbd.send_signal(signal.SIGSTOP)
                    try:
                        n = until(lambda: self.stands_still(m), "requests at a store that does not answer")
                        m.vios.signal(sig)
                        m.vios.proc.wait(30)
                    finally:
                        self.nbd.send_signal(signal.SIGCONT)
                        g.kill()
                    self.assertEqual(m.vios.proc.returncode, 1, m.vios.log())
                    self.assertRegex(m.vios.log(), rf"guest0.*{re.escape(self.sock)}.* did not finish {n} request")

    def requests(self, m):
        return [q["requests"] for _, q in while_there(m, "/vio/queue,0")]

    def stands_still(self, m):
        """How many requests are in flight, when that does not change."""
        a = [(q["requests"], q["in_flight"]) for _, q in while_there(m, "/vio/queue,0")]
        time.sleep(0.2)
        b = [(q["requests"], q["in_flight"]) for _, q in while_there(m, "/vio/queue,0")]
        return sum(n for _, n in b) if a == b else 0

    def test_a_signal_ends_a_server_with_nothing_in_flight_at_a_store_that_does_not_answer(self):
        with self.machine() as m:
            m.guest(["--arm", "zero-copy", "--rw", "randwrite", "--span", "4M", "--count", "64"])
            self.nbd.send_signal(signal.SIGSTOP)
            m.vios.signal(signal.SIGTERM)
            m.vios.proc.wait(20)
            self.assertEqual(m.vios.proc.returncode, 0, m.vios.log())

    def test_a_signal_ends_a_server_that_starts_at_a_store_that_does_not_answer(self):
        with Machine(BUILD, vios_args=["--disk", "null"]) as m:
            m.vios.stop()
            self.nbd.send_signal(signal.SIGSTOP)
            m.vios_args = ["--disk", f"nbd,uri={self.uri}"]
            m.launch_vios()
            time.sleep(0.5)
            m.vios.signal(signal.SIGTERM)
            m.vios.proc.wait(20)


if __name__ == "__main__":
    main()
