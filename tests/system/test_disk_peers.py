#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The disk's peers with real processes: vhost-blk against QEMU's export and the server on DPDK's vhost library; bytes as others
read them; servers that lie, fall silent or go away."""

import concurrent.futures
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

from common import BUILD, main

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
from ab.drivers import disk_peers  # noqa: E402

CORES = {"guest_core": min(os.sched_getaffinity(0)), "server_core": max(os.sched_getaffinity(0))}
CLIENT = os.path.join(BUILD, "bench/vhost-blk")
RTE = [a for a in disk_peers.PEERS if "rte_vhost" in a]
QEMU = "vhost-user-blk (qemu)"
MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
LIMIT = 60  # seconds, of a client that must end by itself: for ever is what is looked for


def pattern(seed, block, generation, length):
    """guest/prog/pattern.c by its definition, not by its code."""
    x = (seed + block * STEP + (generation << 40 | generation)) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    x ^= x >> 31
    return b"".join(struct.pack("<Q", (x + i * STEP) & MASK) for i in range(length // 8))


def client(path, *args):
    return subprocess.run([CLIENT, "--socket", path, *args], capture_output=True, text=True, timeout=LIMIT)


def args(rw="randread", bs=4096, depth=4, batch=2, touch="all", seconds=0.1):
    return ["--rw", rw, "--bs", str(bs), "--depth", str(depth), "--batch", str(batch), "--touch", touch, "--span", "2M",
            "--seconds", str(seconds), "--warm-seconds", "0"]


class Right(unittest.TestCase):
    def every(self, arm, backend):
        with disk_peers.Peer(arm, backend, BUILD, CORES) as p:
            for rw, bs, depth, batch in (("randread", 4096, 1, 1), ("randwrite", 4096, 64, 16), ("write", 65536, 3, 3),
                                         ("randread", 512, 32, 1), ("randwrite", 1 << 19, 2, 1)):
                with self.subTest(arm=arm, rw=rw, bs=bs, depth=depth):
                    run = p.measure(args(rw, bs, min(depth, (2 << 20) // bs // 2), min(batch, depth)), 1)["run"]
                    self.assertEqual((run["errors"], run["mismatches"]), (0, 0), run["first_mismatch"])
                    self.assertGreaterEqual(run["bytes_verified"], 2 << 20 if "write" in rw else bs)

    def test_every_byte_comes_back_from_the_rte_vhost_server(self):
        for arm in RTE:
            self.every(arm, "memory")

    @unittest.skipUnless(shutil.which(disk_peers.QEMU), "no qemu-storage-daemon")
    def test_every_byte_comes_back_from_qemu(self):
        self.every(QEMU, "file")

    @unittest.skipUnless(shutil.which(disk_peers.QEMU), "no qemu-storage-daemon")
    def test_what_was_written_through_qemu_is_in_the_file(self):
        with disk_peers.Peer(QEMU, "file", BUILD, CORES) as p:
            got = p.measure(args("write", touch="all", seconds=0.05) + ["--seed", "7"], 1)
            with open(p.image.name, "rb") as f:
                data = f.read(2 << 20)
        writes = got["run"]["writes"]
        blocks = (2 << 20) // 4096
        for b in range(0, blocks, 37):
            # The fill is generation 1, then in turn.
            want = pattern(7, b, 1 + writes // blocks + (b < writes % blocks), 4096)
            self.assertEqual(data[b * 4096:(b + 1) * 4096], want, f"block {b} after {writes} writes")

    @unittest.skipUnless(shutil.which(disk_peers.QEMU), "no qemu-storage-daemon")
    def test_no_more_is_touched_than_was_asked_for(self):
        for touch, first in (("none", 0), ("headers", 64)):
            with self.subTest(touch=touch), disk_peers.Peer(QEMU, "file", BUILD, CORES) as p:
                run = p.measure(args("write", touch=touch, seconds=0.2), 1)["run"]
                self.assertEqual((run["bytes_verified"], run["mismatches"]), (0, 0))
                with open(p.image.name, "rb") as f:
                    block = f.read(4096)
            self.assertEqual(block[first:], bytes(4096 - first))
            self.assertEqual(first > 0, any(block[:first]))

    def test_a_null_store_cannot_pass_for_a_disk_that_keeps_data(self):
        with disk_peers.Peer(RTE[0], "null", BUILD, CORES) as p:
            got = client(p.socket, *args())
            self.assertEqual(got.returncode, 1)
            self.assertIn("wrong words", got.stderr)

    def test_a_server_serves_one_guest_after_another(self):
        with disk_peers.Peer(RTE[1], "memory", BUILD, CORES) as p:
            for _ in range(3):
                for layout in ("split", "packed"):
                    got = client(p.socket, "--layout", layout, *args())
                    self.assertEqual(got.returncode, 0, got.stderr)


class Fake:
    """A vhost-user server that answers as `replies` say: request -> bytes to send, None (nothing), or "close"."""

    REPLY = 5

    def __init__(self, replies):
        self.folder = tempfile.mkdtemp(prefix="vio-fake-")
        self.path = os.path.join(self.folder, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.replies = {1: self.u64(1, 1 << 30 | 1 << 32), 15: self.u64(15, 1 << 9), 24: self.config(1 << 17)} | replies
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    @classmethod
    def u64(cls, request, value):
        return struct.pack("<IIIQ", request, cls.REPLY, 8, value)

    @classmethod
    def config(cls, sectors):
        return struct.pack("<IIIIIIQ", 24, cls.REPLY, 20, 0, 8, 0, sectors)

    def serve(self):
        try:
            conn, _ = self.listener.accept()
            with conn:
                while head := conn.recv(12, socket.MSG_WAITALL):
                    request, _, size = struct.unpack("<III", head)
                    conn.recv(size, socket.MSG_WAITALL)
                    reply = self.replies.get(request)
                    if reply == "close":
                        return
                    if reply:
                        conn.sendall(reply)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.close()
        self.thread.join(10)
        shutil.rmtree(self.folder)


class Bad(unittest.TestCase):
    def ends(self, replies, *words):
        with Fake(replies) as f:
            got = client(f.path, "--touch", "none", "--seconds", "0.1")
        self.assertEqual(got.returncode, 1, got.stderr)
        for word in words:
            self.assertIn(word, got.stderr)
        self.assertEqual(got.stderr.count("\n"), 1, got.stderr)

    def test_a_server_that_closes_at_any_message_ends_the_client_with_a_sentence(self):
        for request in (1, 15, 24, 5, 8, 9, 10, 12, 18):
            with self.subTest(request=request):
                self.ends({request: "close"}, "closed the connection")

    def test_a_short_or_wrong_reply_is_refused(self):
        for reply, word in ((struct.pack("<III", 1, Fake.REPLY, 4) + b"abcd", "4 bytes; 8 were due"),
                            (struct.pack("<IIIQ", 2, Fake.REPLY, 8, 0), "answered message 1 with message 2"),
                            (struct.pack("<IIIQ", 1, 1, 8, 0), "flags 0x1")):
            with self.subTest(word=word):
                self.ends({1: reply}, word)
        self.ends({24: Fake.u64(24, 0)}, "answered message 24")

    def test_half_a_reply_and_silence_end_by_time(self):
        silent = (({1: Fake.u64(1, 0)[:14]}, "did not answer message 1"), ({24: None}, "did not answer message 24"),
                  ({}, "completed none of 1 requests"))
        with concurrent.futures.ThreadPoolExecutor() as at_once:  # each is a wait of seconds
            for one in [at_once.submit(self.ends, *s) for s in silent]:
                one.result()

    def test_a_refused_message_is_told(self):
        self.ends({15: Fake.u64(15, 1 << 9 | 1 << 3), 2: Fake.u64(2, 1)}, "refused message 2")

    def test_a_disk_too_small_and_features_not_offered_are_told(self):
        self.ends({24: Fake.config(1)}, "--span")
        self.ends({1: Fake.u64(1, 1 << 30)}, "0x100000000")

    def test_nobody_there_and_wrong_use_are_told(self):
        got = client("/nonexistent/s")
        self.assertEqual((got.returncode, "/nonexistent/s" in got.stderr), (1, True), got.stderr)
        for wrong in (["--touch", "some"], ["--bs", "700"], ["--depth", "2", "--batch", "3"], ["--queue-size", "100"], ["--what"],
                      ["--seconds", "0"], ["--seconds", "nan"]):
            got = client("/nonexistent/s", *wrong)
            self.assertEqual(got.returncode, 2, wrong)

    def test_a_server_killed_at_work_ends_the_client(self):
        with disk_peers.Peer(RTE[0], "memory", BUILD, CORES) as p:
            c = subprocess.Popen([CLIENT, "--socket", p.socket, *args(touch="none", seconds=30)], stderr=subprocess.PIPE, text=True)
            try:
                with self.assertRaises(subprocess.TimeoutExpired):
                    c.wait(0.5)
                p.proc.kill()
                _, said = c.communicate(timeout=LIMIT)
            finally:
                c.kill()
                c.wait()
            self.assertEqual(c.returncode, 1)
            self.assertIn("closed the connection", said)


if __name__ == "__main__":
    main()
