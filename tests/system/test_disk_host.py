#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the host does to a disk: limits, other programs on the image, sparse files, read-only devices."""

import contextlib
import fcntl
import os
import resource
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from common import ARMS, BUILD, SLOW, Machine, main, telemetry, until
from machine import die_with_parent
from nbd_disk import Images, io, nbdkit, run, sh

F_OFD_SETLK, F_SETPIPE_SZ = 37, 1031
VIOS = os.path.join(BUILD, "server/vios")


class Host(Images):
    def machine(self, disk):
        return Machine(BUILD, vios_args=["--disk", disk])

    def vios_says(self, disk, *more, guests=1):
        """Exit code and words of a vios that can't serve the disk."""
        with tempfile.TemporaryDirectory() as d:
            sock = os.path.join(d, "s")
            p = subprocess.Popen([os.path.join(BUILD, "phyp/phypd"), "--socket", sock, "--guests", str(guests)],
                                 stderr=subprocess.DEVNULL)
            try:
                until(lambda: os.path.exists(sock), "phypd's socket")
                return run(VIOS, "--phyp", sock, "--file-prefix", os.path.basename(d), "--disk", disk, *more,
                           timeout=60)
            finally:
                p.terminate()
                p.wait()

    @contextlib.contextmanager
    def qemu_nbd(self, image, *args):
        sock = os.path.join(self.d, "q.sock")
        p = subprocess.Popen(["qemu-nbd", "--format=raw", "--persistent", f"--socket={sock}", *args, image],
                             stdin=subprocess.DEVNULL)
        try:
            until(lambda: os.path.exists(sock), "qemu-nbd's socket")
            yield p
        finally:
            p.terminate()
            p.wait(20)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(sock)


