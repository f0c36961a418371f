# SPDX-License-Identifier: BSD-3-Clause
"""One trial: a machine started afresh for one slot, its points measured in random order, and what is made of each."""

import os
import subprocess
import sys
import tempfile
import time

from machine import Machine, MachineError, WrongResult
from ab.drivers import disk_peers
from ab.instrument import environment
from ab.instrument.model import Point

DISK = {"null": "null,size=256M", "memory": "memory,size=64M", "file": "file,path={image}"}
IMAGE_BYTES = 64 << 20
TRIES = 3  # of a sample that the discard rule refused
QUEUE_SIZE = 256  # what the server offers unless a point asks for more
RDMA_CALLS = ("H_COPY_RDMA", "H_READ_RDMA", "H_WRITE_RDMA")
SERVER, GUEST = "vios", "guest0"
PAD = "VIO_PADDING"  # environment variable of random length: moves the stacks (Mytkowicz 2009)
BUSY = "while True: pass"
# Of a guest at its start: on a machine that others use, a server that is merely slow must not fail an experiment.
PATIENCE = ["--timeout", "60"]


def machine_key(point):
    """What a machine must be started with; points with the same key share one machine in a trial."""
    return (point.backend, point.cost, point.cores, point.idle_ms, max(QUEUE_SIZE, point.queue_size), point.bs % 512 != 0)


def key_text(key):
    backend, cost, cores = key[:3]
    return backend + (f", {cost}" if cost != "free" else "") + (f", cores {cores}" if cores != "split" else "")


def server_args(arm, key, image):
    backend, _, _, idle_ms, queue_size, short = key
    args = ["--disk", DISK[backend].format(image=image) + (",short=on" if short else ""), "--queue-size", str(queue_size)]
    if "unprotected" in arm or "unchecked" in arm:
        args.append("--unprotected")
    return args + (["--idle-ms", idle_ms] if idle_ms else [])


def touch(point):
    """Bytes that the load touches: nothing can be checked on a disk that keeps nothing."""
    return point.touch or ("none" if point.backend == "null" else "all")


