#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What is an honest guest's beside a neighbour that asks for much? 4 KiB reads, 32 at a time, beside each kind of neighbour on the
same server's lcore. Guests share a core, so the fair rate is half of what the honest guest gets beside as many programs that use that core and
ask the server for nothing: half of the server. (Beside a twin it gets more than that: a twin that waits for the core asks for little.)

    bench/ab/neighbours.py [--build build] [--out report] [--rounds 3] [--seconds 1] [--arms copy,zero-copy] [--cores G,S]

Exit code 0: each share is at least LEAST; 1: one is not. The result is FOLDER/neighbours.json, a section of the report.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
from machine import Machine, MachineError, Program  # noqa: E402
from ab.instrument import environment  # noqa: E402

HONEST = ["--rw", "randread", "--bs", "4k", "--depth", "32", "--span", "16M", "--touch", "none"]
LOUD = ["--queues", "4", "--span", "64M", "--touch", "none"]
LEAST = 0.4
# Who is there beside the honest guest: programs and their arguments.
TURN = ["sh", "-c", "while :; do :; done"]
ALONE = {1: "nobody (one turns)", 2: "nobody (two turn)"}
NEIGHBOURS = {
    ALONE[1]: [TURN],
    ALONE[2]: [TURN, TURN],
    "a twin": [["vio-blk", *HONEST]],
    "1 MiB reads on 4 queues": [["vio-blk", "--rw", "randread", "--bs", "1m", "--depth", "8", "--buffers", "8", *LOUD]],
    "1 MiB writes on 4 queues": [["vio-blk", "--rw", "randwrite", "--bs", "1m", "--depth", "8", "--buffers", "8", *LOUD]],
    "4 KiB reads on 4 queues": [["vio-blk", "--rw", "randread", "--bs", "4k", "--depth", "64", *LOUD]],
    "WRITE_ZEROES of 4 MiB": [["neighbour", "zeroes"]],
    "set-up and reset, again and again": [["again"]],
    "broadcasts to be cut": [["neighbour", "segments"], ["vio-net", "--forward", "rxonly"]],
}


def asked(argv):
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--build", default="build")
    p.add_argument("--out", default="report")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--arms", default="copy,zero-copy")
    p.add_argument("--cores")
    return p.parse_args(argv)


class Others:
    """The neighbours of a machine's first guest, on the guests' core; a context."""

    def __init__(self, m, arm, who):
        self.m, self.arm, self.who, self.programs = m, arm, who, []

    def argv(self, i, what):
        name, args = what[0], what[1:]
        guest = [self.m.path("guest", name), "--phyp", self.m.socket, "--partition", f"guest{i}", "--arm", self.arm]
        if name == "again":
            once = [self.m.path("guest/vio-blk"), *guest[1:], "--count", "1", "--warm-seconds", "0", "--touch", "none"]
            return ["sh", "-c", f"while {' '.join(once)}; do :; done"]
        if name == "neighbour":
            return [self.m.path("tests/system/neighbour"), self.m.socket, f"guest{i}", self.arm, *args]
        if name.startswith("vio-"):
            return [*guest, *args, "--seconds", "120"]
        return what

    def __enter__(self):
        try:
            # Those that receive are there before what they are sent.
            for i, what in reversed(list(enumerate(self.who, 1))):
                self.programs.append(Program(f"neighbour-{i}", ["taskset", "-c", str(self.m.guest_core), *self.argv(i, what)], self.m.dir))
                time.sleep(0.4)
            self.check()
        except BaseException:
            self.__exit__()
            raise
        return self

    def check(self):
        for p in self.programs:
            if not p.alive():
                raise MachineError(f"a neighbour has ended: {p.log()}")

    def __exit__(self, *exc):
        for p in self.programs:
            p.kill()


def beside(m, arm, name, seconds):
    """Requests a second of the honest guest. The neighbour runs before it and after it."""
    with Others(m, arm, NEIGHBOURS[name]) as others:
        run = m.guest(["--partition", "guest0", "--arm", arm, *HONEST, "--seconds", str(seconds)])["run"]
        others.check()
    return run["requests"] / run["elapsed_ns"] * 1e9


def measure(args):
    """{(arm, neighbour): [requests a second]}, each round in an order of its own."""
    cores = environment.choose_cores(args.build, args.cores)
    rates, rng = {}, random.Random(1)
    todo = [(arm, name) for arm in args.arms.split(",") for name in NEIGHBOURS]
    for _ in range(args.rounds):
        for arm, name in rng.sample(todo, len(todo)):
            cards = "segments" in str(NEIGHBOURS[name])
            vios = ["--disk", "memory,size=16M"] + (["--net="] * 2 if cards else ["--disk", "memory,size=64M", "--disk", "memory,size=1M"])
            with Machine(args.build, cores["guest_core"], cores["server_core"],
                         ["--guests", "3", "--server-memory", "256", "--guest-memory", "192"], vios) as m:
                rates.setdefault((arm, name), []).append(beside(m, arm, name, args.seconds))
    return rates


def shares(rates):
    """Rows: arm, neighbour, rates of each round, share of the fair rate (medians)."""
    fair = {(arm, n): statistics.median(rates[arm, name]) / 2 for arm in {a for a, _ in rates} for n, name in ALONE.items()}
    return [[arm, name, got, statistics.median(got) / fair[arm, len(NEIGHBOURS[name])]]
            for (arm, name), got in sorted(rates.items()) if name not in ALONE.values()]


def commit():
    r = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=sys.path[0])
    return r.stdout.strip() or None


def main(argv):
    args = asked(argv)
    rows = shares(measure(args))
    worst = min(share for *_, share in rows)
    print(f"{'arm':<12}{'beside':<40}{'requests/s, of each round':<36}share of the fair rate")
    for arm, name, got, share in rows:
        print(f"{arm:<12}{name:<40}{', '.join(f'{x:.0f}' for x in got):<36}{share:.2f}")
    print(f"least share: {worst:.2f} ({LEAST} is asked for)")
    os.makedirs(args.out, exist_ok=True)
    with open(os.path.join(args.out, "neighbours.json"), "w", encoding="utf-8") as f:
        json.dump({"schema": "neighbours/1", "commit": commit(), "least": LEAST, "seconds": args.seconds,
                   "rows": [{"arm": a, "beside": n, "rates": got, "share": share} for a, n, got, share in rows]}, f, indent=1)
    return 0 if worst >= LEAST else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
