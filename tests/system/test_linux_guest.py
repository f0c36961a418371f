#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A real Linux guest (Debian's ppc64le kernel, QEMU without firmware). Where packages can't be had: skipped, and said so."""

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from common import BUILD, ROOT, main

sys.path.insert(0, os.path.join(ROOT, "guest"))
from ab.report import guest_counts  # noqa: E402
from vm import counts, demo, devices, initramfs, kernel, ours, packages, qemu, share  # noqa: E402

ARCH = "ppc64le"


class Pure(unittest.TestCase):
    """What needs no guest."""

    def test_sonames_lead_to_debians_packages(self):
        for soname, package in (("libaio.so.1", "libaio1"), ("libc.so.6", "libc6"), ("ld64.so.2", "libc6"), ("libm.so.6", "libc6"),
                                ("ld-linux-x86-64.so.2", "libc6"), ("libcom_err.so.2", "libcom-err2"), ("libcrypto.so.3", "libssl3"),
                                ("libext2fs.so.2", "libext2fs2"), ("libnl-3.so.200", "libnl-3-200"), ("libstdc++.so.6", "libstdc++6")):
            self.assertEqual(packages.package_of(soname), package)

    def test_an_archive_has_each_folder_once_before_its_files_and_all_bytes(self):
        a = initramfs.Archive()
        a.data("a/b/one", b"12345", 0o755)
        a.data("/a/b/two", "x")
        a.link("a/l", "b/one")
        raw, at, seen = a.bytes(), 0, []
        self.assertEqual(len(raw) % 4, 0)
        while at < len(raw):
            head = raw[at:at + 110].decode()
            self.assertEqual(head[:6], "070701")
            mode, size, n = (int(head[i:i + 8], 16) for i in (14, 54, 94))
            name = raw[at + 110:at + 110 + n - 1].decode()
            data_at = at + (110 + n + 3) // 4 * 4
            seen.append((name, mode >> 12, raw[data_at:data_at + size]))
            at = data_at + (size + 3) // 4 * 4
        self.assertEqual(seen, [("a", 4, b""), ("a/b", 4, b""), ("a/b/one", 8, b"12345"), ("a/b/two", 8, b"x"), ("a/l", 10, b"b/one"),
                                ("TRAILER!!!", 0, b"")])

    def test_the_command_line_never_has_one_possible_processor_or_one_thread(self):
        with tempfile.TemporaryDirectory() as d:
            for arch, (program, *_) in qemu.MACHINES.items():
                if not shutil.which(program):
                    continue
                for cpus in (1, 2, 3):
                    argv = qemu.Vm(arch, "k", b"", d, cpus=cpus).argv(b"")
                    self.assertEqual(argv[argv.index("-smp") + 1], f"{cpus},maxcpus={max(2, cpus)}")
                    self.assertIn("tcg,thread=multi", argv)

    @unittest.skipUnless(shutil.which(qemu.MACHINES[ARCH][0]), "no QEMU")
    def test_a_shell_has_qemus_monitor_beside_it_so_that_ctrl_a_x_ends_it(self):
        with tempfile.TemporaryDirectory() as d, mock.patch("vm.qemu.subprocess.run") as run:
            qemu.Vm(ARCH, "k", b"", d).shell()
        argv = run.call_args_list[0].args[0]
        self.assertEqual(argv[argv.index("-serial") + 1], "mon:stdio")

    def test_a_console_is_judged_by_what_did_not_hold(self):
        self.assertEqual(qemu.results(["@@ok a", "noise", "@@bad b c", "@@end"]), (["a"], ["b c"]))

    def test_trace_events_become_calls_and_updates(self):
        said = ["spapr_iommu_put liobn=0x71000002 ioba=0x1000 tce=0x3 ret=0",
                "12@1.5:spapr_iommu_indirect liobn=0x71000002 ioba=0x2000 tcelist=0x3200000 iobaN=0xe tceN=0x2c9e003 ret=0",
                "spapr_iommu_stuff liobn=0x71000002 ioba=0x1000 tcevalue=0x0 npages=16 ret=0", "spapr_vscsi_do_crq crq: 80 01 ...",
                "spapr_vscsi_transfer_data SCSI xfer complete tag=0x1 len=0x1000, req=0x55",
                "memory_region_ops_write cpu 0 mr 0x55 addr 0x3000 value 0x0 size 2 name 'virtio-pci-notify-virtio-blk'",
                "memory_region_ops_write cpu 0 mr 0x55 addr 0x10 value 0x0 size 4 name 'xive.tima'"]
        self.assertEqual(counts.stock_counts(said), {
            "calls": {"H_PUT_TCE": 1, "H_PUT_TCE_INDIRECT": 1, "H_STUFF_TCE": 1, "H_SEND_CRQ": 1}, "tce_updates": 32, "registers": 1,
            "bytes_copied": 4096})
        self.assertEqual(counts.difference({"a": {"b": 1}, "c": 2}, {"a": {"b": 4, "d": 1}, "c": 2}), {"a": {"b": 3, "d": 1}, "c": 0})

    def test_counts_become_a_section_of_the_report_and_none_without_them(self):
        with tempfile.TemporaryDirectory() as d:
            self.assertIsNone(guest_counts.section(d))
            one = {"calls": {"H_PUT_TCE": 10, "H_STUFF_TCE": 0}, "tce_updates": 25, "registers": 0, "bytes_copied": 40960, "interrupts": 5, "requests": 10}
            counts.write({"arch": "ppc64le", "kernel": "k", "disks": {"a": {"read-4k": one}, "b": {"read-4k": {**one, "server": {"H_COPY_RDMA": 30}}}}}, d)
            section = guest_counts.section(d)
        self.assertEqual(section.tables[0].rows, [["read-4k", "a", "1 H_PUT_TCE", "2.5", "0", "-", "4096", "0.5"],
                                                  ["read-4k", "b", "1 H_PUT_TCE", "2.5", "0", "3 H_COPY_RDMA", "4096", "0.5"]])

    def test_elf_files_alone_need_libraries(self):
        self.assertIn("libc.so.6", packages.needed_sonames(os.path.realpath("/bin/bash")))
        self.assertEqual(packages.needed_sonames(__file__), [])
        self.assertEqual(struct.calcsize("P"), 8)


