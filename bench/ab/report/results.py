# SPDX-License-Identifier: BSD-3-Clause
"""From raw files to the report: runs the analyses, collects targets, headline, method and discards; results.json."""

import dataclasses
import importlib
import json
import math
import os
import statistics
import time

import numpy as np

from ab import stats
from ab.instrument import experiment, plateau_samples, runner, store
from ab.report import datapath, first_screen, guest_counts, neighbours, targets
from ab.instrument.model import Context, Interval, Sample, Samples, Table, Verdict, size_name
from ab.report.report_model import Report
from ab.instrument.runner import LIMITS_OF
from ab.stats import duet

SCHEMA = "virtio-vio-ab/3"
# In the order of the report. An analysis returns None when its samples were not taken.
PEERS = ("disk_peers", "network", "network_arms", "network_latency")  # analyses in which other projects' programs stand beside the arms
ANALYSES = ("overview", "disk_peers", "ladder", "losses", "sizes", "network", "network_arms", "network_latency", "costs", "cycles_model", "mapping",
            "layout", "batch", "latency", "poller", "exposure", "anchors", "instrument")
ALL_PLATEAUS = ("cycles_model", "instrument")  # look at all of them themselves
SUMMARY = ("ns_per_request", "ns_experienced", "p50_ns", "p99_ns")
EXACT = ("hcalls", "tce_updates", "rdma_bytes", "rdma_calls", "guest_bytes", "server_bytes", "kicks", "irqs", "wakes")


def refusal(path, schema):
    """The sentence for a results.json of another schema."""
    return (f"{path}: schema {schema!r}, this program reads {SCHEMA}: numbers made before windows and plateaus of R are not compared "
            "with numbers made by them; measure again with ./run ab, or use the commit that wrote the file")


class Taken:
    """What one folder holds: every experiment's samples, limits, decisions, and what was left out."""

    def __init__(self, out=""):
        self.out = out  # the folder
        self.samples, self.limits, self.experiments, self.windows = [], [], {}, {}
        self.environment, self.cores, self.left_out = {}, {}, []

    def add(self, exp, header, trials, events, measured=None):
        """measured: stats.duet.Measured of its windows, or None where nothing danced."""
        self.samples += plateau_samples.samples(exp.name, trials, measured)
        if measured is not None:
            self.windows[exp.name] = measured
        self.limits += [e["limits"] for e in events if e["kind"].startswith("limits_")]
        decided = next((e for e in events if e["kind"] == "blocks"), {})
        self.experiments[exp.name] = {"experiment": exp, "events": decided, "trials": trials,
                                      "finished": any(e["kind"] == "finished" for e in events)}
        self.environment, self.cores = header["environment"], header["cores"]


def load_folder(out, extra=()):
    """All raw files of the newest commit in a report's folder; others are named in left_out. extra: paths of experiments that
    are not in bench/experiments."""
    taken, found = Taken(out), []
    folder = os.path.join(out, "raw")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".jsonl"):
            header, trials, events = store.read(os.path.join(folder, name))
            if trials:
                found.append((max(t["began"] for t in trials), header, trials, events))
    newest = max(found, key=lambda f: f[0], default=None)
    known = {os.path.splitext(os.path.basename(p))[0]: p for p in extra}
    together = []
    for _, header, trials, events in found:
        name = header["experiment"]
        try:
            exp = experiment.load(known[name]) if name in known else experiment.find(name)
        except experiment.ExperimentError as e:
            taken.left_out.append(f"{name}: {e}")
            continue
        why = not_together(header, newest[1], exp)
        if why:
            taken.left_out.append(f"{name}: {why}")
        else:
            together.append((exp, header, trials, events))
    measured = plateau_samples.measure({exp.name: (out, trials) for exp, _, trials, _ in together})
    for exp, header, trials, events in together:
        taken.add(exp, header, trials, events, measured.get(exp.name))
    return taken


