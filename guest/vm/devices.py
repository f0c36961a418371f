# SPDX-License-Identifier: BSD-3-Clause
"""What a guest has for a disk and a network: QEMU's own devices, which stock drivers know, as peers and as a check of the harness."""

import os
import socket
import subprocess

from vm.kernel import STOCK
from vm.qemu import GuestError, die_with_parent

MIB = 1 << 20


def fsck(path):
    """The host's look at a disk's ext4: "ok", or "no" and why."""
    said = subprocess.run(["e2fsck", "-f", "-n", path], capture_output=True, text=True, check=False)
    if said.returncode:
        return "no: " + " ".join((said.stdout + said.stderr).split())[-200:]
    features = subprocess.run(["dumpe2fs", "-h", path], capture_output=True, text=True, check=False).stdout
    return "ok" if "has_journal" in features else "no journal"


class Stock:
    """kind "pci": virtio-blk-pci and virtio-net-pci; "vio": PAPR's own, vscsi and logical LAN (ppc64le only).

    With a network card of another name (nic) that one instead. The network is QEMU's user-mode one: its gateway answers pings, and
    a port of its own leads to an iperf3 server of the host's.
    """

    def __init__(self, arch, kind, folder, disk_mib=64, nic=None, counted=False):
        if kind == "vio" and arch != "ppc64le":
            raise GuestError("spapr-vscsi and spapr-vlan are POWER's: ./run guest ppc64le --stock vio")
        self.kind, self.folder, self.nic, self.counted = kind, folder, nic, counted
        self.disk = os.path.join(folder, "disk.img")
        with open(self.disk, "wb") as f:
            f.truncate(disk_mib * MIB)

    @property
    def modules(self):
        return STOCK["virtio"] + STOCK["pci"] + (STOCK["vio"] if self.kind == "vio" else []) + (STOCK["nics"] if self.nic else [])

    own_modules, ram = (), None

    @property
    def irqs(self):
        """Which lines of /proc/interrupts are the disk's: a regular expression of sed."""
        return {"pci": "virtio", "vio": "ibmvscsi"}[self.kind]

    def build_modules(self, kernel):
        """None of ours."""

    def params(self):
        return {}

    def trouble(self):
        return ""

    def iperf(self):
        return Iperf()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def qemu(self):
        """Arguments that give the guest its devices."""
        drive = ["-drive", f"if=none,id=d0,format=raw,cache=writeback,file={self.disk}"]
        net = ["-netdev", "user,id=n0,restrict=off"]
        plain = ",ioeventfd=off" if self.counted else ""  # a kick by ioeventfd is not among QEMU's trace events; it leaves the guest all the same
        disk = {"pci": ["-device", "virtio-blk-pci,drive=d0" + plain],
                "vio": ["-device", "spapr-vscsi,id=vs0", "-device", "scsi-hd,drive=d0,bus=vs0.0"]}[self.kind]
        card = self.nic or {"pci": "virtio-net-pci" + plain, "vio": "spapr-vlan"}[self.kind]
        return [*drive, *disk, *net, "-device", f"{card},netdev=n0"]

    def variables(self):
        return {"DISK": {"pci": "/dev/vda", "vio": "/dev/sda"}[self.kind], "NIC": "eth0", "ADDRESS": "10.0.2.15", "PEER": "10.0.2.2"}

    def asked(self, words):
        if words == ["fsck"]:
            return fsck(self.disk)
        return f"no: the host does not know {' '.join(words)}"

    def parts(self):
        """Scripts of inside/ that can run on these devices."""
        return ["disk", "net", "fio"]


class Iperf:
    """An iperf3 server of the host on a port of its own, one test after another, until it is left."""

    def __init__(self, prefix=()):
        with socket.socket() as s:
            s.bind(("", 0))
            self.port = s.getsockname()[1]
        self.argv = [*prefix, "iperf3", "-s", "-p", str(self.port)]

    def __enter__(self):
        self.proc = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     preexec_fn=die_with_parent)
        return self

    def __exit__(self, *exc):
        self.proc.kill()
        self.proc.wait()