class Load(unittest.TestCase):
    """vio-load, the program that counts are taken under, on a file."""

    def load(self, path, *args):
        return subprocess.run([os.path.join(BUILD, "guest", "vio-load"), "--device", path, *args], capture_output=True, text=True,
                              timeout=60, check=False)

    def test_every_byte_is_written_read_and_checked_at_several_depths(self):
        with tempfile.NamedTemporaryFile(dir=BUILD) as f:
            f.truncate(4 << 20)
            for args in (["--rw", "randread"], ["--rw", "randwrite", "--depth", "8"], ["--rw", "write", "--flush-every", "3", "--bs", "64k", "--depth", "4"]):
                said = self.load(f.name, "--count", "200", *args)
                self.assertEqual(said.returncode, 0, said.stderr)
                self.assertRegex(said.stdout, "2[0-9][0-9] requests.* verified, 0 wrong")

    def test_what_is_no_disk_and_wrong_use_are_told(self):
        with tempfile.TemporaryDirectory(dir=BUILD) as d:
            said = self.load(os.path.join(d, "none"))
            self.assertEqual((said.returncode, "none can't be opened" in said.stderr), (1, True))
        for args in (["--bs", "100"], ["--depth", "0"], ["--rw", "sideways"]):
            self.assertEqual(self.load("/dev/null", *args).returncode, 2, args)
        self.assertIn("can't be opened for direct I/O", self.load("/dev/null").stderr)


