# SPDX-License-Identifier: BSD-3-Clause
"""./run compare A B ...: results of several machines (or commits) side by side, each with its own intervals.

Absolute values of two machines are not a comparison of designs; the ratio of two arms on each machine is. So for each
experiment, point and arm: the ratio to the first arm on every machine, and whether the machines' ratios differ.
"""

import argparse
import json
import os
import sys

import numpy as np

from ab import stats
from ab.instrument import store
from ab.report import report_html, report_md, results
from ab.instrument.model import AGAIN, Samples, Section, Table, Verdict
from ab.report.report_model import Report



def parse(argv):
    p = argparse.ArgumentParser(prog="./run compare", description=__doc__.split("\n\n", maxsplit=1)[1])
    p.add_argument("folders", nargs="+", metavar="FOLDER",
                   help="a report's folder (with samples.csv and results.json); NAME=FOLDER gives it a name, else the folder's "
                        "name is used")
    p.add_argument("--out", default="comparison", help="where to write (comparison)")
    args = p.parse_args(argv)
    if len(args.folders) < 2:
        p.error("at least two folders are needed: there is nothing to compare one with")
    return args


def load(argument):
    """(name, samples, results.json)"""
    name, _, folder = argument.rpartition("=")
    folder = folder.rstrip("/")
    name = name or os.path.basename(os.path.abspath(folder))
    try:
        with open(os.path.join(folder, "results.json")) as f:
            meta = json.load(f)
        if meta.get("schema") != results.SCHEMA:
            raise store.StoreError(results.refusal(os.path.join(folder, "results.json"), meta.get("schema")))
        samples = store.read_csv(os.path.join(folder, "samples.csv"), name)
    except OSError as e:
        raise store.StoreError(f"{e.filename}: {e.strerror}; {folder} should be a folder that ./run ab wrote") from None
    except (ValueError, KeyError, TypeError) as e:
        raise store.StoreError(f"{folder}: not readable as a report of this version ({e})") from None
    mine = Samples(s for s in samples if s.plateau in (-1, meta["main_plateau"]))
    return name, mine, meta


def ratios(samples, experiment, base, slot, point):
    own = samples.kept().where(experiment=experiment)
    return own.at(point, slot).paired(own.at(point, base), "ns_per_request")


def differ(pairs, seed=1):
    """Interval of the ratio of two machines' ratios: each machine's blocks are resampled on their own, as stats does."""
    values, drawn = [], []
    for k, (a, b) in enumerate(pairs):
        d = np.log(b / a)
        values.append(float(np.median(d)))
        drawn.append(np.median(d[stats.resample(len(d), seed + k)], axis=1))  # another seed: the machines are independent
    return stats.interval(np.exp(values[1] - values[0]), np.exp(drawn[1] - drawn[0]), min(len(a) for a, _ in pairs), log=True)


def base_slot(slots):
    return "copy" if "copy" in slots else next(iter(slots), "")


def section(experiment, machines, noise):
    """One experiment: a table of ratios for every machine, and what differs between the first and each other one."""
    rows, verdicts = [], []
    slots = sorted({s for _, samples, _ in machines for s in samples.where(experiment=experiment).slots()})
    base = base_slot(slots)
    points = sorted({p for _, samples, _ in machines for p in samples.where(experiment=experiment).points()})
    for point in points:
        for slot in slots:
            if slot == base or slot.endswith(AGAIN):
                continue
            pairs = [ratios(samples, experiment, base, slot, point) for _, samples, _ in machines]
            if sum(len(a) > 2 for a, _ in pairs) < 1:
                continue
            rows.append([point.label(), slot, *(cell(a, b) for a, b in pairs)])
            for (name, _, _), pair in list(zip(machines, pairs))[1:]:
                if min(len(pair[0]), len(pairs[0][0])) > 4:
                    iv = differ([pairs[0], pair])
                    if iv.excludes(1) and abs(np.log(iv.estimate)) > noise:
                        verdicts.append(Verdict(f"{point.label()}: {base}/{slot} on {name} against {machines[0][0]}",
                                                "more" if iv.estimate > 1 else "less", iv,
                                                " and ".join(cell(a, b) for a, b in (pairs[0], pair))))
    if not rows:
        return None
    head = ["point", "arm", *(f"{name}: {base}/arm (ns of each)" for name, _, _ in machines)]
    lead = (f"{len(verdicts)} of {len(rows)} ratios to {base} differ between the machines by more than both A/A floors."
            if len(machines) > 1 else "")
    return Section(id="compare-" + experiment, title=experiment, lead=lead, verdicts=verdicts,
                   tables=[Table(title=f"Ratio to {base} on each machine", head=head, rows=rows,
                                 note="how many times as fast as the base arm, with 99 % interval; absolute medians in ns in "
                                      "brackets")])


