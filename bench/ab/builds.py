#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Builds of this project as arms of one dance: is what the newest one does slower than what an older one did? Each arm runs in
all of them, with programs and hypervisor of its own build, and the newest one's twin shows what identical builds differ by. By
plateau of R; the unit is the process start."""

import argparse
import dataclasses
import json
import math
import os
import sys

import numpy as np

from machine import MachineError, WrongResult
from ab import stats
from ab.instrument import environment, experiment, plateau_samples, runner, store
from ab.instrument.model import AGAIN, LEVEL, Samples
from ab.report import parts

ARMS = ["copy", "copy,ring=copy-delta", "zero-copy"]
SWEEPS = [{"backend": "null", "depth": [1, 32]}, {"backend": "net", "op": ["tx", "rx"], "bs": [64, 1514], "touch": "headers"}]
SECONDS = 0.6  # of a dance of one point
BOUND = 0.02  # more than which the newer build may not take longer
WITHIN, SLOWER, UNDECIDED = "not slower by more", "slower by more", "undecided"
EPILOG = """A BUILD is a build directory, or NAME=DIRECTORY; the last one is the newest, and `build` where only one is given. All have to
know --duet with the same score (duet/score.h); docs/method.md says how an older commit is given it. An interrupted run goes on with
the same command."""


def asked(argv):
    p = argparse.ArgumentParser(prog="./run compare-builds", description=__doc__, epilog=EPILOG)
    p.add_argument("builds", metavar="BUILD", nargs="+")
    p.add_argument("--arms", default=" ".join(ARMS), help=f"separated by spaces ({' '.join(ARMS)})")
    p.add_argument("--starts", type=int, default=24, help="of each arm in each build (24: about 8 minutes)")
    p.add_argument("--bound", type=float, default=100 * BOUND, metavar="PERCENT", help=f"({100 * BOUND:g})")
    p.add_argument("--out", default="report/builds", help="folder of the raw samples and of builds.json (report/builds)")
    p.add_argument("--cores", metavar="G,S", help="guest core, server core (chosen by hwloc)")
    p.add_argument("--fresh", action="store_true", help="start again instead of going on with an interrupted run")
    p.add_argument("--report", action="store_true", help="only say again what was measured")
    args = p.parse_args(argv)
    args.builds += ["build"] if len(args.builds) == 1 else []
    if args.starts < stats.MIN_VERDICT:
        p.error(f"--starts {args.starts}: fewer than {stats.MIN_VERDICT} give no verdict")
    return args


def named(text):
    """(name, directory) of a BUILD: the name of the commit that the directory's sources are at, unless one is given."""
    name, _, directory = text.rpartition("=")
    info = environment.read_text(os.path.join(directory, "meson-info/meson-info.json"))
    if not info:
        raise MachineError(f"{directory}: no build directory of meson")
    source = json.loads(info)["directories"]["source"]
    name = name or environment.command("git", "-C", source, "describe", "--always", "--dirty", "--abbrev=7")
    return name or os.path.basename(os.path.abspath(source)), os.path.abspath(directory)


def slot_of(arm, build):
    return f"{arm} of {build}"


def plan(builds, arms, starts):
    """The experiment: each arm in all builds, and each again in the newest one. builds: [(name, directory)], the newest last."""
    e = experiment.parse({"title": "builds", "arms": arms, "sweep": SWEEPS, "duet": {"seconds": SECONDS},
                          "blocks": {"pilot": starts, "min": starts, "max": starts}}, "builds", "builds")
    slots = {slot_of(arm, name): (arm, directory) for name, directory in builds for arm in arms}
    slots |= {slot_of(arm, builds[-1][0]) + AGAIN: (arm, builds[-1][1]) for arm in arms}
    return dataclasses.replace(e, slots={s: arm for s, (arm, _) in slots.items()}, points={s: e.points[arm] for s, (arm, _) in slots.items()},
                               builds={s: directory for s, (_, directory) in slots.items()})


def answer(interval, bound):
    """Of a ratio of times, newest over older: is a loss of more than `bound` excluded, shown, or neither?"""
    if interval.n < stats.MIN_VERDICT or not math.isfinite(interval.low):
        return UNDECIDED
    return WITHIN if interval.high < 1 + bound else SLOWER if interval.low > 1 + bound else UNDECIDED


def lost(samples, point, arm, names, bound):
    """{"point", "arm", "base", "base_ns", "head_ns", "ratio" of times head / base, "twin" (again) / head, "answer"} of one plateau's
    samples, or None where it was not measured in both builds. names: (base, head)."""
    base, head, twin = (samples.at(point, s) for s in (slot_of(arm, names[0]), slot_of(arm, names[1]), slot_of(arm, names[1]) + AGAIN))
    ratio = stats.ratio(*base.paired(head, parts.NS))
    if not ratio.n:
        return None
    return {"point": point.label(), "arm": arm, "base": names[0], "base_ns": float(np.median(base.values(parts.NS))),
            "head_ns": float(np.median(head.values(parts.NS))), "ratio": ratio, "twin": stats.ratio(*head.paired(twin, parts.NS)),
            "answer": answer(ratio, bound)}


