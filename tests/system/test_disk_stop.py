#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Disks that stop at an error: the guest waits, a person makes room, all of it is done, and the bytes are right."""

import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import unittest

from common import ARMS, BUILD, Machine, main, telemetry, until
from nbd_disk import Nbdkit, io, nbdkit, sh

MIB = 1 << 20


def state(m):
    return telemetry(m, "/vio/blk,0")[0]["state"]


def stopped(m, why):
    until(lambda: state(m).startswith(f"stopped: {why}"), f"the disk to stop: {why}")


def resume(m):
    return telemetry(m, "/vio/blk/resume,0")[0]["answer"]


class Writer:
    """qemu-io in the background: writes whose answers are to come."""

    def __init__(self, uri, *commands, cache="writethrough"):
        argv = ["qemu-io", "-f", "raw", "-t", cache]
        for c in commands:
            argv += ["-c", c]
        self.p = subprocess.Popen([*argv, uri], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, text=True)

    def waits(self):
        return self.p.poll() is None

    def end(self):
        out, _ = self.p.communicate(timeout=60)
        return self.p.returncode, out


class Stop(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory(prefix="vio-stop-", dir="/var/tmp")
        self.d = self.tmp.name

    def tearDown(self):
        self.tmp.cleanup()

    @contextlib.contextmanager
    def server(self, what):
        """An NBD server that fails what is asked while the file that is yielded is there."""
        sock, broken = os.path.join(self.d, "s.sock"), os.path.join(self.d, "broken")
        p = subprocess.Popen(["nbdkit", "--foreground", "--exit-with-parent", "--unix", sock, "--filter=error",
                              "memory", "64M", *what, "error-rate=100%", f"error-file={broken}"], stdin=subprocess.DEVNULL)
        try:
            until(lambda: os.path.exists(sock), "nbdkit's socket")
            yield broken, f"nbd,uri=nbd+unix:///?socket={sock}"
        finally:
            p.terminate()
            p.wait()
            for f in (sock, broken):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f)


