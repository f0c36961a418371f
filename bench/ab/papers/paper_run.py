# SPDX-License-Identifier: BSD-3-Clause
"""./run paper NAME: measures a paper's experiment, or goes on with one that was interrupted, and writes its RESULT.md. The rule of
the verdict is in papers.py."""

import argparse
import dataclasses
import os
import sys
import time
from dataclasses import dataclass

from machine import MachineError
from ab.instrument import cli, environment, experiment, plateau_samples, runner, store
from ab.instrument.model import Samples
from ab.papers import papers
from ab.report import plots

@dataclass
class Run:
    """What a paper's experiment gave. samples: of the main plateau of R, which the verdict is for; others: {"R = 500 ns": samples}."""

    samples: Samples
    others: dict
    plateau: str  # "R = 104 ns"; "": nothing was danced
    limits: list
    header: dict
    events: list
    began: float  # seconds since 1970, of the first trial


def measure(name, args, out):
    """Run of papers/NAME/experiment.toml, or the rest of it where one was interrupted. The only call of the runner."""
    exp = experiment.load(os.path.join(args.papers, name, "experiment.toml"))
    if args.sketch:
        exp = dataclasses.replace(exp, blocks=dataclasses.replace(exp.blocks, pilot=1, min=1, max=1),
                                  measure=dataclasses.replace(exp.measure, seconds=0.01, warm_seconds=0.002))
    path, env = os.path.join(out, "raw", exp.name + ".jsonl"), environment.describe(args.build)
    fresh = cli.state(path, exp, env.get("commit")) != "open"
    plain, limits, header, events = runner.run(exp, out, build=args.build, fresh=fresh, env=env)
    trials = store.read(path)[1]
    return Run(*by_plateau(exp.name, out, trials, plain), limits, header, events, min(t["began"] for t in trials))


def by_plateau(name, out, trials, plain):
    """(samples of the main plateau, {other plateau: samples}, its name). plain: the samples where nothing was danced."""
    measured = plateau_samples.measure({name: (out, trials)}).get(name)
    if measured is None:
        return plain, {}, ""
    items = [s for s in plateau_samples.samples(name, trials, measured) if s.experiment == name]
    main, plateaus = plateau_samples.main_plateau(items), measured.plateaus
    at = [Samples(s for s in items if s.plateau in (-1, q)) for q in range(len(plateaus))]
    return at[main], {p.name(): at[q] for q, p in enumerate(plateaus) if q != main and len(at[q].kept())}, plateaus[main].name()


def run_paper(name, args):
    """Measure, judge, write. Returns the exit code: 0 when a verdict was reached, whatever it is."""
    claim, module = papers.load_claim(name, args.papers), papers.load_analysis(name, args.papers)
    prov = papers.provenance(name, args.papers)
    out = os.path.join(args.out, name)
    os.makedirs(out, exist_ok=True)
    if prov["dirty"]:
        print(f"warning: papers/{name}: {', '.join(prov['dirty'])} not committed; this run can give no verdict", file=sys.stderr)
    extra = module.gather(args.build) if hasattr(module, "gather") else {}
    run = measure(name, args, out)

    def analysed(samples):
        return module.analyse(samples, run.limits, claim, extra | {"floors": papers.noise_floors(samples)})
    store.write_csv(Samples([*run.samples, *(s for o in run.others.values() for s in o)]), os.path.join(out, "samples.csv"))
    result = analysed(run.samples)
    meta = {"provenance": prov, "began": time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(run.began)),
            "environment": run.header["environment"], "cores": run.header.get("cores", {}), "seed": run.header.get("seed"),
            "events": run.events, "limits": run.limits, "sketch": args.sketch, "plateau": run.plateau,
            "others": {q: analysed(samples).tests for q, samples in run.others.items()},
            "raw": os.path.join(os.path.relpath(out), "samples.csv"), "command": f"./run paper {name}"}
    target = out if args.sketch else os.path.join(args.papers, name)
    with open(os.path.join(target, "RESULT.md"), "w") as f:
        f.write(papers.result_markdown(name, claim, result, run.samples, meta))
    if result.svg:
        with open(os.path.join(target, "figure.svg"), "w") as f:
            f.write(plots.standalone(result.svg))
    report(result, target)
    print(f"{name}: {papers.final_verdict(result.tests, prov, args.sketch)}" + (f", while {run.plateau}" if run.plateau else ""))
    return 1 if prov["dirty"] else 0


def report(result, target):
    for t in result.tests:
        role = "" if t.required else "(reported) "
        print(f"  {papers.answer(t):15} {role}{t.claim}: {papers.interval_text(t.measured, t.unit)}; {t.threshold}")
    print(f"\n{os.path.relpath(target)}/RESULT.md, figure.svg")


def list_papers(folder):
    for n in papers.names(folder):
        claim = papers.load_claim(n, folder)
        print(f"{n:14} {claim['title']}\n{'':14} {claim['claim']}")


def parse_args(argv):
    p = argparse.ArgumentParser(prog="./run paper", description="Test a published claim; without a name: list them.")
    p.add_argument("name", nargs="?", help="a folder of papers/")
    p.add_argument("--build", default="build", help="build directory (build)")
    p.add_argument("--out", default=os.path.join("report", "papers"), help="where raw samples go (report/papers)")
    p.add_argument("--sketch", action="store_true", help="one tiny block, to see that everything runs: its result goes to --out, "
                   "and there are too few samples for any interval")
    p.add_argument("--papers", default=papers.FOLDER, help=argparse.SUPPRESS)
    return p.parse_args(argv)


def main(argv):
    args = parse_args(argv)
    known = papers.names(args.papers)
    if args.name is None:
        list_papers(args.papers)
        return 0
    if args.name not in known:
        print(f"./run paper {args.name}: no such paper; there are {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        return run_paper(args.name, args)
    except (papers.PaperError, experiment.ExperimentError, store.StoreError, MachineError, OSError) as e:
        print(f"./run paper {args.name}: {e}", file=sys.stderr)
        return 1
