#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Is a slowdown of 3 % that was planted found, and nothing where nothing was? Real runs of the experiment `instrument`, one after the
other, if asked for with programs beside them that do nothing but use the processors at nice 19. What counts as found is a verdict
as the report's: the interval excludes 1, by more than the twin differs.

    bench/ab/planted.py [--build build] [--runs 5] [--busy 2] [--out report/planted]
"""

import argparse
import contextlib
import os
import subprocess
import sys

import numpy as np

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
from machine import MachineError, die_with_parent  # noqa: E402
from ab import stats  # noqa: E402
from ab.instrument import environment, experiment, plateau_samples, runner, store  # noqa: E402
from ab.instrument.model import AGAIN, Samples  # noqa: E402
from ab.report import parts  # noqa: E402

ARM, DELAY, WANTED = "zero-copy", "zero-copy --delay-ns ", 0.03
BURN = "import os\nos.nice(19)\nwhile True: pass"


def asked(argv):
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--build", default="build")
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--busy", type=int, default=0, help="programs at nice 19 beside it (0)")
    p.add_argument("--out", default="report/planted", help="folder; a run that is there and whole is not made again")
    return p.parse_args(argv)


@contextlib.contextmanager
def beside(busy):
    """Programs of ours that use the processors meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(busy):
            p = stack.enter_context(subprocess.Popen([sys.executable, "-c", BURN], preexec_fn=die_with_parent))
            stack.callback(p.kill)
        yield


def judge(samples):
    """Of one plateau's samples: {"slot", "planted", "ratio" (time over that of zero-copy), "answer"} of the delay that is nearest to 3 %
    of zero-copy's own time, which is chosen without a look at its effect, and of none; None with too few starts for verdicts."""
    base = samples.where(slot=ARM)
    delays = {float(s[len(DELAY):]): s for s in samples.slots() if s.startswith(DELAY)}
    if not len(base) or not {d for d in delays if d > 0} or 0.0 not in delays:
        return None
    ns, noise = float(np.median(base.values(parts.NS))), stats.noise_floor(samples)
    nearest = min((d for d in delays if d > 0), key=lambda d: abs(d / ns - WANTED))
    out = []
    for delay in (nearest, 0.0):
        x, y = base.paired(samples.where(slot=delays[delay]), parts.NS)
        if len(x) < stats.MIN_VERDICT:
            return None
        v = stats.verdict(delays[delay], stats.ratio(x, y), noise)
        out.append({"slot": delays[delay], "planted": delay / ns, "ratio": v.interval, "answer": v.answer})
    return out


def right(found):
    """Was it slower where it was made so, and not shown to differ where it was not?"""
    return found[0]["answer"] == "slower" and found[1]["answer"] == stats.NONE


def one_run(args, number, cores):
    """{name of a plateau: its samples} of a run, most samples first."""
    out, exp = os.path.join(args.out, str(number)), experiment.find("instrument")
    os.makedirs(out, exist_ok=True)
    with beside(args.busy):
        runner.run(exp, out, args.build, cores)
    trials = store.read(os.path.join(out, "raw", exp.name + ".jsonl"))[1]
    measured = plateau_samples.measure({exp.name: (out, trials)})[exp.name]
    items = [s for s in plateau_samples.samples(exp.name, trials, measured) if s.kept and s.experiment == exp.name]
    by = {p.name(): Samples(s for s in items if s.plateau == q) for q, p in enumerate(measured.plateaus)}
    return dict(sorted(by.items(), key=lambda x: -len(x[1])))


def main(argv):
    args, good = asked(argv), [0, 0]
    cores = environment.choose_cores(args.build)
    try:
        for number in range(1, args.runs + 1):
            by, told = one_run(args, number, cores), []
            for name, samples in by.items():
                found = judge(samples)
                if found is None:
                    continue
                told.append(right(found))
                twin = samples.where(slot=ARM).paired(samples.where(slot=ARM + AGAIN), parts.NS)
                print(f"run {number}, {name}, {len(twin[0])} starts, load {os.getloadavg()[0]:.1f}: twin {stats.ratio(*twin).text(4)}; "
                      + "; ".join(f"{100 * f['planted']:.1f} % planted: {f['ratio'].text(4)}, {f['answer']}" for f in found), flush=True)
            good[0] += bool(told) and told[0]
            good[1] += 1
    except (MachineError, store.StoreError, OSError) as e:
        print(f"planted.py: {e}", file=sys.stderr)
        return 1
    print(f"found what was planted and nothing else, on the plateau with most starts: {good[0]} of {good[1]} runs")
    return 0 if good[0] == good[1] else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
