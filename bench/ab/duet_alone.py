#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Does an arm in a duet run as it does alone? Arms of a dance of five beside the same arm that dances with nobody but a line that
goes to and fro (so that R is known): same windows, no other arm's lines in the caches. By plateau of R, one value a start.

    bench/ab/duet_alone.py [--build build] [--starts 6] [--disk null] [--cores G,S]
"""

import argparse
import os
import random
import sys

import numpy as np

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
from machine import MachineError  # noqa: E402
from ab import stats  # noqa: E402
from ab.drivers import duet_trial  # noqa: E402
from ab.instrument import environment, experiment, runner, windows  # noqa: E402
from ab.stats import duet, plateaus  # noqa: E402

ALONE = " alone"
ARMS = ["copy", "copy-tuned", "premapped", "zero-copy", "unprotected"]
ASKED = ["copy", "premapped", "zero-copy"]
SWEEPS = [{"backend": "null", "depth": [1, 32]}, {"backend": "memory", "bs": "4k", "depth": [1, 32]},
          {"backend": "memory", "bs": "64k", "depth": 1}]


def asked(argv):
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--build", default="build")
    p.add_argument("--starts", type=int, default=6)
    p.add_argument("--disk", choices=sorted({s["backend"] for s in SWEEPS}), help="this one only: more starts in the same time (all)")
    p.add_argument("--cores")
    return p.parse_args(argv)


def danced(make, failures, *what):
    """[windows], tried again as an experiment's blocks are; failures: what was said of those that were lost is added."""
    for left in reversed(range(runner.TRIAL_TRIES)):
        try:
            return make.run(*what)[1]
        except MachineError as err:
            failures.append(str(err))
            print(f" {err}\n tried again {left} times at most ", end="", file=sys.stderr)
            if not left:
                raise


def one_start(make, keys, block, first, failures):
    """[windows]: all arms together and each of ASKED alone, for each kind of disk, in random order."""
    rows, rng = [], random.Random(block)
    todo = [(k, {s: ps for s, ps in of.items() if s in some}, alone) for k, of in keys.items()
            for some, alone in [(set(ARMS), False), *(({a}, True) for a in ASKED)]]
    for key, of, alone in rng.sample(todo, len(todo)):
        make.specials = (windows.ROUND_TRIP,) if alone else windows.SPECIALS
        named = {s + ALONE: ps for s, ps in of.items()} if alone else of
        rows += danced(make, failures, block, key, named, rng, first + len(rows))
        print(".", end="", file=sys.stderr, flush=True)
    return rows


def measure(args):
    """(windows, header, failures): slots are the arms in the duet, and the same arms with ALONE behind their names."""
    sweeps = [s for s in SWEEPS if args.disk in (None, s["backend"])]
    e = experiment.parse({"title": "alone", "arms": ARMS, "sweep": sweeps, "duet": {"seconds": 0.5}}, "alone", "alone")
    keys, header = runner.danced_keys(e), runner.window_header(e, args.build)
    e.slots |= {a + ALONE: a for a in ASKED}
    header["slots"] = [*e.slots, *windows.SPECIALS]
    cores = environment.choose_cores(args.build, args.cores)
    make = duet_trial.DuetTrial(args.build, cores, e, None, header["tick_hz"], (header["slots"], header["points"]))
    rows, failures = [], []
    try:
        for block in range(args.starts):
            rows += one_start(make, keys, block, len(rows), failures)
    except KeyboardInterrupt:
        print(" interrupted: from what was measured", end="", file=sys.stderr)
    print(file=sys.stderr)
    return np.concatenate(rows), header, failures


def start_times(m, slot, point, plateau):
    """{block: median time of a request, ns}"""
    own = (m.rows["slot"] == m.header["slots"].index(slot)) & (m.rows["point"] == point) & m.counts() & (m.plateau == plateau)
    return {b: float(np.median(m.ns[own & (m.rows["block"] == b)])) for b in np.unique(m.rows["block"][own])
            if (own & (m.rows["block"] == b)).sum() >= duet.LEAST}


def main(argv):
    rows, header, failures = measure(asked(argv))
    m = duet.measure(rows, header)
    print(f"{'point':<34}{'R, ns':>7}  {'arm':<12}{'alone, ns':>11}{'in the duet':>13}  ratio, 99 % interval of the starts")
    for k, point in enumerate(m.header["points"]):
        for q, plateau in enumerate(m.plateaus):
            for arm in ASKED:
                alone, both = start_times(m, arm + ALONE, k, q), start_times(m, arm, k, q)
                starts = sorted(set(alone) & set(both))
                if len(starts) < 3 or q == plateaus.NONE:
                    continue
                r = stats.ratio([alone[b] for b in starts], [both[b] for b in starts])
                print(f"{', '.join(f'{x} {y}' for x, y in point.items()) or 'null':<34}{plateau.r_ns:>7.0f}  {arm:<12}"
                      f"{np.median(list(alone.values())):>11.1f}{np.median(list(both.values())):>13.1f}  "
                      f"{r.estimate:.3f} [{r.low:.3f}, {r.high:.3f}], {len(starts)} starts")
    for text in failures:
        print(f"TRIED AGAIN: {' '.join(text.split())}")
    print(f"{len(failures)} dance(s) were lost and danced again")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