def not_together(header, newest, exp):
    """"" or why a raw file does not belong into the same report as the newest one."""
    mine, its = header["environment"], newest["environment"]
    if header["digest"] != exp.digest():
        return "its experiment file has changed since; run it again"
    for key in ("commit", "cpu", "kernel"):
        if mine.get(key) != its.get(key):
            return f"measured with {key} {mine.get(key)}, the newest samples with {its.get(key)}; run it again"
    return "measured on other cores" if header["cores"].get("guest_core") != newest["cores"].get("guest_core") else ""


def round_trip_ns(limits, samples):
    """R of the report: the median over all starts of bench-limits. A host may place two virtual processors on one core for a
    while, or disturb them: neither the lowest nor the highest is this machine's."""
    r = [statistics.median(x["round_trip"]["samples_ns"]) for x in limits if x.get("round_trip")]
    r += list(Samples(s for s in samples if s.kept and s.point.op == "round_trip").values("ns_per_request"))
    return float(np.median(r)) if r else float("nan")


def floor(samples, names):
    """A/A floor of some experiments: twins on cores of their own, in the closed loop (others differ by their load)."""
    return stats.noise_floor(samples.kept().where(experiment=names, cores="split", rate=0.0, load=0.0))


def has_twins(exp):
    return any(slot != arm for slot, arm in exp.slots.items())


def context(taken):
    samples = Samples(taken.samples)
    ctx = Context(samples=samples, limits=taken.limits, environment=taken.environment,
                  experiments={n: e["experiment"] for n, e in taken.experiments.items()}, r_ns=float("nan"),
                  plateaus=next(iter(taken.windows.values())).plateaus if taken.windows else [], windows=taken.windows)
    return at_plateau(ctx, plateau_samples.main_plateau(taken.samples))


def at_plateau(ctx, plateau):
    """The context that looks at one plateau of R: its samples by of(), its A/A floors, its R."""
    mine = Samples(s for s in ctx.samples if s.plateau in (-1, plateau))
    here = ctx.plateaus[plateau].r_ns if ctx.plateaus else float("nan")
    r_ns = here if math.isfinite(here) else round_trip_ns(ctx.limits, ctx.samples)
    return dataclasses.replace(ctx, plateau=plateau, r_ns=r_ns, noise=floor(mine, ("quick",)),
                               floors={n: floor(mine, (n,)) for n, e in ctx.experiments.items() if has_twins(e)})


def context_for(ctx, analysis):
    """The context with the A/A floor of the experiments that the analysis reads; that of quick where they have no twins."""
    reads = [n for n, e in ctx.experiments.items() if analysis in e.analyses]
    known = [ctx.floors[n] for n in reads if n in ctx.floors]
    return dataclasses.replace(ctx, noise=max(known) if known else ctx.noise, read=set())


def limits_lines(ctx):
    out = [f"R, a cache line's round trip between the two cores: {ctx.r_ns:.0f} ns"]
    if len(ctx.plateaus) > 1:
        out = ["R, a cache line's round trip between the two cores, stands at one of " + plateaus_text(ctx)]
    if ctx.limits:
        b = ctx.limits[0]
        out.append(f"a system call {b['syscall']['median_ns']:.0f} ns")
        if b.get("eventfd_wake"):
            out.append(f"waking a sleeping thread (eventfd) {b['eventfd_wake']['one_way_ns'] / 1e3:.1f} us")
        out.append("memcpy of one core: " + ", ".join(
            f"{size_name(m['size_bytes'])} in {m['level']} {m['gb_per_s']:.1f} GB/s" for m in b["memcpy"]
            if m["size_bytes"] in (4096, 65536)))
    return out


def plateaus_text(ctx):
    """"104 ns (62 % of the time) and 500 ns (38 %)" """
    return " and ".join(f"{p.r_ns:.0f} ns ({100 * p.share:.0f} % of the time)" for p in ctx.plateaus)


def tried_again(trials):
    """What was said of each dance or trial that failed and was tried again. All trials of a danced block carry the block's."""
    dances = {t["block"]: t["failures"] for t in trials if t.get("danced")}
    return [text for some in [*dances.values(), *(t["failures"] for t in trials if not t.get("danced"))] for text in some]


