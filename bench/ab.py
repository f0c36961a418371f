#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The short A/B comparison: every named arm over a small matrix, against what this machine can do at best.

Each arm gets its own machine (phypd, VIO server, guest), started afresh for each backend; each point is its own guest
process. Counters are read with no request in flight, so that they are exact. Writes results.json and report.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ab_report
from machine import Machine, MachineError

ARMS = ["copy", "copy-tuned", "premapped", "zero-copy", "unprotected"]
SIZES = [512, 4096, 65536]
DEPTHS = [1, 32]
OPS = ["read", "write"]
DISK = {"null": "null,size=256M", "memory": "memory,size=64M", "file": "file,path={image}"}
IMAGE_BYTES = 64 << 20


def parse_args():
    p = argparse.ArgumentParser(prog="./run ab", description=__doc__.split("\n\n", maxsplit=1)[0])
    p.add_argument("--build", default="build", help="build directory (build)")
    p.add_argument("--out", default="report", help="where to write (report/)")
    p.add_argument("--arms", default=",".join(ARMS), help="comma separated; an arm may also be written as factors "
                   "joined by + (mapping=pool+payload=direct+ring=copy+notify=crq)")
    p.add_argument("--backends", default="null,memory,file")
    p.add_argument("--sizes", default=",".join(map(str, SIZES)))
    p.add_argument("--depths", default=",".join(map(str, DEPTHS)))
    p.add_argument("--ops", default=",".join(OPS))
    p.add_argument("--seconds", type=float, default=0.5, help="measured time of a point (0.5)")
    p.add_argument("--cost", default="free", help="injected costs, as phypd --cost (free: nothing injected)")
    p.add_argument("--cores", help="guest core, server core (chosen by hwloc)")
    p.add_argument("--pages", default="auto", choices=["auto", "4k", "2m"])
    return p.parse_args()


def run_json(argv):
    r = subprocess.run(argv, capture_output=True, text=True, check=False)
    if not r.stdout.strip():
        raise MachineError(f"{argv[0]}: exit {r.returncode}: {r.stderr.strip()}")
    return json.loads(r.stdout), r.returncode


def choose_cores(args):
    if args.cores:
        g, s = (int(x) for x in args.cores.split(","))
        return {"guest_core": g, "server_core": s, "reason": "given with --cores"}
    topo, rc = run_json([os.path.join(args.build, "bench/bench-topology")])
    if rc:
        print(f"only one core: guest and server would take turns on it, and no number here would mean anything.\n"
              f"  {topo.get('reason', '')}\n  Give this machine two cores; ./run test works on one.", file=sys.stderr)
        raise SystemExit(3)
    return topo


def read_line(path, default=""):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return default


def environment(build):
    def out(*argv):
        try:
            return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
        except OSError:
            return ""
    cpu = next((line.split(":", 1)[1].strip() for line in read_line("/proc/cpuinfo").splitlines()
                if line.startswith(("model name", "cpu\t"))), platform.machine())
    vuln = "/sys/devices/system/cpu/vulnerabilities"
    return {
        "cpu": cpu,
        "kernel": platform.release(),
        "commit": out("git", "rev-parse", "--short", "HEAD"),
        "dirty": bool(out("git", "status", "--porcelain")),
        "compiler": out("cc", "--version").split("\n")[0],
        "dpdk": out("pkg-config", "--modversion", "libdpdk"),
        "hugepages_free": int(read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0") or 0),
        "governor": read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "not visible"),
        "mitigations": {f: read_line(os.path.join(vuln, f)) for f in sorted(os.listdir(vuln))}
        if os.path.isdir(vuln) else {},
        "build": build,
    }


def steal_ticks():
    """Time the host took from this machine, in clock ticks: all cores."""
    return int(read_line("/proc/stat").split("\n")[0].split()[8])


def point_args(arm, backend, op, bs, depth, seconds):
    batch = 1 if depth == 1 else depth // 2
    span = min(IMAGE_BYTES, max(2 << 20, bs * 256))
    args = ["--arm", arm.replace("+", ","), "--rw", "rand" + op, "--bs", str(bs), "--depth", str(depth), "--batch",
            str(batch), "--span", str(span), "--seconds", str(seconds), "--warm-seconds", str(seconds / 5)]
    return args + (["--verify", "off"] if backend == "null" else [])


class Progress:
    def __init__(self, total):
        self.total, self.done, self.t0 = total, 0, time.monotonic()

    def step(self, text, n=1):
        left = (time.monotonic() - self.t0) / self.done * (self.total - self.done) if self.done else 0
        line = f"[{self.done}/{self.total}] {text}" + (f"   {left:.0f} s left" if self.done else "")
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif self.done % 20 == 0:
            print(line, file=sys.stderr, flush=True)
        self.done += n

    def end(self):
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)


