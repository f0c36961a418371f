# SPDX-License-Identifier: BSD-3-Clause
"""Peers out of DPDK, on the same cores in the same run: two testpmd programs joined by vhost-user or by memif.

The guest's side is testpmd with virtio-user (or a memif client), the server's side testpmd with vhost (or a memif server).
testpmd's txonly writes headers and its rxonly frees what comes: headers are touched, payload is not. Both ways at once each end
gives back what it gets (mac), after the guest's side has put frames in: no frame is made, allocated or dropped meanwhile.
"""

import os
import shutil
import subprocess
import tempfile
import time

from machine import MachineError, die_with_parent
from ab.instrument import telemetry

PROGRAM = "dpdk-testpmd"
EAL = ["--force-max-simd-bitwidth=512"]  # else no vectorised packed ring
HUGE = ["--in-memory", "--single-file-segments", "-m", "96"]
START_SECONDS = 20
# The best of three in both directions and at 64 and 1514 bytes (docs/method.md): of virtio-user's defaults (split ring in order,
# mergeable), the vectorised split ring and this one.
RING = "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1"
# arm -> (device of the server's side, device of the guest's side)
PEERS = {
    "vhost-user": ("net_vhost0,iface={sock},queues=1", f"net_virtio_user0,path={{sock}},queues=1,queue_size=256,{RING}"),
    "memif": ("net_memif0,role=server,socket={sock},socket-abstract=no,rsize=8",
              "net_memif0,role=client,socket={sock},socket-abstract=no,rsize=8,zero-copy=no"),
    "memif zero-copy": ("net_memif0,role=server,socket={sock},socket-abstract=no,rsize=8",
                        "net_memif0,role=client,socket={sock},socket-abstract=no,rsize=8,zero-copy=yes"),
}
START = {"vhost-user": 1.4, "memif": 0.8, "memif zero-copy": 0.8}  # seconds to start and end a pair: for estimates
# op -> (forwarding mode of the guest's side, of the server's side)
MODES = {"tx": ("txonly", "rxonly"), "rx": ("rxonly", "txonly"), "both": ("mac", "mac")}
FIRST = "start tx_first 32\n"  # bursts of 32: what does not fit the rings is dropped once, the rest circulates
LARGE = 2048  # bytes of a frame from which mbufs are made larger: testpmd's generator sends a frame as one mbuf
OFF = 0.02  # of the size of frames, by counters that are not read all at once


class Testpmd:
    """One testpmd: forwards on `core`; its command thread sleeps on the other core. first: it puts frames in to circulate."""

    def __init__(self, folder, name, core, other, device, mode, size, first=False):
        self.prefix = f"{os.path.basename(folder)}-{name}"
        self.log_path = os.path.join(folder, name + ".log")
        lcores = ",".join(str(c) for c in sorted((core, other)))
        # --txpkts is refused, and 64 bytes stay, unless larger mbufs were asked for before it.
        bytes_of_one, number = (9344, 4096) if size >= LARGE else (2176, 8192)
        mbufs = [f"--mbuf-size={bytes_of_one}", f"--total-num-mbufs={number}"]
        argv = [PROGRAM, "-l", lcores, "--main-lcore", str(other), "--no-pci", "--file-prefix", self.prefix, *EAL, *HUGE,
                "--vdev", device, "--", "--nb-cores=1", *mbufs, "--forward-mode", mode, "--txpkts", str(size), "--no-mlockall",
                *self.begin(folder, first)]
        with open(self.log_path, "wb") as log:
            # A testpmd whose standard input ends stops: the pipe is held open.
            self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                                         preexec_fn=die_with_parent)

    @staticmethod
    def begin(folder, first):
        """Options that start forwarding; first: with frames of its own. (--tx-first would send one burst only.)"""
        if not first:
            return ["--auto-start"]
        commands = os.path.join(folder, "first")
        with open(commands, "w") as f:
            f.write(FIRST)
        return [f"--cmdline-file={commands}"]

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()[-1500:]

    def path(self):
        return telemetry.path(self.prefix)

    def stats(self):
        """ethdev's counters of port 0."""
        return telemetry.ask(self.prefix, "/ethdev/stats,0")[0]

    def stop(self):
        self.proc.terminate()
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc.stdin.close()
        shutil.rmtree(os.path.join(telemetry.runtime_folder(), self.prefix), ignore_errors=True)


def available():
    """"" or why peers can't be measured here."""
    return "" if shutil.which(PROGRAM) else f"{PROGRAM} is not installed (package dpdk-dev)"


def arrived(arm, before, after, size):
    """Frames between two readings of a port's counters; MachineError unless they have the size that was asked for."""
    frames, got = (after[k] - before[k] for k in ("ipackets", "ibytes"))
    if not frames or abs(got / frames / size - 1) > OFF:
        raise MachineError(f"peer {arm}: {frames} frames of {got / max(1, frames):.0f} bytes came, {size} were asked for")
    return frames


class Pair:
    """Both ends of a peer. with Pair(...) as p: p.measure(seconds)"""

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
            self.guest = self.start("guest", guest, server, devices[1], guest_mode, self.op == "both")
            ends = {"tx": self.server, "rx": self.guest}
            self.receivers = {way: end for way, end in ends.items() if self.op in (way, "both")}
            self.wait(lambda: all(r.stats()["ipackets"] > 1000 for r in self.receivers.values()), "frames to arrive")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def start(self, name, core, other, device, mode, first=False):
        p = Testpmd(self.folder, name, core, other, device, mode, self.size, first)
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
        """{"tx", "rx": frames received by the server's, the guest's side, as far as they are asked for; "ns"}"""
        def look():
            return {way: end.stats() for way, end in self.receivers.items()}
        a, t0 = look(), time.monotonic_ns()
        time.sleep(seconds)
        b, t1 = look(), time.monotonic_ns()
        return {way: arrived(self.arm, a[way], b[way], self.size) for way in a} | {"ns": t1 - t0}

    def __exit__(self, *exc):
        for p in reversed(self.ends):
            p.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
