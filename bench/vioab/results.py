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

from vioab import datapath, experiment, runner, stats, store, targets
from vioab.model import Context, Interval, Sample, Samples, Table, Verdict, size_name
from vioab.report_model import Report
from vioab.runner import LIMITS_OF

SCHEMA = "virtio-vio-ab/2"
# In the order of the report. An analysis returns None when its samples were not taken.
ANALYSES = ("overview", "disk_peers", "ladder", "losses", "sizes", "network", "network_latency", "costs", "cycles_model", "mapping",
            "batch", "latency", "poller", "exposure", "anchors")
SUMMARY = ("ns_per_request", "p50_ns", "p99_ns")
EXACT = ("hcalls", "tce_updates", "rdma_bytes", "rdma_calls", "guest_bytes", "server_bytes", "kicks", "irqs", "wakes")


class Taken:
    """What one folder holds: every experiment's samples, limits, decisions, and what was left out."""

    def __init__(self):
        self.samples, self.limits, self.experiments = [], [], {}
        self.environment, self.cores, self.left_out = {}, {}, []

    def add(self, exp, header, trials, events, machine=""):
        self.samples += list(store.to_samples(trials, machine))
        self.limits += [e["limits"] for e in events if e["kind"].startswith("limits_")]
        decided = next((e for e in events if e["kind"] == "blocks"), {})
        self.experiments[exp.name] = {"experiment": exp, "events": decided, "trials": trials,
                                      "finished": any(e["kind"] == "finished" for e in events)}
        self.environment, self.cores = header["environment"], header["cores"]


def load_folder(out, extra=()):
    """All raw files of the newest commit in a report's folder; others are named in left_out. extra: paths of experiments that
    are not in bench/experiments."""
    taken, found = Taken(), []
    folder = os.path.join(out, "raw")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".jsonl"):
            header, trials, events = store.read(os.path.join(folder, name))
            if trials:
                found.append((max(t["began"] for t in trials), header, trials, events))
    newest = max(found, key=lambda f: f[0], default=None)
    known = {os.path.splitext(os.path.basename(p))[0]: p for p in extra}
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
            taken.add(exp, header, trials, events)
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
    return Context(samples=samples, limits=taken.limits, environment=taken.environment,
                   experiments={n: e["experiment"] for n, e in taken.experiments.items()},
                   r_ns=round_trip_ns(taken.limits, taken.samples), noise=floor(samples, ("quick",)),
                   floors={n: floor(samples, (n,)) for n, e in taken.experiments.items() if has_twins(e["experiment"])})


def context_for(ctx, analysis):
    """The context with the A/A floor of the experiments that the analysis reads; that of quick where they have no twins."""
    reads = [n for n, e in ctx.experiments.items() if analysis in e.analyses]
    known = [ctx.floors[n] for n in reads if n in ctx.floors]
    return dataclasses.replace(ctx, noise=max(known)) if known else ctx


def limits_lines(ctx):
    out = [f"R, a cache line's round trip between the two cores: {ctx.r_ns:.0f} ns"]
    if ctx.limits:
        b = ctx.limits[0]
        out.append(f"a system call {b['syscall']['median_ns']:.0f} ns")
        if b.get("eventfd_wake"):
            out.append(f"waking a sleeping thread (eventfd) {b['eventfd_wake']['one_way_ns'] / 1e3:.1f} us")
        out.append("memcpy of one core: " + ", ".join(
            f"{size_name(m['size_bytes'])} in {m['level']} {m['gb_per_s']:.1f} GB/s" for m in b["memcpy"]
            if m["size_bytes"] in (4096, 65536)))
    return out


def discarded(taken):
    """Table of what does not count, by experiment and rule."""
    rows = []
    for name, e in taken.experiments.items():
        mine = [s for s in taken.samples if s.experiment in (name, name + LIMITS_OF)]
        gone = [s for s in mine if not s.kept]
        failures = sum(len(t["failures"]) for t in e["trials"])
        rows.append([name, str(len(mine)), str(len(gone)), str(failures),
                     "; ".join(sorted({s.why.split(" in ")[0] for s in gone})) or "-"])
    return Table(title="Samples taken and discarded", id="discarded",
                 head=["experiment", "samples", "discarded", "programs started again", "why"], rows=rows,
                 note="Rule, fixed before any run: a sample is discarded when the host took more than 1 % of the time of the two "
                      "cores during it (steal in /proc/stat, ticks of 10 ms), and taken again at once, three times at most. No "
                      "sample is discarded for its value. All are in samples.csv and raw/.")