class Room(Stop):
    @unittest.skipUnless(os.geteuid() == 0, "needs root, for a file system of its own")
    def test_a_full_file_system_stops_the_disk_until_there_is_room(self):
        mnt = os.path.join(self.d, "mnt")
        os.mkdir(mnt)
        sh("mount", "-t", "tmpfs", "-o", "size=24M", "vio-test", mnt)
        try:
            image, other = os.path.join(mnt, "disk.img"), os.path.join(mnt, "other")
            for arm in ARMS:
                with open(image, "wb") as f:
                    f.truncate(64 * MIB)
                with open(other, "wb") as f:
                    f.write(bytes(18 * MIB))
                with self.subTest(arm=arm), Machine(BUILD, vios_args=["--disk", f"file,path={image},werror=enospc"]) as m:
                    with nbdkit(m, arm) as uri:
                        w = Writer(uri, "write -P 7 1M 12M", "read -P 7 1M 12M", "flush")
                        stopped(m, "ENOSPC write")
                        r = Writer(uri, "read -P 0 32M 64k")
                        until(lambda m=m: m.vios.log().count("stopped: write of") == 1, "the server's word on it")
                        # Too early: it stops again, and nothing is told to the guest.
                        self.assertEqual(resume(m), "it goes on")
                        stopped(m, "ENOSPC write")
                        self.assertTrue(w.waits() and r.waits())
                        os.unlink(other)
                        self.assertEqual(resume(m), "it goes on")
                        for one in (w, r):
                            rc, out = one.end()
                            self.assertEqual(rc, 0, out)
                        self.assertEqual(state(m), "running")
                        self.assertEqual(resume(m), "it had not stopped")
                with open(image, "rb") as f:
                    f.seek(MIB)
                    self.assertEqual(f.read(12 * MIB), b"\7" * 12 * MIB)
        finally:
            sh("umount", mnt)

    def test_a_limit_on_file_sizes_stops_it_and_a_guest_that_comes_later_waits_as_well(self):
        image = os.path.join(self.d, "disk.img")
        with open(image, "wb") as f:
            f.truncate(64 * MIB)
        with Machine(BUILD, vios_args=["--disk", f"file,path={image},werror=stop"]) as m:
            none = resource.prlimit(m.vios.proc.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(m.vios.proc.pid, resource.RLIMIT_FSIZE, (16 * MIB, none[1]))
            with nbdkit(m, "zero-copy") as uri:
                w = Writer(uri, "write -P 1 15M 4M", "read -P 1 15M 4M")
                stopped(m, "EFBIG write")
                later = Writer(uri, "read -P 0 1M 64k")
                resource.prlimit(m.vios.proc.pid, resource.RLIMIT_FSIZE, none)
                self.assertTrue(w.waits() and later.waits())
                resume(m)
                for one in (w, later):
                    rc, out = one.end()
                    self.assertEqual(rc, 0, out)


class Errors(Stop):
    def test_each_arm_waits_and_goes_on_and_the_other_policy_reports(self):
        for arm in ARMS:
            with self.subTest(arm=arm), self.server(["error=ENOSPC"]) as (broken, disk):
                with Machine(BUILD, vios_args=["--disk", f"{disk},werror=enospc"]) as m, nbdkit(m, arm) as uri:
                    self.assertEqual(io(uri, "write -P 1 0 4M")[0], 0)
                    with open(broken, "wb"):
                        pass
                    # Reads are to be reported.
                    self.assertNotEqual(io(uri, "read 0 64k")[0], 0)
                    w = Writer(uri, "aio_write -P 2 1M 1M", "aio_write -z 2M 1M", "aio_write -P 3 3M 1M", "aio_flush",
                               "read -P 1 0 1M", "read -P 2 1M 1M", "read -P 0 2M 1M", "read -P 3 3M 1M")
                    stopped(m, "ENOSPC")
                    self.assertTrue(w.waits())
                    os.unlink(broken)
                    resume(m)
                    rc, out = w.end()
                    self.assertEqual(rc, 0, out)

    def test_a_flush_that_failed_is_told_though_the_disk_would_stop(self):
        sock = os.path.join(self.d, "s.sock")
        script = os.path.join(self.d, "flush.sh")
        with open(script, "w", encoding="ascii") as f:
            f.write(f"""#!/bin/sh
case "$1" in
get_size) echo 16M;;
can_write|can_flush) exit 0;;
pread) dd if=/dev/zero count=$3 bs=1 2>/dev/null;;
pwrite) cat >/dev/null;;
flush) [ ! -e {self.d}/broken ] || {{ echo EIO lost >&2; exit 1; }};;
*) exit 2;;
esac
""")
        os.chmod(script, 0o755)
        p = subprocess.Popen(["nbdkit", "--foreground", "--exit-with-parent", "--unix", sock, "sh", script],
                             stdin=subprocess.DEVNULL)
        try:
            until(lambda: os.path.exists(sock), "nbdkit's socket")
            disk = f"nbd,uri=nbd+unix:///?socket={sock},werror=stop,rerror=stop"
            with Machine(BUILD, vios_args=["--disk", disk]) as m, nbdkit(m, "zero-copy") as uri:
                self.assertEqual(io(uri, "write 0 4k", "flush")[0], 0)
                with open(os.path.join(self.d, "broken"), "wb"):
                    pass
                rc, out = io(uri, "write 0 4k", "flush")
                self.assertNotEqual(rc, 0, out)
                self.assertEqual(state(m), "running")
        finally:
            p.terminate()
            p.wait()

    def test_whoever_ends_while_the_disk_is_stopped_ends_and_the_next_one_works(self):
        with self.server(["error=EIO"]) as (broken, disk):
            with Machine(BUILD, vios_args=["--disk", f"{disk},werror=stop,rerror=stop"]) as m:
                for how in (signal.SIGKILL, signal.SIGTERM):
                    with open(broken, "wb"):
                        pass
                    n = Nbdkit(m, "zero-copy")
                    with n:
                        w = Writer(n.uri, "write -P 5 0 64k")
                        stopped(m, "EIO write")
                        n.proc.send_signal(how)
                        n.proc.wait(30)
                        w.end()
                    os.unlink(broken)
                    until(lambda: telemetry(m, "/vio/adapter,0")[0]["state"] == "IDLE", "the guest's end")
                    self.assertEqual(state(m), "running")
                    with nbdkit(m, "copy") as uri:
                        rc, out = io(uri, "write -P 6 0 64k", "read -P 6 0 64k")
                        self.assertEqual(rc, 0, out)
                # A server that ends and comes back has what waited sent again.
                with open(broken, "wb"):
                    pass
                with nbdkit(m, "zero-copy") as uri:
                    w = Writer(uri, "write -P 8 0 64k", "read -P 8 0 64k")
                    stopped(m, "EIO write")
                    os.unlink(broken)
                    m.vios.proc.terminate()
                    self.assertEqual(m.vios.proc.wait(30), 0, m.vios.log())
                    m.start_vios()
                    rc, out = w.end()
                    self.assertEqual(rc, 0, out)


if __name__ == "__main__":
    main()