def cell(a, b):
    if len(a) < 3:
        return "-"
    iv = stats.ratio(a, b)
    return f"{iv.estimate:.2f} [{iv.low:.2f}, {iv.high:.2f}] ({np.median(b):,.0f}/{np.median(a):,.0f})"


def environment_table(machines):
    keys = ["cpu", "cpus", "kernel", "virtual_machine", "smt", "governor", "commit", "dirty", "compiler"]
    rows = [[k, *(str(meta["environment"].get(k, "")) for _, _, meta in machines)] for k in keys]
    rows.append(["R of the plateau compared, ns", *(f"{meta['r_ns']:.0f}" if meta.get("r_ns") else "-" for _, _, meta in machines)])
    rows.append(["A/A floor", *(f"{100 * np.expm1(meta['aa_floor_ln'] or 0):.1f} %" for _, _, meta in machines)])
    return Table(title="The machines", head=["", *(name for name, _, _ in machines)], rows=rows)


def build(machines):
    noise = max(meta["aa_floor_ln"] or 0.0 for _, _, meta in machines)
    names = sorted({s.experiment for _, samples, _ in machines for s in samples if ":" not in s.experiment})
    sections = [x for x in (section(n, machines, noise) for n in names) if x]
    told = "; ".join(f"{s.title}: {s.lead}" for s in sections) or "The folders have no experiment in common."
    where = Section(id="machines", title="The machines",
                    lead="Absolute values of different machines are not a comparison of designs.",
                    tables=[environment_table(machines)])
    return Report(title="Comparison of " + ", ".join(n for n, _, _ in machines), when="", headline=told, headline_numbers=[],
                  sections=[where, *sections], targets=[], limits_lines=[], environment={}, method=[
                      "The ratio of a machine is that of its own run: median over median, bootstrap over its blocks. Two "
                      "machines' ratios differ when the interval of their quotient (each machine's blocks resampled on their "
                      "own) excludes 1 and the quotient is beyond the larger of the A/A floors."],
                  discarded=Table(title="Samples", head=["machine", "samples", "discarded"], id="discarded",
                                  rows=[[n, str(len(s)), str(len(s) - len(s.kept()))] for n, s, _ in machines]),
                  how_to_repeat=["./run compare " + " ".join(f"{n}=FOLDER" for n, _, _ in machines)], experiments=[])


def main(argv):
    args = parse(argv)
    try:
        machines = [load(f) for f in args.folders]
        names = [n for n, _, _ in machines]
        if len(set(names)) < len(names):
            raise store.StoreError(f"two folders are called {', '.join(sorted({n for n in names if names.count(n) > 1}))}; "
                                   "write NAME=FOLDER")
        report = build(machines)
        os.makedirs(args.out, exist_ok=True)
        report_html.write_html(report, os.path.join(args.out, "index.html"))
        report_md.write_md(report, os.path.join(args.out, "report.md"))
        merged = Samples(s for _, samples, _ in machines for s in samples)
        store.write_csv(merged, os.path.join(args.out, "samples.csv"))
    except (OSError, store.StoreError) as e:
        print(f"./run compare: {e}", file=sys.stderr)
        return 1
    print(report.headline)
    print(f"\n{args.out}/index.html, report.md, samples.csv ({len(merged)} samples of {len(machines)} machines)")
    return 0
