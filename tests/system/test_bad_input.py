#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Wrong use: a sentence that says what and where, an exit code, nothing left behind."""

import os
import subprocess
import tempfile
import unittest

from common import BUILD, Machine, main

PHYPD, VIOS, BLK = (os.path.join(BUILD, p) for p in ("phyp/phypd", "server/vios", "guest/vio-blk"))


def run(*argv, timeout=30, env=None):
    r = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, env=env,
                       check=False)
    return r.returncode, r.stdout + r.stderr


class BadInput(unittest.TestCase):
    def refused(self, argv, *words, code=2):
        rc, out = run(*argv)
        self.assertEqual(rc, code, out)
        for w in words:
            self.assertIn(w, out)

    def test_unknown_options_are_named(self):
        for prog in (PHYPD, VIOS, BLK):
            self.refused([prog, "--nonsense"], "nonsense")

    def test_help_names_the_options(self):
        for prog, word in ((PHYPD, "--socket"), (VIOS, "--disk"), (BLK, "--arm")):
            rc, out = run(prog, "--help")
            self.assertEqual(rc, 0)
            self.assertIn(word, out)

    def test_impossible_arms_are_refused_by_name(self):
        self.refused([BLK, "--arm", "fast"], "fast", "zero-copy")
        self.refused([BLK, "--arm", "mapping=single-use,payload=bounce,ring=direct,notify=poll"], "bounce", "pool")
        self.refused([BLK, "--arm", "mapping=pool,payload=unchecked,ring=copy,notify=poll"], "unchecked")

    def test_numbers_out_of_range_are_refused_with_the_range(self):
        self.refused([BLK, "--depth", "0"], "--depth", "1")
        self.refused([BLK, "--queue-size", "100"], "power of two")
        self.refused([BLK, "--depth", "32", "--buffers", "16"], "--buffers 16", "32")

    def test_without_phypd_each_program_says_where_it_looked(self):
        with tempfile.TemporaryDirectory() as d:
            sock = os.path.join(d, "none.sock")
            for argv in ([BLK, "--phyp", sock], [VIOS, "--phyp", sock, "--disk", "null"]):
                rc, out = run(*argv)
                self.assertEqual(rc, 1, out)
                self.assertIn(sock, out)

    def test_a_busy_socket_is_left_to_its_owner(self):
        with Machine(BUILD, vios_args=["--disk", "null"]) as m:
            rc, out = run(PHYPD, "--socket", m.socket)
            self.assertEqual(rc, 2, out)
            self.assertIn(m.socket, out)
            m.guest(["--touch", "none", "--count", "10"])

    def test_a_busy_partition_is_refused(self):
        with Machine(BUILD, vios_args=["--disk", "null"]) as m:
            rc, out = run(VIOS, "--phyp", m.socket, "--disk", "null")
            self.assertEqual(rc, 1, out)
            self.assertIn("vios", out)
            rc, out = run(BLK, "--phyp", m.socket, "--partition", "guest9")
            self.assertEqual(rc, 1, out)
            self.assertIn("guest9", out)

    def test_disks_that_are_not_there_or_too_small_are_refused_by_name(self):
        with tempfile.TemporaryDirectory() as d:
            small = os.path.join(d, "small.img")
            with open(small, "wb") as f:
                f.write(b"x" * 100)
            sock = os.path.join(d, "s")
            p = subprocess.Popen([PHYPD, "--socket", sock], stderr=subprocess.DEVNULL)
            try:
                while not os.path.exists(sock):
                    pass
                for disk, word in ((f"file,path={d}/missing.img", "missing.img"), (f"file,path={small}", "small.img"),
                                   (f"file,path={d}", d), ("floppy", "floppy"), ("memory,size=banana", "banana"),
                                   ("memory,colour=red", "colour"), ("memory,size=100G", "memory"),
                                   (f"nbd,uri=nbd+unix:///?socket={d}/no.sock", "no.sock")):
                    rc, out = run(VIOS, "--phyp", sock, "--disk", disk)
                    self.assertIn(rc, (1, 2), f"{disk}: {out}")
                    self.assertIn(word, out, disk)
            finally:
                p.terminate()
                p.wait()
            self.assertFalse(os.path.exists(sock))

    def test_a_null_disk_is_not_verified_silently(self):
        with Machine(BUILD, vios_args=["--disk", "null"]) as m:
            rc, out = run(BLK, "--phyp", m.socket)
            self.assertEqual(rc, 1, out)
            self.assertIn("--touch none", out)

    def test_short_requests_need_a_disk_that_offers_them(self):
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            self.refused([BLK, "--phyp", m.socket, "--bs", "64"], "--bs 64", "multiple of 512", "short=on", code=1)
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M,short=on"]) as m:
            self.refused([BLK, "--phyp", m.socket, "--bs", "100"], "--bs 100", "64", code=1)
            for arm in ("copy", "premapped", "zero-copy"):
                r = m.guest(["--arm", arm, "--bs", "64", "--rw", "randmixed", "--count", "3000", "--span", "1M"])
                self.assertEqual(r["run"]["mismatches"], 0)
                self.assertGreaterEqual(r["run"]["bytes_verified"], 64 * 2048, "what was written was not read back")
                self.assertEqual(r["block_size"], 64)

    def test_a_pool_without_room_for_a_request_is_refused_with_its_size(self):
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            for arm in ("zero-copy", "premapped"):
                self.refused([BLK, "--phyp", m.socket, "--arm", arm, "--bs", "64k", "--pool-kib", "32"], "pool", "32768",
                             "65536", code=1)
                r = m.guest(["--arm", arm, "--bs", "64k", "--pool-kib", "64", "--depth", "8", "--count", "200"])
                self.assertEqual((r["run"]["requests"], r["run"]["errors"], r["pool_bytes"]), (200, 0, 65536))

    def test_a_depth_beyond_the_queue_waits_for_descriptors(self):
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            for arm in ("copy", "copy-tuned", "premapped", "zero-copy"):
                for more in ([], ["--indirect"], ["--rate", "20000"]):
                    r = m.guest(["--arm", arm, "--depth", "32", "--queue-size", "16", "--rw", "randmixed", "--count", "2000",
                                 *more])
                    self.assertEqual((r["run"]["requests"], r["run"]["errors"], r["run"]["mismatches"]), (2000, 0, 0))
                    self.assertEqual((r["queue_size"], r["queue_room"]), (16, 4))

    def test_the_stages_of_a_measurement_are_told_and_a_bad_descriptor_is_named(self):
        with Machine(BUILD, vios_args=["--disk", "null"]) as m, tempfile.NamedTemporaryFile() as f:
            argv = [BLK, "--phyp", m.socket, "--touch", "none", "--count", "100", "--stage-fd"]
            p = subprocess.run([*argv, str(f.fileno())], pass_fds=(f.fileno(),), capture_output=True, timeout=30,
                               check=False)
            self.assertEqual(p.returncode, 0, p.stderr)
            with open(f.name, "rb") as g:
                self.assertEqual(g.read(), b"ME")
            self.refused([*argv, "777"], "--stage-fd 777", code=1)

    def test_a_bad_profile_is_refused_with_its_place(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            f.write('{"partitions": [{"name": "vios", "memory_mib": -1}]}')
            f.flush()
            rc, out = run(PHYPD, "--socket", f.name + ".sock", "--profile", f.name)
            self.assertEqual(rc, 2, out)
            self.assertIn("memory_mib", out)
            self.assertFalse(os.path.exists(f.name + ".sock"))

    def test_the_server_starts_without_hugepages(self):
        with Machine(BUILD, phypd_args=["--pages", "4k"], vios_args=["--disk", "memory,size=16M", "--no-huge"]) as m:
            r = m.guest(["--count", "1000", "--span", "1M"])
            self.assertEqual(r["run"]["mismatches"], 0)


if __name__ == "__main__":
    main()
