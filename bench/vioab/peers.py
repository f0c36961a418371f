# SPDX-License-Identifier: BSD-3-Clause
"""Peers out of DPDK, on the same cores in the same run: two testpmd programs joined by vhost-user or by memif.

The guest's side is testpmd with virtio-user (or a memif client), the server's side testpmd with vhost (or a memif server). testpmd's
txonly writes headers and its rxonly frees what comes: headers are touched, payload is not.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

from machine import MachineError, die_with_parent

PROGRAM = "dpdk-testpmd"
HUGE = ["--in-memory", "--single-file-segments", "-m", "96"]
START_SECONDS = 20
# arm -> (device of the server's side, device of the guest's side)
PEERS = {
    "vhost-user": ("net_vhost0,iface={sock},queues=1", "net_virtio_user0,path={sock},queues=1,queue_size=256"),
    "memif": ("net_memif0,role=server,socket={sock},socket-abstract=no,rsize=8",
              "net_memif0,role=client,socket={sock},socket-abstract=no,rsize=8,zero-copy=no"),
    "memif zero-copy": ("net_memif0,role=server,socket={sock},socket-abstract=no,rsize=8",
                        "net_memif0,role=client,socket={sock},socket-abstract=no,rsize=8,zero-copy=yes"),
}
# op -> (forwarding mode of the guest's side, of the server's side)
MODES = {"tx": ("txonly", "rxonly"), "rx": ("rxonly", "txonly")}


class Testpmd:
    """One testpmd: forwards on `core`; its command thread sleeps on the other core."""

    def __init__(self, folder, name, core, other, device, mode, size):
        self.prefix = f"{os.path.basename(folder)}-{name}"
        self.log_path = os.path.join(folder, name + ".log")
        lcores = ",".join(str(c) for c in sorted((core, other)))
        argv = [PROGRAM, "-l", lcores, "--main-lcore", str(other), "--no-pci", "--file-prefix", self.prefix, *HUGE, "--vdev", device,
                "--", "--nb-cores=1", "--forward-mode", mode, "--txpkts", str(size), "--total-num-mbufs=8192", "--auto-start",
                "--no-mlockall", "--mbuf-size=2176,9600" if size > 2000 else "--mbuf-size=2176"]
        with open(self.log_path, "wb") as log:
            # A testpmd whose standard input ends stops: the pipe is held open.
            self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                                         preexec_fn=die_with_parent)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()[-1500:]

    def path(self):
        """Of its telemetry socket; with --in-memory DPDK adds a number to the name. None before it is there."""
        folder = os.path.join(runtime_folder(), self.prefix)
        found = [f for f in os.listdir(folder) if f.startswith("dpdk_telemetry.v2")] if os.path.isdir(folder) else []
        return os.path.join(folder, found[0]) if found else None

    def stats(self):
        """ethdev's counters of port 0."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(5)
            s.connect(self.path())
            s.recv(65536)
            s.send(b"/ethdev/stats,0")
            return json.loads(s.recv(65536))["/ethdev/stats"]

    def stop(self):
        self.proc.terminate()
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc.stdin.close()
        shutil.rmtree(os.path.join(runtime_folder(), self.prefix), ignore_errors=True)


def runtime_folder():
    """Where DPDK keeps its sockets, as its own scripts look for it."""
    if os.geteuid() == 0:
        return "/var/run/dpdk"
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR", "/tmp"), "dpdk")


def available():
    """"" or why peers can't be measured here."""
    return "" if shutil.which(PROGRAM) else f"{PROGRAM} is not installed (package dpdk-dev)"


class Pair:
    """Both ends of a peer. with Pair(...) as p: p.rate(seconds)"""

    def __init__(self, arm, op, size, cores):
        self.arm, self.op, self.size, self.cores = arm, op, size, cores

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="vio-peer-")
        self.ends = []
        try:
            devices = [d.format(sock=os.path.join(self.folder, "s")) for d in PEERS[self.arm]]
            guest, server = self.cores["guest_core"], self.cores["server_core"]
            guest_mode, server_mode = MODES[self.op]
            self.server = self.start("server", server, guest, devices[0], server_mode)
            self.guest = self.start("guest", guest, server, devices[1], guest_mode)
            self.receiver = self.server if self.op == "tx" else self.guest
            self.wait(lambda: self.receiver.stats()["ipackets"] > 1000, "frames to arrive")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def start(self, name, core, other, device, mode):
        p = Testpmd(self.folder, name, core, other, device, mode, self.size)
        self.ends.append(p)
        self.wait(p.path, f"testpmd ({name}) to start")
        return p

    def wait(self, condition, what):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if any(p.proc.poll() is not None for p in self.ends):
                break
            try:
                if condition():
                    return
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        raise MachineError(f"peer {self.arm}: waited in vain for {what}\n" + "\n".join(p.log() for p in self.ends))

    def measure(self, seconds):
        """(frames received, ns)"""
        a, t0 = self.receiver.stats(), time.monotonic_ns()
        time.sleep(seconds)
        b, t1 = self.receiver.stats(), time.monotonic_ns()
        return b["ipackets"] - a["ipackets"], t1 - t0

    def __exit__(self, *exc):
        for p in reversed(self.ends):
            p.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