def batch_of(point):
    return point.batch or (1 if point.depth == 1 else point.depth // 2)


def span_of(point):
    """Bytes of the disk that a load goes over."""
    return min(IMAGE_BYTES, max(2 << 20, point.bs * 256))


def guest_args(arm, point, measure):
    batch = batch_of(point)
    prefix = "rand" if point.order == "rand" else ""
    args = ["--arm", arm, "--rw", prefix + point.op, "--bs", str(point.bs), "--depth", str(point.depth), "--batch",
            str(batch), "--span", str(span_of(point)), "--queue-size", str(point.queue_size), "--seconds", str(measure.seconds),
            "--warm-seconds", str(measure.warm_seconds)]
    if point.rate:
        args += ["--rate", f"{point.rate:g}"]
    if point.buffers:
        args += ["--buffers", str(point.buffers)]
    if point.pool_kib:
        args += ["--pool-kib", str(point.pool_kib)]
    if point.indirect:
        args.append("--indirect")
    return args + [*PATIENCE, "--touch", touch(point)] + point.extra.split()


def check(arm, result):
    """A sample counts only if the arm in force is the one asked for and all data was right."""
    run = result["run"]
    if result["arm"] != result["arm_wanted"]:
        raise WrongResult(f"{arm}: in force was {result['arm']}, asked was {result['arm_wanted']}")
    if run["errors"] or run["mismatches"]:
        raise WrongResult(f"{arm}: {run['errors']} errors, {run['mismatches']} wrong words, {run['first_mismatch']}")
    if result["load"]["touch"] == "all" and run["reads"] and not run["bytes_verified"]:
        raise WrongResult(f"{arm}: nothing was verified")


def counts(result, n, partitions=(SERVER, GUEST)):
    """Counters of the named partitions over the measurement, each of n requests."""
    parts = {name: result["partitions"].get(name, {}) for name in partitions}
    server, guests = parts.get(SERVER, {}), [p for name, p in parts.items() if name != SERVER]

    def every(key):
        return sum(p.get(key, 0) for p in parts.values()) / n
    hcalls = [sum(sum(p.get("hcalls", {}).values()) for p in some) / n for some in (guests, [server])]
    return {"hcalls": sum(hcalls), "hcalls_guest": hcalls[0], "hcalls_server": hcalls[1],
            "tce_updates": every("tce_updates"), "rdma_bytes": every("rdma_bytes"),
            "rdma_calls": sum(p.get("hcalls", {}).get(c, 0) for p in parts.values() for c in RDMA_CALLS) / n,
            "guest_bytes": sum(p.get("cpu_bytes", 0) for p in guests) / n,
            "server_bytes": server.get("cpu_bytes", 0) / n, "kicks": sum(p.get("kicks", 0) for p in guests) / n,
            "irqs": every("irq_raised"), "wakes": every("irq_wakes")}


def values_of(result):
    """The metrics of model.METRICS that a vio-blk result has."""
    run, n = result["run"], max(1, result["run"]["requests"])
    latency = run["latency_ns"]
    out = {"requests": run["requests"], "elapsed_ns": run["elapsed_ns"], "ns_per_request": run["elapsed_ns"] / n,
           "bytes": run["bytes_read"] + run["bytes_written"], "p50_ns": latency["p50"], "p90_ns": latency["p90"],
           "p99_ns": latency["p99"], "p999_ns": latency["p99.9"], "max_ns": latency["max"], "mean_latency_ns": latency["mean"],
           "polls_empty": result["partitions"].get(SERVER, {}).get("polls_empty", 0) / n, "ready_ns": result["ready_ns"],
           "late": run["late"]} | counts(result, n)
    for key, name in (("reach_bytes",) * 2, ("reach_write_bytes",) * 2, ("need_bytes",) * 2, ("ring_bytes",) * 2,
                      ("involuntary_switches", "switches"), ("unstarted",) * 2):
        if key in run:
            out[name] = run[key]
    return out


def padded(rng):
    """The environment with a variable of random length."""
    return dict(os.environ, **{PAD: "x" * rng.randrange(4096)})


class CpuClock:
    """CPU time of both processes over exactly the measurement, per second of it."""

    def __init__(self, server_pid):
        self.server, self.at = server_pid, {}

    def stage(self, letter, guest_pid):
        self.at[letter] = (environment.cpu_ns(guest_pid), environment.cpu_ns(self.server))

    def values(self, elapsed_ns):
        if "M" not in self.at or "E" not in self.at or not elapsed_ns:
            return {}
        guest, server = (e - b for b, e in zip(self.at["M"], self.at["E"]))
        return {"guest_cpu": guest / elapsed_ns, "server_cpu": server / elapsed_ns}


class Hog:
    """A process that computes on one core all the time."""

    def __init__(self, core):
        self.core = core

    def __enter__(self):
        self.proc = subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.DEVNULL,
                                     preexec_fn=lambda: os.sched_setaffinity(0, {self.core}))
        return self

    def __exit__(self, *exc):
        self.proc.kill()
        self.proc.wait()


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


def until_kept(used, measure):
    """The discard rule: what measure() gave, stolen ticks of the cores used meanwhile, and "" or why it does not count; again
    until it counts, TRIES times at most."""
    for _ in range(TRIES):
        before, t0 = environment.steal_ticks(used), time.monotonic()
        got = measure()
        ticks = environment.steal_ticks(used) - before
        why = environment.stolen(ticks, time.monotonic() - t0, used)
        yield got, ticks, why
        if not why:
            return


