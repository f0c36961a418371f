#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The guest's disk under real programs: nbdkit with the vio plugin, driven by qemu-img, nbdcopy, nbdinfo and fio."""

import filecmp
import json
import os
import shutil
import subprocess
import unittest

from common import ARMS, BUILD, SLOW, Machine, main, until
from nbd_disk import nbdkit, sh


class Nbd(unittest.TestCase):
    def setUp(self):
        import tempfile
        self.tmp = tempfile.TemporaryDirectory(prefix="vio-nbd-")
        self.d = self.tmp.name

    def tearDown(self):
        self.tmp.cleanup()

    def ext4(self, mib=24):
        """An ext4 image with files in it, made by mkfs from a folder."""
        tree, image = os.path.join(self.d, "tree"), os.path.join(self.d, "ext4.img")
        os.mkdir(tree)
        for i in range(20):
            with open(os.path.join(tree, f"f{i}"), "wb") as f:
                f.write(os.urandom(100000 + i * 7777))
        with open(image, "wb") as f:
            f.truncate(mib << 20)
        sh("mkfs.ext4", "-q", "-F", "-d", tree, image)
        return image

    def test_a_whole_disk_copy_of_an_ext4_image_equals_it_bit_for_bit_in_every_arm(self):
        image = self.ext4()
        served = os.path.join(self.d, "served.img")  # the server locks what it serves, as QEMU does
        shutil.copyfile(image, served)
        for arm in ARMS:
            with self.subTest(arm=arm), Machine(BUILD, vios_args=["--disk", f"file,path={served}"]) as m:
                with nbdkit(m, arm) as uri:
                    info = json.loads(sh("nbdinfo", "--json", "--no-content", uri))
                    self.assertEqual(info["exports"][0]["export-size"], os.path.getsize(image))
                    out = os.path.join(self.d, f"out-{arm}.img")
                    sh("nbdcopy", uri, out)
                    self.assertTrue(filecmp.cmp(image, out, shallow=False), f"{arm}: nbdcopy's copy differs")
                    sh("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri)
                    sh("e2fsck", "-fn", out)

    def test_a_file_system_written_through_the_disk_arrives_in_the_image(self):
        image = self.ext4()
        for arm in ("copy", "zero-copy"):
            with self.subTest(arm=arm):
                target = os.path.join(self.d, f"target-{arm}.img")
                with open(target, "wb") as f:
                    f.truncate(os.path.getsize(image))
                with Machine(BUILD, vios_args=["--disk", f"file,path={target}"]) as m, nbdkit(m, arm) as uri:
                    sh("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, uri)
                    sh("nbdcopy", "--flush", uri, "null:")
                self.assertTrue(filecmp.cmp(image, target, shallow=False))
                sh("e2fsck", "-fn", target)

    @unittest.skipUnless(os.path.exists("/dev/fuse") and os.geteuid() == 0, "needs /dev/fuse and root")
    def test_nbdfuse_shows_the_disk_as_a_file_that_equals_the_image(self):
        image, mnt = self.ext4(), os.path.join(self.d, "mnt")
        served = os.path.join(self.d, "served.img")
        shutil.copyfile(image, served)
        os.mkdir(mnt)
        with Machine(BUILD, vios_args=["--disk", f"file,path={served}"]) as m, nbdkit(m, "zero-copy") as uri:
            fuse = subprocess.Popen(["nbdfuse", os.path.join(mnt, "disk"), uri], stdin=subprocess.DEVNULL)
            try:
                until(lambda: os.path.exists(os.path.join(mnt, "disk")), "nbdfuse's file")
                self.assertTrue(filecmp.cmp(image, os.path.join(mnt, "disk"), shallow=False))
            finally:
                sh("umount", mnt)
                fuse.wait(20)

    def test_fio_verifies_random_writes_through_every_arm(self):
        for arm in ARMS:
            with self.subTest(arm=arm):
                image = os.path.join(self.d, f"fio-{arm}.img")
                with open(image, "wb") as f:
                    f.truncate(16 << 20)
                with Machine(BUILD, vios_args=["--disk", f"file,path={image}"]) as m, nbdkit(m, arm) as uri:
                    sh("fio", "--name=v", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bs=4k,64k",
                       f"--size={'2M' if SLOW else '12M'}", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1",
                       "--do_verify=1", "--verify_state_save=0", "--randrepeat=1", "--output-format=terse")

    def test_a_qcow2_behind_the_nbd_backend_is_a_disk_like_any_other(self):
        image = self.ext4()
        qcow = os.path.join(self.d, "disk.qcow2")
        sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, qcow)
        sock = os.path.join(self.d, "q.sock")
        q = subprocess.Popen(["qemu-nbd", "--format=qcow2", "--persistent", "--shared=8", f"--socket={sock}", qcow],
                             stdin=subprocess.DEVNULL)
        try:
            until(lambda: os.path.exists(sock), "qemu-nbd's socket")
            for arm in ("copy", "zero-copy"):
                with self.subTest(arm=arm), Machine(
                        BUILD, vios_args=["--disk", f"nbd,uri=nbd+unix:///?socket={sock}"]) as m:
                    with nbdkit(m, arm) as uri:
                        sh("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri)
                        sh("fio", "--name=v", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bs=4k",
                           "--size=1M", "--iodepth=4", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
                           "--verify_state_save=0", "--output-format=terse")
                        sh("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, uri)
        finally:
            q.terminate()
            q.wait(20)
        sh("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, qcow)


if __name__ == "__main__":
    main()