def shrunk(samples, point, arm, rival, names):
    """{"point", "arm", "rival", "of": name of the base, "base", "head": times of arm over rival's in either build, "change": head's over base's}, or None."""
    table = stats.columns([samples.at(point, slot_of(a, n)) for n in names for a in (rival, arm)], parts.NS)
    if not len(table):
        return None
    of = stats.of_blocks(table, lambda t: np.stack([t[:, 1] / t[:, 0], t[:, 3] / t[:, 2], t[:, 3] * t[:, 0] / (t[:, 2] * t[:, 1])], axis=1),
                         log=True)
    return {"point": point.label(), "arm": arm, "rival": rival, "of": names[0]} | dict(zip(("base", "head", "change"), of))


def compared(samples, arms, names, bound):
    """{"lost", "shrunk": lists of the above, "floor"} of one plateau's samples. The last arm is the rival of the others."""
    points = samples.points()
    pairs = [(older, names[-1]) for older in names[:-1]]
    rows = [r for p in points for a in arms for two in pairs if (r := lost(samples, p, a, two, bound))]
    both = [r for p in points for a in arms[:-1] for two in pairs if (r := shrunk(samples, p, a, arms[-1], two))]
    return {"lost": rows, "shrunk": both, "floor": stats.noise_floor(samples)}


def text(found, names, plateau, bound):
    """Markdown of what compared() found on a plateau."""
    def iv(x):
        return f"{x.text(4)}, n = {x.n}"
    out = [f"While {plateau}; head is {names[-1]}; times, {100 * LEVEL:g} % intervals; largest difference of head from its twin: "
           f"{100 * math.expm1(found['floor']):.1f} %.", "",
           f"| point | arm | base | base, ns | head, ns | head / base | head's twin / head | by {100 * bound:g} % |",
           "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    out += [f"| {r['point']} | {r['arm']} | {r['base']} | {r['base_ns']:,.1f} | {r['head_ns']:,.1f} | {iv(r['ratio'])} | {iv(r['twin'])} | {r['answer']} |"
            for r in found["lost"]]
    if found["shrunk"]:
        out += ["", "| point | arms | base | in it | in head | change |", "| --- | --- | --- | --- | --- | --- |"]
        out += [f"| {r['point']} | {r['arm']} / {r['rival']} | {r['of']} | {iv(r['base'])} | {iv(r['head'])} | {iv(r['change'])} |" for r in found["shrunk"]]
    return "\n".join(out)


def by_plateau(out, name):
    """{name of a plateau: Samples} of a raw file, most samples first."""
    trials = store.read(os.path.join(out, "raw", name + ".jsonl"))[1]
    measured = plateau_samples.measure({name: (out, trials)}).get(name)
    items = [s for s in plateau_samples.samples(name, trials, measured) if s.kept and s.experiment == name] if measured else []
    by = {p.name(): Samples(s for s in items if s.plateau == q) for q, p in enumerate(measured.plateaus)} if items else {}
    return dict(sorted(by.items(), key=lambda x: -len(x[1])))


def as_json(found):
    return {k: [{a: b.data() if hasattr(b, "data") else b for a, b in r.items()} for r in v] if isinstance(v, list) else v
            for k, v in found.items()}


def say(args, arms, names):
    found = {q: compared(samples, arms, names, args.bound / 100) for q, samples in by_plateau(args.out, "builds").items()}
    for q, f in found.items():
        print(text(f, names, q, args.bound / 100) + "\n")
    with open(os.path.join(args.out, "builds.json"), "w") as f:
        json.dump({"builds": names, "bound": args.bound / 100, "plateaus": {q: as_json(x) for q, x in found.items()}},
                  f, indent=1)
    print(f"{args.out}/builds.json; load average {os.getloadavg()[0]:.1f}")


def main(argv):
    args = asked(argv)
    try:
        builds, arms = [named(b) for b in args.builds], args.arms.split()
        if len(builds) == 2 and builds[0][0] == builds[1][0]:
            builds[0] = ("older " + builds[0][0], builds[0][1])  # the same commit twice: an A/A run of this program
        if len({name for name, _ in builds}) < len(builds):
            raise MachineError(f"two builds have one name ({', '.join(n for n, _ in builds)}): write NAME=DIRECTORY")
        exp = plan(builds, arms, args.starts)
        os.makedirs(args.out, exist_ok=True)
        if not args.report:
            runner.run(exp, args.out, builds[-1][1], environment.choose_cores(builds[-1][1], args.cores), args.fresh)
        say(args, arms, [n for n, _ in builds])
    except (MachineError, WrongResult, OSError, store.StoreError) as e:
        print(f"./run compare-builds: {e}", file=sys.stderr)
        return 1
    except experiment.ExperimentError as e:
        print(f"./run compare-builds: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is lost; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