def experiments_table(taken):
    out = []
    for name, e in taken.experiments.items():
        exp, mine = e["experiment"], [s for s in taken.samples if s.experiment == name]
        blocks = len({s.block for s in mine})
        got = reached(exp, Samples(mine).kept())
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
    "Every sample is a guest process of its own on a machine (hypervisor model, VIO server, guest) that was started afresh for "
    "one arm in one block. A block visits every setting in random order and within it every arm in random order (randomised "
    "interleaved trials: Abedi and Brecht, ICPE 2017); seeds and order are in raw/. The unit of all intervals is the process "
    "start, never the loop iteration (Kalibera and Jones, ISMM 2013). The length of the environment is random for each start "
    "and address randomisation is on (Mytkowicz and others, ASPLOS 2009); all arms are one binary, so its layout is the same "
    "for all.",
    "A pilot of a few blocks fixes the number of blocks, once, from the spread alone and without looking at the effect: as many "
    "as bring nine in ten of the comparisons with the first arm to the stated precision, within the experiment's stated limits "
    "of blocks and time. The pilot's blocks count as samples. Where time ended first, the precision reached is what the table "
    "says.",
    "A ratio is the ratio of the two medians over blocks, with a bootstrap interval over pairs of the same block, at 99 %. A "
    "verdict is given only where the interval excludes no effect and the effect is larger than the A/A floor: the largest "
    "difference that two identical arms showed in the same experiments (of quick where an experiment has no twins). The "
    "intervals are not corrected for their number: of a hundred comparisons without any effect about one interval would exclude "
    "1, which is one reason for the floor. Ratios of arms are never averaged (main effects of the ladder are geometric means "
    "over contexts, and say so); every ratio has its absolute values beside it.",
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
    out = []
    for name in ANALYSES:
        module = importlib.import_module("vioab.analyses." + name)
        section = module.analyse(context_for(ctx, name))
        if section is not None:
            out.append(section)
    return out


HEAD_POINTS = (("memory", "read", 4096, 1), ("memory", "read", 4096, 32), ("memory", "read", 65536, 32),
               ("null", "read", 4096, 1))
HEAD_WORDS = ("on a 4 KiB read at a time, every byte moved and checked", "with 32 such reads in flight",
              "for 64 KiB reads, where moving bytes is the work",
              "on a null backend, which compares copying 4 KiB with not touching them")


def headline_numbers(ctx):
    """[(verdict with absolutes, words)]: zero-copy against the copy design at four points of quick."""
    out = []
    for (backend, op, bs, depth), words in zip(HEAD_POINTS, HEAD_WORDS):
        at = ctx.of("quick", backend=backend, op=op, bs=bs, depth=depth)
        copy, zero = at.where(slot="copy"), at.where(slot="zero-copy")
        x, y = zero.paired(copy, "ns_per_request")
        if len(x) < 3:
            continue
        iv = stats.ratio(x, y)  # ns of copy over ns of zero-copy: how many times as fast zero-copy is
        claim = f"{size_name(bs)} {op}s, depth {depth}, {backend} backend: zero-copy against copy"
        absolute = f"{np.median(y):,.0f} ns with copy, {np.median(x):,.0f} ns with zero-copy"
        out.append((stats.verdict(claim, iv, ctx.noise, better="more", absolute=absolute), words))
    return out


def times(v):
    """A verdict in words: "2.4 times as fast", "not shown to differ"."""
    if v.answer not in ("faster", "slower"):
        return f"not shown to differ ({v.interval.estimate:.2f})"
    r = v.interval.estimate
    return f"{r:.2f} times as fast" if r >= 1 else f"slower (it does {r:.2f} times as many)"


def against_rival(ctx):
    """[(point, verdict)]: zero-copy against premapped at every point of quick on the memory backend."""
    out, own = [], ctx.of("quick", backend="memory")
    for point in own.points():
        x, y = own.at(point, "zero-copy").paired(own.at(point, "premapped"), "ns_per_request")
        if len(x) >= 3:
            absolute = f"{np.median(x):,.0f} ns with zero-copy, {np.median(y):,.0f} ns with premapped"
            out.append((point, stats.verdict(f"{point.label()}: zero-copy against premapped", stats.ratio(x, y), ctx.noise,
                                             better="more", absolute=absolute)))
    return out