class Limits(Host):
    def test_a_limit_on_file_sizes_is_an_error_of_the_request_and_not_the_end_of_the_server(self):
        for more in ("", ",direct=off"):
            with self.subTest(disk=more), self.machine(f"file,path={self.image(64)}{more}") as m:
                resource.prlimit(m.vios.proc.pid, resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))
                with nbdkit(m, "zero-copy") as uri:
                    for op in ("write -P 1 32M 64k", "write -z 40M 64k"):
                        rc, out = io(uri, op)
                        # Zeroing inside of the file may need no more of it.
                        self.assertTrue("-z" in op or rc != 0, f"{op}: {out}")
                    self.assertTrue(m.vios.alive(), m.vios.log())
                    rc, out = io(uri, "write -P 2 1M 64k", "read -P 2 1M 64k", "read -P 0 32M 64k", "flush")
                    self.assertEqual(rc, 0, out)
                self.assertIn("write of 65536 bytes at sector 65536 failed: File too large", m.vios.log())
                self.assertGreater(telemetry(m, "/vio/backend,0")[0]["error_EFBIG"], 0)

    def test_a_limit_on_file_sizes_does_not_end_whoever_writes_a_message(self):
        with self.machine("null") as m:
            def state():
                return telemetry(m, "/vio/adapter,0")[0]["state"]
            g = m.start_guest(["--seconds", "60", "--verify", "off"])
            until(lambda: state() == "RUNNING", "the guest's disk")
            for p in (m.phypd, m.vios):
                resource.prlimit(p.proc.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            g.kill()  # both have something to say of it
            until(lambda: state() == "IDLE", "the server's notice of the death")
            time.sleep(0.2)
            self.assertTrue(m.vios.alive() and m.phypd.alive())
            for p in (m.phypd, m.vios):
                resource.prlimit(p.proc.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            m.guest(["--count", "10", "--verify", "off"])

    def test_no_more_descriptors_is_an_error_of_the_guest_that_comes_and_not_of_the_server(self):
        with self.machine(f"file,path={self.image(8)}") as m:
            before = resource.prlimit(m.vios.proc.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(m.vios.proc.pid, resource.RLIMIT_NOFILE, (4, before[1]))
            g = m.start_guest(["--arm", "copy", "--count", "10"])
            g.proc.wait(60)
            self.assertNotEqual(g.proc.returncode, 0)
            self.assertTrue(m.vios.alive(), m.vios.log())
            resource.prlimit(m.vios.proc.pid, resource.RLIMIT_NOFILE, before)
            m.guest(["--arm", "copy", "--count", "10"])


class Locks(Host):
    def test_whoever_writes_an_image_is_seen_in_both_directions(self):
        image = self.image(8)
        with self.qemu_nbd(image):
            for more in ("", ",ro=on"):
                rc, out = self.vios_says(f"file,path={image}{more}")
                self.assertEqual(rc, 1, out)
                self.assertIn("another program has it open for writing", out)
            with self.machine(f"file,path={image},ro=on,lock=off") as m, nbdkit(m, "copy") as uri:
                self.assertEqual(run("qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", uri)[0], 0)
        with self.machine(f"file,path={image}"):
            rc, out = run("qemu-io", "-f", "raw", "-c", "write 0 4k", image)
            self.assertNotEqual(rc, 0, out)
            self.assertIn('"write" lock', out)

    def test_readers_share_an_image_and_keep_writers_out(self):
        image = self.image(8)
        with self.qemu_nbd(image, "--read-only"):
            with self.machine(f"file,path={image},ro=on") as m, nbdkit(m, "copy") as uri:
                self.assertEqual(run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 0 4k", uri)[0], 0)
                rc, out = run("qemu-io", "-f", "raw", "-c", "write 0 4k", image)
                self.assertNotEqual(rc, 0, out)
        with open(image, "rb") as f:  # as a virtual machine of QEMU's that reads it: reads; no writing, no resizing
            for at in (100, 201, 203):
                fcntl.fcntl(f, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, at, 1, 0))
            with self.machine(f"file,path={image},ro=on"):
                pass
            rc, out = self.vios_says(f"file,path={image}")
            self.assertEqual(rc, 1, out)
            self.assertIn("wants nobody to write", out)

    def test_two_guests_and_one_disk_option_with_a_file_are_told_so(self):
        image = self.image(8)
        rc, out = self.vios_says(f"file,path={image}", guests=2)
        self.assertEqual(rc, 1, out)
        self.assertIn("this server has", out)
        self.assertNotIn("another program", out)


class Sparse(Host):
    def test_a_copy_of_a_sparse_image_takes_no_more_room_than_its_source(self):
        source = self.image(96, "source.img")
        with open(source, "r+b") as f:
            for at in (0, 1 << 20, 30 << 20, (96 << 20) - (256 << 10)):
                f.seek(at)
                f.write(os.urandom(256 << 10))
            os.fsync(f.fileno())
        room = os.stat(source).st_blocks
        for arm in (*ARMS, "unprotected") if not SLOW else ("zero-copy",):
            target = self.image(96)
            disk = ["--disk", f"file,path={target}", *(["--unprotected"] if arm == "unprotected" else [])]
            with self.subTest(arm=arm), Machine(BUILD, vios_args=disk) as m, nbdkit(m, arm) as uri:
                sh("nbdcopy", "--flush", source, uri)
                self.assertLessEqual(os.stat(target).st_blocks, room)
                sh("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)
                # ... and who wants the space gets it.
                rc, out = io(uri, "write -z 50M 8M", "flush")
                self.assertEqual(rc, 0, out)
                self.assertGreaterEqual(os.stat(target).st_blocks, room + (8 << 20) // 512 - 64)

    def test_a_copy_of_a_sparse_image_to_an_nbd_server_is_sparse_there(self):
        source, target = self.image(64, "source.img"), self.image(64)
        with open(source, "r+b") as f:
            f.write(os.urandom(256 << 10))
            os.fsync(f.fileno())
        with self.qemu_nbd(target, "--discard=unmap"):
            sock = os.path.join(self.d, "q.sock")
            with self.machine(f"nbd,uri=nbd+unix:///?socket={sock}") as m, nbdkit(m, "zero-copy") as uri:
                self.assertIn("nbd", m.vios.log())
                sh("nbdcopy", "--flush", source, uri)
                self.assertLessEqual(os.stat(target).st_blocks, os.stat(source).st_blocks)
                rc, out = io(uri, "write -z 16M 8M", "flush")
                self.assertEqual(rc, 0, out)
                self.assertGreaterEqual(os.stat(target).st_blocks, (8 << 20) // 512)


@unittest.skipUnless(os.geteuid() == 0 and os.path.exists("/dev/loop-control"), "needs root and loop devices")
class Devices(Host):
    @contextlib.contextmanager
    def loop(self, image, *args):
        dev = sh("losetup", "--find", "--show", *args, image).strip()
        try:
            yield dev
        finally:
            sh("losetup", "-d", dev)

    def test_a_read_only_device_is_not_served_as_if_it_could_be_written(self):
        with self.loop(self.image(8), "-r") as dev:
            rc, out = self.vios_says(f"file,path={dev}")
            self.assertEqual(rc, 1, out)
            self.assertIn("no permission to write", out)
            self.assertIn("ro=on", out)
            with self.machine(f"file,path={dev},ro=on") as m, nbdkit(m, "zero-copy") as uri:
                rc, out = run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 0 4k", uri)
                self.assertEqual(rc, 0, out)

    def test_a_file_on_storage_with_large_sectors_is_a_disk_of_512_byte_blocks_still(self):
        mnt = os.path.join(self.d, "mnt")
        os.mkdir(mnt)
        with self.loop(self.image(64), "--sector-size", "4096") as dev:
            sh("mkfs.ext4", "-q", "-b", "4096", dev)
            sh("mount", dev, mnt)
            try:
                path = os.path.join(mnt, "disk.img")
                with open(path, "wb") as f:
                    f.truncate(8 << 20)
                for more, block in (("", 512), (",block=4096", 4096)):
                    with self.machine(f"file,path={path}{more}") as m:
                        self.assertEqual(telemetry(m, "/vio/backend,0")[0]["block_size"], block)
                        self.assertIn("block=" if block == 512 else "O_DIRECT", m.vios.log())
            finally:
                sh("umount", mnt)


class Queues(Host):
    def test_a_guest_is_offered_no_queue_that_its_disk_would_refuse(self):
        image = self.image(8)
        sock = os.path.join(self.d, "q.sock")
        with self.qemu_nbd(image), self.machine(f"nbd,uri=nbd+unix:///?socket={sock}") as m:
            r = m.guest(["--queues", "4", "--count", "100", "--rw", "randread", "--verify", "off"])
            self.assertEqual(r["run"]["requests"], 100)


class Mute(Machine):
    """A machine whose server's messages go into a pipe that is full and that nobody reads."""

    def launch_vios(self):
        self.reader, w = os.pipe()
        fcntl.fcntl(w, F_SETPIPE_SZ, 4096)
        ready_r, ready_w = os.pipe()
        argv = [str(ready_w) if a == "@READY" else a for a in self.vios_argv()]
        self.server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=w, pass_fds=(ready_w,),
                                       preexec_fn=die_with_parent)
        os.close(ready_w)
        os.read(ready_r, 1)
        os.close(ready_r)
        # Another description of the same pipe: the server's own stays one that waits.
        fill = os.open(f"/proc/self/fd/{w}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(fill, b".")
        os.close(fill)
        os.close(w)

    def wait(self):
        pass  # it is ready already

    def words(self):
        """All that comes until the server has ended."""
        out = b""
        while more := os.read(self.reader, 65536):
            out += more
        return out.decode(errors="replace")

    def __exit__(self, *exc):
        self.server.kill()
        self.server.wait()
        os.close(self.reader)
        super().__exit__(*exc)


class Messages(Host):
    def test_a_server_whose_messages_nobody_reads_goes_on_serving_everybody(self):
        with Mute(BUILD, phypd_args=["--guests", "2"], vios_args=["--disk", "null", "--disk", "null"]) as m:
            for _ in range(20):  # each leaves a message or two: the guest comes, and goes without a word
                m.guest(["--count", "10", "--verify", "off"], timeout=60)
            m.guest(["--partition", "guest1", "--count", "1000", "--verify", "off"], timeout=60)
            threading.Timer(0.5, m.server.terminate).start()
            self.assertIn("ready", m.words())
            self.assertEqual(m.server.wait(30), 0)

    def test_a_server_whose_messages_nobody_reads_ends_when_it_is_told_to(self):
        with Mute(BUILD, vios_args=["--disk", "null"]) as m:
            m.guest(["--count", "10", "--verify", "off"], timeout=60)
            m.server.terminate()
            self.assertEqual(m.server.wait(30), 0)


class Format(Host):
    def test_an_image_of_another_format_served_as_it_lies_is_remarked(self):
        image = os.path.join(self.d, "disk.qcow2")
        for fmt in ("qcow2", "vmdk", "vdi", "vhdx"):
            sh("qemu-img", "create", "-q", "-f", fmt, image, "64M")
            with self.subTest(format=fmt), self.machine(f"file,path={image}") as m:
                self.assertIn(f"begins as a {fmt} image", m.vios.log())
        with self.machine(f"file,path={self.image(8)}") as m:
            self.assertNotIn("begins as", m.vios.log())


if __name__ == "__main__":
    main()