def discarded(taken):
    """Table of what does not count, by experiment and rule."""
    rows = []
    for name, e in taken.experiments.items():
        mine = [s for s in taken.samples if s.experiment in (name, name + LIMITS_OF)]
        gone = [s for s in mine if not s.kept]
        again = tried_again(e["trials"])
        rows.append([name, str(len(mine)), str(len(gone)), str(len(again)),
                     "; ".join([*sorted({s.why.split(" in ")[0] for s in gone}),
                                *(f"tried again: {' '.join(text.split())[:200]}" for text in again)]) or "-"])
    return Table(title="Samples taken and discarded", id="discarded",
                 head=["experiment", "samples", "discarded", "failed, and tried again", "why"], rows=rows,
                 note="Rule, fixed before any run: a sample is discarded when the host took more than 1 % of the time of the two "
                      "cores during it (steal in /proc/stat, ticks of 10 ms), and taken again at once, three times at most. No "
                      "sample is discarded for its value. Of danced points a sample is a start on a plateau of R, and needs "
                      f"{duet.LEAST} windows without a gap. All are in samples.csv and raw/.")


def experiments_table(taken, ctx):
    out = []
    for name, e in taken.experiments.items():
        exp, mine = e["experiment"], [s for s in taken.samples if s.experiment == name]
        blocks = len({s.block for s in mine})
        got = reached(exp, ctx.of(name))
        out.append({"name": name, "title": exp.title + ("" if e["finished"] else " (interrupted)"), "question": exp.question,
                    "seed": exp.seed, "blocks": blocks, "blocks_wanted": e["events"].get("wanted"),
                    "wanted": f"{100 * exp.blocks.precision:.1f} %", "reached": f"{100 * got:.1f} %" if got else "-",
                    "precision_wanted": exp.blocks.precision, "precision_reached": got, "finished": e["finished"],
                    "seconds": round(sum(t["seconds"] for t in e["trials"])), "kept": sum(s.kept for s in mine),
                    "discarded": sum(not s.kept for s in mine)})  # bench-limits' own samples are counted in the table of discards
    return out


def reached(exp, kept):
    """Half width, relative, that nine in ten of the comparisons with the first arm reach; None when there is none."""
    intervals = [stats.ratio(a, b) for a, b in runner.comparisons(exp, kept) if len(a) > 2]
    widths = [math.log(iv.high / iv.low) / 2 for iv in intervals if iv.low > 0 and math.isfinite(iv.high)]
    return float(np.quantile(widths, 0.9)) if widths else None


