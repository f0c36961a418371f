# SPDX-License-Identifier: BSD-3-Clause
"""What a guest has for a disk, a network, a shared folder, a second console and random numbers when they are this project's: a
hypervisor, a VIO server, the mailbox between them and QEMU, and, where the demo wants a peer, a user-space partition whose network card
is a tap in a namespace."""

import hashlib
import json
import os
import shutil
import signal
import subprocess

from vm import devices, share
from vm.devices import MIB, fsck
from vm.kernel import STOCK
from vm.packages import Broken
from vm.qemu import Machine, MachineError, Program, ask_within

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SOURCE = os.path.join(TOP, "guest", "linux")
GUEST, TAP = "linux", "tap"
PEER, ADDRESS = "10.77.0.1", "10.77.0.2"


def ip(*argv, check=True):
    r = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    if check and r.returncode:
        raise Broken(f"ip {' '.join(argv)}: {r.stderr.strip()}")


class Namespace:
    """A network namespace of our own; None as its name where none can be made, with the reason in `why`."""

    def __init__(self):
        self.name, self.why = None, None

    def __enter__(self):
        name = f"vio{os.getpid()}guest"
        if not shutil.which("ip") or not os.path.exists("/dev/net/tun"):
            self.why = "no ip (iproute2) or no /dev/net/tun"
        else:
            r = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            self.why = r.stderr.strip() if r.returncode else None
            self.name = None if r.returncode else name
        return self

    def __exit__(self, *exc):
        if self.name:
            ip("netns", "del", self.name, check=False)