def rival(ctx):
    """The sentence about the nearest rival: where it is behind, level and ahead."""
    found = against_rival(ctx)
    if not found:
        return ""

    def told(answer):
        mine = sorted((v.interval.estimate, p) for p, v in found if v.answer == answer)
        return "; ".join(f"{p.label().split(': ')[1]} ({r:.2f}x)" for r, p in mine)
    parts = [f"{word} at {told(answer)}" for answer, word in (("faster", "faster"), ("slower", "slower"),
                                                              ("no difference shown", "not shown to differ")) if told(answer)]
    return ("Against its real rival, premapped (copies into buffers mapped once, as IBM's ibmveth has done since 2022), "
            "zero-copy is " + ", ".join(parts) + ".")


def headline(ctx, numbers, sections):
    """One paragraph of plain words, computed. Absolute values and intervals stand beside the big numbers below it."""
    told = [f"{times(v)} {words}" for (v, words) in numbers]
    text = ("Compared with the 2010 copy design, zero-copy is " + "; ".join(told) +
            ". Nothing is injected here for hypercalls, TCE updates and RDMA set-up, which favours the copy design. "
            + rival(ctx)) if numbers else \
        "The experiment quick, from which the headline is made, was not run with both arms: what was measured is below."
    for wanted in ("ladder", "losses"):
        section = next((s for s in sections if s.id == wanted), None)
        if section:
            text += " " + section.lead
    return text + precision(ctx)


def precision(ctx):
    """A sentence when quick did not reach the precision that it aims at."""
    if "quick" not in ctx.experiments:
        return ""
    exp = ctx.experiments["quick"]
    got = reached(exp, ctx.of("quick"))
    if got is None or got <= exp.blocks.precision:
        return ""
    return (f" This run reached a precision of {100 * got:.0f} % where {100 * exp.blocks.precision:.0f} % was aimed at, and "
            f"identical arms differed by up to {100 * math.expm1(ctx.noise):.0f} %: smaller differences are not shown.")


def how_to_repeat(taken):
    """[(command, what it does)]"""
    return [("./run ab", "quick: the arms at a glance, about 3 minutes"),
            ("./run ab full", "every experiment; interrupted, it goes on where it was"),
            *((f"./run ab {n}", e["experiment"].title) for n, e in taken.experiments.items()),
            ("./run ab report", "write this report again from raw/"),
            ("./run compare A B", "two reports side by side: machines or commits")]


def build(taken):
    ctx = context(taken)
    sections = run_analyses(ctx)
    numbers = headline_numbers(ctx)
    return ctx, Report(
        title="virtio over CRQ, TCE and RDMA: copy against zero-copy", when=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        headline=headline(ctx, numbers, sections), headline_numbers=[v for v, _ in numbers], sections=sections,
        targets=targets.all_targets(ctx.samples), limits_lines=limits_lines(ctx),
        environment=taken.environment | {"cores": taken.cores}, paths=datapath.measure(ctx, sections),
        method=METHOD + [floors(ctx)] + taken.left_out,
        discarded=discarded(taken), how_to_repeat=how_to_repeat(taken), experiments=experiments_table(taken))


def point_rows(ctx):
    """One entry for each experiment, slot and point: medians with intervals over process starts; counters exact."""
    groups, out = {}, []
    for s in ctx.samples:
        groups.setdefault((s.experiment, s.slot, s.point), []).append(s)
    for (name, slot, point), items in groups.items():
        mine = Samples(items)
        entry = {"experiment": name, "slot": slot, "arm": items[0].arm, "point": dataclasses.asdict(point),
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
                 "tables": plain(s.tables), "figures": [{"id": f.id, "title": f.title, "caption": f.caption, "limits": f.limits,
                                                        "command": f.command} for f in s.figures]} for s in report.sections]
    return {"schema": SCHEMA, "when": report.when, "headline": report.headline,
            "headline_numbers": plain(report.headline_numbers), "targets": plain(report.targets),
            "environment": plain(report.environment), "cores": taken.cores, "r_ns": plain(ctx.r_ns),
            "aa_floor_ln": plain(ctx.noise), "experiments": plain(report.experiments),
            "discarded": plain(report.discarded), "left_out": taken.left_out, "limits": taken.limits,
            "points": point_rows(ctx), "sections": sections}


def write_json(obj, path):
    with open(path, "w") as f:
        json.dump(obj, f, indent=1)
        f.write("\n")