class Booted(unittest.TestCase):
    """With a guest: root, kernel and folder of the class."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="vio-guest-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def vm(self, has, programs=()):
        initrd = initramfs.base(ROOT_OF_GUEST, KERNEL.ordered(has.modules, has.own_modules), programs, params=has.params())
        return qemu.Vm(ARCH, KERNEL.image, initrd, self.folder, devices=has.qemu(), ram=has.ram)

    def held(self, lines, text):
        """Every check of the script was made, and held."""
        good, bad = qemu.results(lines)
        self.assertEqual(bad, [])
        self.assertEqual(len(good), len(re.findall("^check ", text, re.M)), good)

    def test_papr_devices_of_qemu_carry_ext4_and_pings(self):
        text = demo.text(["disk", "net"])
        with devices.Stock(ARCH, "vio", self.folder) as has:
            lines = self.vm(has, ["mke2fs"]).run(text, 240, has.asked, FILES=3, PINGS=3, **has.variables())
        self.held(lines, text)

    @unittest.skipUnless(os.path.exists(os.path.join(BUILD, "server", "vios")), "this build has no vios")
    def test_stock_drivers_over_our_devices_carry_ext4_pings_a_share_restarts_and_unloads(self):
        # Each level of mapping that has code of its own in the kernel; cycles where nothing stands, and where all does.
        for arm, parts, more in (("copy", ["disk", "net", "share", "restart", "cycles"], {"CYCLES": 2}), ("premapped", ["disk", "share", "restart"], {}),
                                 ("zero-copy", ["disk", "net", "share", "rng", "restart", "cycles"], {})):
            with self.subTest(arm=arm):
                has = ours.Ours(BUILD, self.folder, ARCH, arm, 512, say=print)
                share.Share.FILES = 100
                has.build_modules(KERNEL)
                with has:
                    text = demo.text([p for p in parts if p in has.parts()])
                    lines = self.vm(has, ["mke2fs"]).run(text, 300, has.asked, **{"FILES": 3, "PINGS": 3, "WRITES": 12, "SHARED": 100, **more, **has.variables()})
                self.held(lines, text)

    @unittest.skipUnless(os.path.exists(os.path.join(BUILD, "server", "vios")), "this build has no vios")
    def test_ctrl_c_ends_everything(self):
        main_py = os.path.join(ROOT, "guest", "vm", "main.py")
        with tempfile.TemporaryDirectory() as tmp:
            p = subprocess.Popen([sys.executable, "-B", "-u", main_py, "--build", BUILD, "--accel", "tcg", "--demo", "--only", "disk"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "TMPDIR": tmp})
            said = []
            for line in p.stdout:
                said.append(line)
                if "--- disk" in line:
                    break
            p.send_signal(signal.SIGINT)
            p.communicate(timeout=60)
            self.assertEqual(p.returncode, 130, said)
            left = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as f:
                        left += [pid] if tmp.encode() in f.read() else []
                except OSError:
                    pass
            self.assertEqual((left, os.listdir(tmp)), ([], []))

    def test_a_guest_that_ends_early_or_never_is_an_error_that_shows_its_console(self):
        with devices.Stock(ARCH, "pci", self.folder) as has:
            vm = self.vm(has)
        vm.devices = []
        with self.assertRaisesRegex(qemu.GuestError, "(?s)ended early.*last words"):
            vm.run("echo last words; poweroff -f", 240, no_modules=1)
        with self.assertRaisesRegex(qemu.GuestError, "(?s)not done in time"):
            vm.run("sleep 1000", 3, no_modules=1)


def have_guest():
    """Fetch what a guest needs; exit code 77, which meson calls skipped, with the reason when it can't be had."""
    try:
        packages.need_program(*qemu.MACHINES[ARCH][:2])
        root = packages.Root(ARCH, lambda text: print(text, flush=True))
        k = kernel.Kernel(root)
        k.headers()
        initramfs.base(root, k.ordered(sum(kernel.STOCK.values(), [])), ["mke2fs"])
        return root, k
    except packages.Missing as e:
        print(f"SKIPPED: no Linux guest here: {e}", flush=True)
        sys.exit(77 if unittest.main(defaultTest="Pure", exit=False, verbosity=2).result.wasSuccessful() else 1)


if __name__ == "__main__":
    ROOT_OF_GUEST, KERNEL = have_guest()
    main()