METHOD = [
    "Duet: the machines of all arms of a setting (hypervisor model, VIO server, guest: three programs each) are alive at once, and "
    "one conductor hands the two cores from arm to arm in windows of about half a millisecond, in random orders that each come "
    "back to front as well; R, one core's memcpy and one copy handed to the other core take their turns like arms (duet "
    "benchmarking: Bulej and others, ICPE 2020). A block starts all programs afresh. The unit of all intervals is the process "
    "start, never the window (Kalibera and Jones, ISMM 2013). The length of the environment is random for each start and address "
    "randomisation is on (Mytkowicz and others, ASPLOS 2009); all arms are one binary. Experiments that can't be danced (open "
    "loop, shared cores, pairs of guests, peers) take one sample a start, arms in random order within each block.",
    "A window in which either side saw a gap (a turn of its loop far longer than usual, which a look at the tick counter shows) is "
    "set aside; the rule looks at turns and never at what was counted. Plateaus of R are found from the R-windows (a mixture of one "
    "to three components by BIC, then the most likely sequence in time); windows next to a change are set aside, and results of "
    "different plateaus are never mixed. Of one start, on one plateau, the time of an arm is its part of ln time = round + arm, "
    "fitted by midmeans: what a round did to all arms cancels.",
    "A pilot of a few blocks fixes the number of blocks, once, from the spread alone and without looking at the effect: as many "
    "as bring nine in ten of the comparisons with the first arm to the stated precision, within the experiment's stated limits "
    "of blocks and time. The pilot's blocks count as samples. Where time ended first, the precision reached is what the table "
    "says.",
    "A ratio is the median over blocks of the block's own ratio, with a bootstrap interval over blocks, at 99 %. A "
    "verdict is given only where the interval excludes no effect and the effect is larger than the A/A floor: the largest "
    "difference that two identical arms showed in the same experiments and on the same plateau (of quick where an experiment has "
    "no twins). The intervals are not corrected for their number: of a hundred comparisons without any effect about one interval "
    "would exclude 1, which is one reason for the floor. Ratios of arms are never averaged (main effects of the ladder are "
    "geometric means over contexts, and say so); every ratio has its absolute values and its plateau beside it.",
    "Two rates are kept of every arm: undisturbed, which comparisons use, and as experienced, in all windows, since what a design "
    "itself makes slow must not be filtered away.",
    "Warm-up: the stated time before each measurement is not counted; the disk has been written once with the pattern (backends "
    "that hold data, before reads), and the guest's buffers are used in turn, so caches are as a steady load leaves them; a "
    "load works in 256 blocks of the disk, at least 2 MiB and at most 64 MiB, so that sizes from 128 KiB on also leave the "
    "second-level cache. Every read is compared with its pattern in every timed sample but on the null backend, which moves no "
    "data; an error, a wrong word or another arm in force than the one asked for ends the run.",
    "Costs: memory copies, cache misses, line transfers, ring logic, wake-ups are measured. A hypercall's trap, a TCE update "
    "and an RDMA set-up are cheaper in this model than on a real machine; nothing is injected for them unless a point says so "
    "(cost). That favours the copy design.",
    "Not testable here: two cores only, so many guests and many server cores are not simulated by oversubscription; no IOMMU or "
    "NIC hardware, so translation-cache misses, PCIe and line rates are out of scope; a virtual machine, so neighbours' noise "
    "is controlled by interleaving, by the A/A control and by the steal rule, not absent. One build, one machine: ./run compare "
    "puts several machines side by side.",
]


def floors(ctx):
    """The A/A floor of every experiment that has twins, as a sentence."""
    told = [f"{n} {100 * math.expm1(v):.1f} %" for n, v in ctx.floors.items()]
    return ("A/A floors, the largest difference between identical twins: " + ", ".join(told) + "." if told
            else "No A/A control was run.")


def run_analyses(ctx):
    """Sections of the main plateau, each with what it says on the others."""
    out = []
    for name in ANALYSES:
        module = importlib.import_module("ab.analyses." + ("peers." if name in PEERS else "") + name)
        here = context_for(ctx, name)
        section = module.analyse(here)
        if section is not None:
            out.append(section)
            if here.read & set(ctx.windows) and name not in ALL_PLATEAUS:
                held_for(section, ctx.plateau_name())
                section.others = elsewhere(ctx, name, module)
    return out


def held_for(section, plateau):
    """Says of a section and its verdicts which plateau they hold for."""
    section.plateau = plateau
    for v in section.verdicts:
        v.plateau = plateau


def elsewhere(ctx, name, module):
    """What an analysis says on the other plateaus: sections without figures."""
    out = []
    for q in range(len(ctx.plateaus)):
        section = module.analyse(context_for(at_plateau(ctx, q), name)) if q != ctx.plateau else None
        if section is not None:
            held_for(section, ctx.plateau_name(q))
            section.figures, section.id = [], f"{section.id}-plateau-{q + 1}"
            for t in section.tables:
                t.id = f"{t.id}-plateau-{q + 1}" if t.id else ""
            out.append(section)
    return out


def precision(ctx):
    """A sentence about the precision of quick, "" without it."""
    got = reached(ctx.experiments["quick"], ctx.of("quick")) if "quick" in ctx.experiments else None
    if got is None:
        return ""
    exp = ctx.experiments["quick"]
    return (f"Nine in ten comparisons with {runner.reference(exp)} have a 99 % interval of at most ±{100 * got:.1f} % "
            f"({100 * exp.blocks.precision:.0f} % was aimed at); identical arms differed by at most "
            f"{100 * math.expm1(ctx.noise):.1f} %, and smaller differences are not shown.")


