# SPDX-License-Identifier: BSD-3-Clause
"""Peers for the disk, on the same cores in the same run: another project's vhost-user-blk server, driven by bench/vhost-blk, which
puts vio-blk's load on it with a lean polling driver.

(qemu): qemu-storage-daemon's export with an iothread. Its export is told of requests by an eventfd whatever the iothread's poll-max-ns
is (it registers no poll handler), so every publish costs it a wake; it offers split rings only. null is null-co; memory is a
raw file in /dev/shm by io_uring, as QEMU has no memory disk.
(rte_vhost): bench/vhost-blk-server, a poll-mode server on DPDK's vhost library, as SPDK's vhost target is; split and packed rings. No
block layer lies between ring and store: a bound from below for servers of its kind.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time

from machine import MachineError, Program, WrongResult, die_with_parent

QEMU = "qemu-storage-daemon"
START_SECONDS = 20
MIB = {"null": 256, "memory": 64, "file": 64}
POLL_NS = 1000000
# arm -> (server, options of vhost-blk). A server that always polls is never kicked, so the driver need not look whether to.
PEERS = {
    "vhost-user-blk (qemu)": ("qemu", ["--layout", "split"]),
    "vhost-user-blk (rte_vhost)": ("rte_vhost", ["--layout", "split", "--kick", "never"]),
    "vhost-user-blk (rte_vhost, packed)": ("rte_vhost", ["--layout", "packed", "--kick", "never"]),
}
BACKENDS = {"qemu": ("null", "memory", "file"), "rte_vhost": ("null", "memory")}


def qemu_argv(backend, socket, image):
    if backend == "null":
        node = {"driver": "null-co", "node-name": "disk", "size": MIB["null"] << 20, "read-zeroes": False}
    else:
        node = {"driver": "file", "node-name": "disk", "filename": image, "aio": "io_uring"}
    export = {"type": "vhost-user-blk", "id": "export", "node-name": "disk", "writable": True, "num-queues": 1, "iothread": "io",
              "addr": {"type": "unix", "path": socket}}
    return [QEMU, "--blockdev", json.dumps(node), "--object", f"iothread,id=io,poll-max-ns={POLL_NS}", "--export",
            json.dumps(export)]


def rte_vhost_argv(build, backend, socket, core):
    return [os.path.join(build, "bench/vhost-blk-server"), "--socket", socket, "--core", str(core), "--store", backend, "--mib",
            str(MIB[backend])]


def available(arm, build):
    """"" or why this peer can't be measured here."""
    if PEERS[arm][0] == "qemu":
        return "" if shutil.which(QEMU) else f"{QEMU} is not installed (package qemu-system-common)"
    return "" if os.path.exists(os.path.join(build, "bench/vhost-blk-server")) else "built without DPDK"


