# SPDX-License-Identifier: BSD-3-Clause
"""Samples of danced experiments: from the raw windows, one for each start, slot, point and plateau of R."""

import math

from ab.instrument import store, windows
from ab.instrument.model import STARTS_OF, Point, Sample
from ab.stats import duet, plateaus

# Metrics of a whole start that are not a plateau's.
TIMES = ("ns_per_request", "elapsed_ns", "windows", "undisturbed", "mean_latency_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns",
         "start_seconds", "requests", "bytes")


def measure(found):
    """{name: stats.duet.Measured} of the raw files that have windows. found: {name: (folder, trials)}."""
    taken = {}
    for name, (out, trials) in found.items():
        blocks = {t["block"] for t in trials if t.get("danced")}
        if blocks:
            taken[name] = windows.load(out, name, blocks)
    return duet.measure_all({n: t for n, t in taken.items() if len(t[0])})


def samples(name, trials, measured=None, machine=""):
    """[Sample] of one experiment: as they were taken where nothing danced, else by plateau, and the starts as STARTS_OF."""
    plain = list(store.to_samples([t for t in trials if not t.get("danced")], machine))
    starts = list(store.to_samples([t for t in trials if t.get("danced")], machine))
    limits = [s for s in starts if s.experiment != name]
    whole = {(s.block, s.slot, s.point): s for s in starts if s.experiment == name}
    if measured is None:
        return plain + starts
    out = []
    points = [Point(**p) for p in measured.header["points"]]
    for v in duet.values(measured):
        slot, point = measured.header["slots"][v.slot], points[v.point]
        start = whole.get((v.block, slot, point))
        if start:  # without one the block was not finished
            out.append(of_plateau(name, start, v, slot, point, machine))
    for s in whole.values():
        s.experiment = name + STARTS_OF
    return plain + limits + out + list(whole.values())


def of_plateau(name, start, v, slot, point, machine):
    values = {k: x for k, x in start.values.items() if k not in TIMES}
    mine = {"ns_per_request": v.ns, "ns_experienced": v.experienced, "windows": v.windows, "undisturbed": v.clean, "r_ns": v.r_ns,
            "memcpy_ns": v.memcpy_ns, "handover_ns": v.handover_ns}
    values |= {k: x for k, x in mine.items() if math.isfinite(x)}
    kept = math.isfinite(v.ns)
    return Sample(experiment=name, block=v.block, phase=start.phase, position=start.position, slot=slot,
                  arm=start.arm, point=point, values=values, kept=kept, machine=machine, plateau=v.plateau,
                  why="" if kept else f"fewer than {duet.LEAST} windows without a gap on this plateau")


def main_plateau(items):
    """Index of the plateau with the most samples that count; blind to their values. 0 without any."""
    many = {}
    for s in items:
        if s.kept and s.plateau != plateaus.NONE:
            many[s.plateau] = many.get(s.plateau, 0) + 1
    return max(sorted(many), key=lambda q: many[q], default=0)