def how_to_repeat(taken):
    """[(command, what it does)]"""
    return [("./run ab", "quick: the arms at a glance, under 4 minutes"),
            ("./run ab full", "every experiment; interrupted, it goes on where it was"),
            *((f"./run ab {n}", e["experiment"].title) for n, e in taken.experiments.items()),
            ("./run ab report", "write this report again from raw/"),
            ("./run compare A B", "two reports side by side: machines or commits")]


def build(taken):
    ctx = context(taken)
    sections = run_analyses(ctx) + [x for x in [guest_counts.section(taken.out), neighbours.section(taken.out)] if x]
    everywhere = [ctx] + [at_plateau(ctx, q) for q in range(len(ctx.plateaus)) if q != ctx.plateau]
    first = first_screen.build(ctx, sections, everywhere, precision(ctx))
    return ctx, Report(
        title="virtio over CRQ, TCE and RDMA: copy against zero-copy", when=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        headline=first.sentence, headline_numbers=first.numbers, picture=first.picture, points=first.points, sections=sections,
        targets=targets.all_targets(everywhere), limits_lines=limits_lines(ctx),
        environment=taken.environment | {"cores": taken.cores}, paths=datapath.measure(ctx, sections),
        method=METHOD + [floors(ctx)] + taken.left_out,
        discarded=discarded(taken), how_to_repeat=how_to_repeat(taken), experiments=experiments_table(taken, ctx))


def point_rows(ctx):
    """One entry for each experiment, slot and point: medians with intervals over process starts; counters exact."""
    groups, out = {}, []
    for s in ctx.samples:
        groups.setdefault((s.experiment, s.slot, s.point, s.plateau), []).append(s)
    for (name, slot, point, plateau), items in groups.items():
        mine = Samples(items)
        entry = {"experiment": name, "slot": slot, "arm": items[0].arm, "point": dataclasses.asdict(point),
                 "plateau": ctx.plateau_name(plateau),
                 "samples": len(items), "kept": len(mine.kept()), "metrics": {}}
        for metric in SUMMARY:
            x = mine.kept().values(metric)
            if len(x):
                entry["metrics"][metric] = plain(stats.median(x))
        for metric in EXACT:
            x = mine.kept().values(metric)
            if len(x):
                entry["metrics"][metric] = float(np.median(x))
        out.append(entry)
    return out


def windows_json(ctx):
    """{experiment: what became of its windows}."""
    return {name: {"set_aside": m.set_aside(), "slots": m.header["slots"], "tick_hz": m.header["tick_hz"]}
            for name, m in ctx.windows.items()}


def plain(value):
    """JSON-able form: intervals and verdicts as objects, NaN as null."""
    if isinstance(value, (Interval, Verdict, Table)) or (dataclasses.is_dataclass(value) and not isinstance(value, Sample)):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def to_json(ctx, report, taken):
    sections = [{"id": s.id, "title": s.title, "lead": s.lead, "verdicts": plain(s.verdicts), "data": plain(s.data),
                 "plateau": s.plateau, "others": [{"plateau": o.plateau, "lead": o.lead, "verdicts": plain(o.verdicts),
                                                   "tables": plain(o.tables), "data": plain(o.data)} for o in s.others],
                 "tables": plain(s.tables), "figures": [{"id": f.id, "title": f.title, "caption": f.caption, "limits": f.limits,
                                                        "command": f.command} for f in s.figures]} for s in report.sections]
    return {"schema": SCHEMA, "when": report.when, "headline": report.headline,
            "headline_numbers": plain(report.headline_numbers), "points_of_first_screen": report.points, "targets": plain(report.targets),
            "environment": plain(report.environment), "cores": taken.cores, "r_ns": plain(ctx.r_ns),
            "plateaus": plain(ctx.plateaus), "main_plateau": ctx.plateau, "windows": windows_json(ctx),
            "aa_floor_ln": plain(ctx.noise), "experiments": plain(report.experiments),
            "discarded": plain(report.discarded), "left_out": taken.left_out, "limits": taken.limits,
            "points": point_rows(ctx), "sections": sections}


def write_json(obj, path):
    with open(path, "w") as f:
        json.dump(obj, f, indent=1)
        f.write("\n")
