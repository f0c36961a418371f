#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What users of disks expect of them: a write cache that can be turned off, growth while in use."""

import os
import subprocess

from common import BUILD, Machine, main, telemetry, until
from nbd_disk import Images, io, nbdkit, sh

MIB = 1 << 20


class Cache(Images):
    def through(self, m):
        return telemetry(m, "/vio/backend,0")[0]["write_through"]

    def test_the_write_cache_is_as_the_guest_wants_it_also_after_the_server_came_back(self):
        with Machine(BUILD, vios_args=["--disk", f"file,path={self.image(8)}"]) as m:
            with nbdkit(m, "zero-copy", "cache=writethrough") as uri:
                rc, out = io(uri, "write -P 7 1M 64k", "read -P 7 1M 64k")
                self.assertEqual(rc, 0, out)
                self.assertEqual(self.through(m), 1)
                m.vios.kill()
                m.start_vios()
                rc, out = io(uri, "read -P 7 1M 64k")
                self.assertEqual(rc, 0, out)
                self.assertEqual(self.through(m), 1)
            # The next guest finds it as the server has it.
            m.guest(["--count", "100"])
            self.assertEqual(self.through(m), 0)
            m.guest(["--count", "100", "--cache", "writethrough", "--arm", "copy"])
            self.assertEqual(self.through(m), 1)

    def test_the_servers_default_is_what_a_guest_finds_and_may_change(self):
        with Machine(BUILD, vios_args=["--disk", f"file,path={self.image(8)},cache=writethrough"]) as m:
            m.guest(["--count", "100"])
            self.assertEqual(self.through(m), 1)
            m.guest(["--count", "100", "--cache", "writeback"])
            self.assertEqual(self.through(m), 0)


class Growth(Images):
    def test_a_disk_that_has_grown_is_larger_for_the_next_client_and_nothing_stops(self):
        path = self.image(64)
        with Machine(BUILD, vios_args=["--disk", f"file,path={path}"]) as m, nbdkit(m, "zero-copy") as uri:
            def size():
                return int(sh("nbdinfo", "--size", uri))
            self.assertEqual(size(), 64 * MIB)
            busy = subprocess.Popen(["qemu-io", "-f", "raw", "-c", "aio_write -P 1 0 8M", "-c", "aio_flush", "-c",
                                     "write -P 2 16M 16M", "-c", "read -P 1 0 8M", uri], stdout=subprocess.PIPE, text=True)
            os.truncate(path, 96 * MIB)
            self.assertEqual(size(), 64 * MIB)  # nobody has said so
            answer = telemetry(m, "/vio/blk/resize,0")[0]
            self.assertEqual(answer["size"], 96 * MIB, answer)
            until(lambda: size() == 96 * MIB, "the disk to be larger for a new client")
            out, _ = busy.communicate(timeout=60)
            self.assertEqual(busy.returncode, 0, out)
            rc, out = io(uri, "write -P 9 95M 1M", "read -P 9 95M 1M", "flush")
            self.assertEqual(rc, 0, out)
            # A server that comes back to it finds the same disk, larger once more.
            os.truncate(path, 128 * MIB)
            m.vios.kill()
            m.start_vios()
            rc, out = io(uri, "read -P 9 95M 1M")
            self.assertEqual(rc, 0, out)
            until(lambda: size() == 128 * MIB, "the disk to be larger after the server's return")

    def test_a_disk_that_has_shrunk_keeps_its_size_and_fails_behind_the_end(self):
        path = self.image(32)
        with Machine(BUILD, vios_args=["--disk", f"file,path={path}"]) as m, nbdkit(m, "copy") as uri:
            os.truncate(path, 16 * MIB)
            self.assertIn("refused", telemetry(m, "/vio/blk/resize,0")[0]["answer"])
            self.assertEqual(int(sh("nbdinfo", "--size", uri)), 32 * MIB)
            self.assertNotEqual(io(uri, "read 24M 64k")[0], 0)
            rc, out = io(uri, "write -P 3 8M 64k", "read -P 3 8M 64k")
            self.assertEqual(rc, 0, out)
            self.assertIn("had 33554432 bytes and has 16777216 now", m.vios.log())

    def test_a_disk_of_a_fixed_size_says_so(self):
        with Machine(BUILD, vios_args=["--disk", "memory,size=8M"]) as m:
            self.assertIn("fixed size", telemetry(m, "/vio/blk/resize,0")[0]["answer"])


if __name__ == "__main__":
    main()