class Peer:
    """A server, started for one backend on the server's core. with Peer(...) as p: p.measure(args)

    duet: the value of --duet for a server that takes turns; one that does not poll is asleep whenever nobody asks it.
    """

    def __init__(self, arm, backend, build, cores, duet=None):
        self.arm, self.backend, self.build, self.cores, self.duet = arm, backend, build, cores, duet
        self.kind, self.options = PEERS[arm]

    def __enter__(self):
        try:
            self.begin()
            self.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def begin(self):
        """The first half of entering: the server is on its way. wait() is the second half."""
        why = available(self.arm, self.build)
        if not why and self.backend not in BACKENDS[self.kind]:
            why = f"it has no backend {self.backend}: restrict the sweep to other arms"
        if why:
            raise MachineError(f"{self.arm}: {why}")
        self.folder = tempfile.mkdtemp(prefix="vio-peer-")
        self.image = None
        self.socket = os.path.join(self.folder, "s")
        self.began = time.monotonic()
        self.start()

    def start(self):
        core = self.cores["server_core"]
        if self.kind == "qemu":
            if self.backend != "null":
                place = "/dev/shm" if self.backend == "memory" else None
                self.image = tempfile.NamedTemporaryFile(prefix="vio-peer-", dir=place)
                os.posix_fallocate(self.image.fileno(), 0, MIB[self.backend] << 20)
            argv = qemu_argv(self.backend, self.socket, self.image and self.image.name)
        else:
            argv = rte_vhost_argv(self.build, self.backend, self.socket, core) + (["--duet", self.duet] if self.duet else [])

        def before():
            die_with_parent()
            os.sched_setaffinity(0, {core})
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "wb") as log:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=before)

    def wait(self):
        end = time.monotonic() + START_SECONDS
        while not os.path.exists(self.socket) or (self.kind != "qemu" and "ready" not in self.log()):
            if self.proc.poll() is not None or time.monotonic() > end:
                raise MachineError(f"{self.arm}: the server did not start: {self.log()}")
            time.sleep(0.02)
        self.seconds = time.monotonic() - self.began

    # What an ensemble of a duet asks of a machine.

    @property
    def dir(self):
        return self.folder

    @property
    def vios(self):
        return self

    @property
    def alone(self):
        """Has it no side in the duet?"""
        return self.kind == "qemu"

    def signal(self, sig):
        if getattr(self, "proc", None) and self.proc.poll() is None:
            self.proc.send_signal(sig)

    def start_guest(self, args):
        return Program("vhost-blk", [os.path.join(self.build, "bench/vhost-blk"), "--socket", self.socket, "--core",
                                     str(self.cores["guest_core"]), *args, *self.options], self.folder)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()[-1500:]

    def measure(self, args, seconds):
        """vhost-blk's result. args: its load; seconds: what it takes about."""
        argv = [os.path.join(self.build, "bench/vhost-blk"), "--socket", self.socket, "--core", str(self.cores["guest_core"]), *args,
                *self.options, "--json", "-"]
        try:
            got = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + START_SECONDS,
                                 preexec_fn=die_with_parent)
        except subprocess.TimeoutExpired:
            raise MachineError(f"{self.arm}: vhost-blk did not end") from None
        if "wrong words" in got.stderr:
            raise WrongResult(f"{self.arm}: {got.stderr.strip()}")
        if got.returncode:
            raise MachineError(f"{self.arm}: {got.stderr.strip()}")
        return json.loads(got.stdout)

    def __exit__(self, *exc):
        proc = getattr(self, "proc", None)
        if proc:
            proc.terminate()
            try:
                proc.wait(5)
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.wait()
        if getattr(self, "image", None):
            self.image.close()
        shutil.rmtree(getattr(self, "folder", "-"), ignore_errors=True)


def load_args(point, batch, span, touch, measure):
    """Options of vhost-blk for a point; MachineError when the point asks for what a peer has not."""
    for key, why in (("rate", "open loop"), ("pool_kib", "pool"), ("extra", "extra option"), ("indirect", "indirect descriptors"),
                     ("idle_ms", "idle time")):
        if getattr(point, key):
            raise MachineError(f"a peer has no {why}: restrict the sweep with {key} to other arms")
    if point.op == "mixed" or point.cost != "free" or point.cores == "shared":
        raise MachineError("a peer reads or writes, with no costs injected and a core for each side: restrict the sweep to other arms")
    args = ["--rw", ("rand" if point.order == "rand" else "") + point.op, "--bs", str(point.bs), "--depth", str(point.depth),
            "--batch", str(batch), "--span", str(span), "--queue-size", str(point.queue_size), "--touch", touch, "--seconds",
            str(measure.seconds), "--warm-seconds", str(measure.warm_seconds)]
    return args + (["--buffers", str(point.buffers)] if point.buffers else [])


def values_of(result):
    """Metrics of model.METRICS; what only a hypervisor counts is left out."""
    run, latency = result["run"], result["run"]["latency_ns"]
    n = max(1, run["requests"])
    return {"requests": run["requests"], "elapsed_ns": run["elapsed_ns"], "ns_per_request": run["elapsed_ns"] / n,
            "bytes": run["bytes_read"] + run["bytes_written"], "p50_ns": latency["p50"], "p90_ns": latency["p90"],
            "p99_ns": latency["p99"], "p999_ns": latency["p99.9"], "max_ns": latency["max"], "mean_latency_ns": latency["mean"],
            "ready_ns": result["ready_ns"], "kicks": run["kicks"] / n}