class Trial:
    """Runs one slot's points of one machine key. Samples come out as the dicts that store.RawLog keeps."""

    def __init__(self, build, cores, experiment, image):
        self.build, self.cores, self.experiment, self.image = build, cores, experiment, image

    def machine(self, arm, key, rng):
        size = self.experiment.machine
        phypd = ["--cost", key[1], "--pages", size.pages, "--server-memory", str(size.server_memory), "--guest-memory",
                 str(size.guest_memory), *(["--exposure"] if size.exposure else [])]
        guest, server = self.cores["guest_core"], self.cores["server_core"]
        if key[2] == "shared":
            guest = server
        return Machine(self.build, guest, server, phypd, server_args(arm, key, self.image), env=padded(rng))

    def run(self, arm, key, points, rng):
        points = rng.sample(points, len(points))
        out = []
        try:
            self.measure(arm, key, points, rng, out)
        except MachineError as e:
            e.samples = out  # what was taken before is kept on record, and does not count
            raise
        return out

    def measure(self, arm, key, points, rng, out):
        used = (self.cores["guest_core"], self.cores["server_core"])
        if arm in disk_peers.PEERS:
            self.peer(arm, key, points, out, used)
            return
        with self.machine(arm, key, rng) as m, (Hog(self.cores["server_core"]) if key[2] == "hog" else Nothing()):
            start = m.phypd_seconds + m.vios_seconds
            for point in points:
                for (values, histogram), ticks, why in until_kept(used, lambda p=point: self.sample(m, arm, p)):
                    values["steal_ticks"] = ticks
                    if start:
                        values["start_seconds"] = start + values["ready_ns"] / 1e9
                    out.append({"point": point_dict(point), "values": values, "kept": not why, "why": why,
                                "histogram": histogram})
                start = 0

    def peer(self, arm, key, points, out, used):
        measure = self.experiment.measure
        with disk_peers.Peer(arm, key[0], self.build, self.cores) as p:
            def one(point):
                args = disk_peers.load_args(point, batch_of(point), span_of(point), touch(point), measure)
                result = p.measure(args, measure.seconds + measure.warm_seconds)
                return disk_peers.values_of(result), result["run"]["latency_ns"]["histogram"]
            for point in points:
                for (values, histogram), ticks, why in until_kept(used, lambda p=point: one(p)):
                    values["steal_ticks"] = ticks
                    out.append({"point": point_dict(point), "values": values, "kept": not why, "why": why,
                                "histogram": histogram})

    def machine_tail(self, point):
        """The same open loop with a line's round trip instead of a disk: what of a tail is the machine's own. The
        guest has gone, and its server sleeps."""
        cores = f"{self.cores['guest_core']},{self.cores['server_core']}"
        got, rc = environment.run_json([os.path.join(self.build, "bench/bench-tail"), "--cores", cores, "--rate",
                                        f"{max(1, round(point.rate))}", "--seconds", str(self.experiment.measure.seconds)])
        if rc:
            raise MachineError("bench-tail failed")
        return tail_values(got)

    def sample(self, m, arm, point):
        """(values, histogram) of one start of the guest."""
        clock = CpuClock(m.vios.proc.pid)
        result = m.guest(guest_args(arm, point, self.experiment.measure),
                         on_stage=clock.stage if self.experiment.measure.cpu else None)
        check(arm, result)
        values = values_of(result) | clock.values(result["run"]["elapsed_ns"])
        if point.rate:
            values |= gap_values(result) | self.machine_tail(point)
        values["server_rss_bytes"] = sum(m.vios.memory().get(k, 0) for k in ("vmrss_bytes", "hugetlbpages_bytes"))
        return values, result["run"]["latency_ns"]["histogram"]


def gap_values(result):
    """Of an open loop: what the guest's own loop saw of its processor being away."""
    gaps, n = result["run"]["gaps"], max(1, result["run"]["requests"])
    return {"gaps": gaps["count"], "gap_share": gaps["requests"] / n}


def tail_values(result):
    latency = result["latency_ns"]
    return {f"machine_{name}_ns": latency[q] for name, q in (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"),
                                                             ("max", "max"))}


def point_dict(point):
    """Only what is not a default, so that raw files stay small."""
    default = Point()
    return {k: v for k, v in vars(point).items() if v != getattr(default, k)}


def image_file(folder):
    """A file for the file backend, in the report's folder (its file system is what is measured)."""
    handle = tempfile.NamedTemporaryFile(prefix="disk-", suffix=".img", dir=folder)
    os.posix_fallocate(handle.fileno(), 0, IMAGE_BYTES)
    return handle
