# SPDX-License-Identifier: BSD-3-Clause
"""./run assurance cost [SECONDS]: what snapshots cost, as an ablation: vios as it is and vios built with -Dsnapshots=false, in turn.

Pairs of runs side by side, each of a machine started anew, the order of a pair by chance; per pair the ratio of the time of a request. The median of
the ratios, with a 95 % interval by bootstrap. An experiment of ./run ab with `--build build-nosnap` is the same for any other load.
"""

import os
import random
import statistics
import subprocess
import time

from common import BUILD, ROOT, Machine
from ab.instrument import environment  # common has made bench/ known

OTHER = os.path.join(ROOT, "build-nosnap")
POINTS = {"disk null, one at a time": ["--depth", "1", "--bs", "512"], "disk null, 32 at once": ["--depth", "32", "--bs", "512"]}
TARGETS = ("phyp/phypd", "server/vios", "guest/vio-blk")


def build():
    if not os.path.exists(os.path.join(OTHER, "build.ninja")):
        subprocess.run(["meson", "setup", OTHER, "-Dsnapshots=false", "-Dtests=disabled"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", OTHER, "--quiet", *TARGETS], check=True)


def request_ns(directory, args, cores):
    with Machine(directory, guest_core=cores["guest_core"], server_core=cores["server_core"], phypd_args=["--server-memory", "96"],
                 vios_args=["--disk", "null,size=64M"]) as m:
        run = m.guest(["--arm", "zero-copy", "--rw", "randread", "--verify", "off", "--seconds", "0.5", *args])["run"]
    return run["elapsed_ns"] / run["requests"]


def interval(ratios, rng):
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[-51]


def run(seconds, say=lambda text: None):
    if os.environ.get("VIO_COST_BUILT") != "1":
        build()
    rng, end, got = random.Random(1), time.monotonic() + seconds, {p: [] for p in POINTS}
    cores = environment.choose_cores(BUILD)
    while time.monotonic() < end or min(map(len, got.values())) < 3:
        for point, args in POINTS.items():
            pair = {}
            for directory in rng.sample((BUILD, OTHER), 2):
                pair[directory] = request_ns(directory, args, cores)
            got[point].append((pair[BUILD], pair[OTHER]))
    result = {}
    for point, pairs in got.items():
        ratios = [a / b for a, b in pairs]
        low, high = interval(ratios, rng)
        result[point] = {"pairs": len(pairs), "ns": statistics.median(a for a, _ in pairs), "ns_without": statistics.median(b for _, b in pairs),
                         "ratio": statistics.median(ratios), "low": low, "high": high}
        say(f"{point}: {result[point]}")
    return {"points": result, "losses": 0}