def run_arm(args, cores, arm, backend, image, progress, points, machines, skipped):
    vios_args = ["--disk", DISK[backend].format(image=image)]
    if "unprotected" in arm or "unchecked" in arm:
        vios_args.append("--unprotected")
    phypd_args = ["--cost", args.cost, "--pages", args.pages, "--server-memory", "192", "--guest-memory", "64"]
    t0 = time.monotonic()
    with Machine(args.build, cores["guest_core"], cores["server_core"], phypd_args, vios_args) as m:
        first = True
        unit = m.guest(["--arm", arm.replace("+", ","), "--info"])["block_size"]
        for bs in args.sizes:
            if bs % unit:
                skipped.append(f"{arm}, {backend}: no {bs}-byte requests, the disk's block size is {unit}")
                progress.step(skipped[-1], len(args.depths) * len(args.ops))
                continue
            for depth in args.depths:
                for op in args.ops:
                    progress.step(f"{arm}, {backend}, {bs} bytes, depth {depth}, {op}")
                    s0 = steal_ticks()
                    r = m.guest(point_args(arm, backend, op, bs, depth, args.seconds))
                    check_point(arm, r)
                    r.update({"arm_asked": arm, "backend": backend, "op": op, "steal_ticks": steal_ticks() - s0})
                    points.append(r)
                    if first:
                        start = m.phypd_seconds + m.vios_seconds + r["ready_ns"] / 1e9
                        machines.append({"arm": arm, "backend": backend, "start_seconds": start,
                                         "phypd_seconds": m.phypd_seconds, "vios_seconds": m.vios_seconds,
                                         "guest_ready_seconds": r["ready_ns"] / 1e9})
                        first = False
        machines[-1]["server_memory"] = m.vios.memory()
        machines[-1]["wall_seconds"] = time.monotonic() - t0


def check_point(arm, r):
    """A point counts only if the arm in force is the one asked for, and all data was right."""
    if r["arm"] != r["arm_wanted"]:
        raise MachineError(f"{arm}: in force was {r['arm']}, asked was {r['arm_wanted']}")
    if r["run"]["errors"] or r["run"]["mismatches"]:
        raise MachineError(f"{arm}: {r['run']['errors']} errors, {r['run']['mismatches']} wrong words")
    if r["load"]["verify"] and not r["run"]["bytes_verified"]:
        raise MachineError(f"{arm}: nothing was verified")


def limits(args, cores):
    out, _ = run_json([os.path.join(args.build, "bench/bench-limits"), "--cores",
                       f"{cores['guest_core']},{cores['server_core']}"])
    return out


def main():
    args = parse_args()
    args.arms = args.arms.split(",")
    args.backends = args.backends.split(",")
    args.sizes = [int(x) for x in args.sizes.split(",")]
    args.depths = [int(x) for x in args.depths.split(",")]
    args.ops = args.ops.split(",")
    for b in args.backends:
        if b not in DISK:
            print(f"--backends: {b} is not one of {', '.join(DISK)}", file=sys.stderr)
            return 2
    os.makedirs(args.out, exist_ok=True)
    t0 = time.monotonic()
    try:
        cores = choose_cores(args)
        print(f"guest on core {cores['guest_core']}, server on core {cores['server_core']}: {cores.get('reason', '')}")
        before = limits(args, cores)
        points, machines, skipped = [], [], []
        progress = Progress(len(args.arms) * len(args.backends) * len(args.sizes) * len(args.depths) * len(args.ops))
        image = os.path.abspath(os.path.join(args.out, "disk.img"))
        with open(image, "wb") as f:
            f.truncate(IMAGE_BYTES)
            os.posix_fallocate(f.fileno(), 0, IMAGE_BYTES)
        try:
            for backend in args.backends:
                for arm in args.arms:
                    run_arm(args, cores, arm, backend, image, progress, points, machines, skipped)
        finally:
            progress.end()
            os.unlink(image)
        after = limits(args, cores)
    except (MachineError, OSError) as e:
        print(f"./run ab: {e}", file=sys.stderr)
        return 1
    results = {"schema": "virtio-vio-ab/1", "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
               "cost": args.cost, "cores": cores, "environment": environment(args.build), "limits_before": before,
               "limits_after": after, "machines": machines, "points": points, "skipped": skipped, "seconds": time.monotonic() - t0}
    with open(os.path.join(args.out, "results.json"), "w") as f:
        json.dump(results, f, indent=1)
    text = ab_report.markdown(results)
    with open(os.path.join(args.out, "report.md"), "w") as f:
        f.write(text)
    print(ab_report.screen(results))
    print(f"\n{args.out}/report.md and {args.out}/results.json; {results['seconds']:.0f} s in all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