class Ours:
    """The machine with its devices; a context. vios can be stopped and started while the guest runs.

    peer: on the network. more: devices besides disk and network, whose calls are counted too.
    """

    def __init__(self, build, folder, arch, arm, memory_mib, disk_mib=64, peer=True, more=True, say=lambda text: None):
        self.build, self.folder, self.arch, self.arm, self.memory_mib, self.say = os.path.abspath(build), folder, arch, arm, memory_mib, say
        self.disk = os.path.join(folder, "disk.img")
        with open(self.disk, "wb") as f:
            f.truncate(disk_mib * MIB)
        self.socket, self.ram = os.path.join(folder, "ivshmem.sock"), os.path.join(folder, "ram")
        self.stats_file = os.path.join(folder, "mailbox.json")
        self.namespace = Namespace()
        self.console, self.share = os.path.join(folder, "console.sock"), None
        self.want_peer, self.more, self.tap, self.mailbox, self.machine = peer, more, None, None, None
        self.own_modules = ()

    modules, irqs = STOCK["virtio"], "vio_hv"

    def build_modules(self, kernel):
        if not os.path.isdir(SOURCE):
            raise Broken(f"{SOURCE} is not there: this tree has no guest modules; --stock pci boots QEMU's own devices")
        top = os.path.abspath(TOP)
        key = hashlib.sha256(top.encode()).hexdigest()[:8]  # another tree may have the same name
        out = os.path.join(kernel.root.dir, f"modules-{os.path.basename(top)}-{key}")
        self.own_modules = kernel.build(SOURCE, out, f"VIO_ROOT={top}")

    def params(self):
        return {"virtio_vio": f"arm={self.arm}"}

    # --- the machine -------------------------------------------------------------------------------------------------

    def devices(self):
        """The VIO server's, each behind an adapter, in that order: (option, value, whether it is the peer's)."""
        return [("--disk", f"file,path={self.disk}", False), ("--net", "", False),
                *([("--rng", "", False), ("--console", f"socket={self.console}", False)] if self.more else []),
                *([("--9p", f"tag=share,socket={self.share.socket}", False)] if self.share else []),
                *([("--net", "", True)] if self.want_peer else [])]

    def profile(self):
        adapters = [TAP if of_peer else GUEST for _, _, of_peer in self.devices()]
        return {"partitions": [{"name": "vios", "memory_mib": 128},
                               {"name": GUEST, "memory_mib": self.memory_mib, "lmb_mib": self.memory_mib, "pages": "4k"},
                               *([{"name": TAP, "memory_mib": 64}] if self.want_peer else [])],
                "adapters": [{"server": "vios", "client": c} for c in adapters]}

    def __enter__(self):
        try:
            self._start()
        except MachineError as e:
            self.__exit__(None, None, None)
            raise Broken(str(e)) from None
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self):
        if self.want_peer:
            self.namespace.__enter__()
            if not self.namespace.name:
                self.say(f"no peer on the network: {self.namespace.why}")
                self.want_peer = False
        if self.more and share.program():
            self.share = share.Share(self.folder)
        elif self.more:
            self.say("no shared folder: diod is not installed (apt-get install diod, or ./run setup)")
        where = os.path.join(self.folder, "profile.json")
        with open(where, "w", encoding="utf-8") as f:
            json.dump(self.profile(), f)
        vios = [f"{option}={value}" for option, value, _ in self.devices()]
        self.machine = Machine(self.build, phypd_args=["--profile", where], vios_args=vios)
        self.machine.__enter__()
        self.mailbox = Program("vio-mailbox", [self.machine.path("guest/vio-mailbox"), "--phypd", self.machine.socket,
                                               "--partition", GUEST, "--socket", self.socket, "--ram-link", self.ram,
                                               "--stats", self.stats_file, "--ready-fd", "@READY"], self.machine.dir)
        self.mailbox.wait_ready(30)
        if self.want_peer:
            self._start_tap()

    def _start_tap(self):
        name = self.namespace.name
        self.tap = Program("vio-tap", [self.machine.path("guest/vio-tap"), "--phyp", self.machine.socket, "--partition", TAP, "--arm",
                                       self.arm, "--netns", name, "--tap", "vio0", "--ready-fd", "@READY"], self.machine.dir)
        self.tap.wait_ready(30)
        ip("-n", name, "addr", "add", PEER + "/24", "dev", "vio0")
        ip("-n", name, "link", "set", "lo", "up")

    def __exit__(self, *exc):
        for p in (self.tap, self.mailbox):
            if p:
                p.stop()
        if self.machine:
            self.machine.__exit__(*exc)
        if self.share:
            self.share.close()
        self.namespace.__exit__(*exc)

    def restart_vios(self):
        """The VIO server dies and comes back while the guest runs."""
        self.machine.vios.kill()
        self.machine.start_vios()

    def counters(self):
        """The mailbox's counters now."""
        before = os.stat(self.stats_file).st_mtime_ns if os.path.exists(self.stats_file) else 0
        self.mailbox.signal(signal.SIGUSR1)
        for _ in range(200):
            if os.path.exists(self.stats_file) and os.stat(self.stats_file).st_mtime_ns != before:
                with open(self.stats_file, encoding="utf-8") as f:
                    text = f.read()
                if text.endswith("}\n"):
                    return json.loads(text)
            try:
                self.mailbox.proc.wait(0.02)
                break
            except subprocess.TimeoutExpired:
                pass
        raise Broken(f"vio-mailbox does not say its counters:\n{self.mailbox.log()}")

    def counted(self):
        """For counts.py: of the guest's partition, and of the server's."""
        n = self.counters()
        server = ask_within(10, os.path.basename(self.machine.dir), ["/vio/hcalls"])[0]
        # vio-mailbox counts the TCEs that are left by H_GET_TCE, which no guest of ours calls. A doorbell only wakes it when it sleeps.
        return {"calls": {k: v for k, v in n.items() if k.startswith("H_") and k != "H_GET_TCE"}, "tce_updates": n["tce_updates"],
                "registers": 0, "doorbells": n["doorbells"],
                "bytes_copied": server.get("rdma_bytes", 0), "server": {k: v for k, v in server.items() if k.startswith("H_")}}

    def trouble(self):
        """What the programs said, for a failure's message."""
        said = [(p.name, p.log()[-1500:]) for p in (self.machine.vios, self.mailbox, self.tap, self.share and self.share.diod) if p]
        return "".join(f"\n--- {name}:\n{text}" for name, text in said if text)

    # --- what the guest sees -----------------------------------------------------------------------------------------

    def qemu(self):
        return ["-chardev", f"socket,path={self.socket},id=vio", "-device", "ivshmem-doorbell,vectors=1,chardev=vio"]

    def variables(self):
        return {"DISK": "/dev/vda", "NIC": "eth0", "ADDRESS": ADDRESS, "PEER": PEER, "ARM": self.arm,
                **({"SHARE": "share", "ANAME": self.share.folder} if self.share else {})}

    def iperf(self):
        return devices.Iperf(["ip", "netns", "exec", self.namespace.name])

    def asked(self, words):
        if words == ["fsck"]:
            return fsck(self.disk)
        if words == ["restart-vios"]:
            self.restart_vios()
            return "ok"
        if words[:1] == ["share"] and self.share:
            return self.share.asked(words[1:])
        if words == ["no-tces"]:
            n = self.counters()
            return "ok" if n["tces"] == n["grants"] == 0 else f"no: {n['tces']} TCEs are mapped, {n['grants']} grants stand"
        return f"no: the host does not know {' '.join(words)}"

    def parts(self):
        return ["disk", *(["net"] if self.want_peer else []), *(["share"] if self.share else []), *(["rng"] if self.more else []),
                "fio", "cycles", "restart"]
