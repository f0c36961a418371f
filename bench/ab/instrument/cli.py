# SPDX-License-Identifier: BSD-3-Clause
"""./run ab: choose experiments, run or go on with them, write the report."""

import argparse
import dataclasses
import os
import sys
import time

from machine import MachineError, WrongResult
from ab.instrument import environment, experiment, runner, store
from ab.report import report_html, report_md, report_model, results, screen

FULL_FIRST = ["quick"]  # the order of full: what the headline needs comes first, the longest last
USAGE = """experiments: a name of bench/experiments (./run ab list), a .toml file, `full` (all of them), or `report` (only write
the report again from raw/). None: quick, under 4 minutes."""


def parse(argv):
    p = argparse.ArgumentParser(prog="./run ab", description=__doc__.split(":", 1)[0] + ": the A/B instrument", epilog=USAGE)
    p.add_argument("what", nargs="*", metavar="EXPERIMENT", help="see below; `list` shows them with the time they take")
    p.add_argument("--build", default="build", help="build directory (build)")
    p.add_argument("--out", default="report", help="folder of the report; raw samples are in its raw/ (report)")
    p.add_argument("--cores", metavar="G,S", help="guest core, server core (chosen by hwloc)")
    p.add_argument("--fresh", action="store_true", help="start again instead of going on with an interrupted run")
    p.add_argument("--scale", type=float, default=1.0, metavar="F",
                   help="multiply every experiment's time budget and longest number of blocks by F (1)")
    args = p.parse_args(argv)
    if args.cores and not (len(args.cores.split(",")) == 2 and all(c.isdigit() for c in args.cores.split(","))):
        p.error(f"--cores {args.cores}: write two processor numbers, such as 0,1")
    if args.cores and len(set(args.cores.split(","))) < 2:
        p.error(f"--cores {args.cores}: guest and server would take turns on one processor, and no number would mean anything")
    if not 0.05 <= args.scale <= 20:
        p.error(f"--scale {args.scale:g}: from 0.05 to 20")
    return args


def chosen(what):
    """List of Experiment; ExperimentError for what isn't there."""
    if not what:
        return [experiment.find("quick")]
    out = []
    for name in what:
        names = FULL_FIRST + [n for n in experiment.names() if n not in FULL_FIRST] if name == "full" else [name]
        out += [experiment.find(n) for n in names if n not in [e.name for e in out]]
    return out


def list_experiments():
    total = [0.0, 0.0]
    print(f"{'experiment':<12}{'slots':>6}{'a block':>9}{'in all':>18}  question")
    for name in experiment.names():
        e = experiment.find(name)
        least, most = runner.estimate_seconds(e)
        total[0] += least
        total[1] += most
        print(f"{name:<12}{len(e.slots):>6}{e.samples_per_block():>9}{runner.duration(least):>8} - {runner.duration(most):<7}  "
              f"{e.title}")
    print(f"full: {runner.duration(total[0])} to {runner.duration(total[1])}; interrupted, it goes on where it was")


def scaled(exp, factor):
    """The experiment with its budget and largest number of blocks multiplied; the least follows when it would be above."""
    b = exp.blocks
    most = max(b.pilot, round(b.max * factor))
    exp.blocks = dataclasses.replace(b, budget_seconds=b.budget_seconds * factor, max=most, min=min(b.min, most))
    return exp


def state(path, exp, commit):
    """Of a raw file: "missing", "open" (interrupted), "finished", or "other": of another commit or experiment file."""
    if not os.path.exists(path):
        return "missing"
    header, _, events = store.read(path)
    if header["digest"] != exp.digest() or header["environment"].get("commit") != commit:
        return "other"
    return "finished" if any(e["kind"] == "finished" for e in events) else "open"


def to_run(experiments, out, fresh, commit):
    """[(experiment, begin afresh?)]. Interrupted runs go on; finished ones are kept only while others of the list are open."""
    states = {e.name: state(os.path.join(out, "raw", e.name + ".jsonl"), e, commit) for e in experiments}
    old = [n for n, s in states.items() if s == "other"]
    if old:
        print(f"measured with another commit or experiment file, so measured again: {', '.join(old)}")
    open_ones = [e for e in experiments if states[e.name] == "open"]
    missing = [e for e in experiments if states[e.name] in ("missing", "other")]
    going_on = not fresh and len(experiments) > 1 and (open_ones or missing) and len(missing) < len(experiments)
    if going_on:
        return [(e, e not in open_ones) for e in experiments if e in open_ones or e in missing]
    return [(e, fresh or e not in open_ones) for e in experiments]


def measure(args, experiments):
    cores = environment.choose_cores(args.build, args.cores)
    env = environment.describe(args.build)
    print(f"guest on core {cores['guest_core']}, server on core {cores['server_core']}: {cores.get('reason', '')}")
    todo = to_run(experiments, args.out, args.fresh, env.get("commit"))
    kept = [e.name for e in experiments if e.name not in [t.name for t, _ in todo]]
    if kept:
        print(f"already measured, kept: {', '.join(kept)}")
    least, most = (sum(x) for x in zip(*(runner.estimate_seconds(e) for e, _ in todo)))
    print(f"{', '.join(e.name for e, _ in todo)}: {runner.duration(least)} to {runner.duration(most)}")
    for n, (e, fresh) in enumerate(todo, 1):
        t0 = time.monotonic()
        scaled(e, args.scale)
        _, _, _, events = runner.run(e, args.out, args.build, cores, fresh, env=env)
        decided = next(x for x in events if x["kind"] == "blocks")
        ran = next((x["blocks"] for x in events if x["kind"] == "out_of_time"), decided["blocks"])
        print(f"[{n}/{len(todo)}] {e.name}: {ran} blocks (the pilot asked for {decided['wanted']}), "
              f"{runner.duration(time.monotonic() - t0)}", flush=True)


def write(args, extra=()):
    taken = results.load_folder(args.out, extra)
    if not taken.samples:
        raise store.StoreError(f"{args.out}/raw: no samples of a known experiment; run ./run ab first"
                               + "".join("\n  " + x for x in taken.left_out))
    ctx, report = results.build(taken)
    report_html.write_html(report, os.path.join(args.out, "index.html"))
    report_md.write_md(report, os.path.join(args.out, "report.md"))
    results.write_json(results.to_json(ctx, report, taken), os.path.join(args.out, "results.json"))
    store.write_csv(ctx.samples, os.path.join(args.out, "samples.csv"))
    for problem in report_model.problems(report):
        print(f"the report breaks its own rules: {problem}", file=sys.stderr)
    print(screen.text(ctx, report))
    print(f"\n{args.out}/index.html, report.md, results.json, samples.csv ({len(ctx.samples)} samples; every trial in raw/)")


def main(argv):
    args = parse(argv)
    try:
        if args.what == ["list"]:
            list_experiments()
            return 0
        if args.what != ["report"]:
            experiments = chosen(args.what)
            os.makedirs(args.out, exist_ok=True)
            measure(args, experiments)
        write(args, [w for w in args.what if w.endswith(".toml")])
    except (MachineError, WrongResult, OSError, store.StoreError) as e:
        print(f"./run ab: {e}", file=sys.stderr)
        return 1
    except experiment.ExperimentError as e:
        print(f"./run ab: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is lost; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
